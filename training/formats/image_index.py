"""The image files below a folder, found by what a table says of them: an id, a name or a path."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

from tracker.training.files import translate_os_errors
from tracker.training.formats.format import IMAGE_SUFFIXES, split_suffix

ANY = ".*"  # an ending: images have several
SKIPPED = ("__macosx",)
FEW = 8  # images of one stem that are looked through one by one
DEEPEST = 12  # folders in folders; no data set has more


class ImageFile(NamedTuple):  # made in a third of a frozen dataclass's time
    """An image: its folder relative to the index's ("" is that itself), and its name in parts."""

    folder: str
    stem: str
    suffix: str

    @property
    def relative(self) -> str:
        """The path relative to the index's folder, with slashes."""
        name = self.stem + self.suffix
        return f"{self.folder}/{name}" if self.folder else name


@dataclass(frozen=True)
class ImageIndex:
    """All images below `root`, and the number of images directly in each folder.

    `only` has the file of each name that stands in a single folder; most tables need no more.
    """

    root: Path
    folders: dict[str, int] = field(default_factory=dict)
    only: dict[str, str] = field(default_factory=dict)
    _names: dict[str, list[str]] = field(default_factory=dict)  # by folder
    # the images of a stem by the folder that they lie in, for stems that many folders have
    _by_folder: dict[str, dict[str, list[ImageFile]]] = field(default_factory=dict)

    @classmethod
    def read(cls, root: Path) -> ImageIndex:
        """List a folder; no file is opened or asked for its size. Raises StorageError."""
        index = cls(root)
        only = index.only
        several: set[str] = set()
        for folder, names in _walk(root, "", DEEPEST):
            images = [name for name in names if split_suffix(name)[1].lower() in IMAGE_SUFFIXES]
            if not images:
                continue
            index.folders[folder], index._names[folder] = len(images), images
            several |= only.keys() & images
            before = str(root / folder / "_")[:-1]
            only.update(zip(images, [before + name for name in images], strict=True))
        for name in several.union(name for name in only if "\\" in name):
            del only[name]  # `find` reads the latter as a path
        return index

    @cached_property
    def by_stem(self) -> dict[str, list[ImageFile]]:
        """The images of each name without its suffix."""
        by_stem: dict[str, list[ImageFile]] = {}
        for folder, names in self._names.items():
            for name in names:
                image = ImageFile(folder, *split_suffix(name))
                by_stem.setdefault(image.stem, []).append(image)
        return by_stem

    def list_others(self, named: set[str]) -> list[str]:
        """The files of the images that are none of these."""
        if len(self.only) == sum(self.folders.values()) and named.issuperset(self.only.values()):
            return []
        before = str(self.root / "_")[:-1]
        found = (before + image.relative for images in self.by_stem.values() for image in images)
        return [file for file in found if file not in named]

    def find(self, text: str) -> list[ImageFile]:
        """The images that an id, a file name or a path can mean.

        Of a path, as much as the folders have in common with it decides: `./train/0.jpg` is
        train/0.jpg where the index has train/0.jpg and test/0.jpg, and 0.jpg where it is of train.
        """
        *above, name = text.replace("\\", "/").split("/")
        stem, suffix = split_suffix(name)
        if suffix.lower() not in IMAGE_SUFFIXES:
            stem, suffix = name, ""
        images = self.by_stem.get(stem, [])
        if not above or not images:
            return _with_suffix(images, suffix)
        if ".." in above:
            return []
        parts = [part for part in above if part not in ("", ".")]
        near = self._list_near(stem, parts[-1]) if parts else images
        found = _with_suffix(near, suffix) or _with_suffix(images, suffix)
        return _choose_nearest(found, parts) if parts and len(found) > 1 else found

    def _list_near(self, stem: str, folder: str) -> list[ImageFile]:
        """The images of a stem in folders of this name; where there are few or none, all."""
        images = self.by_stem[stem]
        if len(images) <= FEW:
            return images
        if stem not in self._by_folder:
            by_folder = self._by_folder[stem] = {}
            for image in images:
                by_folder.setdefault(image.folder.rpartition("/")[2], []).append(image)
        return self._by_folder[stem].get(folder, images)

    def find_one(self, text: str, ending: str = "") -> ImageFile | None:
        """The image of an id, a file name or a path; None where there is none.

        `ending` is what images have that ids lack; with ANY, whatever an image has. Of images with
        the same name in several folders, that in `root` itself is meant, else the first.
        """
        found = self.find(text)
        if ending != ANY:
            found = [image for image in found if text.endswith(image.stem + image.suffix)] or [
                image for image in found if image.suffix == ending
            ]
        if len(found) < 2:
            return found[0] if found else None
        return min(found, key=lambda image: (image.folder.count("/"), image.folder != ""))


def _with_suffix(images: list[ImageFile], suffix: str) -> list[ImageFile]:
    """Those with this suffix; all where it is empty."""
    return [image for image in images if image.suffix == suffix] if suffix else list(images)


def _choose_nearest(found: Sequence[ImageFile], parts: Sequence[str]) -> list[ImageFile]:
    """The images whose folders end like a path; all where none does."""
    for start in range(len(parts)):
        end = "/".join(parts[start:])
        fitting = [
            image for image in found if image.folder == end or image.folder.endswith(f"/{end}")
        ]
        if fitting:
            return fitting
    return list(found)


def _walk(root: Path, folder: str, depth: int) -> Iterator[tuple[str, list[str]]]:
    """(folder relative to the root, names of its files, sorted); without hidden ones."""
    below: list[str] = []
    names: list[str] = []
    with translate_os_errors(root / folder, "read"), os.scandir(root / folder) as entries:
        for entry in entries:
            name = entry.name
            if name[0] == "." or name.lower() in SKIPPED:
                continue
            if not entry.is_dir():
                names.append(name)
            elif not (entry.is_symlink() and _leads_up(Path(entry.path))):
                below.append(name)
    yield folder, sorted(names)
    if depth:
        for name in sorted(below):
            yield from _walk(root, f"{folder}/{name}" if folder else name, depth - 1)


def _leads_up(link: Path) -> bool:
    """Whether a link leads to a folder that it is in, which would never end."""
    return link.parent.resolve().is_relative_to(link.resolve())
