"""timm's models by name, from its own list, the Hugging Face hub or a folder; with weights.

Whether the hub answers is asked once and for a short time, and a download is given up when nothing
arrives any more: the hub's own client would try again for a minute.
"""

from __future__ import annotations

import difflib
import logging
import ssl
import stat
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from tracker.training.config import locate
from tracker.training.errors import ConfigError, WeightsError, first_line
from tracker.training.tables import parse_json

T = TypeVar("T")
ANSWER_LIMIT_S = 4.0  # with the start of torch and timm, an error comes within 10 s
STALL_LIMIT_S = 30.0  # without a byte, once a download is under way
UNDER_WAY = 1 << 20  # bytes
POLL_S = 0.1  # between two looks at the size of a download
CHUNK = 1 << 16  # bytes that the hub's client writes at once: small, so that a stall is visible
NO_WEIGHTS = "no pretrained weights"  # the reason of the errors here
CONFIG = "config.json"
LARGEST = 1 << 20  # of a mean, a deviation, a share or a size in pixels
# In timm's order.
WEIGHT_NAMES = ("model.safetensors", "pytorch_model.bin", "pytorch_model.pth", "model.pth")
SERVER_ERRORS = (429, 500)  # too many requests, and this or more: no use asking again now


class _StalledError(WeightsError):
    """A download was stopped because nothing arrived."""


@dataclass(frozen=True)
class ModelSource:
    """Where timm finds a model.

    `location` is a registered name, OWNER/NAME[@REVISION] on the hub, or a folder.
    """

    kind: str  # "timm", "hf-hub" or "local-dir"
    location: str


def find_source(name: str, root: Path) -> ModelSource:
    """Where a model.name leads to; raises ConfigError with the nearest names when timm has none.

    A timm/NAME of the hub that this timm knows is its own NAME: the same model, found without the
    hub.
    """
    source, colon, location = name.partition(":")
    source = source.lower().replace("_", "-") if colon else ""
    location = location if colon else name
    if source == "local-dir":
        return ModelSource(source, str(locate(root, location)))
    if source == "hf-hub" and "@" in location:
        return ModelSource(source, location)
    if source in ("", "hf-hub") and location.startswith("timm/"):
        _check_registered(location.removeprefix("timm/"), name)
        return ModelSource("timm", location.removeprefix("timm/"))
    if source == "hf-hub" and location.count("/") == 1:
        return ModelSource(source, location)
    if not source and "/" in location:
        raise ConfigError(
            f"model.name: timm has no model {name!r}",
            hint=f"hf-hub:{name} of the hub, or local-dir:{name} of a folder",
        )
    _check_registered(name, name)
    return ModelSource("timm", name)


def _check_registered(name: str, shown: str) -> None:
    import timm

    problem = f"model.name: timm has no model {shown!r}"
    if not timm.is_model(name):
        known = timm.list_pretrained() if "." in name else timm.list_models()
        raise ConfigError(problem, hint=_list_nearest(name, known, shown))
    try:
        timm.get_pretrained_cfg(name)
    except RuntimeError as error:  # the model has no weights of this tag
        known = timm.list_pretrained(f"{name.partition('.')[0]}.*")
        raise ConfigError(problem, hint=_list_nearest(name, known, shown)) from error


def _list_nearest(name: str, known: Sequence[str], shown: str) -> str:
    near = difflib.get_close_matches(name, known, n=3, cutoff=0.4)
    prefix = shown.removesuffix(name)
    return f"nearest: {', '.join(prefix + word for word in near) or 'none'}"


def read_settings(source: ModelSource) -> Mapping[str, Any]:
    """timm's pretrained_cfg of a model; empty where it has none.

    Raises ConfigError, and WeightsError when the hub cannot be reached.
    """
    import timm

    if source.kind == "timm":
        result = timm.get_pretrained_cfg(source.location)
        return dict(result.to_dict()) if result else {}
    folder = (
        Path(source.location)
        if source.kind == "local-dir"
        else fetch_folder(source.location, weights=False)
    )
    try:
        loaded = parse_json((folder / CONFIG).read_text(encoding="utf-8"))
        return _check_settings(loaded.get("pretrained_cfg", loaded))
    except (OSError, ValueError, AttributeError) as error:
        raise ConfigError(
            f"model.name: cannot read {folder / CONFIG}: {error}",
            hint="timm's save_for_hf or push_to_hf_hub writes it",
        ) from error


def _check_settings(settings: Mapping[str, Any]) -> Mapping[str, Any]:
    """The settings; raises ValueError for what no model has, AttributeError for no object."""
    for name in ("mean", "std", "input_size"):
        value = settings.get(name) or [1, 1, 1]
        if type(value) is not list or len(value) != 3 or not all(map(_is_number, value)):
            raise ValueError(f"{name} is {str(value)[:40]}, not three numbers")
    for name in ("crop_pct", "test_crop_pct"):
        if not _is_number(settings.get(name) or 1):
            raise ValueError(f"{name} is {str(settings[name])[:40]}, not a number")
    return settings


