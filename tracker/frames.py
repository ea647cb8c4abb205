"""Runs, submissions, curves and predictions as data frames, for people's own plots.

`tracker.runs()` in a script or a notebook; nothing is written, and no torch is loaded.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, overload

from tracker.core.errors import ConfigError
from tracker.core.metric_names import OF_BATCHES
from tracker.training.libraries import require

if TYPE_CHECKING:
    import pandas as pd
    import polars as pl
    import pyarrow as pa

    from tracker.training.predict.probabilities import Predictions
    from tracker.workspace.tracker_toml import Workspace

Kind = Literal["pandas", "polars", "arrow"]
Part = Literal["eval", "val"]

KINDS = ("pandas", "polars", "arrow")
PARTS = ("eval", "val")
_TIMES = ("created_at", "submitted_at")


@overload
def runs(
    where: str = ...,
    *,
    sort: str = ...,
    limit: int = ...,
    archived: bool = ...,
    root: Path | None = ...,
    frame: Literal["pandas"] = ...,
) -> pd.DataFrame: ...
@overload
def runs(
    where: str = ...,
    *,
    sort: str = ...,
    limit: int = ...,
    archived: bool = ...,
    root: Path | None = ...,
    frame: Literal["polars"],
) -> pl.DataFrame: ...
@overload
def runs(
    where: str = ...,
    *,
    sort: str = ...,
    limit: int = ...,
    archived: bool = ...,
    root: Path | None = ...,
    frame: Literal["arrow"],
) -> pa.Table: ...
def runs(
    where: str = "",
    *,
    sort: str = "",
    limit: int = 0,
    archived: bool = False,
    root: Path | None = None,
    frame: Kind = "pandas",
) -> Any:
    """The runs of the workspace around `root` (default: the current folder), a row each.

    The columns are the names that `tracker runs --where` knows: the fields of a run, its metrics
    (`val/f1`), its scores (`public_f1`) and the keys of its config (`optim.lr`). `where`, `sort`,
    `limit` (0: all) and `archived` are those of the command. Times are UTC. Raises UnknownRunError
    outside a workspace, and ConfigError for a condition or a name that cannot be read.
    """
    from tracker.comparison.compared_run import load_values
    from tracker.comparison.search import SCORE_PREFIXES, search_runs
    from tracker.run_folder.read import look_once
    from tracker.run_folder.values import FIELDS

    workspace = _open(root, frame)
    with look_once(workspace.runs_dir):
        records = search_runs(workspace, where=where, sort=sort, limit=limit, archived=archived)
        rows = load_values(workspace, records)
    names = list(dict.fromkeys(chain.from_iterable(rows)))
    own = ["name", *FIELDS, "submission"]
    figures = [
        name for name in names if "/" in name or name.startswith(("overall_", *SCORE_PREFIXES))
    ]
    return _build(rows, [*own, *sorted(figures), *names], frame)


@overload
def submissions(
    *,
    sort: str = ...,
    limit: int = ...,
    root: Path | None = ...,
    frame: Literal["pandas"] = ...,
) -> pd.DataFrame: ...
@overload
def submissions(
    *, sort: str = ..., limit: int = ..., root: Path | None = ..., frame: Literal["polars"]
) -> pl.DataFrame: ...
@overload
def submissions(
    *, sort: str = ..., limit: int = ..., root: Path | None = ..., frame: Literal["arrow"]
) -> pa.Table: ...
def submissions(
    *, sort: str = "", limit: int = 0, root: Path | None = None, frame: Kind = "pandas"
) -> Any:
    """The submissions of the ledger, the newest first or by `sort`, a row each.

    Columns: what `tracker leaderboard --json` has, and the keys of the config that was submitted
    (`optim.lr`); `notes` are their texts, `config_diff` is JSON. Times are UTC. Raises
    UnknownRunError outside a workspace, and ConfigError for a name that no submission has.
    """
    from tracker.comparison.submission_rows import list_submission_rows
    from tracker.training.tables import flatten

    workspace = _open(root, frame)
    rows, configs = [], []
    for known in list_submission_rows(workspace, sort=sort, limit=limit):
        config = flatten(known.pop("config"))
        notes = [note["text"] for note in known.pop("notes")]
        rows.append({**known, "notes": notes, **config})
        configs.append(config)
    first = ("number", "rank", "run", "memo", "submitted_at", "author", "host")
    keys = dict.fromkeys(chain.from_iterable(configs))
    names = dict.fromkeys(chain.from_iterable(rows))
    return _build(rows, [*first, *(name for name in names if name not in keys), *keys], frame)


@overload
def curves(
    run: str = ..., *, root: Path | None = ..., frame: Literal["pandas"] = ...
) -> pd.DataFrame: ...
@overload
def curves(
    run: str = ..., *, root: Path | None = ..., frame: Literal["polars"]
) -> pl.DataFrame: ...
@overload
def curves(run: str = ..., *, root: Path | None = ..., frame: Literal["arrow"]) -> pa.Table: ...
def curves(run: str = "latest", *, root: Path | None = None, frame: Kind = "pandas") -> Any:
    """What a run logged: a row for each step, with `step`, `epoch` and a column for each metric.

    `per` is `epoch` where `step` is the number of the epoch, else `step`, as for the losses of
    batches. A metric that was not logged at a step is missing there.
    `run` is exp12, mina/exp12 (once it was pulled), latest, sota or s12.
    Raises UnknownRunError for an unknown run.
    """
    from tracker.ledger.resolve import resolve_run
    from tracker.run_folder.points import read_curves
    from tracker.run_folder.record import run_folder

    workspace = _open(root, frame)
    path = run_folder(workspace.runs_dir, resolve_run(workspace, run)) / "metrics.jsonl"
    rows: dict[tuple[int, bool, int], dict[str, Any]] = {}  # in the order of time
    found = read_curves(path)
    for name, points in found.items():
        for step, (epoch, value) in points.items():
            of_epoch = step == epoch and name not in OF_BATCHES
            start = {"step": step, "epoch": epoch, "per": "epoch" if of_epoch else "step"}
            rows.setdefault((epoch, of_epoch, step), start)[name] = value
    return _build([rows[key] for key in sorted(rows)], ["step", "epoch", "per", *found], frame)


@overload
def predictions(
    run: str = ...,
    *,
    part: Part = ...,
    root: Path | None = ...,
    frame: Literal["pandas"] = ...,
) -> pd.DataFrame: ...
@overload
def predictions(
    run: str = ..., *, part: Part = ..., root: Path | None = ..., frame: Literal["polars"]
) -> pl.DataFrame: ...
@overload
def predictions(
    run: str = ..., *, part: Part = ..., root: Path | None = ..., frame: Literal["arrow"]
) -> pa.Table: ...
def predictions(
    run: str = "latest",
    *,
    part: Part = "eval",
    root: Path | None = None,
    frame: Kind = "pandas",
) -> Any:
    """What a run predicted: a row for each image, with its id as text.

    `part` "eval" are the images to submit: the columns of predictions.csv, then `p_<class>` with
    the probabilities where the run has them. "val" are the validation images: `id`, `label` and
    `predicted` (the most probable class) where an image has one class, then `p_<class>`. `run` is
    exp12, latest, sota or s12. Raises UnknownRunError for an unknown run, and DataError when it has
    no such predictions.
    """
    from tracker.ledger.resolve import resolve_run
    from tracker.run_folder.record import run_folder
    from tracker.training.predict.probabilities import load_probabilities

    if part not in PARTS:
        raise ConfigError(f"part {part!r} is not one of {', '.join(PARTS)}")
    workspace = _open(root, frame)
    folder = run_folder(workspace.runs_dir, resolve_run(workspace, run))
    if part == "val":
        columns = _list_validation(load_probabilities(folder / "validation.npz"))
    else:
        columns = _list_answers(workspace, folder)
    return _convert(columns, frame)


def _list_answers(workspace: Workspace, folder: Path) -> dict[str, list[Any]]:
    """The columns of predictions.csv and of probabilities.npz, where that has the same images."""
    from tracker.training.predict.probabilities import load_probabilities
    from tracker.training.tables import read_columns
    from tracker.workspace.answer_kinds import find_answer_kind

    competition = workspace.competition
    names = (competition.id_column, *competition.value_columns)
    columns: dict[str, list[Any]] = {name: [] for name in names}
    for parts in read_columns(folder / "predictions.csv", names):
        for name, cells in zip(names, parts, strict=True):
            columns[name] += cells
    if find_answer_kind(competition).is_number:
        return columns | {name: list(map(float, columns[name])) for name in names[1:]}
    path = folder / "probabilities.npz"
    if not path.is_file():
        return columns
    known = load_probabilities(path)
    places = {name: place for place, name in enumerate(known.ids)}
    ids = columns[competition.id_column]
    if set(places) != set(ids):
        return columns
    return columns | _list_probabilities(known, [places[name] for name in ids])


def _list_validation(known: Predictions) -> dict[str, list[Any]]:
    """The columns of validation.npz."""
    columns: dict[str, list[Any]] = {"id": list(known.ids)}
    if known.has_classes and known.labels is not None and known.classes:
        columns["label"] = [known.classes[label] for label in known.labels]
        columns["predicted"] = [known.classes[best] for best in known.probabilities.argmax(axis=1)]
    return columns | _list_probabilities(known, range(len(known.ids)))


def _list_probabilities(known: Predictions, order: Sequence[int]) -> dict[str, list[Any]]:
    """{p_cat: its probability for each image, in the given order}."""
    table = known.probabilities[list(order)].T
    classes = known.classes or tuple(str(number) for number in range(len(table)))
    return {f"p_{name}": column.tolist() for name, column in zip(classes, table, strict=True)}


def _open(root: Path | None, frame: str) -> Workspace:
    """The workspace around `root`; the name of the frame is checked before anything is read."""
    from tracker.workspace.tracker_toml import find_workspace

    if frame not in KINDS:
        raise ConfigError(f"frame {frame!r} is not one of {', '.join(KINDS)}")
    return find_workspace(root)


def _build(rows: Sequence[Mapping[str, Any]], names: Iterable[str], frame: Kind) -> Any:
    """A frame of the rows with the columns in the order of `names`, each once."""
    columns = {name: [row.get(name) for row in rows] for name in dict.fromkeys(names)}
    return _convert(columns, frame)


def _convert(columns: Mapping[str, Sequence[Any]], frame: Kind) -> Any:
    """The columns as a pandas frame with Arrow's types, a polars frame, or an Arrow table."""
    require("pyarrow", *(["pandas"] if frame == "pandas" else []))
    import pyarrow as pa

    table = pa.table({name: _build_array(name, values) for name, values in columns.items()})
    if frame == "arrow":
        return table
    if frame == "pandas":
        import pandas as pd

        return table.to_pandas(types_mapper=pd.ArrowDtype)
    require("polars")
    import polars as pl

    return pl.from_arrow(table)


def _build_array(name: str, values: Sequence[Any]) -> Any:
    """A column with one type; where the values have several, all of them are text."""
    import pyarrow as pa

    if name in _TIMES:
        from tracker.core.clock import from_utc_text

        moments = [from_utc_text(value) if value else None for value in values]
        return pa.array(moments, pa.timestamp("us", tz="UTC"))
    if not any(isinstance(value, Mapping) for value in values):
        try:
            return pa.array(values)
        except (pa.ArrowInvalid, pa.ArrowTypeError):
            pass  # values of several types, as a config key may have had
    return pa.array([_to_text(value) for value in values], pa.string())


def _to_text(value: Any) -> str | None:
    if value is None or isinstance(value, str):
        return value
    return json.dumps(value, ensure_ascii=False)
