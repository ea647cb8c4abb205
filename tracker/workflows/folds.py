"""Cross-validation: one run for each fold, and an ensemble of them whose validation is out of fold."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from tracker.core.errors import AlreadyTrainedError
from tracker.runs.record import RunRecord
from tracker.training.config import Config
from tracker.workflows.ensemble import ensemble
from tracker.workflows.train import train
from tracker.workspace.competition import Workspace


def train_folds(
    workspace: Workspace,
    config: Config,
    *,
    parent: str | None = None,
    note: str = "",
    facts: Mapping[str, Any] | None = None,
    quiet: bool = False,
    force: bool = False,
    say: Callable[[str], None] = lambda line: print(line, file=sys.stderr),
) -> RunRecord:
    """Train the folds of data.folds that no run has trained yet, or with `force` all, and combine
    them by soft vote.

    Each image's validation probabilities come from the one run that was not trained on it.
    """
    names, folds = [], config.data.folds
    for fold in range(folds):
        own = replace(config, data=replace(config.data, fold=fold))
        words = f"{note} (fold {fold} of {folds})".strip()
        try:
            record = train(
                workspace, own, parent=parent, note=words, facts=facts, quiet=quiet, force=force
            )
            names.append(record.name)
        except AlreadyTrainedError as error:
            say(f"fold {fold}: {error.run} has it already")
            names.append(error.run)
    return ensemble(workspace, names, method="soft", note=f"{note} ({folds} folds)".strip())
