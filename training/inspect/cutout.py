"""A copy of a data folder in which the background of each image is black.

`.cutout.jsonl` in the new folder says what each image was made from. Files are whole or not there,
so a second call
after whatever ended the first does only what is missing.
"""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from tracker.training.errors import (
    ConfigError,
    DataError,
    MissingLibraryError,
    TrainingError,
    first_line,
)
from tracker.training.files import check_regular, translate_os_errors, write_bytes, write_text
from tracker.training.formats.format import IMAGE_SUFFIXES
from tracker.training.formats.images import decode_image
from tracker.training.libraries import REQUIREMENTS, require, translate_import_errors
from tracker.training.progress import ItemProgress

MANIFEST, LOCK = ".cutout.jsonl", ".cutout.lock"
# With another version, all images are cut out again.
VERSIONS = {"grabcut": "grabcut-1", "rembg": "rembg-u2net"}
WORK_SIDE = 256  # pixels: GrabCut works on a smaller picture, in a tenth of the time
ROUNDS = 4  # of GrabCut; more change little
MARGIN_SIDE, MARGIN_TOP = 0.08, 0.04  # shares of the picture that are taken to be background
# Half width and half height of the ellipse in the middle that surely shows the subject.
CORE = (0.2, 0.28)
QUALITY = {
    ".jpg": cv2.IMWRITE_JPEG_QUALITY,
    ".jpeg": cv2.IMWRITE_JPEG_QUALITY,
    ".webp": cv2.IMWRITE_WEBP_QUALITY,
}

Pixels = NDArray[np.uint8]
Mask = NDArray[np.float32]  # [height, width], the subject's share of each pixel, 0 to 1


@dataclass(frozen=True)
class CutoutResult:
    """How an image was cut out; `source` and `result` are the SHA-256 of the files."""

    file: str
    method: str
    source: str
    result: str


@dataclass(frozen=True)
class CutoutReport:
    """How many images were cut out now and `before`, how many other files were copied.

    `problems` has a line for each image that failed.
    """

    cut: int
    before: int
    copied: int
    problems: tuple[str, ...]


@dataclass(frozen=True)
class _Job:
    folder: Path
    out: Path
    file: str
    method: str
    before: CutoutResult | None


def cut_out_folder(
    folder: Path, out: Path, *, method: str, processes: int, redo: bool = False
) -> CutoutReport:
    """Write `folder` to `out` with the same names; skip images that are done already.

    Raises ConfigError for folders or a method that cannot be, TrainingError when rembg has no model
    or a process died.
    """
    files = _list_files(folder, out, method)
    if method == "rembg":
        # reports an error once, and downloads the model before several processes need it
        open_rembg()
    # folders first: the processes write files only
    with translate_os_errors(out, "create"):
        for parent in sorted({(out / file).parent for file in files}):
            parent.mkdir(parents=True, exist_ok=True)
    with _lock(out):
        known = {} if redo else _load_manifest(out)
        # written again, because a killed process may have left half a line
        write_text(out / MANIFEST, "".join(_to_line(made) for made in known.values()))
        for leftover in out.rglob(".*.tmp"):
            leftover.unlink(missing_ok=True)
        images = [file for file in files if Path(file).suffix.lower() in IMAGE_SUFFIXES]
        others = sorted(set(files) - set(images))
        copied = [_copy(folder / file, out / file) for file in others]
        jobs = [_Job(folder, out, file, method, known.get(file)) for file in images]
        return _run(jobs, out, processes, copied=sum(copied))


def _list_files(folder: Path, out: Path, method: str) -> list[str]:
    """Relative names of the visible files; raises ConfigError when the work cannot begin."""
    if method not in VERSIONS:
        raise ConfigError(f"method {method}: expected one of {', '.join(VERSIONS)}")
    if not folder.is_dir():
        raise ConfigError(f"no such folder: {folder}")
    source, target = folder.resolve(), out.resolve()
    if target.is_relative_to(source) or source.is_relative_to(target):
        raise ConfigError(f"{out} and {folder} overlap", reason="folders overlap")
    if not _may_write(target):
        raise ConfigError(
            f"{out} exists and was not made by this command", reason="folder of others"
        )
    known = sorted(
        path for path in folder.rglob("*") if path.is_file() or _is_image_of_another_kind(path)
    )
    relative = [path.relative_to(folder).as_posix() for path in known]
    files = [file for file in relative if "/." not in f"/{file}"]  # without hidden ones
    if not any(Path(file).suffix.lower() in IMAGE_SUFFIXES for file in files):
        raise ConfigError(
            f"no image in {folder}", hint=f"images end in {', '.join(sorted(IMAGE_SUFFIXES))}"
        )
    return files


