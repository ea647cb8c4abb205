"""Two runs side by side: what was changed and what came of it. Plain data; report.py renders it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from tracker.configdiff import diff_configs
from tracker.errors import TrackerError
from tracker.ledger_read import Submission, list_submissions
from tracker.predictions import diff_answers, load_answers
from tracker.runs import RunRecord, load_config, load_run
from tracker.workspace import Workspace
from training.tables import flatten

LOWER_IS_BETTER = ("loss",)
NOT_COMPARED = ("train/images_per_s", "train/lr")


@dataclass(frozen=True, kw_only=True)
class RunDiff:
    """What differs between run `a` and run `b`; `better` is "a" or "b", None for a tie or an unknown side."""

    a: str
    b: str
    config: Mapping[str, list[Any]]
    metrics: Mapping[str, Mapping[str, Any]]
    best_epoch: list[int | None]
    predictions: Mapping[str, Any] | None
    code: Mapping[str, Any]
    data: Mapping[str, Any]
    submissions: list[int | None]

    def to_dict(self) -> dict[str, Any]:
        """Plain values for --json."""
        return asdict(self)


def diff_runs(workspace: Workspace, a: str, b: str, *, everything: bool = False) -> RunDiff:
    """Compare two runs by name; with `everything`, equal config keys and metrics are included."""
    left, right = load_run(workspace.runs_dir, a), load_run(workspace.runs_dir, b)
    configs = [load_config(workspace.runs_dir, name) for name in (a, b)]
    if everything:
        flat = [flatten(config) for config in configs]
        keys = [*flat[0], *(key for key in flat[1] if key not in flat[0])]
        config = {key: [flat[0].get(key), flat[1].get(key)] for key in keys}
    else:
        config = diff_configs(configs[0], configs[1])
    rows = _find_submissions(workspace, left, right)
    return RunDiff(
        a=a,
        b=b,
        config=config,
        metrics=_diff_metrics(workspace, left, right, rows, everything=everything),
        best_epoch=[left.best_epoch, right.best_epoch],
        predictions=_diff_predictions(workspace, a, b),
        code=_diff_fingerprint(left, right, "code"),
        data=_diff_fingerprint(left, right, "data"),
        submissions=[row.number if row else None for row in rows],
    )


def _find_submissions(workspace: Workspace, left: RunRecord, right: RunRecord) -> list[Submission | None]:
    """The newest submission of each run."""
    where = "WHERE s.run_uid IN (:left, :right)"
    found = {s.run_uid: s for s in list_submissions(workspace, where, {"left": left.uid, "right": right.uid})}
    return [found.get(left.uid), found.get(right.uid)]


def _diff_metrics(
    workspace: Workspace,
    left: RunRecord,
    right: RunRecord,
    rows: list[Submission | None],
    *,
    everything: bool,
) -> dict[str, dict[str, Any]]:
    """Leaderboard scores first, then the metrics of the best epochs."""
    scores = [row.scores if row else {} for row in rows]
    values: list[dict[str, float | None]] = [
        {**scores[0], **left.summary},
        {**scores[1], **right.summary},
    ]
    names = [*values[0], *(name for name in values[1] if name not in values[0])]
    names.sort(key=lambda name: "/" in name)
    found = {}
    for name in names:
        a, b = values[0].get(name), values[1].get(name)
        if name in NOT_COMPARED or (a == b and not everything):
            continue
        delta = None if a is None or b is None else b - a
        better = None
        if delta:
            better = "b" if (delta > 0) == _higher_is_better(workspace, name) else "a"
        found[name] = {"a": a, "b": b, "delta": delta, "better": better}
    return found


def _higher_is_better(workspace: Workspace, name: str) -> bool:
    if "/" in name:
        return name.rpartition("/")[2] not in LOWER_IS_BETTER
    return workspace.competition.metric(name.partition("_")[2]).higher_is_better


def _diff_predictions(workspace: Workspace, a: str, b: str) -> dict[str, Any] | None:
    """Share of equal predictions over the images that both predicted, None when one has none."""
    paths = [workspace.runs_dir / name / "predictions.csv" for name in (a, b)]
    if not all(path.is_file() for path in paths):
        return None
    try:
        old, new = (load_answers(path, workspace.competition) for path in paths)
    except TrackerError as error:
        return {"equal_share": None, "changed": None, "total": None, "problem": str(error)}
    diff = diff_answers(old, new)
    return {"equal_share": diff.equal_share, "changed": diff.changed, "total": diff.total}


def _diff_fingerprint(left: RunRecord, right: RunRecord, name: str) -> dict[str, Any]:
    a, b = left.fingerprints.get(name), right.fingerprints.get(name)
    return {"equal": a == b, "a": a, "b": b}
