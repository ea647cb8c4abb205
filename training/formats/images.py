"""Read image files: a strict check, and the fast decoder for training."""

from __future__ import annotations

import hashlib
import os
import struct
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tracker.training.errors import DataError
from tracker.training.files import check_regular
from tracker.training.formats.check_table import CheckTable, ImageCheck

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from PIL import Image as Pillow

# What OpenCV decodes, and quickly. The rest is Pillow's, by which it was checked: TIFF has too many
# kinds for OpenCV.
OPENCV_FORMATS = ("JPEG", "PNG", "WEBP", "BMP")
PILLOW_STARTS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+", b"GIF8")
# The files that a thread asks for their size and time at once; more threads than cores, because a
# network folder answers late.
ASKED_AT_ONCE, ASKING_THREADS = 1024, 8
CHECKED_AT_ONCE = 16
CONVERTED_AT_ONCE = 1 << 24  # pixels
# What a JPEG begins with, what begins each of its parts, and the parts that say its size.
JPEG_START, MARKER = b"\xff\xd8", 0xFF
FRAMES = (0xC0, 0xC1, 0xC2, 0xC3, 0xC5, 0xC6, 0xC7, 0xC9, 0xCA, 0xCB, 0xCD, 0xCE, 0xCF)
# Of a PNG: its first bytes, the length before its first part, and what a part has besides its data.
PNG_START, PNG_HEADER, PNG_AROUND, LENGTH = b"\x89PNG", 8, 12, struct.Struct(">I")
REDUCTIONS = (8, 4, 2)  # by which a JPEG's sides are divided while it is decoded
TIFF_ROWS, TIFF_BITS, TIFF_PHOTOMETRIC, WHITE_IS_ZERO = 257, 258, 262, 0
BROKEN = (  # errors of Pillow about damaged files
    *(
        OSError,
        ValueError,
        SyntaxError,
        EOFError,
        LookupError,
        TypeError,
        AttributeError,
        ArithmeticError,
    ),
    *(RuntimeError, MemoryError, struct.error),
)


@dataclass(frozen=True)
class ImageChecks:
    """The results of checks, by file: the SHA-256 of each that could be read, and problems."""

    sha256: dict[str, str]
    problems: dict[str, str]


def check_images(files: Iterable[str], *, cache: Path | None = None) -> ImageChecks:
    """Decode each image completely and hash it.

    Results for files with the same size and mtime come from the table `cache`.
    """
    known = CheckTable.read(cache) if cache is not None else CheckTable()
    unique = list(dict.fromkeys(files))
    changed = list(_map_parts(known.list_changed, unique, ASKED_AT_ONCE, threads=ASKING_THREADS))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow warns about files that can still be used
        checked = _map_parts(_check_all, changed, CHECKED_AT_ONCE, threads=os.cpu_count() or 1)
        fresh = dict(zip(changed, checked, strict=True))
    same = [name for name in unique if name not in fresh] if fresh else unique
    sha256 = known.list_digests(same) if same else {}
    sha256 |= {name: check.sha256 for name, check in fresh.items() if check.sha256}
    problems = known.list_problems(same)
    problems |= {name: check.problem for name, check in fresh.items() if check.problem}
    is_new = any(check.sha256 for check in fresh.values())
    if cache is not None and (is_new or (known.row_of and not cache.is_file())):
        known.extend(fresh).save(cache)
    return ImageChecks(sha256, problems)


def _map_parts(
    work: Callable[[Sequence[str]], list[Any]], files: Sequence[str], size: int, *, threads: int
) -> Iterator[Any]:
    """The results of `work` for parts of `files`, one after the other, in order."""
    from concurrent.futures import ThreadPoolExecutor

    parts = [files[start : start + size] for start in range(0, len(files), size)]
    with ThreadPoolExecutor(max_workers=threads) as pool:
        for results in pool.map(work, parts):
            yield from results


def _check_all(files: Sequence[str]) -> list[ImageCheck]:
    return [_check(Path(name)) for name in files]


