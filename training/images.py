"""Reading image files: a strict check of every file, and the quick decoder of the training loop."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tracker.training.atomic import write_text
from tracker.training.errors import DataError, StorageError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp"})


@dataclass(frozen=True)
class ImageCheck:
    """What a check found; `problem` is empty when the image can be used. Size in bytes, mtime in ns."""

    size: int
    mtime_ns: int
    sha256: str
    problem: str


def check_images(paths: Iterable[Path], *, cache: Path | None = None) -> dict[Path, ImageCheck]:
    """Decode every image in full and hash it; files of unchanged size and mtime are taken from `cache`."""
    known = _load_cache(cache)
    unique = list(dict.fromkeys(paths))
    with ThreadPoolExecutor(max_workers=os.cpu_count() or 1) as pool:
        results = pool.map(lambda path: _check(path, known.get(str(path))), unique)
        found = dict(zip(unique, results, strict=True))
    fresh = {str(path): check for path, check in found.items()}
    if cache is not None and any(known.get(path) != check for path, check in fresh.items()):
        _save_cache(cache, {**known, **fresh})
    return found


def _check(path: Path, before: ImageCheck | None) -> ImageCheck:
    from PIL import Image, UnidentifiedImageError

    try:
        stat = path.stat()
        if before and (before.size, before.mtime_ns) == (stat.st_size, stat.st_mtime_ns):
            return before
        content = path.read_bytes()
    except FileNotFoundError:
        return ImageCheck(0, 0, "", "missing")
    except OSError as error:
        return ImageCheck(0, 0, "", f"cannot be read ({error.strerror})")
    problem = ""
    try:
        with Image.open(BytesIO(content)) as image:
            image.load()
    except UnidentifiedImageError:
        problem = "not an image" if content else "empty file"
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        problem = f"corrupt ({error})"
    return ImageCheck(stat.st_size, stat.st_mtime_ns, hashlib.sha256(content).hexdigest(), problem)


def read_header(path: Path) -> tuple[str, tuple[int, int]]:
    """Format, as in "JPEG", and (width, height) of a checked image, as they are in the file; raises DataError."""
    from PIL import Image

    try:
        with Image.open(path) as image:
            return image.format or path.suffix, image.size
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error})") from error


def _load_cache(cache: Path | None) -> dict[str, ImageCheck]:
    if cache is None:
        return {}
    try:
        raw: dict[str, dict[str, Any]] = json.loads(cache.read_text(encoding="utf-8"))
        return {path: ImageCheck(**fields) for path, fields in raw.items()}
    except (OSError, ValueError, TypeError, AttributeError, RecursionError):
        return {}  # a cache: what cannot be read is computed again


def _save_cache(cache: Path, checks: dict[str, ImageCheck]) -> None:
    try:
        cache.parent.mkdir(parents=True, exist_ok=True)
        write_text(cache, json.dumps({path: asdict(check) for path, check in checks.items()}))
    except (OSError, StorageError):
        return  # only time is lost


def read_image(path: Path) -> NDArray[np.uint8]:
    """The bytes of a file; raises DataError."""
    import numpy as np

    try:
        return np.fromfile(path, dtype=np.uint8)
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from error


def decode_image(path: Path, content: NDArray[np.uint8] | None = None) -> NDArray[np.uint8]:
    """The image as RGB, uint8 [height, width, 3], turned as its EXIF says; raises DataError.

    `content` are the bytes of the file, where they were read before.
    """
    import cv2

    content = read_image(path) if content is None else content
    image = cv2.imdecode(content, cv2.IMREAD_COLOR_RGB) if content.size else None
    if image is None:
        raise DataError(f"{path}: cannot be decoded", hint="it changed since it was checked; run again")
    pixels: NDArray[np.uint8] = image
    return pixels