def _is_number(value: Any) -> bool:
    return type(value) in (int, float) and abs(value) < LARGEST


def describe_input(name: str, root: Path) -> dict[str, dict[str, Any]]:
    """The input that the pretrained weights expect, as nested tables of config keys."""
    from timm.data import resolve_data_config

    settings = read_settings(find_source(name, root))
    result = resolve_data_config(pretrained_cfg={"mean": None, **settings})  # not of nothing
    return {
        "data": {
            "mean": tuple(map(float, result["mean"])),
            "std": tuple(map(float, result["std"])),
        },
        "augment": {
            "crop_pct": float(result["crop_pct"]),
            "crop_mode": "squash" if result["crop_mode"] == "squash" else "center",
            "interpolation": "bilinear" if result["interpolation"] == "bilinear" else "bicubic",
        },
    }


# --- Weights ---


def fetch_weights(source: ModelSource, name: str) -> None:
    """Make sure that a model's weights are cached; download them if needed. Raises WeightsError."""
    if source.kind == "hf-hub":
        fetch_folder(source.location, weights=True)
    elif source.kind == "timm":
        settings = read_settings(source)
        if not find_cached(settings):
            _require_answer(_find_address(settings, name), name)
            _download(settings, name)


def _download(settings: Mapping[str, Any], name: str) -> None:
    """Download the weights of a registered model to timm's cache; raises WeightsError."""
    from torch.hub import download_url_to_file, get_dir

    if location := settings.get("hf_hub_id"):
        filename = settings.get("hf_hub_filename")
        _download_first(location, [filename] if filename else WEIGHT_NAMES, name)
        return
    url = str(settings["url"])
    folder = Path(get_dir()) / "checkpoints"
    folder.mkdir(parents=True, exist_ok=True)
    target = str(folder / url.rpartition("/")[2])
    with translate_hub_errors(name):
        _run_with_timeout(lambda: download_url_to_file(url, target), folder, url, name)


def _download_first(location: str, names: Sequence[str], shown: str) -> Path:
    """Download the first of these files that a model OWNER/NAME[@REVISION] of the hub has.

    Raises WeightsError.
    """
    from huggingface_hub import constants, hf_hub_download, hf_hub_url
    from huggingface_hub.errors import EntryNotFoundError

    repository, _, revision = location.partition("@")
    folder = Path(constants.HF_HUB_CACHE) / f"models--{repository.replace('/', '--')}"

    def download() -> Path | None:
        for name in names:
            with suppress(EntryNotFoundError):
                return Path(hf_hub_download(repository, name, revision=revision or None))
        return None

    with translate_hub_errors(shown), _plain_downloads():
        result = _run_with_timeout(download, folder, str(hf_hub_url(repository, names[0])), shown)
    if result is None:
        raise WeightsError(
            f"no {' and no '.join(names)} in {location} of the hub", reason=NO_WEIGHTS
        )
    return result


@contextmanager
def _plain_downloads() -> Iterator[None]:
    """Within, the hub's client downloads by HTTP and writes at once, so that a stall is visible."""
    from huggingface_hub import constants

    wanted = {"DOWNLOAD_CHUNK_SIZE": CHUNK, "HF_HUB_DISABLE_XET": True}
    before = {name: getattr(constants, name) for name in wanted if hasattr(constants, name)}
    try:
        for name in before:
            setattr(constants, name, wanted[name])
        yield
    finally:
        for name, value in before.items():
            setattr(constants, name, value)


def _run_with_timeout(download: Callable[[], T], folder: Path, address: str, name: str) -> T:
    """Run `download`; raises its errors, and WeightsError when `folder` grows no more.

    A download that is given up goes on in its thread until the program ends; what has arrived is
    used the next time.
    """
    results: list[T] = []
    errors: list[Exception] = []

    def work() -> None:
        try:
            results.append(download())
        except Exception as error:  # noqa: BLE001 (it is raised again below)
            errors.append(error)

    thread = threading.Thread(target=work, daemon=True)  # the hub's client cannot be interrupted
    before = size = _count_bytes(folder)
    moved = time.monotonic()
    thread.start()
    while thread.is_alive():
        thread.join(POLL_S)
        now = _count_bytes(folder)
        if now != size:
            size, moved = now, time.monotonic()
        limit_s = STALL_LIMIT_S if size - before > UNDER_WAY else ANSWER_LIMIT_S
        if thread.is_alive() and time.monotonic() - moved > limit_s:
            problem = f"{_name_server(address)} has sent nothing for {limit_s:g} s"
            raise _StalledError(f"no pretrained weights of {name}: {problem}", reason=NO_WEIGHTS)
    if errors:
        raise errors[0]
    return results[0]