def _check(path: Path) -> ImageCheck:
    try:
        stat = check_regular(path)
        content = path.read_bytes()
    except FileNotFoundError:
        return ImageCheck(0, 0, "", "missing")
    except OSError as error:
        return ImageCheck(0, 0, "", f"cannot be read ({error.strerror})")
    problem = _find_problem(content) if content else "empty file"
    return ImageCheck(stat.st_size, stat.st_mtime_ns, hashlib.sha256(content).hexdigest(), problem)


def _find_problem(content: bytes) -> str:
    """The problem of an image in a few words; empty when it can be decoded completely."""
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(BytesIO(content)) as image:
            _check_rows(image)
            image.load()
            if image.format not in OPENCV_FORMATS:
                # whether it can be made RGB is not a matter of its size
                _to_rgb(image.crop((0, 0, 1, 1)), getattr(image, "tag_v2", {}))
    except UnidentifiedImageError:
        return "not an image"
    except DataError as error:
        return str(error)
    except (*BROKEN, Image.DecompressionBombError) as error:
        return f"corrupt ({str(error) or type(error).__name__})"
    return ""


def read_header(path: Path) -> tuple[str, tuple[int, int]]:
    """The format, as in "JPEG", and (width, height) of a checked image, as stored in the file.

    Raises DataError.
    """
    from PIL import Image

    try:
        check_regular(path)
        with Image.open(path) as image:
            return image.format or path.suffix, image.size
    except (*BROKEN, Image.DecompressionBombError) as error:
        raise DataError(f"{path}: cannot be read ({error})") from error


def read_image(path: Path) -> NDArray[np.uint8]:
    """The bytes of an image file; raises DataError."""
    import numpy as np

    try:
        check_regular(path)
        with path.open("rb", buffering=0) as file:  # np.fromfile takes 20 us longer
            return np.frombuffer(file.readall(), dtype=np.uint8)
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from error


def read_jpeg_size(content: NDArray[np.uint8]) -> tuple[int, int] | None:
    """(height, width) of a JPEG as stored in the file, before its EXIF rotates it; else None."""
    place = 2
    if content[:2].tobytes() != JPEG_START:
        return None
    while place + 9 <= len(content) and content[place] == MARKER:
        kind = int(content[place + 1])
        if kind in FRAMES:
            height, width = struct.unpack(">HH", content[place + 5 : place + 9].tobytes())
            return height, width
        length = struct.unpack(">H", content[place + 2 : place + 4].tobytes())[0]
        place += 1 if kind == MARKER else 2 + length
    return None


def decode_image(
    path: Path, content: NDArray[np.uint8] | None = None, *, reduction: int = 1
) -> NDArray[np.uint8]:
    """The image as RGB, uint8 [height, width, 3], rotated by its EXIF; raises DataError.

    The first one of a file that has several. Of 16 bits the upper 8 count, and of transparent
    pixels the color that is stored under them. `content` are the bytes of the file, where they
    were read before. A JPEG has its sides divided by `reduction`, one of REDUCTIONS or 1, while it
    is decoded, which averages.
    """
    import cv2

    content = read_image(path) if content is None else content
    image = None
    start = content[:4].tobytes()
    is_usual = not start.startswith(PILLOW_STARTS) and not (
        start == PNG_START and _has_false_chunk(content)
    )
    if content.size and is_usual:
        with suppress(cv2.error):  # of a size that cannot be: Pillow says so
            image = cv2.imdecode(content, _choose_flags(reduction))
    if image is None:
        return _decode_by_pillow(path, content)
    pixels: NDArray[np.uint8] = image
    return pixels


def _has_false_chunk(content: NDArray[np.uint8]) -> bool:
    """Whether a part of a PNG is to be longer than the file: OpenCV takes as much memory."""
    place, size, view = PNG_HEADER, len(content), content.data
    while place + 4 <= size:
        length: int = LENGTH.unpack_from(view, place)[0]
        if length > size:
            return True
        place += length + PNG_AROUND
    return False


