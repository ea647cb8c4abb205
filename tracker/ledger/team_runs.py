"""The runs of everybody: the ledger's index of runs, their names here, and which are in this place.

A run is `exp12` in the workspace that made it, and `mina/exp12` in any other. Where that fits two
runs, the host tells them apart (`mina@gpu1/exp12`), and where even that does not, the start of the
uid (`mina@gpu1/exp12~3fa2c1`).
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from pathlib import PurePath
from typing import Any

from tracker.core.errors import RefusedError, TrackerError, UnknownRunError
from tracker.ledger.connection import Row, parse_column, read_rows
from tracker.run_folder.read import load_run
from tracker.run_folder.record import RUN_NAME, TEAM, is_pulled
from tracker.training.tables import parse_json
from tracker.workspace.tracker_toml import Workspace

INDEX = "names.json"  # in .tracker/team: {uid: [name of the copy, the ledger's row of that time]}
UID_DIGITS = 6
FINGERPRINTS = ("config", "data", "code", "weights", "predictions")
_COLUMNS = (
    "seq, name, uid, kind, status, parent, author, host, created_at, finished_at, best_epoch,"
    " summary, path, " + ", ".join(f"{name}_fingerprint" for name in FINGERPRINTS)
)
_NEWEST = "seq IN (SELECT max(seq) FROM runs GROUP BY uid)"


@dataclass(frozen=True, kw_only=True)
class IndexedRun:
    """A run as the ledger's index has it: its newest row.

    `run` is its name where it was made, `name` its name in this workspace. `path` is its folder on
    `host`.
    """

    seq: int
    uid: str
    run: str
    kind: str
    status: str
    parent: str | None
    author: str
    host: str
    created_at: str
    finished_at: str | None
    best_epoch: int | None
    summary: Mapping[str, float | None]
    fingerprints: Mapping[str, str | None]
    path: str
    name: str = ""

    @property
    def forms(self) -> tuple[str, str, str]:
        """Its names elsewhere, the shortest first."""
        return _list_forms(self.run, self.uid, self.author, self.host)


class TeamRuns:
    """The ledger's index of runs, read once, with the names that the runs have in a workspace.

    `running` are runs that are not in the ledger yet, or again not at their end.
    """

    def __init__(self, workspace: Workspace, running: Sequence[IndexedRun] = ()) -> None:
        self._workspace = workspace
        rows = read_rows(
            workspace.ledger_url, f"SELECT {_COLUMNS} FROM runs WHERE {_NEWEST} ORDER BY seq DESC"
        )
        uids = {run.uid for run in running}
        runs = [*running, *(_build(row) for row in rows if row["uid"] not in uids)]
        runs = [run for run in runs if RUN_NAME.fullmatch(run.run)]
        self._fitting = Counter(form for run in runs for form in run.forms)
        self.runs: Sequence[IndexedRun] = [replace(run, name=self._name(run)) for run in runs]

    def _name(self, run: IndexedRun) -> str:
        """`exp12` for a run of this workspace, else the shortest form that fits no other run."""
        if is_at_home(self._workspace, run.run, run.uid):
            return run.run
        return self._shortest(run)

    def _shortest(self, run: IndexedRun) -> str:
        return next((form for form in run.forms if self._fitting[form] == 1), run.forms[-1])

    @cached_property
    def by_uid(self) -> Mapping[str, IndexedRun]:
        """{uid: run}."""
        return {run.uid: run for run in self.runs}

    def find(self, word: str) -> IndexedRun:
        """The run that `mina/exp12` or `mina@gpu1/exp12` means.

        Raises UnknownRunError for none, and for several with the names of each.
        """
        found = [run for run in self.runs if word in run.forms]
        if len(found) == 1:
            return found[0]
        if not found:
            raise UnknownRunError(
                f"no run {word} in the ledger",
                hint="tracker runs --team lists all; a run is there once it has ended",
            )
        names = sorted(self._shortest(run) for run in found)
        raise UnknownRunError(
            f"{word} fits {len(found)} runs: {', '.join(names)}",
            hint="use the longer name of the run that you mean",
        )

    def translate(self, run: IndexedRun, word: str) -> str:
        """The name here of a run that the record of `run` calls `word`, as its parent."""
        if is_pulled(word):
            found = [one for one in self.runs if word in one.forms]
            return found[0].name if len(found) == 1 else word
        folder = str(PurePath(run.path).with_name(word))
        for one in self.runs:
            if (one.host, one.path) == (run.host, folder):
                return one.name
        # the ledger does not know it: at least it must not be taken for a run of this workspace
        return f"{run.forms[1].rpartition('/')[0]}/{word}" if RUN_NAME.fullmatch(word) else word


def name_runs(workspace: Workspace, uids: Collection[str]) -> dict[str, str]:
    """{uid: name here} of those of these runs that the ledger's index has, as `TeamRuns` says.

    It reads no whole run, and asks only for the folders of these: a ledger may have very many.
    """
    wanted = set(uids)
    rows = read_rows(
        workspace.ledger_url,
        "SELECT r.uid, r.name, r.author, r.host FROM (SELECT max(seq) AS seq FROM runs GROUP BY"
        " uid) n JOIN runs r ON r.seq = n.seq",
    )
    rows = [row for row in rows if RUN_NAME.fullmatch(row["name"])]
    asked = [row for row in rows if row["uid"] in wanted]
    alike = {row["name"] for row in asked}  # only runs of one name can share a form
    fitting: Counter[str] = Counter()
    for row in rows:
        if row["name"] in alike:
            fitting.update(_forms_of_row(row))
    names = {}
    for row in asked:
        forms = _forms_of_row(row)
        shortest = next((form for form in forms if fitting[form] == 1), forms[-1])
        is_here = is_at_home(workspace, row["name"], row["uid"])
        names[row["uid"]] = row["name"] if is_here else shortest
    return names


def _forms_of_row(row: Row) -> tuple[str, str, str]:
    return _list_forms(row["name"], row["uid"], row["author"], row["host"])


def _list_forms(run: str, uid: str, author: str, host: str) -> tuple[str, str, str]:
    who, place = _word(author), _word(host)
    full = f"{who}@{place}/{run}"
    return f"{who}/{run}", full, f"{full}~{uid[:UID_DIGITS]}"


def _build(row: Row) -> IndexedRun:
    values = dict(row)
    prints = {name: values.pop(f"{name}_fingerprint") for name in FINGERPRINTS}
    summary = parse_column(values.pop("summary"))
    return IndexedRun(run=values.pop("name"), summary=summary, fingerprints=prints, **values)


@lru_cache(maxsize=1024)
def _word(text: str) -> str:
    """An author or a host as a part of a name: it is typed in a shell, and is a folder's name."""
    return re.sub(r"[^\w.@+-]+", "_", text).strip(".") or "_"


