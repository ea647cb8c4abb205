"""Lists what lies in folders of images, and tells what is no image; as texts, not paths."""

from __future__ import annotations

import os
from collections.abc import Iterator

from tracker.training.formats.format import split_suffix

HIDDEN, CHECKPOINTS = "hidden", ".ipynb_checkpoints"
CLUTTER = ("thumbs.db", "desktop.ini", "__macosx")  # files of operating systems and programs
NOTES = (
    ".txt",
    ".csv",
    ".tsv",
    ".json",
    ".xml",
    ".yaml",
    ".yml",
    ".md",
    ".html",
    ".log",
    ".ini",
    ".db",
)


def scan(folder: str) -> tuple[list[str], dict[str, bool]]:
    """The names in a folder, sorted, and {name: whether it is a link} of the folders in it."""
    names: list[str] = []
    folders: dict[str, bool] = {}
    with os.scandir(folder) as entries:
        for entry in entries:
            names.append(entry.name)
            is_link = entry.is_symlink()
            # of links that lead in a circle, is_dir raises
            if os.path.isdir(entry.path) if is_link else entry.is_dir():  # noqa: PTH112
                folders[entry.name] = is_link
    return sorted(names), folders


def walk(folder: str, above: str = "", kind: str = "") -> Iterator[tuple[str, str]]:
    """(relative path, kind of what is ignored) of the files below a folder, in order.

    Links to folders are not followed. `kind` is that of the folder itself.
    """
    try:
        names, folders = scan(folder)
    except PermissionError:
        return
    for name in names:
        of_name = kind or name_clutter(name)
        if name not in folders:
            yield above + name, of_name or name_note(name)
        elif not folders[name]:
            yield from walk(f"{folder}/{name}", f"{above}{name}/", of_name)


def name_clutter(name: str) -> str:
    """The kind of a name that is hidden or of an operating system; empty for others."""
    if name.startswith("."):
        return name if name == CHECKPOINTS else HIDDEN
    return name if name.lower() in CLUTTER else ""


def name_note(name: str) -> str:
    """The suffix of a file that usually lies beside images; empty for others."""
    if not name.lower().endswith(NOTES):  # as nearly every name: the parts need not be found
        return ""
    suffix = split_suffix(name)[1].lower()
    return suffix if suffix in NOTES else ""


class RealPaths:
    """Files without links in their paths; each folder is asked for once."""

    def __init__(self) -> None:
        self._folders: dict[str, str] = {}

    def find(self, file: str) -> str:
        """The real path of a file."""
        folder, name = os.path.split(file)
        is_link = os.path.islink(file)  # noqa: PTH114  (a Path takes longer than the question)
        if is_link or name in ("", ".", ".."):
            return os.path.realpath(file)
        if folder not in self._folders:
            self._folders[folder] = os.path.realpath(folder)
        return f"{self._folders[folder]}/{name}"