def _may_write(target: Path) -> bool:
    """Whether a folder is not there yet, is empty, or was made by an earlier call."""
    if not target.exists():
        return True
    return target.is_dir() and ((target / MANIFEST).exists() or not any(target.iterdir()))


def _is_image_of_another_kind(path: Path) -> bool:
    """Whether a path is named like an image but is neither file nor folder; the report names it."""
    return path.suffix.lower() in IMAGE_SUFFIXES and not path.is_dir()


def _run(jobs: list[_Job], out: Path, processes: int, *, copied: int) -> CutoutReport:
    pool = ProcessPoolExecutor(
        processes, mp_context=multiprocessing.get_context("spawn"), initializer=_start_worker
    )
    cut, problems = 0, []
    try:
        with (
            translate_os_errors(out / MANIFEST, "write"),
            (out / MANIFEST).open("a", encoding="utf-8") as manifest,
            ItemProgress(len(jobs), label="cut out") as bar,
        ):
            for outcome in pool.map(_cut_out, jobs):
                if isinstance(outcome, str):
                    problems.append(outcome)
                elif outcome is not None:
                    cut += 1
                    manifest.write(_to_line(outcome))
                    manifest.flush()
                bar.advance()
    except BrokenProcessPool as error:
        raise TrainingError(
            "a worker process died",
            reason="cutout process died",
        ) from error
    finally:
        pool.shutdown(cancel_futures=True)
    return CutoutReport(cut, len(jobs) - cut - len(problems), copied, tuple(problems))


def _start_worker() -> None:
    """Use one core, ignore Ctrl-C (the parent handles it), and end when the parent is killed."""
    cv2.setNumThreads(1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_end_with, args=(parent,), daemon=True).start()


def _end_with(parent: Any) -> None:
    parent.join()
    os._exit(1)


def _cut_out(job: _Job) -> CutoutResult | str | None:
    """The result for an image, None when it is done already, a text when it is impossible.

    Raises StorageError.
    """
    source, target = job.folder / job.file, job.out / job.file
    try:
        check_regular(source)
        content = source.read_bytes()
        result = job.before.result if job.before else ""
        made = CutoutResult(job.file, VERSIONS[job.method], hash_bytes(content), result)
        # the same content by the same version, and the file in `out` was not changed
        if made == job.before and _hash_file(target) == made.result:
            return None
        pixels = decode_image(source, np.frombuffer(content, dtype=np.uint8))
        mask = _MASKERS[job.method](pixels)
        encoded = _encode((pixels * mask[..., None]).round().astype(np.uint8), target.suffix)
    except DataError:
        return f"{source}: cannot be decoded"
    except (OSError, ValueError, RuntimeError, cv2.error) as error:
        return f"{source}: {' '.join(str(error).split())}"
    write_bytes(target, encoded)
    return CutoutResult(made.file, made.method, made.source, hash_bytes(encoded))


