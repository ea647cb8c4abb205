"""A workspace's images as a config sees them: checked, counted, split."""

from __future__ import annotations

import csv
import io
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tracker.errors import ConfigError, DataError
from tracker.train import prepare_data
from tracker.training.atomic import translate_os_errors, write_text
from tracker.training.config import Config
from tracker.training.libraries import IMAGES, PICTURES, require
from tracker.workspace import Workspace

if TYPE_CHECKING:
    from tracker.training.survey import SplitTable, Survey


@dataclass(frozen=True)
class DataCheck:
    """What a check of the data found; the counts of images and the fingerprint only when there is no problem."""

    problems: tuple[str, ...]
    training: int | None = None
    validation: int | None = None
    evaluation: int | None = None
    fingerprint: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """The documented object of `tracker data check --json`."""
        return {**asdict(self), "problems": list(self.problems)}


def check_data(workspace: Workspace, config: Config) -> DataCheck:
    """Decode every image and check labels, label fixes and ids, as a run does before it begins."""
    try:
        _, data = prepare_data(workspace, config)
    except DataError as error:
        return DataCheck(error.problems or (str(error),))
    return DataCheck((), len(data.train), len(data.val), len(data.eval), data.fingerprint)


def survey(workspace: Workspace, config: Config, *, figures: Path | None = None) -> tuple[Survey, list[Path]]:
    """Counts, sizes and colours of every part, and the pictures drawn of them; raises DataError and StorageError."""
    require(*IMAGES, *(PICTURES if figures else ()))
    from tracker.training.survey import survey_data

    task, data = prepare_data(workspace, config)
    found = survey_data(config, data, task, root=workspace.root)
    if figures is None:
        return found, []
    from tracker.training.survey_figures import draw_survey

    with translate_os_errors(figures, "create"):
        figures.mkdir(parents=True, exist_ok=True)
    return found, draw_survey(found, figures)


def write_split(workspace: Workspace, config: Config, path: Path, *, force: bool = False) -> SplitTable:
    """Write the split to a CSV of id, label and split or fold; another one that is there stays without `force`.

    Raises ConfigError, DataError and StorageError.
    """
    from tracker.training.survey import tabulate_split

    task, data = prepare_data(workspace, replace(config, data=replace(config.data, undersample=())))
    table = tabulate_split(config, data, task)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("id", "label", table.column))
    writer.writerows(table.rows)
    with translate_os_errors(path, "read"):
        before = path.read_bytes() if path.exists() else None
    if before is not None and before != text.getvalue().encode() and not force:
        raise ConfigError(f"{path} is there and has another split", hint="--force replaces it, --out names another")
    write_text(path, text.getvalue())
    return table
