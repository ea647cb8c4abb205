"""The images of ids, from a table of images beside the table of labels: data.image_table.

A row of labels may be about several images, as those of a patient: then each is called by its file
name.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from tracker.training.errors import DataError
from tracker.training.formats.format import Listing, TrainingFolder
from tracker.training.tables import LINE, read_header, read_table


class ImageName(NamedTuple):
    """An image of a row of labels: where a table names it, its id and its file name.

    `group` is "" where the table of images has no column of groups.
    """

    place: str
    id: str
    file_name: str
    group: str = ""


@dataclass(frozen=True)
class ImageNames:
    """The images of each id; `has_groups` where data.group is a column of this table."""

    table: Path
    images: dict[str, list[ImageName]]
    has_groups: bool

    @classmethod
    def read(cls, source: TrainingFolder) -> ImageNames:
        """Read data.image_table; raises DataError where it or one of its columns is missing."""
        table = source.image_table
        assert table is not None  # noqa: S101  (without one there is nothing to read)
        if not source.name_column:
            raise DataError(
                "data.image_table needs data.name_column",
                hint=f"which column of {table} has the file names",
            )
        header = read_header(table)
        ids = _find_id_column(table, header, source)
        has_groups = source.group in header
        columns = (LINE, ids, source.name_column, source.group if has_groups else ids)
        images: dict[str, list[ImageName]] = {}
        for line, name, file_name, group in read_table(table, columns):
            image = ImageName(f"{table}:{line}", name, file_name, group if has_groups else "")
            images.setdefault(name, []).append(image)
        if any(len(of_id) > 1 for of_id in images.values()):
            images = {name: _call_by_file(of_id) for name, of_id in images.items()}
        return cls(table, images, has_groups)

    def list_images(self, name: str, place: str, listing: Listing) -> list[ImageName]:
        """The images of an id whose label is at `place`; adds what is missing to the problems."""
        found = self.images.get(name, [])
        if not found:
            listing.add_problem(name, place, f"{self.table} has no row with the id {name}")
        usable: dict[str, ImageName] = {}
        for image in found:
            if not image.file_name:
                listing.add_problem(name, image.place, "no file name")
                continue
            first = usable.setdefault(image.id, image)
            if first is not image:
                reason = f"{image.id} is listed twice, first at {first.place}"
                listing.add_problem(image.id, image.place, reason)
        return list(usable.values())


def _call_by_file(images: Sequence[ImageName]) -> list[ImageName]:
    return [image._replace(id=image.file_name) for image in images]


def _find_id_column(table: Path, header: Sequence[str], source: TrainingFolder) -> str:
    wanted = [source.image_id] if source.image_id else [source.label_id, source.task.id_column]
    wanted = list(dict.fromkeys(name for name in wanted if name))
    for name in wanted:
        if name in header:
            return name
    raise DataError(
        f"{table} has no column {' or '.join(wanted)} (data.image_id)",
        hint=f"its columns: {', '.join(header)}",
    )
