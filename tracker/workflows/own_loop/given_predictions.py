"""The predictions that a script gives: a mapping, a pandas or polars frame, or a CSV."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tracker.training.errors import DataError
from tracker.training.tables import render_table
from tracker.workflows.own_loop.checks import to_array
from tracker.workspace.answer_kinds import find_answer_kind
from tracker.workspace.predictions import Answers, load_answers
from tracker.workspace.tracker_toml import Competition


def read_given(given: Any, competition: Competition) -> Answers:
    """The answers in `given`, which `save_predictions` describes; raises DataError."""
    if isinstance(given, str | Path):
        return load_answers(Path(given), competition)
    if isinstance(given, Mapping):
        ids, rows = list(given), [_list_cells(value, competition) for value in given.values()]
        columns: list[list[str]] = [list(column) for column in zip(*rows, strict=True)]
    elif hasattr(given, "columns"):
        ids, columns = _read_frame(given, competition)
    else:
        raise DataError(
            f"predictions cannot be read from {type(given).__name__}",
            hint="give {id: answer}, a pandas or polars frame, or the path of a CSV",
        )
    names = [str(name).strip() for name in ids]
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise DataError(f"{twice[0]} has two predictions", hint="give one for each image")
    if not names:
        return Answers([], [])
    return Answers(names, find_answer_kind(competition).read(columns, competition))


def render_refused(given: Any, competition: Competition) -> str:
    """What was given, as it is, in the form of a CSV: for people, who correct it."""
    if isinstance(given, str | Path):
        path = Path(given)
        return path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""
    if isinstance(given, Mapping):
        rows = [[str(name), *_list_plain(value)] for name, value in given.items()]
        return render_table([competition.id_column, *competition.value_columns], rows)
    if hasattr(given, "columns"):
        names = list(given.columns)
        index = getattr(given, "index", None)
        columns = [] if index is None else [("", index)]
        columns += [(str(name), given[name].to_numpy()) for name in names]
        cells = [[_to_text(cell) for cell in column] for _, column in columns]
        return render_table([name for name, _ in columns], zip(*cells, strict=True))
    return ""


def _list_plain(value: Any) -> list[str]:
    """The cells of an answer, whatever it is."""
    if isinstance(value, Mapping):
        value = value.values()
    is_single = isinstance(value, str) or not isinstance(value, Iterable)
    return [_to_text(value)] if is_single else list(map(str, value))


def render_csv(answers: Answers, competition: Competition, order: Sequence[str] | None) -> str:
    """predictions.csv: the columns of the competition, the rows in `order`, or sorted by id."""
    kind, by_id = find_answer_kind(competition), answers.by_id
    names = order if order is not None and set(order) == by_id.keys() else sorted(by_id)
    rows = ([name, *kind.write(by_id[name], competition)] for name in names)
    return render_table([competition.id_column, *competition.value_columns], rows)


def _list_cells(value: Any, competition: Competition) -> list[str]:
    """The cells of one answer: of a list or a mapping for an answer of several columns."""
    names = competition.value_columns
    if isinstance(value, Mapping):
        absent = [name for name in names if name not in value]
        if absent:
            raise DataError(f"an answer has no {absent[0]}", hint=f"expected {', '.join(names)}")
        return [_to_text(value[name]) for name in names]
    if hasattr(value, "detach") or hasattr(value, "ndim"):  # of a model: a tensor or an array
        value = to_array(value)[()]
    if isinstance(value, str) or not isinstance(value, Iterable):
        value = [value]
    cells = list(map(_to_text, value))
    if competition.answer in ("labels", "ranked"):
        return [" ".join(cells)]
    if len(cells) != len(names):
        raise DataError(
            f"an answer has {len(cells)} values, expected {len(names)}",
            hint=f"one for each of {', '.join(names[:20])}",
        )
    return cells


def _read_frame(frame: Any, competition: Competition) -> tuple[list[Any], list[list[str]]]:
    """(ids, the columns of the answer) of a pandas or polars frame; ids may be pandas' index."""
    id_column, names = competition.id_column, competition.value_columns
    index = getattr(frame, "index", None)
    if id_column not in frame.columns and index is not None and index.name in (id_column, None):
        frame = frame.rename_axis(id_column).reset_index()
    absent = [name for name in (id_column, *names) if name not in frame.columns]
    if absent:
        raise DataError(
            f"the frame has no column {', '.join(absent)}",
            hint=f"its columns: {', '.join(map(str, frame.columns))}",
        )
    ids, *columns = (
        [_to_text(cell) for cell in frame[name].to_numpy()] for name in (id_column, *names)
    )
    return ids, columns


def _to_text(value: Any) -> str:
    """A cell as a CSV would have it: a float32 with its own shortest decimals, empty for none."""
    if value is None or value != value:  # noqa: PLR0124 (only NaN differs from itself)
        return ""
    if isinstance(value, bool) or type(value).__name__ == "bool":  # numpy has a bool of its own
        return str(int(value))
    return str(value)
