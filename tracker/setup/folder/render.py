"""A competition folder that was read, as keys of tracker.toml and as lines for people."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tracker.setup.folder.recognize import CompetitionFolder
from tracker.training.metrics import METRICS
from tracker.training.numbers import render_count

CLASSES_NAMED = 5
# The metric of a competition that nobody named, by answer: what most judges take.
USUAL_METRICS = {
    "class": tuple(METRICS),
    "probability": ("roc_auc",),
    "labels": ("f1_micro",),
    "number": ("rmse",),
}


def list_data_keys(found: CompetitionFolder) -> dict[str, Any]:
    """Section [data]: where the files lie, as absolute paths, and how they are read."""
    names = (found.id_column, found.label_id)
    keys: dict[str, Any] = {
        "format": found.data_format,
        "train_dir": str(found.train_dir),
        "eval_dir": str(found.eval_dir or ""),
        "labels": str(found.labels or ""),
        "sample": str(found.sample or ""),
        "eval_table": str(found.eval_table or ""),
        "label_id": found.label_id if found.label_id != found.id_column else "",
        "name_column": found.name_column,
        "image_table": str(found.image_table or ""),
        "image_id": found.image_id if found.image_id not in names else "",
        "ending": found.ending,
        "group": found.group,
    }
    if found.label_columns not in ((), (found.label_column,)):
        keys["label_columns"] = list(found.label_columns)
    return {key: value for key, value in keys.items() if value}


def list_competition_keys(found: CompetitionFolder) -> dict[str, Any]:
    """The keys of [competition] that the folder tells."""
    answer = found.answer
    return {
        "name": found.folder.name,
        "classes": list(answer.classes),
        "id_column": found.id_column,
        "label_column": found.label_column,
        "answers": answer.answers,
        "target": answer.target,
        "answer": answer.answer,
        "answer_columns": list(answer.answer_columns),
        "sum_to_one": answer.sum_to_one,
        "top_k": answer.top_k,
    }


def list_reasons(found: CompetitionFolder) -> dict[str, str]:
    """What the comment of a key in tracker.toml adds, by dotted name."""
    reasons = dict(found.why)
    reasons |= {f"competition.{key}": reason for key, reason in found.answer.why.items()}
    return {name: f" Here: {reason}." for name, reason in reasons.items()}


def choose_usual_metrics(found: CompetitionFolder) -> tuple[str, ...]:
    """What to take as metrics where nobody named one."""
    answer = found.answer
    if answer.answer == "columns":
        return ("log_loss",) if answer.target == "class" else ("roc_auc",)
    if answer.answer == "ranked":
        return (f"map@{answer.top_k}",)
    return USUAL_METRICS[answer.answer]


def describe_folder(found: CompetitionFolder) -> list[str]:
    """About ten lines for people: what was found, with counts and reasons."""
    answer, why = found.answer, found.answer.why
    counts = [
        render_count(found.labeled, "label"),
        render_count(found.train_images, "image"),
        *([render_count(len(answer.classes), "class", "classes")] if answer.classes else []),
        f"{found.ids:,} to predict",
    ]
    lines = {
        "found": f"{', '.join(counts)} (nothing is written to {found.folder})",
        "training": _describe_training(found),
        "ids": _describe_ids(found),
        "target": f"{answer.target}: {why.get('target', '')}",
        "classes": _name_classes(found),
        "predict": _describe_prediction(found),
        "answer": f"{_name_columns(found)}: {why.get('answer', '')}",
    }
    if found.group:
        reason = found.why["data.group"]
        lines["group"] = f"{found.group}, which a split never divides: {reason}"
    width = max(map(len, lines)) + 2
    return [f"{word:{width}}{line}" for word, line in lines.items() if line]


def _describe_training(found: CompetitionFolder) -> str:
    folder = _show(found, found.train_dir)
    if found.labels is None:
        where = {"image_folder": "the folder", "file_names": "the file name"}[found.data_format]
        return f"{folder}, the class is {where}"
    column = ", ".join(found.label_columns[:3])
    more = len(found.label_columns) - 3
    column += f" and {more} more" if more > 0 else ""
    return f"{_show(found, found.labels)} (label: {column}), images in {folder}"


def _describe_ids(found: CompetitionFolder) -> str:
    label_id = found.label_id or found.id_column
    same = label_id == found.id_column or found.labels is None
    names = found.id_column if same else f"{found.id_column}, {label_id} in the label table"
    if found.image_table:
        return (
            f"{names}; file names are in {found.name_column} of {_show(found, found.image_table)}"
        )
    if found.name_column:
        return f"{names}; file names are in {found.name_column}"
    if found.ending:
        return f"{names}, without the ending {found.ending}"
    return f"{names}, with the ending"


def _describe_prediction(found: CompetitionFolder) -> str:
    if found.eval_dir is None:
        return "no image to predict was found: --eval-dir"
    listed = found.sample or found.eval_table
    images = render_count(found.eval_images, "image")
    table = f"{_show(found, listed)} ({found.ids:,} ids), " if listed else ""
    return f"{table}{images} in {_show(found, found.eval_dir)}"


def _name_columns(found: CompetitionFolder) -> str:
    answer = found.answer
    if answer.answer != "columns":
        most = f", at most {answer.top_k}" if answer.answer == "ranked" else ""
        return f"{answer.answer}{most}, in column {found.label_column}"
    count = len(answer.answer_columns or answer.classes)
    whole = ", which sum to 1 in each row" if answer.sum_to_one else ""
    return f"{count} columns{whole}"


def _name_classes(found: CompetitionFolder) -> str:
    classes = found.answer.classes
    more = len(classes) - CLASSES_NAMED
    return ", ".join([*classes[:CLASSES_NAMED], *([f"{more:,} more"] if more > 0 else ())])


def _show(found: CompetitionFolder, path: Path) -> str:
    if path == found.folder:
        return "the folder itself"
    inside = path.is_relative_to(found.folder)
    return path.relative_to(found.folder).as_posix() if inside else str(path)