def _choose_flags(reduction: int) -> int:
    import cv2

    reduced = {
        2: cv2.IMREAD_REDUCED_COLOR_2,
        4: cv2.IMREAD_REDUCED_COLOR_4,
        8: cv2.IMREAD_REDUCED_COLOR_8,
    }
    if reduction not in reduced:
        return cv2.IMREAD_COLOR_RGB
    # of the reduced flags there are only those of BGR
    return reduced[reduction] & ~cv2.IMREAD_COLOR_BGR | cv2.IMREAD_COLOR_RGB


def _decode_by_pillow(path: Path, content: NDArray[np.uint8]) -> NDArray[np.uint8]:
    import numpy as np
    from PIL import Image, ImageOps

    try:
        with warnings.catch_warnings(), Image.open(BytesIO(content.tobytes())) as image:
            warnings.simplefilter("ignore")
            _check_rows(image)
            image.load()
            tags = getattr(image, "tag_v2", {})  # which the upright copy has lost
            return np.ascontiguousarray(_to_rgb(ImageOps.exif_transpose(image), tags))
    except (*BROKEN, Image.DecompressionBombError) as error:
        raise DataError(
            f"{path}: cannot be decoded", hint="it changed since it was checked; run again"
        ) from error


def _check_rows(image: Pillow.Image) -> None:
    """Raise ValueError for a TIFF of more rows than are in the file: Pillow would make them all."""
    if image.format != "TIFF":
        return
    rows = getattr(image, "tag_v2", {}).get(TIFF_ROWS, 0)  # image.height is of the upright image
    ends = [tile[1][3] for tile in getattr(image, "tile", ()) if tile[1]]
    if max(ends, default=rows) < rows:
        raise ValueError(f"{max(ends)} of {rows} rows")


def _to_rgb(image: Pillow.Image, tags: Mapping[int, Any]) -> NDArray[np.uint8]:
    """A loaded image as RGB, uint8 [height, width, 3]; `tags` are those of a TIFF.

    Raises DataError where nothing says what black and white are.
    """
    import numpy as np

    width, height = image.size
    rows = max(1, CONVERTED_AT_ONCE // width)
    if rows >= height:
        return _convert(image, tags)
    # Pillow takes several times the memory of the pixels for it
    pixels = np.empty((height, width, 3), dtype=np.uint8)
    for top in range(0, height, rows):
        strip = image.crop((0, top, width, min(top + rows, height)))
        pixels[top : top + rows] = _convert(strip, tags)
    return pixels


def _convert(image: Pillow.Image, tags: Mapping[int, Any]) -> NDArray[np.uint8]:
    import numpy as np

    if image.mode in ("I", "F"):
        kind = "whole numbers" if image.mode == "I" else "floats"
        raise DataError(
            f"pixels are {kind} of 32 bits with unknown black and white: save the image with 8 or"
            " 16 bits"
        )
    if not image.mode.startswith("I;16"):
        return np.asarray(image.convert("RGB"), dtype=np.uint8)
    bits = tags.get(TIFF_BITS, (16,))[0]  # Pillow gives them as they are in the file
    gray = (np.asarray(image) >> max(bits - 8, 0)).astype(np.uint8)
    if tags.get(TIFF_PHOTOMETRIC) == WHITE_IS_ZERO:
        gray = 255 - gray
    return np.repeat(gray[..., None], 3, axis=2)


def open_small(path: Path, size: tuple[int, int]) -> Pillow.Image:
    """The image as RGB and upright, at least this wide and high unless the file is smaller.

    A large JPEG is not decoded in full for it. Raises DataError.
    """
    from PIL import Image, ImageOps

    try:
        check_regular(path)
        with Image.open(path) as image:
            if image.format == "JPEG":
                image.draft("RGB", size)
                return ImageOps.exif_transpose(image).convert("RGB")
    except (*BROKEN, Image.DecompressionBombError) as error:
        raise DataError(f"{path}: cannot be read ({error})") from error
    return Image.fromarray(decode_image(path))
