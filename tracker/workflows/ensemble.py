"""An ensemble of runs is a run: its config names the members, its predictions can be submitted."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from tracker.core.config_diff import INHERITED, list_used_members
from tracker.core.errors import AlreadyTrainedError, InterruptedByUserError, TrackerError
from tracker.core.terminal import print_note
from tracker.ledger.resolve import resolve_run
from tracker.run_folder.read import list_runs, load_config, load_run
from tracker.run_folder.record import RunRecord, run_folder
from tracker.training.errors import ConfigError
from tracker.training.numbers import render_count
from tracker.workflows.own_loop.begin import begin
from tracker.workspace.data import build_task
from tracker.workspace.tracker_toml import Workspace

if TYPE_CHECKING:
    from tracker.training.config import EvalConfig
    from tracker.training.formats.samples import Task
    from tracker.training.predict.decide import Decision
    from tracker.training.predict.probabilities import Predictions

DECISION_KEYS = (("eval", "decide"), ("eval", "threshold"))  # of a config, what an ensemble has


def ensemble(
    workspace: Workspace,
    runs: Sequence[str],
    *,
    method: str,
    weights: Sequence[float] = (),
    note: str = "",
    eval_config: EvalConfig | None = None,
    assignments: Sequence[str] = (),
    force: bool = False,
) -> RunRecord:
    """Combine the predictions of two or more runs into a new run.

    Its metrics are from images that no member was trained on. For method weighted (or greedy)
    without `weights`, the weights are searched on the members' validation images, for the deciding
    metric. How the scores become answers is said by `eval_config`, or by section eval of
    tracker.toml and `assignments` of eval.decide and eval.threshold; thresholds and cut points are
    tuned on the joined validation predictions. Raises ConfigError when a member is given twice,
    when members differ in classes or images, when weights are wrong, or when the method does not
    fit the competition, AlreadyTrainedError when a run is the same ensemble, in whatever order,
    unless `force`.
    """
    from tracker.training.predict.decide import (
        measure,
        plain_decision,
        save_decision,
        save_predictions,
    )
    from tracker.training.predict.ensemble import combine, combine_validation
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
    # Checked here: joining folds, where each image is in one of them, does not look at it.
    method = _check_method(workspace, method, weights)
    decided_by = eval_config or _read_eval_section(workspace, task, assignments)
    paths = [run_folder(workspace.runs_dir, name) / "probabilities.npz" for name in names]
    validations = _load_validations(workspace, names)
    # Without an evaluation set there are only validation images to combine.
    no_evaluation = validations and not any(path.exists() for path in paths)
    members = [] if no_evaluation else align([load_probabilities(path) for path in paths], names)
    searched = method == "weighted" and not weights
    if searched:
        weights = _search(names, validations, task, decided_by)
    scores = None
    if method == "hard":
        _warn_of_ties(members or _align_shared(validations))
    if members:
        scores = combine(method, [each.probabilities for each in members], weights, task.target)
    config = {
        "ensemble": {
            "method": method,
            "members": names,
            "weights": list(weights),
            "searched": searched or _inherit_search(workspace, names),
            **_list_decision_keys(task, decided_by),
        }
    }
    uids = [load_run(workspace.runs_dir, name).uid for name in names]
    if not force:
        _refuse_repeat(workspace, config["ensemble"], uids)
    options: dict[str, Any] = {
        "root": workspace.root,
        "kind": "ensemble",
        "follow": False,
        "quiet": True,
    }
    # A member of weight 0 is no part of it.
    parent = list_used_members(config["ensemble"])[0][0]
    with _explain_stop(), begin(config, note=note, parent=parent, **options) as run:
        run.add_facts({"members": uids})
        joined, decision = None, plain_decision(task, decided_by)
        if validations:
            joined = combine_validation(validations, method, weights, task.target)
        if joined is not None:
            save_probabilities(run.folder / "validation.npz", joined)
            metrics = measure(joined, task, decision)
            run.log(metrics, step=1, epoch=1)
            run.set_summary(metrics)
        else:
            reason = _explain_missing(workspace, names)
            print_note(f"the ensemble has no validation score: {reason}")
        decision = _choose_decision(task, decided_by, joined)
        save_decision(run.folder, decision)
        if scores is not None:
            combined = Predictions(members[0].ids, scores, classes=task.classes)
            save_predictions(run.folder, combined, task, decision)
            run.fingerprint_predictions()
    return load_run(workspace.runs_dir, run.name)


@contextmanager
def _explain_stop() -> Iterator[None]:
    """Ctrl-C or SIGTERM while an ensemble is made says that nothing of its members is lost."""
    try:
        yield
    except KeyboardInterrupt as stop:
        which = f" ({stop})" if str(stop) else ""
        raise InterruptedByUserError(
            f"the ensemble was interrupted{which}; its members are as they were",
            hint="the same command makes it anew",
        ) from None


def _refuse_repeat(workspace: Workspace, table: Mapping[str, Any], uids: Sequence[str]) -> None:
    """Raise AlreadyTrainedError for a finished ensemble that this one would repeat."""
    for record in list_runs(workspace.runs_dir):
        if record.kind != "ensemble" or record.status != "finished":
            continue
        members = record.facts.get("members")
        if not isinstance(members, list) or sorted(map(str, members)) != sorted(uids):
            continue
        try:
            earlier = load_config(workspace.runs_dir, record.name).get("ensemble", {})
        except TrackerError:
            continue  # a run that cannot be read cannot be compared
        if _drop_order(earlier) != _drop_order(table):
            continue
        order = "" if earlier.get("members") == table["members"] else ", members in another order"
        raise AlreadyTrainedError(
            record.name,
            again="make a new run",
            message=f"{record.name} is the same ensemble{order}, with the same predictions",
        )


def _drop_order(table: Mapping[str, Any]) -> dict[str, Any]:
    """Section ensemble of a config with each member beside its weight, sorted by name."""
    names = list(table.get("members") or [])
    weights = list(table.get("weights") or []) or [1.0] * len(names)
    pairs = sorted(zip(names, map(float, weights), strict=False))
    return {**table, "members": pairs, "weights": []}


def _inherit_search(workspace: Workspace, names: Sequence[str]) -> str | bool:
    """What `ensemble.searched` is where the own weights were not searched: maybe a member's were.

    It is recorded because the ledger and other workspaces have the config, but not the members.
    """
    from tracker.comparison.members import is_flattered

    flattered = is_flattered(workspace, {"ensemble": {"members": list(names)}})
    return INHERITED if flattered else False


def _align_shared(members: Sequence[Predictions]) -> Sequence[Predictions]:
    """The members with the same order of images; empty where they have different ones."""
    from tracker.training.predict.probabilities import align

    if len({frozenset(each.ids) for each in members}) != 1:
        return []
    return align(members, [""] * len(members))


def _warn_of_ties(members: Sequence[Predictions]) -> None:
    """Say how many images a vote leaves open, and what decided them; nothing without such."""
    from tracker.training.predict.ensemble import count_tied_votes

    tied = count_tied_votes([each.probabilities for each in members]) if members else 0
    if not tied:
        return
    images, two = len(members[0].ids), len(members) == 2
    # of two runs the mean decides a tie as the sum does
    better = "add a third run" if two else "use --method soft"
    print_note(
        f"the vote is tied for {tied:,} of {render_count(images, 'image')}, where the greatest sum"
        f" of probabilities decided; better {better}, or --method weighted --weights"
        f" 2,1{',1' * (len(members) - 2)}"
    )


def _check_method(workspace: Workspace, method: str, weights: Sequence[float]) -> str:
    """The method's own name; raises ConfigError for one that this competition cannot take."""
    from tracker.training.predict.ensemble import read_method

    competition = workspace.competition
    name = read_method(method, weights, competition.target)
    if name == "rank" and competition.answer == "columns" and competition.sum_to_one:
        raise ConfigError(
            "method rank gives no probabilities, and each row must sum to 1",
            hint="method soft is the mean, method geometric the geometric mean",
        )
    return name


