"""Hold labeled images out for a leaderboard of one's own: lists of them, and no image is moved."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Sequence
from dataclasses import replace

from tracker.core.clock import utc_now
from tracker.training.config import DataConfig
from tracker.training.config_reading import config_from_dict
from tracker.training.data.data import read_labeled
from tracker.training.data.split import split_samples
from tracker.training.errors import ConfigError, DataError
from tracker.training.files import translate_os_errors, write_json, write_text
from tracker.training.formats import FORMATS
from tracker.training.formats.samples import Sample, Task
from tracker.training.formats.table_rows import list_set
from tracker.training.tables import render_table
from tracker.workspace.answer_kinds import normalize_number
from tracker.workspace.data import build_task
from tracker.workspace.holdout import COLUMNS, FOLDER, IMAGES, SEAL, SOLUTION, hash_file
from tracker.workspace.leaderboard_kinds import DEFAULT
from tracker.workspace.tracker_toml import Workspace


def hold_out(workspace: Workspace, share: float) -> int:
    """Write the lists of the images that are held out, and return how many they are.

    They are drawn as a validation split is: whole groups, and each class with its share. Half of
    them are public. Raises ConfigError, DataError and StorageError; nothing is left behind then.
    """
    folder = workspace.root / FOLDER
    if os.path.lexists(folder):
        raise ConfigError(f"{folder} is there already", hint="move it away, then hold out again")
    task = build_task(replace(workspace, leaderboard=DEFAULT.name))
    config = config_from_dict({"data": dict(workspace.data)}, source="tracker.toml").data
    samples = read_labeled(config, task, root=workspace.root)
    chosen, public = _draw(samples, config, share)
    with translate_os_errors(folder, "create"):
        folder.mkdir()
    try:
        _write_lists(workspace, task, chosen, public)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    return len(chosen)


def _draw(
    samples: Sequence[Sample], config: DataConfig, share: float
) -> tuple[tuple[Sample, ...], set[str]]:
    """The samples that are held out, and the ids of their public half."""
    grouped = config.group or FORMATS[config.format].has_people
    config = replace(
        config,
        split="stratified_group" if grouped else "stratified",
        val_ratio=share,
        folds=0,
        fold_file="",
        undersample=(),
    )
    _, chosen = split_samples(samples, config)
    _, public = split_samples(chosen, replace(config, val_ratio=0.5)) if chosen else ((), ())
    if not public or len(public) == len(chosen):
        raise DataError(
            f"{len(chosen)} of {len(samples)} labeled images would be held out, too few for a"
            " public and a private half",
            hint="a larger --holdout, or more images or groups",
        )
    return chosen, {sample.id for sample in public}


def _write_lists(
    workspace: Workspace, task: Task, chosen: Sequence[Sample], public: set[str]
) -> None:
    folder, competition = workspace.root / FOLDER, workspace.competition
    images = [(sample.id, hash_file(sample.path)) for sample in chosen]
    header = (competition.id_column, *competition.value_columns, "Usage")
    truths = []
    for sample in chosen:
        usage = "Public" if sample.id in public else "Private"
        truths.append((sample.id, *_render_truth(sample, task), usage))
    write_text(folder / IMAGES, render_table(COLUMNS, images))
    write_text(folder / SOLUTION, render_table(header, truths))
    hashes = {name: hash_file(folder / name) for name in (IMAGES, SOLUTION)}
    write_json(folder / SEAL, {"held_out": utc_now(), "images": len(chosen), "sha256": hashes})


def _render_truth(sample: Sample, task: Task) -> list[str]:
    """The cells of a sample's true answer, as the competition's kind of answer has them."""
    if task.target == "number":
        return [normalize_number(repr(sample.values[0]))]
    if task.answer == "columns":
        flags = sample.values or [float(n == sample.label) for n in range(len(task.classes))]
        return [normalize_number(repr(float(value))) for value in flags]
    labels = list_set(sample.values) if sample.values else [sample.label]
    if task.answer in ("probability", "number"):
        return [str(sample.label)]
    return [" ".join(task.answer_words[label] for label in labels)]


def describe_holdout(workspace: Workspace) -> str:
    """A sentence about the held-out images of a workspace that was just made."""
    known = json.loads((workspace.root / FOLDER / SEAL).read_text(encoding="utf-8"))
    return (
        f"{known['images']} labeled images are held out: never trained or validated on, predicted"
        f" by each run and scored here; half of them stay private. Keep {FOLDER}/ with tracker.toml"
    )
