"""The config of a new run: from its parent, the command line and the workspace."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tracker.runs.read import list_runs, load_run, load_trained_config
from tracker.runs.resumes import explain_own_resume
from tracker.training.config import (
    Config,
    config_from_dict,
    crop_defaults,
    format_defaults,
    merge,
    parse_assignment,
)
from tracker.training.errors import ConfigError
from tracker.training.input.channels import follow_model
from tracker.training.input.pipeline_file import pin_pipeline_file
from tracker.training.tables import read_toml
from tracker.workspace.competition import Workspace

FLAGS = {  # options of `tracker run train` for popular keys
    "model": "model.name",
    "epochs": "train.epochs",
    "lr": "optim.lr",
    "batch_size": "train.batch_size",
    "loss": "loss.name",
    "seed": "train.seed",
}


def resolve_config(
    workspace: Workspace,
    *,
    config_file: Path | None = None,
    parent: str | None = None,
    flags: Mapping[str, Any] | None = None,
    assignments: Sequence[str] = (),
) -> Config:
    """Defaults, those of tracker.toml, the parent run, the file, flags and --set, the later the
    stronger.

    A run made from another has its parent's config; only a new one takes the defaults that depend
    on data.format. Raises ConfigError with every problem found.
    """
    layers: list[Mapping[str, Any]] = [read_toml(config_file)] if config_file is not None else []
    for name, value in (flags or {}).items():
        section, _, key = name.partition(".")
        layers.append({section: {key: value}})
    for text in assignments:
        section, key, value = parse_assignment(text)
        layers.append({section: {key: value}})
    own = merge(*layers)
    if parent is None:
        values = merge(workspace.defaults, own)
        values = merge(format_defaults(values), values)
    else:
        record = load_run(workspace.runs_dir, parent)
        values = _change(workspace, load_trained_config(workspace.runs_dir, record), own)
    source = str(config_file) if config_file else "the config"
    return pin_pipeline_file(config_from_dict(values, source=source), workspace.root)


def _change(
    workspace: Workspace, parent: Mapping[str, Any], own: Mapping[str, Any]
) -> dict[str, Any]:
    """A parent's config with what is given for the new run, and what "model" and another model
    bring with them."""
    before = merge(workspace.defaults, parent)
    return merge(before, follow_model(before, own, root=workspace.root), crop_defaults(own), own)


def resolve_for(
    workspace: Workspace, config_file: Path | None, parent: str, assignments: Sequence[str] | None
) -> Config:
    """`resolve_config` from a command's words; `parent` is exp12, latest, sota, s12 or empty."""
    from tracker.ledger.resolve import resolve_run

    source = resolve_run(workspace, parent) if parent else None
    return resolve_config(
        workspace, config_file=config_file, parent=source, assignments=assignments or ()
    )


def find_resumable(workspace: Workspace) -> str:
    """The newest run that can be resumed and is not archived; raises ConfigError when there is
    none."""
    of_scripts: list[str] = []
    for record in list_runs(workspace.runs_dir, archived=False):
        of_scripts += filter(None, [explain_own_resume(record)])
        resumable = record.status in ("killed", "interrupted", "failed") and not record.facts.get(
            "pruned"
        )
        ours = record.kind == "train" and record.fingerprints.get(
            "data"
        )  # not of a loop of one's own
        if record.uid and ours and resumable:
            return record.name
    raise ConfigError(
        "no killed, interrupted or failed run to resume",
        hint=of_scripts[0] if of_scripts else "tracker runs lists the runs",
    )