def _read_eval_section(workspace: Workspace, task: Task, assignments: Sequence[str]) -> EvalConfig:
    """Section eval of tracker.toml, with what --set says of the decision.

    Raises ConfigError for what it cannot have, and for what would change nothing.
    """
    from tracker.training.config_reading import config_from_dict, parse_assignment
    from tracker.training.predict.decide import has_choice

    table = dict(workspace.defaults.get("eval", {}))
    for text in assignments:
        section, key, value = parse_assignment(text)
        if (section, key) not in DECISION_KEYS:
            known = " or ".join(".".join(pair) for pair in DECISION_KEYS)
            raise ConfigError(f"--set {text}: an ensemble takes {known}")
        if not has_choice(task):
            raise ConfigError(
                f"--set {text}: nothing to decide, an answer is {task.answer!r} of a target"
                f" {task.target!r} here"
            )
        table[key] = value
    source = "--set" if assignments else "tracker.toml"
    return config_from_dict({"eval": table}, source=source).eval


def _list_decision_keys(task: Task, config: EvalConfig) -> dict[str, Any]:
    """How scores become answers, where it is not the usual way: it changes the predictions."""
    from tracker.training.predict.decide import has_choice

    if not has_choice(task):
        return {}
    usual = type(config)()
    keys = {"decide": config.decide, "threshold": config.threshold}
    return {key: value for key, value in keys.items() if value != getattr(usual, key)}


def _search(
    names: Sequence[str], validations: Sequence[Predictions], task: Task, config: EvalConfig
) -> list[float]:
    """Weights that were searched on the validation images; says which."""
    from tracker.training.metrics import find_kind
    from tracker.training.predict.ensemble import find_search_metric, search_weights

    weights = search_weights(validations, task, config)
    pairs = zip(names, weights, strict=True)
    weight_list = ", ".join(f"{name} {weight:g}" for name, weight in pairs)
    metric = find_search_metric(task)
    known = find_kind(metric.kind)
    print_note(
        f"weights found on the validation images for {known.title if known else metric.name}:"
        f" {weight_list} (the validation score of the ensemble is therefore too good)"
    )
    return weights


def _choose_decision(task: Task, config: EvalConfig, joined: Predictions | None) -> Decision:
    """The decision of the config, tuned on the joined validation predictions where it says so."""
    from tracker.training.predict.decide import choose_decision, has_choice, plain_decision

    if joined is None:
        if config.decide == "tuned" and has_choice(task):
            print_note(
                "eval.decide = tuned has no effect: there are no validation predictions to tune on"
            )
        return plain_decision(task, config)
    decision = choose_decision(task, config, joined)
    if decision.note:
        print_note(decision.note)
    return decision


def _explain_missing(workspace: Workspace, names: Sequence[str]) -> str:
    """Why there are no images with predictions that no member was trained on."""
    missing = [
        name
        for name in names
        if not (run_folder(workspace.runs_dir, name) / "validation.npz").is_file()
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

    paths = [run_folder(workspace.runs_dir, name) / "validation.npz" for name in names]
    if not all(path.is_file() for path in paths):
        return []
    return [load_probabilities(path) for path in paths]
