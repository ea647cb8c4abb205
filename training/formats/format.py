"""One format of training data: how to recognize, read and split a folder in it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

if TYPE_CHECKING:  # every command asks the registry of formats, and few read images
    from tracker.training.formats.label_fixes import LabelFixes
    from tracker.training.formats.samples import Sample, Task

IMAGES = "images"  # the folder of them, beside a table
IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff", ".gif"})


def split_suffix(name: str) -> tuple[str, str]:
    """A file's name without its suffix, and the suffix; an id with dots has one too, as 1.2.826."""
    stem, dot, end = name.rpartition(".")
    return (stem, dot + end) if stem else (name, "")


class Listing(Protocol):
    """Reads folders for a format: skips files that are no images and collects problems.

    `unlabeled` are the images that a table of labels does not name.
    """

    unlabeled: list[str]

    def add_problem(self, name: str, place: Path | str, reason: str) -> None:
        """Add a problem of one training image or folder."""

    def list_names(self, folder: Path) -> list[str]:
        """The names of what a folder has, sorted."""

    def list_files(self, folder: Path) -> list[str]:
        """The files in a folder and below it, in order, relative to it, with slashes."""


class TrainingFolder(NamedTuple):
    """Where the training images are, and what is known before reading them.

    `labels` is data.labels, or None; the keys after `listing` are those of the data section that
    say how a table of labels is read, "" for their defaults.
    """

    folder: Path
    labels: Path | None
    task: Task
    age_bands: tuple[int, int]
    fixes: LabelFixes
    listing: Listing
    label_id: str = ""
    label_columns: tuple[str, ...] = ()
    name_column: str = ""
    image_table: Path | None = None
    image_id: str = ""
    ending: str = ""
    group: str = ""


class Format(NamedTuple):
    """A value of data.format, and everything that depends on it.

    `detect` looks at a folder and at a table of labels (None where there is none).
    `suggest_classes` reads the keys of the competition from the data: it gets the folder, the
    table and the name of the label column, and raises DataError. `read` raises DataError, or
    blames what it cannot read. `defaults` are the values of new runs, by dotted key; `init_keys`
    are keys of [data] that only a new workspace gets, written into its tracker.toml. `only_keys`
    have no effect with formats that do not list them. `images_folder` is the folder below
    train_dir that may hold the images. `count_attributes` counts images by the attributes that
    their class labels are made of.
    """

    name: str
    detect: Callable[[Path | None, Path | None], bool]
    suggest_classes: Callable[[Path, Path | None, str], dict[str, Any]]
    read: Callable[[TrainingFolder], list[Sample]]
    defaults: Mapping[str, Any]
    init_keys: Mapping[str, Any] = {}
    has_people: bool = False
    only_keys: tuple[str, ...] = ()
    images_folder: str = ""
    count_attributes: Callable[[Sequence[int]], dict[str, dict[str, int]]] = lambda labels: {}


# What a format without people takes: images divided by class, and channels as the model was trained
# with.
PLAIN_DEFAULTS: Mapping[str, Any] = {
    "data.split": "stratified",
    "data.mean": "model",
    "data.std": "model",
}
# Runs of a workspace compare with its earlier ones, so what is quicker and changes pixels by little
# is for new workspaces alone.
PLAIN_INIT_KEYS: Mapping[str, Any] = {"decode": "reduced"}
