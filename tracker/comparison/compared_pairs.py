"""What two runs' validation images said, kept: comparing again then needs neither numpy nor draws.

A pair has a file in `.tracker/compared`, with what its figures were made from and the version of
the program that made them. It is only for speed: a damaged one, or one of other files, is as good
as none.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from tracker.core.version import __version__
from tracker.training.errors import StorageError
from tracker.training.files import translate_os_errors, write_text

# Raise it when equal files would give other figures: a version of the program has many commits.
VERSION = f"2 {__version__}"
FOLDER = "compared"  # in .tracker
MOST_PAIRS = 200  # files of a kilobyte or two; then the oldest goes


def name_pair_file(state_dir: Path, a: str, b: str) -> Path:
    """The file of two runs in this order; a run may be a teammate's, as mina/exp1."""
    return state_dir / FOLDER / f"{a}_{b}.json".replace("/", "-")


def describe_file(path: Path) -> list[int] | None:
    """Size and time of change, which tell whether a file is the one of before; None if missing."""
    try:
        state = path.stat()
    except OSError:
        return None
    return [state.st_size, state.st_mtime_ns]


def read_pair(path: Path, sources: Sequence[Any]) -> Mapping[str, Any] | None:
    """The figures of a pair that were made from these `sources`, plain values of JSON; or None."""
    try:
        head, _, rest = path.read_text(encoding="utf-8").partition("\n")
        text = rest.removesuffix("]\n")
        if head != _head(text):
            return None
        document = json.loads(text)
        is_same = document["sources"] == [VERSION, *sources]
        return dict(document["figures"]) if is_same else None
    except (OSError, ValueError, TypeError, LookupError, RecursionError):
        return None


def write_pair(path: Path, sources: Sequence[Any], figures: Mapping[str, Any]) -> None:
    """Keep the figures of a pair; does nothing where that is impossible."""
    text = json.dumps({"sources": [VERSION, *sources], "figures": figures})
    # a read-only folder or a full disk: the next command computes the figures again
    with suppress(StorageError), translate_os_errors(path, "write"):
        path.parent.mkdir(parents=True, exist_ok=True)
        write_text(path, f"{_head(text)}\n{text}]\n")
        files = sorted(path.parent.glob("*.json"), key=lambda file: file.stat().st_mtime_ns)
        for file in files[:-MOST_PAIRS]:
            file.unlink(missing_ok=True)


def _head(text: str) -> str:
    """The first line of a file, [checksum, text].

    Damage that leaves JSON, such as another digit, must not become a figure.
    """
    return f'["{zlib.crc32(text.encode()):08x}",'