def _count_bytes(folder: Path) -> int:
    """Bytes in the files of a folder, including files that are still being written."""
    size = 0
    for path in folder.rglob("*"):
        with suppress(OSError):  # it may have been renamed meanwhile
            result = path.lstat()
            if stat.S_ISREG(result.st_mode):  # a new folder does not count as data
                size += result.st_size
    return size


def _name_server(address: str) -> str:
    return "/".join(address.split("/")[:3])


def find_cached(settings: Mapping[str, Any]) -> Path | None:
    """The cached weights file of a registered model, from the hub's client or torch."""
    from huggingface_hub import try_to_load_from_cache
    from torch.hub import get_dir

    names = [settings["hf_hub_filename"]] if settings.get("hf_hub_filename") else WEIGHT_NAMES
    for name in names if settings.get("hf_hub_id") else ():
        result = try_to_load_from_cache(settings["hf_hub_id"], name)
        if isinstance(result, str):
            return Path(result)
    if url := settings.get("url"):
        path = Path(get_dir()) / "checkpoints" / url.rpartition("/")[2]
        return path if path.is_file() else None
    return None


def _find_address(settings: Mapping[str, Any], name: str) -> str:
    """The address of the weights."""
    from huggingface_hub import hf_hub_url

    if repository := settings.get("hf_hub_id"):
        return str(hf_hub_url(repository, settings.get("hf_hub_filename") or WEIGHT_NAMES[0]))
    if url := settings.get("url"):
        return str(url)
    raise WeightsError(f"timm has no pretrained weights of {name}", reason=NO_WEIGHTS)


def _require_answer(address: str, name: str) -> None:
    from huggingface_hub import constants

    problem = (
        "HF_HUB_OFFLINE is set"
        if constants.HF_HUB_OFFLINE
        else ask(address, limit_s=ANSWER_LIMIT_S)
    )
    if problem:
        raise WeightsError(f"no pretrained weights of {name}: {problem}", reason=NO_WEIGHTS)


def fetch_folder(location: str, *, weights: bool) -> Path:
    """The cached folder of a model of the hub, downloaded if needed; raises WeightsError."""
    from huggingface_hub import hf_hub_url, try_to_load_from_cache

    repository, _, named = location.partition("@")
    revision = named or None
    result = try_to_load_from_cache(repository, CONFIG, revision=revision)
    folder = Path(result).parent if isinstance(result, str) else None
    if folder and (not weights or any((folder / name).exists() for name in WEIGHT_NAMES)):
        return folder
    _require_answer(str(hf_hub_url(repository, CONFIG, revision=revision)), location)
    folder = _download_first(location, [CONFIG], location).parent
    if weights:
        _download_first(location, WEIGHT_NAMES, location)
    return folder


@contextmanager
def translate_hub_errors(name: str) -> Iterator[None]:
    """Turn each error of a download into a WeightsError, and silence the hub's client."""
    logger = logging.getLogger("huggingface_hub")
    before = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    except _StalledError:
        before = logging.CRITICAL  # its thread still runs, and its errors are old news
        raise
    except (ConfigError, WeightsError):
        raise
    except Exception as error:
        raise WeightsError(
            f"no pretrained weights of {name}: {first_line(error)}", reason=NO_WEIGHTS
        ) from error
    finally:
        logger.setLevel(before)


def ask(address: str, *, limit_s: float) -> str:
    """Check whether an HTTP address answers; returns the problem, empty when it answers in time."""
    server = _name_server(address)
    late = f"no answer from {server} in {limit_s:g} s"
    problems = [late]

    def wait() -> None:
        try:
            request = urllib.request.Request(address, headers={"Range": "bytes=0-0"})  # noqa: S310
            with urllib.request.urlopen(request, timeout=limit_s, context=_trust()) as answer:  # noqa: S310
                answer.read(1)
            problems[0] = ""
        except urllib.error.HTTPError as error:
            # this is an answer, too: the download finds out what is missing
            down = error.code == SERVER_ERRORS[0] or error.code >= SERVER_ERRORS[1]
            problems[0] = f"{server} answers {error.code}" if down else ""
        except TimeoutError:
            pass
        except (OSError, ValueError) as error:
            reason = getattr(error, "reason", error)
            problems[0] = (
                late if isinstance(reason, TimeoutError) else f"cannot reach {server} ({reason})"
            )

    thread = threading.Thread(target=wait, daemon=True)  # looking a name up cannot be interrupted
    thread.start()
    thread.join(limit_s)
    return problems[0]


def _trust() -> ssl.SSLContext:
    """The system's certificates, and those that the hub's client brings."""
    context = ssl.create_default_context()
    try:
        import certifi
    except ImportError:
        return context
    context.load_verify_locations(certifi.where())
    return context