def is_at_home(workspace: Workspace, name: str, uid: str) -> bool:
    """Whether this workspace has the run folder `name` of the run `uid`."""
    if not (workspace.runs_dir / name).is_dir():
        return False
    try:
        return load_run(workspace.runs_dir, name).uid == uid
    except TrackerError:
        return False


def read_pulled(workspace: Workspace) -> dict[str, tuple[str, int]]:
    """{uid: (name, row of the ledger it was checked with)} of the copies of teammates' runs."""
    known = _read_index(workspace)
    return {uid: pair for uid, pair in known.items() if _is_whole(workspace, pair[0])}


def _read_index(workspace: Workspace) -> dict[str, tuple[str, int]]:
    try:
        text = (workspace.root / TEAM / INDEX).read_text(encoding="utf-8")
        raw: dict[str, Any] = parse_json(text)
        return {str(uid): (str(name), int(seq)) for uid, (name, seq) in raw.items()}
    except (OSError, ValueError, TypeError, AttributeError):
        return {}  # nothing was pulled, or it is pulled again


def _is_whole(workspace: Workspace, name: str) -> bool:
    """Whether the copy is there: its folder may have been deleted by hand."""
    return (workspace.root / TEAM / name / "run.json").is_file()


def find_run_by_uid(workspace: Workspace, name: str | None, uid: str | None) -> str | None:
    """The name here of the run `uid`, which is called `name` at home; None if it is not here."""
    if name is None or uid is None:
        return None
    if is_at_home(workspace, name, uid):
        return name
    pulled, _ = _read_index(workspace).get(uid, ("", 0))  # asked for each row of long lists
    return pulled if pulled and _is_whole(workspace, pulled) else None


def find_uids_beside(workspace: Workspace, uid: str | None, names: Sequence[str]) -> dict[str, str]:
    """{name: uid} of runs that lay beside the run `uid`, as far as the ledger's index knows them.

    A name means the run that the place had before: it may have been made anew since.
    """
    url = workspace.ledger_url
    where = "SELECT seq, host, path FROM runs WHERE uid = :uid ORDER BY seq DESC LIMIT 1"
    before = (
        "SELECT uid FROM runs WHERE host = :host AND path = :path AND seq < :seq"
        " ORDER BY seq DESC LIMIT 1"
    )
    found: dict[str, str] = {}
    for place in read_rows(url, where, {"uid": uid}):
        for name in names:
            path = PurePath(place["path"]).with_name(name.rpartition("/")[2])
            for row in read_rows(url, before, {**place, "path": str(path)}):
                found[name] = str(row["uid"])
    return found


def find_teammates_run(workspace: Workspace, word: str) -> str:
    """The name here of the run that `mina/exp12` means: her copy, or `exp12` for one's own.

    Raises UnknownRunError, also for a run that was not pulled yet.
    """
    run = TeamRuns(workspace).find(word)
    if not is_pulled(run.name):
        return run.name
    here = find_run_by_uid(workspace, run.run, run.uid)
    if here is None:
        raise UnknownRunError(
            f"{word} is not here: {run.author} made it on {run.host}",
            hint=f"tracker pull {run.name}",
        )
    return here


def refuse_pulled(name: str) -> None:
    """Raise RefusedError for the copy of a teammate's run: it is only changed where it was made."""
    if is_pulled(name):
        who, _, run = name.rpartition("/")
        raise RefusedError(
            f"{name} is a copy of a run of {who}: it cannot be changed here",
            hint=f"in the workspace of {who} it is {run}",
        )