def find_by_grabcut(pixels: Pixels) -> Mask:
    """The subject by GrabCut (Rother et al. 2004).

    The start: the subject is in the middle and may reach the bottom.
    """
    height, width = pixels.shape[:2]
    scale = min(1.0, WORK_SIDE / max(height, width))
    rows, columns = max(1, round(height * scale)), max(1, round(width * scale))
    small = cv2.resize(pixels, (columns, rows), interpolation=cv2.INTER_AREA)
    side, top = max(1, round(columns * MARGIN_SIDE)), max(1, round(rows * MARGIN_TOP))
    mask = np.full((rows, columns), cv2.GC_BGD, dtype=np.uint8)
    mask[top:, side : columns - side] = cv2.GC_PR_FGD
    core = (max(1, round(columns * CORE[0])), max(1, round(rows * CORE[1])))
    cv2.ellipse(mask, (columns // 2, rows // 2), core, 0, 0, 360, cv2.GC_FGD, -1)
    if not (mask == cv2.GC_BGD).any():
        return np.ones((height, width), dtype=np.float32)  # a few pixels have no background
    cv2.setRNGSeed(0)  # the color models begin with random clusters
    cv2.grabCut(
        small, mask, None, np.zeros((1, 65)), np.zeros((1, 65)), ROUNDS, cv2.GC_INIT_WITH_MASK
    )
    subject = np.isin(mask, (cv2.GC_FGD, cv2.GC_PR_FGD)).astype(np.float32)
    return np.asarray(
        cv2.resize(subject, (width, height), interpolation=cv2.INTER_LINEAR), dtype=np.float32
    )


def find_by_rembg(pixels: Pixels) -> Mask:
    """The subject by rembg's network."""
    from rembg import remove

    mask = remove(pixels, session=open_rembg(), only_mask=True)
    return np.asarray(mask, dtype=np.float32).reshape(pixels.shape[:2]) / np.float32(255)


_MASKERS: Mapping[str, Callable[[Pixels], Mask]] = {
    "grabcut": find_by_grabcut,
    "rembg": find_by_rembg,
}
_sessions: dict[str, Any] = {}  # one a process: loading the network takes seconds


def open_rembg() -> Any:
    """This process's session of rembg; raises MissingLibraryError, TrainingError."""
    if "u2net" in _sessions:
        return _sessions["u2net"]
    require("rembg")
    try:
        with translate_import_errors():
            from rembg import new_session
    except SystemExit as error:  # it has no onnxruntime
        raise MissingLibraryError(
            f"rembg cannot be loaded: {error}", hint=f'pip install "{REQUIREMENTS["rembg"]}"'
        ) from error
    try:
        _sessions["u2net"] = new_session("u2net")
    except (OSError, ValueError, RuntimeError) as error:
        raise TrainingError(
            f"rembg has no model: {first_line(error)}",
            hint=(
                "rembg downloads it once to ~/.u2net: run it once with a network, or use grabcut"
            ),
        ) from error
    return _sessions["u2net"]


def _encode(pixels: Pixels, suffix: str) -> bytes:
    """The file's bytes in the format of its name; raises ValueError."""
    suffix = suffix.lower()
    options = [QUALITY[suffix], 95] if suffix in QUALITY else []
    done, encoded = cv2.imencode(suffix, cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR), options)
    if not done:
        raise ValueError(f"cannot be written as {suffix}")
    return encoded.tobytes()


def _copy(source: Path, target: Path) -> bool:
    """Copy a file that is no image; False when the copy exists already."""
    with translate_os_errors(source, "read"):
        content = source.read_bytes()
        if target.is_file() and target.read_bytes() == content:
            return False
    write_bytes(target, content)
    return True


def _hash_file(path: Path) -> str:
    """SHA-256 of a file; empty where there is no file."""
    return hash_bytes(path.read_bytes()) if path.is_file() else ""


def hash_bytes(content: bytes) -> str:
    """SHA-256 in hexadecimal digits."""
    return hashlib.sha256(content).hexdigest()


@contextmanager
def _lock(out: Path) -> Iterator[None]:
    """Let only one call write to `out`; the lock is free again when the process ends.

    Raises ConfigError.
    """
    import fcntl

    with translate_os_errors(out, "write"), (out / LOCK).open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ConfigError(
                f"another call is writing to {out}", hint="wait until it has ended"
            ) from None
        yield


def _to_line(made: CutoutResult) -> str:
    return json.dumps(asdict(made), ensure_ascii=False) + "\n"


def _load_manifest(out: Path) -> dict[str, CutoutResult]:
    """The results so far, by file; an image whose line cannot be read is cut out again."""
    known: dict[str, CutoutResult] = {}
    try:
        lines = (out / MANIFEST).read_bytes().splitlines()
    except FileNotFoundError:
        return {}
    for line in lines:
        # what is no line of ours is no result
        with suppress(ValueError, TypeError, RecursionError):
            made = CutoutResult(**json.loads(line))
            known[made.file] = made
    return known
