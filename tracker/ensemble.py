"""An ensemble of runs is a run: its members are its config, its predictions can be submitted and compared."""

from __future__ import annotations

from collections.abc import Sequence

from tracker.api import begin
from tracker.errors import ConfigError
from tracker.ledger_read import resolve_run
from tracker.runs import RunRecord, load_run
from tracker.train import build_task
from tracker.workspace import Workspace


def ensemble(
    workspace: Workspace, runs: Sequence[str], *, method: str, weights: Sequence[float] = (), note: str = ""
) -> RunRecord:
    """Combine the probabilities of two or more runs into a new run, and measure it where they share validation images.

    Raises ConfigError when members are given twice, differ in classes or images, or the weights are wrong.
    """
    from training.ensemble import combine, measure
    from training.probabilities import align, load_probabilities, save_predictions

    names = [resolve_run(workspace, run) for run in runs]
    if len(names) < 2 or len(set(names)) != len(names):
        raise ConfigError("an ensemble needs two or more different runs", hint="tracker run ensemble exp3 exp5")
    members = align([load_probabilities(workspace.runs_dir / name / "probabilities.npz") for name in names], names)
    scores = combine(method, [member.probabilities for member in members], weights)
    config = {"ensemble": {"method": method, "members": names, "weights": list(weights)}}
    with begin(config, note=note, parent=names[0], root=workspace.root, kind="ensemble", follow=False) as run:
        run.keep_facts({"members": [load_run(workspace.runs_dir, name).uid for name in names]})
        paths = [workspace.runs_dir / name / "validation.npz" for name in names]
        if all(path.is_file() for path in paths):
            found = measure([load_probabilities(path) for path in paths], method, weights)
            if found:
                run.log(found, step=1, epoch=1)
                run.keep_summary(found)
        save_predictions(run.folder, members[0].ids, scores, build_task(workspace))
        run.fingerprint_predictions()
    return load_run(workspace.runs_dir, run.name)
