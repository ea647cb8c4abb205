"""An ensemble of runs is a run: its config names the members, its predictions can be submitted."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from tracker.ledger.resolve import resolve_run
from tracker.runs.read import load_run
from tracker.runs.record import RunRecord
from tracker.training.errors import ConfigError
from tracker.workflows.own_loop.begin import begin
from tracker.workspace.data import build_task
from tracker.workspace.tracker_toml import Workspace

if TYPE_CHECKING:
    from tracker.training.predict.probabilities import Predictions


def ensemble(
    workspace: Workspace,
    runs: Sequence[str],
    *,
    method: str,
    weights: Sequence[float] = (),
    note: str = "",
) -> RunRecord:
    """Combine the probabilities of two or more runs into a new run.

    Its metrics are from images that no member was trained on. For method weighted without
    `weights`, the weights are searched on the members' validation images. Raises ConfigError when a
    member is given twice, when members differ in classes or images, or when weights are wrong.
    """
    from tracker.training.config import EvalConfig
    from tracker.training.predict.decide import measure, plain_decision, save_predictions
    from tracker.training.predict.ensemble import (
        check_method,
        combine,
        combine_validation,
        search_weights,
    )
    from tracker.training.predict.probabilities import (
        Predictions,
        align,
        load_probabilities,
        save_probabilities,
    )

    task = build_task(workspace)
    names = [resolve_run(workspace, run) for run in runs]
    if len(names) < 2 or len(set(names)) != len(names):
        raise ConfigError(
            "an ensemble needs two or more different runs", hint="tracker run ensemble exp3 exp5"
        )
    paths = [workspace.runs_dir / name / "probabilities.npz" for name in names]
    validations = _load_validations(workspace, names)
    # Without an evaluation set there are only validation images to combine.
    no_evaluation = validations and not any(path.exists() for path in paths)
    members = [] if no_evaluation else align([load_probabilities(path) for path in paths], names)
    searched = method == "weighted" and not weights
    if searched:
        weights = search_weights(validations)
        pairs = zip(names, weights, strict=True)
        weight_list = ", ".join(f"{name} {weight:g}" for name, weight in pairs)
        print(
            f"weights found on the validation images: {weight_list} (the validation score of the"
            " ensemble is therefore too good)",
            file=sys.stderr,
        )
    # Checked here: joining folds, where each image is in one of them, does not look at it.
    check_method(method, weights)
    scores = (
        combine(method, [member.probabilities for member in members], weights) if members else None
    )
    config = {
        "ensemble": {
            "method": method,
            "members": names,
            "weights": list(weights),
            "searched": searched,
        }
    }
    options: dict[str, Any] = {
        "root": workspace.root,
        "kind": "ensemble",
        "follow": False,
        "quiet": True,
    }
    with begin(config, note=note, parent=names[0], **options) as run:
        run.add_facts({"members": [load_run(workspace.runs_dir, name).uid for name in names]})
        joined = combine_validation(validations, method, weights) if validations else None
        if joined is not None:
            save_probabilities(run.folder / "validation.npz", joined)
            metrics = measure(joined, task)
            run.log(metrics, step=1, epoch=1)
            run.set_summary(metrics)
        else:
            print(
                f"the ensemble has no validation score: {_explain_missing(workspace, names)}",
                file=sys.stderr,
            )
        if scores is not None:
            combined = Predictions(members[0].ids, scores, classes=task.classes)
            save_predictions(run.folder, combined, task, plain_decision(task, EvalConfig()))
            run.fingerprint_predictions()
    return load_run(workspace.runs_dir, run.name)


def _explain_missing(workspace: Workspace, names: Sequence[str]) -> str:
    """Why there are no images with predictions that no member was trained on."""
    missing = [
        name for name in names if not (workspace.runs_dir / name / "validation.npz").is_file()
    ]
    if missing:
        return (
            f"no validation predictions in {', '.join(missing)} (run.save_validation(...) saves"
            " those of your own training loop while it runs; adopted runs have none)"
        )
    return "the members have different validation images, or different labels for them"


def _load_validations(workspace: Workspace, names: Sequence[str]) -> list[Predictions]:
    """The validation predictions of each member; empty when one of them has none."""
    from tracker.training.predict.probabilities import load_probabilities

    paths = [workspace.runs_dir / name / "validation.npz" for name in names]
    if not all(path.is_file() for path in paths):
        return []
    return [load_probabilities(path) for path in paths]
