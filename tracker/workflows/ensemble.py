"""An ensemble of runs is a run: its members are its config, its predictions can be submitted and
compared."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from tracker.ledger.resolve import resolve_run
from tracker.runs.read import load_run
from tracker.runs.record import RunRecord
from tracker.training.errors import ConfigError
from tracker.workflows.own_loop.begin import begin
from tracker.workspace.competition import Workspace
from tracker.workspace.data import build_task

if TYPE_CHECKING:
    from tracker.training.predict.probabilities import Kept


def ensemble(
    workspace: Workspace,
    runs: Sequence[str],
    *,
    method: str,
    weights: Sequence[float] = (),
    note: str = "",
) -> RunRecord:
    """Combine the probabilities of two or more runs into a new run, and measure it on images no
    member was trained on.

    Without `weights`, those of method weighted are searched on the members' validation images.
    Raises ConfigError when members are given twice, differ in classes or images, or the weights are
    wrong.
    """
    from tracker.training.predict.ensemble import (
        check_method,
        combine,
        join_validation,
        search_weights,
    )
    from tracker.training.predict.probabilities import (
        Kept,
        align,
        load_probabilities,
        measure,
        save_predictions,
        save_probabilities,
    )

    names = [resolve_run(workspace, run) for run in runs]
    if len(names) < 2 or len(set(names)) != len(names):
        raise ConfigError(
            "an ensemble needs two or more different runs", hint="tracker run ensemble exp3 exp5"
        )
    paths = [workspace.runs_dir / name / "probabilities.npz" for name in names]
    validations = _load_validations(workspace, names)
    blind = validations and not any(path.exists() for path in paths)  # there is no evaluation set
    members = [] if blind else align([load_probabilities(path) for path in paths], names)
    searched = method == "weighted" and not weights
    if searched:
        weights = search_weights(validations)
        words = ", ".join(f"{name} {weight:g}" for name, weight in zip(names, weights, strict=True))
        print(
            "weights found on the validation images (so their validation scores flatter them):"
            f" {words}",
            file=sys.stderr,
        )
    check_method(method, weights)  # folds, each image in one of them, are joined without it
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
        joined = join_validation(validations, method, weights) if validations else None
        if joined is not None:
            save_probabilities(run.folder / "validation.npz", joined)
            found = measure(joined)
            run.log(found, step=1, epoch=1)
            run.set_summary(found)
        else:
            print(
                f"no validation score of the ensemble: {_explain_missing(workspace, names)}",
                file=sys.stderr,
            )
        if scores is not None:
            task = build_task(workspace)
            save_predictions(run.folder, Kept(members[0].ids, scores, classes=task.classes), task)
            run.fingerprint_predictions()
    return load_run(workspace.runs_dir, run.name)


def _explain_missing(workspace: Workspace, names: Sequence[str]) -> str:
    """Why nothing can be said about images that no member was trained on."""
    lacking = [
        name for name in names if not (workspace.runs_dir / name / "validation.npz").is_file()
    ]
    if lacking:
        return (
            f"{', '.join(lacking)} kept no validation predictions (run.save_validation(...) in a"
            " loop of your own)"
        )
    return "the members validated on other images, or the same ones with other labels"


def _load_validations(workspace: Workspace, names: Sequence[str]) -> list[Kept]:
    """What each member said about its validation images; empty when one of them has not kept it."""
    from tracker.training.predict.probabilities import load_probabilities

    paths = [workspace.runs_dir / name / "validation.npz" for name in names]
    return (
        [load_probabilities(path) for path in paths]
        if all(path.is_file() for path in paths)
        else []
    )
