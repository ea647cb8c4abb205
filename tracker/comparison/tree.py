"""The family of runs and submissions: the parent of each, what was changed, and the scores."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from tracker.comparison.marks import (
    find_stated_parent,
    is_number,
    list_ancestors,
    list_based_on,
    name_node,
)
from tracker.comparison.members import find_row_config, is_flattered, list_flattered
from tracker.core.config_diff import (
    diff_configs,
    find_shown_parent,
    list_changes,
    list_implied_changes,
    list_unknown,
    render_change,
    render_unknown_keys,
    translate,
)
from tracker.core.errors import TrackerError
from tracker.ledger.read import (
    find_metric_value,
    find_sota,
    list_newest_numbers,
    list_numbered,
    list_submissions,
)
from tracker.ledger.records import Origin, Submission
from tracker.ledger.resolve import parse_submission
from tracker.run_folder.read import list_runs, load_config, load_run, look_once
from tracker.run_folder.record import RunRecord
from tracker.training.metrics import METRICS
from tracker.training.numbers import render_count
from tracker.training.tables import flatten
from tracker.workspace.metrics import higher_is_better
from tracker.workspace.tracker_toml import Metric, Workspace

if TYPE_CHECKING:
    from tracker.workspace.tracker_toml import Competition


# Names under which programs log their model, beside those of `translate`; the surest first.
MODEL_KEYS = (
    "model_name",
    "model",
    "model_name_or_path",
    "timm_model",
    "arch",
    "architecture",
    "backbone",
    "network",
    "net",
    "encoder_name",
    "encoder",
    "model_type",
    "_name_or_path",
    "class_path",
)

MAX_INDENT = 12  # deeper generations are drawn at this depth and name their parent


@dataclass(frozen=True, kw_only=True)
class Node:
    """A run, or a submission `s7` whose run folder is not here.

    `change` is {key: [parent's, own]}, None without a parent or where a config is unknown.
    `not_known` are keys that a run of another program never logged. `scores` has the known `val_`,
    `public_` and `private_` metrics. `sota_line` marks the best submission and its ancestors,
    `flattered` an ensemble whose weights were searched on its validation images.
    """

    name: str
    kind: str
    status: str
    parent: str | None
    depth: int = 0
    model: str | None
    has_config: bool = False
    text: str
    change: Mapping[str, Sequence[Any]] | None = None
    not_known: Sequence[str] = ()
    submission: int | None
    scores: Mapping[str, float]
    is_sota: bool = False
    sota_line: bool = False
    flattered: bool = False


@dataclass(frozen=True, kw_only=True)
class Family:
    """All nodes, each after its parent and before its younger siblings.

    `problems` are sentences about parents that were ignored, `archived` the number of runs that are
    left out because they are archived.
    """

    nodes: Sequence[Node]
    problems: Sequence[str]
    archived: int = 0

    def to_dict(self) -> dict[str, Any]:
        """Plain values for --json."""
        document = asdict(self)
        del document["archived"]
        for node in document["nodes"]:
            # The document keeps its keys; `model` says enough for its readers.
            del node["has_config"], node["flattered"]
        return document


def indent(node: Node) -> int:
    """How deep a node is drawn: a chain of hundreds of runs must stay on the page."""
    return min(node.depth, MAX_INDENT)


def build_family(
    workspace: Workspace, *, archived: bool = False, with_ledger: bool = True
) -> Family:
    """The family of this workspace's runs and of every submission in the ledger.

    Without `archived`, an archived run is left out, and its children follow its nearest ancestor.
    Without a ledger it is that of the runs alone.
    """
    with look_once(workspace.runs_dir):
        return _build_family(workspace, archived=archived, with_ledger=with_ledger)


def build_line(workspace: Workspace, *, most: int) -> Family:
    """SOTA and the `most` runs and submissions before it that it was made from, the nearest ones.

    No other run or submission is read. It is empty without SOTA.
    """
    with look_once(workspace.runs_dir):
        best = find_sota(workspace)
        if best is None:
            return Family(nodes=(), problems=())
        line = [name_node(workspace, best), *list_ancestors(workspace, best)[:most]]
        records, numbers = [], {best.number}
        for name in line:
            number = parse_submission(name)
            if number is not None:
                numbers.add(number)
                continue
            with suppress(TrackerError):  # a parent that is not here
                records.append(load_run(workspace.runs_dir, name))
        newest = list_newest_numbers(workspace, [record.uid for record in records if record.uid])
        submissions = list_numbered(workspace, numbers.union(newest.values()))
        family = _join(workspace, submissions, records, best, hidden=set())
    # the parent of the last one is no problem: it is only not shown
    return replace(family, problems=())


def _build_family(workspace: Workspace, *, archived: bool, with_ledger: bool) -> Family:
    submissions = list_submissions(workspace) if with_ledger else []
    records = list_runs(workspace.runs_dir)
    best = find_sota(workspace) if with_ledger else None
    hidden = {record.name for record in records if record.archived_at and not archived}
    family = _join(workspace, submissions, records, best, hidden=hidden)
    return replace(family, archived=len(hidden))


def _join(
    workspace: Workspace,
    submissions: Sequence[Submission],
    records: Sequence[RunRecord],
    best: Submission | None,
    *,
    hidden: Set[str],
) -> Family:
    """The family of these runs and submissions."""
    here = {record.uid: record.name for record in records if record.uid}
    node_of = {row.number: here.get(row.run_uid or "", f"s{row.number}") for row in submissions}
    sent = {row.run_uid: row for row in submissions}
    elsewhere = [row for row in submissions if row.run_uid not in here]
    stated_parents = list_based_on(workspace) if submissions else {}
    names = [*dict.fromkeys([*(metric.name for metric in workspace.competition.metrics), *METRICS])]
    members = [
        _build_run(workspace, record, sent.get(record.uid) if record.uid else None, names)
        for record in records
    ]
    flattered = set(list_flattered(workspace, submissions))
    recorded = _list_recorded_parents(workspace, elsewhere, {**_name_uids(sent, node_of), **here})
    for row in elsewhere:
        if row.run_uid in recorded:
            parent = recorded[row.run_uid]
        else:
            parent = _find_parent_of_row(row, stated_parents, node_of.get)
        is_flattered = row.number in flattered
        members.append(_build_submission(workspace, row, parent, names, flattered=is_flattered))
    members.sort(key=lambda member: (member.time, len(member.node.name), member.node.name))
    # Submissions come by their time, runs by their numbers: an adopted run was made long before.
    runs = filter(_is_run, members)
    by_number = iter(sorted(runs, key=lambda one: (len(one.node.name), one.node.name)))
    members = [next(by_number) if _is_run(member) else member for member in members]
    sota = node_of[best.number] if best else None
    line = {sota, *list_ancestors(workspace, best)} if best and sota else set[str]()
    return _arrange(members, sota=sota, line=line, hidden=hidden)


def _name_uids(sent: Mapping[str | None, Submission], node_of: Mapping[int, str]) -> dict[str, str]:
    """{uid: node} of the runs that were submitted."""
    return {uid: node_of[row.number] for uid, row in sent.items() if uid}


def _list_recorded_parents(
    workspace: Workspace, rows: Sequence[Submission], node_of: Mapping[str, str]
) -> dict[str | None, str | None]:
    """{uid: node} of the parents of runs whose folders are not here, as the ledger has their runs.

    None where such a run was made from none, or from one that has no node.
    """
    if not any(row.run_uid for row in rows):
        return {}
    from tracker.ledger.team_runs import TeamRuns

    runs = TeamRuns(workspace)
    uid_of = {run.name: run.uid for run in runs.runs}
    found: dict[str | None, str | None] = {}
    for row in rows:
        run = runs.by_uid.get(row.run_uid or "")
        if run is not None:
            name = runs.translate(run, run.parent) if run.parent else ""
            found[run.uid] = node_of.get(uid_of.get(name, ""))
    return found


def describe_archived(family: Family) -> str:
    """How many runs the family lacks because they are archived, and what shows them; or ""."""
    if not family.archived:
        return ""
    count = render_count(family.archived, "archived run")
    return f"{count} left out: tracker tree --archived shows all"


@dataclass(frozen=True, kw_only=True)
class _UnplacedNode:
    """A node whose place in the family is not known yet; its `parent` is what its record claims."""

    node: Node
    config: Mapping[str, Any]
    data: str | None
    time: str
    recorded: bool


def _is_run(member: _UnplacedNode) -> bool:
    return member.node.kind != "submission"


def _build_run(
    workspace: Workspace, record: RunRecord, row: Submission | None, names: Iterable[str]
) -> _UnplacedNode:
    # The copy in the ledger is read faster than the file.
    config = find_row_config(workspace, row) if row else _load_config(workspace, record)
    texts = [record.note, row.memo if row else ""]
    figures = {f"val_{name}": record.summary.get(f"val/{name}") for name in names}
    node = Node(
        name=record.name,
        kind=record.kind,
        status=record.status,
        parent=find_shown_parent(record.parent, config),
        model=name_model(config),
        has_config=bool(config),
        text=" / ".join(dict.fromkeys(filter(None, texts))),
        submission=row.number if row else None,
        scores=_drop_unknown({**figures, **(row.scores if row else {})}),
        flattered=is_flattered(workspace, config),
    )
    return _UnplacedNode(
        node=node,
        config=config,
        data=record.fingerprints.get("data"),
        time=record.created_at,
        recorded=True,
    )


def _load_config(workspace: Workspace, record: RunRecord) -> Mapping[str, Any]:
    try:
        return load_config(workspace.runs_dir, record.name)
    except TrackerError:
        return {}  # the tree shows the run all the same, without its change


def _build_submission(
    workspace: Workspace,
    row: Submission,
    parent: str | None,
    names: Iterable[str],
    *,
    flattered: bool,
) -> _UnplacedNode:
    figures = {f"val_{name}": find_metric_value(workspace, row, "val", name) for name in names}
    node = Node(
        name=f"s{row.number}",
        kind="submission",
        status="submitted",
        parent=parent,
        model=name_model(row.config),
        has_config=bool(row.config),
        text=row.memo,
        submission=row.number,
        scores=_drop_unknown({**figures, **row.scores}),
        flattered=flattered,
    )
    return _UnplacedNode(
        node=node,
        config=row.config,
        data=row.data_fingerprint,
        time=row.submitted_at or "",
        recorded=row.run_uid is not None,
    )


def name_model(config: Mapping[str, Any]) -> str | None:
    """The model of a config, None if unknown.

    Of the user's own loop it is what was logged under a usual name, in whatever section.
    """
    name = translate(config).get("model", {}).get("name")
    if name:
        return str(name)
    logged = {key.rpartition(".")[2].lower(): value for key, value in flatten(config).items()}
    names = (logged.get(key) for key in MODEL_KEYS)
    return next((name for name in names if isinstance(name, str) and name), None)


def _drop_unknown(scores: Mapping[str, float | None]) -> dict[str, float]:
    return {name: value for name, value in scores.items() if value is not None}


def _find_parent_of_row(
    row: Submission | Origin,
    stated_parents: Mapping[int, str],
    name_of: Callable[[int], str | None],
) -> str | None:
    """The parent of a row: as its table says, otherwise SOTA at that time.

    The ledger stores each row's config diff against SOTA at that time.
    """
    if row.run_uid is None and stated_parents:
        parent = find_stated_parent(row.number, stated_parents)
        return name_of(int(parent[1:])) or parent if is_number(parent) else parent or None
    return name_of(row.sota) if row.sota else None


def _arrange(
    members: Sequence[_UnplacedNode], *, sota: str | None, line: Set[str], hidden: Set[str]
) -> Family:
    by_name = {member.node.name: member for member in members}
    parents, problems = _check_parents(
        {name: member.node.parent for name, member in by_name.items()}
    )
    shown = {name: _find_shown(name, parents, hidden) for name in parents if name not in hidden}
    nodes = []
    changes: dict[tuple[Any, ...], tuple[Any, Sequence[str]]] = {}  # of few different pairs
    for name, depth in _walk(shown):
        parent, member = shown[name], by_name[name]
        change: Any = None
        not_known: Sequence[str] = ()
        if parent:
            before = by_name[parent]
            pair = (id(before.config), id(member.config), before.data, member.data)
            key = (*pair, before.recorded or member.recorded)
            if key not in changes:
                changes[key] = (_find_change(before, member), _find_unknown(before, member))
            change, not_known = changes[key]
        nodes.append(
            replace(
                member.node,
                parent=parent,
                depth=depth,
                change=change,
                not_known=not_known,
                is_sota=name == sota,
                sota_line=name in line,
            )
        )
    return Family(
        nodes=nodes, problems=[text for text in problems if text.partition(":")[0] not in hidden]
    )


def _find_shown(name: str, parents: Mapping[str, str | None], hidden: Set[str]) -> str | None:
    """The nearest ancestor that is not hidden."""
    return next((ancestor for ancestor in _follow(name, parents) if ancestor not in hidden), None)


def _check_parents(claimed: Mapping[str, str | None]) -> tuple[dict[str, str | None], list[str]]:
    """The parents that exist and form no circle; the oldest run of a circle becomes a root."""
    parents = {name: parent if parent in claimed else None for name, parent in claimed.items()}
    problems = [
        f"{name}: its parent {claimed[name]} is not in this workspace"
        for name in claimed
        if claimed[name] != parents[name]
    ]
    reached = {name for name, _ in _walk(parents)}
    while lost := next((name for name in parents if name not in reached), None):
        # The last ancestor is in the circle itself, not on the way into it.
        inside = list(_follow(lost, parents))[-1]
        circle = set(_follow(inside, parents))
        eldest = next(name for name in parents if name in circle)
        parents[eldest] = None
        problems.append(f"{eldest}: it is its own ancestor")
        reached = {name for name, _ in _walk(parents)}
    return parents, problems


def _follow(name: str, parents: Mapping[str, str | None]) -> Iterator[str]:
    """The ancestors of `name`, nearest first; a circle ends before its second round."""
    seen: set[str] = set()
    while (parent := parents[name]) is not None and parent not in seen:
        yield parent
        seen.add(parent)
        name = parent


def _walk(parents: Mapping[str, str | None]) -> Iterator[tuple[str, int]]:
    """(name, depth), parents before their children, siblings as given.

    No recursion: chains may be long.
    """
    children: dict[str | None, list[str]] = {}
    for name, parent in parents.items():
        children.setdefault(parent, []).append(name)
    waiting = [(name, 0) for name in reversed(children.get(None, []))]
    while waiting:
        name, depth = waiting.pop()
        yield name, depth
        waiting += [(child, depth + 1) for child in reversed(children.get(name, []))]


def _find_change(parent: _UnplacedNode, member: _UnplacedNode) -> dict[str, list[Any]] | None:
    if not parent.config or not member.config:
        return None
    recorded = parent.recorded or member.recorded
    change = diff_configs(
        parent.config, member.config, data=(parent.data, member.data), recorded=recorded
    )
    if "ensemble" in member.config:
        # An ensemble has no training config: that does not change each of its parent's keys.
        return {key: pair for key, pair in change.items() if key.startswith("ensemble.")}
    return change


def _find_unknown(parent: _UnplacedNode, member: _UnplacedNode) -> list[str]:
    if not parent.config or not member.config:
        return []
    return list_unknown(parent.config, member.config, recorded=parent.recorded or member.recorded)


MAX_KEYS = 4

SPLITS = ("val", "public", "private")


def describe_origin(node: Node) -> str:
    """What a node changed compared with its parent, or the model of a root."""
    if node.change is None:
        return describe_root(node)
    return name_parent(node) + shorten_change(node.change, node.not_known)


def describe_root(node: Node) -> str:
    """The model of a node without a parent; `-` for a loop that named none."""
    if node.model:
        return f"model {node.model}"
    return "-" if node.has_config else "config unknown"


def name_parent(node: Node) -> str:
    """The parent of a node that is drawn less deep than its generation."""
    return f"(from {node.parent}) " if node.depth > MAX_INDENT else ""


def shorten_change(change: Mapping[str, Sequence[Any]], not_known: Sequence[str] = ()) -> str:
    """The first keys of a change, and how many more there are."""
    changes, implied = list_changes(change), list_implied_changes(change)
    shown = changes[:MAX_KEYS]
    more = len(changes) - MAX_KEYS
    if more > 0:
        shown.append(render_count(more, "more key"))
    parts = [", ".join(shown)] if shown else []
    if implied:
        fits = len(changes) + len(implied) <= MAX_KEYS
        following = ", ".join(implied) if fits else render_count(len(implied), "key")
        parts = ["".join([*parts, f" (and with it {following})"]).strip()]
    if not_known:
        parts.append(render_unknown_keys(not_known))
    return "; ".join(parts) or render_change(change)


def list_scores(node: Node, competition: Competition) -> Mapping[str, str]:
    """Validation, public and private score by the deciding metric, or the first known other one."""
    return {
        title: find_metric(competition, key).render(node.scores[key])
        for title, key in list_score_keys(node, competition).items()
    }


def list_score_keys(node: Node, competition: Competition) -> Mapping[str, str]:
    """{title: key in `Node.scores`} of the scores of `list_scores`: `val` is `val_f1`."""
    keys = {}
    for split in SPLITS:
        for name in (competition.primary_metric, *METRICS):
            key = f"{split}_{name}"
            if node.scores.get(key) is not None:
                keys[split if name == competition.primary_metric else f"{split} {name}"] = key
                break
    return keys


def find_metric(competition: Competition, key: str) -> Metric:
    """How to print a figure such as `val_f1`; a metric of no competition is a plain number."""
    name = key.partition("_")[2]
    known = {metric.name: metric for metric in competition.metrics}
    better = higher_is_better(competition.metrics, name)
    return known.get(name, Metric(name=name, higher_is_better=better))
