"""The config of a new run: from its parent, the command line and the workspace."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tracker.core.text import render_number
from tracker.run_folder.read import list_runs, load_config, load_run, load_trained_config
from tracker.run_folder.record import RunRecord
from tracker.run_folder.resumes import explain_own_resume
from tracker.training.config import Config, DataConfig, crop_defaults, format_defaults, merge
from tracker.training.config_reading import config_from_dict, parse_assignment, read_sections
from tracker.training.errors import ConfigError
from tracker.training.input.channels import inherit_model_input
from tracker.training.input.pipeline_file import pin_pipeline_file
from tracker.training.reading import refuse
from tracker.training.tables import read_given_toml
from tracker.workspace.tracker_toml import Workspace

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
    recipe: str = "",
    notify: Callable[[str], None] = lambda _: None,
) -> Config:
    """The config from defaults, tracker.toml, the parent run, recipe, file, flags and --set.

    The later one wins. A run with a parent has the config of that; only a run without one takes
    the defaults that depend on data.format. `notify` gets the keys of the recipe. Raises
    ConfigError with every problem.
    """
    layers: list[Mapping[str, Any]] = (
        [read_given_toml(config_file)] if config_file is not None else []
    )
    for name, value in (flags or {}).items():
        section, _, key = name.partition(".")
        layers.append({section: {key: value}})
    for text in assignments:
        section, key, value = parse_assignment(text)
        layers.append({section: {key: value}})
    given = merge(*layers)
    base = _load_trained(workspace, parent) if parent is not None else {}
    if recipe:
        given = merge(_take_recipe(workspace, recipe, base, given, notify), given)
    if parent is None:
        values = merge(workspace.defaults, given)
        values = merge(format_defaults(values), values)
    else:
        values = _change_parent(workspace, base, given)
    source = str(config_file) if config_file else "the config"
    return pin_pipeline_file(config_from_dict(values, source=source), workspace.root)


def _load_trained(workspace: Workspace, name: str) -> Mapping[str, Any]:
    record = load_run(workspace.runs_dir, name)
    refuse_ensemble(workspace, record, use="--from")
    return load_trained_config(workspace.runs_dir, record)


def _take_recipe(
    workspace: Workspace,
    name: str,
    parent: Mapping[str, Any],
    given: Mapping[str, Any],
    notify: Callable[[str], None],
) -> Mapping[str, Any]:
    """The keys that a recipe sets; `notify` gets them line by line."""
    from tracker.training.recipes import build_recipe, render_recipe

    # Wrong values are reported first: the recipe reads some of them.
    problems: list[str] = []
    read_sections(given, problems)
    refuse(problems, "the config", reason="wrong config")
    defaults = merge(workspace.defaults, parent)
    target = workspace.competition.target
    tables = build_recipe(name, defaults, given, target=target, root=workspace.root)
    for line in (f"recipe {name} sets (--set wins over it):", *render_recipe(tables)):
        notify(line)
    return tables


def _change_parent(
    workspace: Workspace, parent: Mapping[str, Any], given: Mapping[str, Any]
) -> dict[str, Any]:
    """A parent's config with the given changes, and the values that follow from them.

    Another model, and the value "model", bring a size, mean and std with them.
    """
    before = merge(workspace.defaults, _list_keys_of_then(parent), parent)
    from_model = inherit_model_input(before, given, root=workspace.root)
    return merge(before, from_model, crop_defaults(given), given)


def _list_keys_of_then(parent: Mapping[str, Any]) -> dict[str, Any]:
    """What keys that only new workspaces set were for a run that was made before they existed."""
    from tracker.training import formats

    data = parent.get("data", {})
    known = formats.FORMATS.get(data.get("format", ""))
    usual = DataConfig()
    missing = [key for key in (known.init_keys if known else ()) if key not in data]
    return {"data": {key: getattr(usual, key) for key in missing}}


def refuse_ensemble(workspace: Workspace, record: RunRecord, *, use: str) -> None:
    """Raise ConfigError for an ensemble, where one training is needed, with its best member.

    `use` is what to type before the name of that run, as in `--from`.
    """
    if record.kind != "ensemble":
        return
    from tracker.comparison.members import find_best_member

    config = load_config(workspace.runs_dir, record.name)
    names = ", ".join(map(str, config.get("ensemble", {}).get("members", ())))
    best = find_best_member(workspace, config)
    hint = "no member is in this workspace; tracker runs lists the runs"
    if best is not None:
        score = "" if best.value is None else f" (val {best.metric} {render_number(best.value)})"
        hint = f"{use} {best.run}, its best member{score}"
    raise ConfigError(
        f"{record.name} is an ensemble of {names}: it has no model and no training of its own",
        hint=hint,
    )


def resolve_for(
    workspace: Workspace, config_file: Path | None, parent: str, assignments: Sequence[str] | None
) -> Config:
    """`resolve_config` for a command; `parent` is exp12, latest, sota, s12 or empty."""
    from tracker.ledger.resolve import resolve_run

    source = resolve_run(workspace, parent) if parent else None
    return resolve_config(
        workspace, config_file=config_file, parent=source, assignments=assignments or ()
    )


def find_resumable(workspace: Workspace) -> str:
    """The newest run that can be resumed and is not archived; raises ConfigError without one."""
    of_scripts: list[str] = []
    for record in list_runs(workspace.runs_dir, archived=False):
        of_scripts += filter(None, [explain_own_resume(record)])
        unfinished = record.status in ("killed", "interrupted", "failed")
        pruned = record.facts.get("pruned")
        # A run of somebody's own training loop has no data fingerprint.
        ours = record.kind == "train" and record.fingerprints.get("data")
        if record.uid and ours and unfinished and not pruned:
            return record.name
    raise ConfigError(
        "no killed, interrupted or failed run to resume",
        hint=of_scripts[0] if of_scripts else "tracker runs lists the runs",
    )
