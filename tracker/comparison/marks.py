"""What lists mark: SOTA now and earlier, what it was made from, duplicates.

Lists need this and not the tree, which reads every run and submission.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from tracker.comparison.members import find_row_config, list_flattered
from tracker.core.config_diff import (
    is_elsewhere,
    list_used_members,
    name_elsewhere,
    strip_elsewhere,
)
from tracker.core.errors import TrackerError
from tracker.core.list_marks import Marks
from tracker.ledger.connection import Query, one_moment, open_reader
from tracker.ledger.read import (
    find_origin,
    find_run,
    find_sota,
    get_submission,
    list_duplicates,
    list_imported_columns,
    list_sota_numbers,
)
from tracker.ledger.records import Origin, Submission
from tracker.ledger.resolve import parse_submission
from tracker.run_folder.read import load_config, load_run
from tracker.run_folder.record import is_pulled
from tracker.workspace.tracker_toml import Workspace

# Column of tables kept by hand: the number of the submission that a row started from.
BASED_ON = "based_on"


def read_marks(workspace: Workspace, *, numbers: Collection[int] | None = None) -> Marks:
    """What lists mark; with `numbers`, earlier SOTA and duplicates only among these.

    Submissions that are not shown are not read: a ledger may have very many.
    """
    since = 0 if numbers is None else min(numbers, default=None)  # None: there is nothing to mark
    shown = None if numbers is None else set(numbers)
    with one_moment(workspace.ledger_url):
        best = find_sota(workspace)
        then = [] if since is None else list_sota_numbers(workspace, since=since)
        return Marks(
            now=best.number if best else None,
            # in their order, and looked up for each of very many rows
            then=dict.fromkeys(number for number in then if shown is None or number in shown),
            ancestors=dict.fromkeys(list_ancestors(workspace, best)) if best else (),
            duplicates=list_duplicates(workspace, numbers),
        )


def read_submission_marks(
    workspace: Workspace, rows: Sequence[Submission], marks: Marks | None = None
) -> Marks:
    """What a list of submissions marks; `ancestors` has their numbers, as texts.

    `marks` are those of `read_marks` for these rows, where they were read before.
    """
    if marks is None:
        marks = read_marks(workspace, numbers=[row.number for row in rows])
    ancestors = dict.fromkeys(
        str(row.number) for row in rows if name_node(workspace, row) in marks.ancestors
    )
    flattered = list_flattered(workspace, rows)
    return marks._replace(ancestors=ancestors, flattered=flattered)


def list_ancestors(workspace: Workspace, best: Submission) -> list[str]:
    """What SOTA was made from, without reading every run or submission.

    An ensemble was made from all its members. That a row was compared with SOTA at that time does
    not say that it was made from it, so only a stated parent is followed, unlike in the tree.
    """
    stated_parents = list_based_on(workspace)
    found: dict[str, None] = {}
    waiting = [name_node(workspace, best)]
    with open_reader(workspace.ledger_url) as query:
        while waiting:
            name = waiting.pop(0)
            if name not in found:
                found[name] = None
                waiting += _list_sources(workspace, query, name, stated_parents)
    return list(found)[1:]


def _list_sources(
    workspace: Workspace, query: Query, name: str, stated_parents: Mapping[int, str]
) -> list[str]:
    """The parent of a run or a submission, or all members of an ensemble."""
    number = parse_submission(name)
    if number is not None:
        return _list_sources_of_row(workspace, query, number, stated_parents)
    try:
        record = load_run(workspace.runs_dir, name)
        if record.kind == "ensemble":
            config = load_config(workspace.runs_dir, name)
            return list_used_members(config.get("ensemble") or {})[0]
    except TrackerError:
        return []  # it is not here, or cannot be read
    return [record.parent] if record.parent else []


def _list_sources_of_row(
    workspace: Workspace, query: Query, number: int, stated_parents: Mapping[int, str]
) -> list[str]:
    origin = find_origin(query, number)
    if origin is None or name_node(workspace, origin) != f"s{number}":
        return []  # the tree has it under its run's name
    if origin.run_uid is None:
        parent = find_stated_parent(number, stated_parents)
        stated = find_origin(query, int(parent[1:])) if is_number(parent) else None
        return [name_node(workspace, stated) if stated else parent] if parent else []
    row = get_submission(workspace, number)
    sources: dict[str, None] = {}
    for member in list_used_members(find_row_config(workspace, row).get("ensemble") or {})[0]:
        if not is_elsewhere(member):
            sources[member] = None
            continue
        for found in query(
            "SELECT number, run, run_uid FROM submissions WHERE run = :run",
            {"run": strip_elsewhere(member)},
        ):
            if name_elsewhere(found["run"], found["run_uid"]) == member:
                sources[f"s{found['number']}"] = None
    return list(sources)


def name_node(workspace: Workspace, row: Submission | Origin) -> str:
    """The run of a submission if its folder is in this workspace, else `s7`."""
    run = find_run(workspace, row)
    return f"s{row.number}" if run is None or is_pulled(run) else run


def list_based_on(workspace: Workspace) -> dict[int, str]:
    """{number: parent} of the submissions for which a table kept by hand names one."""
    stated_parents = {
        number: columns.get(BASED_ON)
        for number, columns in list_imported_columns(workspace).items()
    }
    return {number: text for number, text in stated_parents.items() if text}


def find_stated_parent(number: int, stated_parents: Mapping[int, str]) -> str:
    """`s7` or the name of a run, as a table kept by hand says; empty where it says nothing."""
    text = stated_parents.get(number, "")
    return f"s{text}" if text.isdecimal() else text


def is_number(parent: str) -> bool:
    """Whether a stated parent is a submission, as in `s7`."""
    return parse_submission(parent) is not None
