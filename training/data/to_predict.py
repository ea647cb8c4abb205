"""The images to predict, as a sample submission or another table lists them."""

from __future__ import annotations

from pathlib import Path

from tracker.training.config import DataConfig, locate
from tracker.training.errors import DataError
from tracker.training.formats.samples import EvalImage, Task
from tracker.training.formats.table_rows import ImageFinder, find_images
from tracker.training.tables import LINE, read_header, read_table


def is_listed(config: DataConfig) -> bool:
    """Whether a table says which ids are to be predicted."""
    return bool(config.sample or config.eval_table)


def list_ids(config: DataConfig, task: Task, root: Path, problems: list[str]) -> dict[str, str]:
    """{id: its place, as in sample.csv:2} in the order of the table, without reading an image.

    Adds ids that are listed twice and rows without an id to `problems`. Raises DataError.
    """
    table = locate(root, config.sample or config.eval_table)
    column = task.id_column if config.sample else _find_id_column(table, config, task)
    found: dict[str, str] = {}
    for line, name in read_table(table, (LINE, column)):
        place = f"{table}:{line}"
        if not name:
            problems.append(f"{place}: no id")
        elif name in found:
            problems.append(f"{place}: {name} is listed twice, first in {found[name]}")
        else:
            found[name] = place
    return found


def list_images(
    config: DataConfig, task: Task, root: Path, problems: list[str]
) -> tuple[EvalImage, ...]:
    """The images of the ids that a table lists, in its order; raises DataError."""
    ids = list_ids(config, task, root, problems)
    names = _read_names(config, task, root)
    finder = ImageFinder.read(find_images(locate(root, config.eval_dir)), config.ending)
    images = []
    for name, place in ids.items():
        file_name = names.get(name, "" if names else name)
        file = finder.find(file_name) if file_name else None
        if file is None:
            what = f"no image {file_name or name} in {finder.folder}"
            known = file_name or not names
            problems.append(
                f"{place}: {what}" if known else f"{place}: {name} is not in data.eval_table"
            )
        else:
            images.append(EvalImage(name, file))
    return tuple(images)


def _read_names(config: DataConfig, task: Task, root: Path) -> dict[str, str]:
    """{id: file name} of the table of images to predict; empty where ids are the names."""
    if not (config.eval_table and config.name_column):
        return {}
    table = locate(root, config.eval_table)
    if config.name_column not in read_header(table):
        return {}
    column = _find_id_column(table, config, task)
    rows = read_table(table, (column, config.name_column))
    return {row[0]: row[1] for row in rows}


def _find_id_column(table: Path, config: DataConfig, task: Task) -> str:
    """The id column of the table of images to predict, which may be called as that of labels."""
    header = read_header(table)
    called = (config.image_id, task.id_column, config.label_id)
    wanted = list(dict.fromkeys(name for name in called if name))
    for name in wanted:
        if name in header:
            return name
    raise DataError(
        f"{table} has no column {' or '.join(wanted)}", hint=f"its columns: {', '.join(header)}"
    )
