"""The images of a workspace for a config: check them, count them, write their split."""

from __future__ import annotations

import os
import shlex
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tracker.training.config import Config
from tracker.training.data.data import inspect_data
from tracker.training.data.exclude import CSV, split_entries
from tracker.training.errors import ConfigError, DataError
from tracker.training.files import check_regular, translate_os_errors, write_text
from tracker.training.formats.samples import DataReport
from tracker.training.libraries import IMAGES, PICTURES, require
from tracker.training.tables import render_table
from tracker.workspace.data import build_task, locate_data, prepare_data
from tracker.workspace.tracker_toml import Workspace

if TYPE_CHECKING:
    from tracker.training.inspect.survey import SplitTable, Survey


@dataclass(frozen=True)
class DataCheck:
    """The result of a data check; without problems also the image counts and the fingerprint."""

    problems: tuple[str, ...]
    training: int | None = None
    validation: int | None = None
    evaluation: int | None = None
    fingerprint: str | None = None
    notes: tuple[str, ...] = ()
    written: ExcludeTable | None = None

    def to_dict(self) -> dict[str, Any]:
        """The documented object of `tracker data check --json`."""
        return asdict(self)


@dataclass(frozen=True)
class ExcludeTable:
    """The CSV of broken training images for data.exclude; `left` are the problems left with it."""

    exclude: str
    broken: int
    images: int
    left: tuple[str, ...]


def check_data(
    workspace: Workspace, config: Config, *, write_exclude: Path | None = None
) -> DataCheck:
    """Decode every image and check labels, label fixes and ids, as a run does before it starts.

    If training images are broken, they and those that the config excludes are written to the CSV
    `write_exclude`. Raises ConfigError and StorageError.
    """
    task = build_task(workspace)
    cache = workspace.state_dir / "images.npz"
    if write_exclude and (write_exclude.suffix.lower() != CSV or "," in str(write_exclude)):
        raise ConfigError(
            f"--write-exclude {write_exclude}: expected the path of a .csv, without commas"
        )
    # Look at the data, then again with the broken images excluded.
    try:
        config = replace(config, data=locate_data(workspace, config.data))
        report = inspect_data(config.data, task, root=workspace.root, cache=cache)
        written = None
        if write_exclude and report.broken:
            name = _write_excludable(report, write_exclude, workspace, config)
            again = inspect_data(
                replace(config.data, exclude=name), task, root=workspace.root, cache=cache
            )
            written = ExcludeTable(name, report.broken, len(report.excludable), again.problems)
    except DataError as error:
        return DataCheck(error.problems or (str(error),))
    data = report.data
    if data is None:
        return DataCheck(report.problems, notes=report.notes, written=written)
    return DataCheck(
        (), len(data.train), len(data.val), len(data.eval), data.fingerprint, report.notes
    )


def _write_excludable(report: DataReport, path: Path, workspace: Workspace, config: Config) -> str:
    """Write the CSV and return its name for data.exclude.

    Raises ConfigError instead of replacing a CSV that was not written here.
    """
    text = render_table(("path", "reason"), report.excludable)
    before = _read_if_there(path)
    tables = [
        (workspace.root / Path(name).expanduser()).resolve()
        for name in split_entries(config.data.exclude)
    ]
    if before not in (None, text.encode()) and path.resolve() not in tables:
        raise ConfigError(
            f"{path} already exists, and data.exclude does not name it",
            hint=(
                f"--set {shlex.quote(f'data.exclude={path}')} adds to it; or give"
                " --write-exclude another name"
            ),
        )
    write_text(path, text)
    absolute, root = path.resolve(), workspace.root.resolve()
    return absolute.relative_to(root).as_posix() if absolute.is_relative_to(root) else str(absolute)


def _read_if_there(path: Path) -> bytes | None:
    with translate_os_errors(path, "read"):
        if not os.path.lexists(path):
            return None
        check_regular(path)
        return path.read_bytes()


def survey(
    workspace: Workspace, config: Config, *, figures: Path | None = None
) -> tuple[Survey, list[Path]]:
    """Counts, sizes and colors of every part, and the figures of them, drawn to `figures`.

    Raises DataError and StorageError.
    """
    require(*IMAGES, *(PICTURES if figures else ()))
    from tracker.training.inspect.survey import survey_data

    task, data = prepare_data(workspace, config)
    result = survey_data(config, data, task, root=workspace.root)
    if figures is None:
        return result, []
    from tracker.training.inspect.survey_figures import draw_survey

    with translate_os_errors(figures, "create"):
        figures.mkdir(parents=True, exist_ok=True)
    return result, draw_survey(result, figures)


def write_split(
    workspace: Workspace, config: Config, path: Path, *, force: bool = False
) -> SplitTable:
    """Write the split to a CSV with id, label, and split or fold; `force` replaces another one.

    Raises ConfigError, DataError and StorageError.
    """
    from tracker.training.inspect.survey import tabulate_split

    task, data = prepare_data(workspace, replace(config, data=replace(config.data, undersample=())))
    table = tabulate_split(config, data, task)
    text = render_table(("id", "label", table.column), table.rows)
    if _read_if_there(path) not in (None, text.encode()) and not force:
        raise ConfigError(
            f"{path} already exists with another split",
            hint="--force replaces it, --out writes another file",
        )
    write_text(path, text)
    return table
