"""Cross-validation: a run for each fold, and their ensemble, validated out of fold."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from tracker.core.errors import AlreadyTrainedError, InterruptedByUserError
from tracker.mirror.sync import copy_run
from tracker.run_folder.read import load_run
from tracker.run_folder.record import RunRecord
from tracker.training.config import Config
from tracker.workflows.ending import copy_interrupted
from tracker.workflows.ensemble import ensemble
from tracker.workflows.train import train
from tracker.workspace.tracker_toml import Workspace


def train_folds(
    workspace: Workspace,
    config: Config,
    *,
    parent: str | None = None,
    note: str = "",
    facts: Mapping[str, Any] | None = None,
    quiet: bool = False,
    force: bool = False,
    report: Callable[[str], None] = lambda line: print(line, file=sys.stderr),
) -> RunRecord:
    """Train each fold of data.folds and combine the runs by their mean; `report` gets messages.

    A fold that an earlier run has trained is not trained again, unless `force`. Each image's
    validation probabilities come from the one run that was not trained on it. The ensemble is
    copied to MLflow as the runs are.
    """
    names, folds = [], config.data.folds
    for fold in range(folds):
        try:
            record = train(
                workspace,
                replace(config, data=replace(config.data, fold=fold)),
                parent=parent,
                note=f"{note} (fold {fold} of {folds})".strip(),
                facts=facts,
                quiet=quiet,
                force=force,
            )
            names.append(record.name)
        except AlreadyTrainedError as error:
            report(f"fold {fold}: skipped, {error.run} already has this config, data and code")
            names.append(error.run)
        except InterruptedByUserError as error:
            again = "then the same command again: it skips the folds that are trained"
            hint = ", ".join(filter(None, [error.hint, again]))
            raise InterruptedByUserError(f"fold {fold} of {folds}: {error}", hint=hint) from None
        except KeyboardInterrupt as stop:
            if not names:
                raise
            reason = f" ({stop})" if str(stop) else ""  # SIGTERM; Ctrl-C has no text
            raise InterruptedByUserError(
                f"interrupted{reason} before fold {fold} of {folds} began",
                hint="the same command again: it skips the folds that are trained",
            ) from None
    try:
        record = ensemble(
            workspace,
            names,
            method="soft",
            note=f"{note} ({folds} folds)".strip(),
            eval_config=config.eval,
            force=force,
        )
    except AlreadyTrainedError as error:
        report(f"no new ensemble: {error}")
        return load_run(workspace.runs_dir, error.run)
    try:
        problem = copy_run(workspace, record.name)
    except KeyboardInterrupt:
        raise copy_interrupted(record) from None
    if problem:
        report(problem)
    return record
