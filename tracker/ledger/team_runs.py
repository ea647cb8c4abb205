"""The runs of everybody: the ledger's index of runs, their names here, and which are in this place.

A run is `exp12` in the workspace that made it, and `mina/exp12` in any other. Where that fits two
runs, the host tells them apart (`mina@gpu1/exp12`), and where even that does not, the start of the
uid (`mina@gpu1/exp12~3fa2c1`).
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from functools import cached_property, lru_cache
from pathlib import Path, PurePath
from typing import Any, NamedTuple

from tracker.core.errors import LedgerError, RefusedError, TrackerError, UnknownRunError
from tracker.ledger.connection import Query, Row, parse_column, read_rows
from tracker.run_folder.look import find_look, remember
from tracker.run_folder.read import load_run
from tracker.run_folder.record import RUN_NAME, TEAM, is_pulled
from tracker.training.machine import host_name
from tracker.training.tables import parse_json
from tracker.workspace.tracker_toml import Workspace

INDEX = "names.json"  # in .tracker/team: {uid: [name of the copy, the ledger's row of that time]}
RUNNING = "running.json"  # in .tracker/team: what MLflow said about running runs, and when
UID_DIGITS = 6
FINGERPRINTS = ("config", "data", "code", "weights", "predictions")
_COLUMNS = (
    "seq, name, uid, kind, status, parent, author, host, created_at, finished_at, best_epoch,"
    " summary, path, " + ", ".join(f"{name}_fingerprint" for name in FINGERPRINTS)
)
_PLACES = "SELECT uid, name, author, host, path FROM runs WHERE {where} ORDER BY seq"
# A form ends with its run's name: only runs of the same name can have the same one.
_NAMESAKES = (
    "SELECT uid, name, author, host FROM runs r WHERE {where} AND NOT EXISTS"
    " (SELECT 1 FROM runs n WHERE n.uid = r.uid AND n.seq > r.seq)"
)
MAX_UIDS = 500  # in one query
_NEWEST = "seq IN (SELECT max(seq) FROM runs GROUP BY uid)"


class IndexedRun(NamedTuple):
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
        return _list_forms({**self._asdict(), "name": self.run})


class RunPlace(NamedTuple):
    """A run with its `name` where it was made: in the folder `path` on `host`."""

    uid: str
    name: str
    host: str
    path: str


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
        self.runs: Sequence[IndexedRun] = [run._replace(name=self._name(run)) for run in runs]

    def _name(self, run: IndexedRun) -> str:
        """`exp12` for a run of this workspace, else the shortest form that fits no other run."""
        if is_at_home(self._workspace, run.run, run.uid):
            return run.run
        return self._shortest(run)

    def _shortest(self, run: IndexedRun) -> str:
        return _find_shortest(run.forms, self._fitting)

    @cached_property
    def by_uid(self) -> Mapping[str, IndexedRun]:
        """{uid: run}."""
        return {run.uid: run for run in self.runs}

    @cached_property
    def _name_by_place(self) -> Mapping[tuple[str, str], str]:
        """{(host, path): name} of the newest run of each folder."""
        return {(run.host, run.path): run.name for run in reversed(self.runs)}

    def find(self, word: str) -> IndexedRun:
        """The run that `mina/exp12` or `mina@gpu1/exp12` means.

        Raises UnknownRunError for none, and for several with the names of each.
        """
        found = [run for run in self.runs if word in run.forms]
        # one that runs now is not in the ledger yet, and is as likely to be meant
        forms = _read_running(self._workspace, known=self.by_uid)
        running = [one for one in forms if word in one]
        if len(found) == 1 and not running:
            return found[0]
        if not found:
            raise UnknownRunError(
                f"no run {word} in the ledger",
                hint="tracker runs --team lists all; a run is there once it has ended",
            )
        fitting = self._fitting + Counter(form for one in forms for form in one)
        fit = [*(run.forms for run in found), *running]
        names = sorted(_find_shortest(one, fitting) for one in fit)
        raise UnknownRunError(
            f"{word} fits {len(names)} runs: {', '.join(names)}",
            hint="use the longer name of the run that you mean",
        )

    def translate(self, run: IndexedRun, word: str) -> str:
        """The name here of a run that the record of `run` calls `word`, as its parent."""
        if is_pulled(word):
            found = [one for one in self.runs if word in one.forms]
            return found[0].name if len(found) == 1 else word
        folder = str(PurePath(run.path).with_name(word))
        if (known := self._name_by_place.get((run.host, folder))) is not None:
            return known
        # the ledger does not know it: at least it must not be taken for a run of this workspace
        return f"{run.forms[1].rpartition('/')[0]}/{word}" if RUN_NAME.fullmatch(word) else word


def name_runs(runs_dir: Path, query: Query, rows: Sequence[Mapping[str, Any]]) -> list[str | None]:
    """The names for people of the runs of submissions, as in `TeamRuns`: `exp1` for a run of the
    workspace with `runs_dir`, `mina/exp1` for one of another workspace or another author.

    `rows` have run and run_uid, as the ledger has them. A run that the ledger's index does not
    know keeps its name.
    """
    uids = {str(row["run_uid"]) for row in rows if row["run"] and row["run_uid"]}
    places = {row["uid"]: row for row in _list_places(query, uids)}
    home = (host_name(), runs_dir.resolve())
    strangers = {uid: row for uid, row in places.items() if not _is_of(runs_dir, home, row)}
    if not strangers:
        return [row["run"] for row in rows]
    fitting = _count_forms(query, {row["name"] for row in strangers.values()})
    names: list[str | None] = []
    for row in rows:
        place = strangers.get(str(row["run_uid"]))
        names.append(_find_shortest(_list_forms(place), fitting) if place else row["run"])
    return names


def _list_places(query: Query, uids: Collection[str]) -> list[Row]:
    """Where the runs with these uids were made, the newest row of a run last."""
    if len(uids) > MAX_UIDS:  # all are asked for at once
        return [row for row in query(_PLACES.format(where="1 = 1"), {}) if row["uid"] in uids]
    known = {f"u{place}": uid for place, uid in enumerate(uids)}
    among = f"uid IN ({', '.join(f':{name}' for name in known)})"
    return query(_PLACES.format(where=among), known) if uids else []


def _count_forms(query: Query, names: Collection[str]) -> Counter[str]:
    """How many runs each form of the runs with these names fits."""
    among = "1 = 1"
    known: dict[str, str] = {}
    if len(names) <= MAX_UIDS:  # more are asked for with all others
        known = {f"n{place}": name for place, name in enumerate(names)}
        among = f"r.name IN ({', '.join(f':{place}' for place in known)})"
    rows = query(_NAMESAKES.format(where=among), known)
    return Counter(form for row in rows for form in _list_forms(row))


def _is_of(runs_dir: Path, home: tuple[str, Path], row: Row) -> bool:
    """Whether a run was made in the workspace with `runs_dir`, or lies there now.

    `home` is this host with the folder's real path. A moved workspace, and one in a container with
    another host name, still have their runs.
    """
    host, folder = home
    is_made_here = row["host"] == host and (
        row["path"] == f"{folder}/{row['name']}"  # as it is nearly always, and quickly seen
        or PurePath(row["path"]).parent == folder
    )
    return is_made_here or _has_run(runs_dir, row["name"], row["uid"])


def _read_running(workspace: Workspace, known: Collection[str]) -> list[tuple[str, str, str]]:
    """The names of the runs that MLflow last called running and the ledger does not know.

    tracker/mirror/team.py writes the file.
    """
    try:
        raw = parse_json((workspace.root / TEAM / RUNNING).read_text(encoding="utf-8"))
        runs = [{**run, "name": run["run"]} for run in raw["runs"] if run["uid"] not in known]
        return [_list_forms(run) for run in runs]
    except (OSError, ValueError, TypeError, LookupError):
        return []  # MLflow was not asked yet


def _find_shortest(forms: Sequence[str], fitting: Mapping[str, int]) -> str:
    return next((form for form in forms if fitting[form] == 1), forms[-1])


def _list_forms(row: Row) -> tuple[str, str, str]:
    """The names elsewhere of a run with author, host, name and uid, the shortest first."""
    who, where = _word(row["author"]), _word(row["host"])
    full = f"{who}@{where}/{row['name']}"
    return f"{who}/{row['name']}", full, f"{full}~{row['uid'][:UID_DIGITS]}"


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
    return _has_run(workspace.runs_dir, name, uid)


def _has_run(runs_dir: Path, name: str, uid: str) -> bool:
    if look := find_look(runs_dir, name):
        index, number = look
        if (known := index.find_uid(number)) is not None:
            return known == uid
    if not (runs_dir / name).is_dir():
        return False
    try:
        return load_run(runs_dir, name).uid == uid
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
    # asked for each row of long lists
    copies = remember(workspace.runs_dir, "copies", lambda: _read_index(workspace))
    pulled, _ = copies.get(uid, ("", 0))
    return pulled if pulled and _is_whole(workspace, pulled) else None


def list_places(workspace: Workspace) -> list[RunPlace]:
    """Where each run of the ledger's index was made, the newest first."""
    rows = read_rows(
        workspace.ledger_url,
        f"SELECT uid, name, host, path FROM runs WHERE {_NEWEST} ORDER BY seq DESC",
    )
    return [RunPlace(**row) for row in rows if RUN_NAME.fullmatch(row["name"])]


def find_member_uids(workspace: Workspace, uid: str | None, names: Sequence[str]) -> dict[str, str]:
    """{name: uid} of the runs that the ensemble `uid` names, as far as the ledger's index has them.

    `exp12` is the run that lay beside it before: it may have been made anew since. `mina/exp12` is
    hers, where no other fits.
    """
    url = workspace.ledger_url
    where = "SELECT seq, host, path FROM runs WHERE uid = :uid ORDER BY seq DESC LIMIT 1"
    before = (
        "SELECT uid FROM runs WHERE host = :host AND path = :path AND seq < :seq"
        " ORDER BY seq DESC LIMIT 1"
    )
    found: dict[str, str] = {}
    named = "SELECT DISTINCT uid, name, author, host FROM runs WHERE name = :name"
    for name in filter(is_pulled, names):
        home = name.rpartition("/")[2].partition("~")[0]
        rows = read_rows(url, named, {"name": home})
        uids = {str(row["uid"]) for row in rows if name in _list_forms(row)}
        if len(uids) == 1:
            found[name] = uids.pop()
    for place in read_rows(url, where, {"uid": uid}):
        for name in names:
            if is_pulled(name):
                continue
            path = PurePath(place["path"]).with_name(name)
            for row in read_rows(url, before, {**place, "path": str(path)}):
                found[name] = str(row["uid"])
    return found


def read_indexed_config(workspace: Workspace, uid: str) -> tuple[dict[str, Any], str | None] | None:
    """(config, data fingerprint) of a run as the ledger's index has it; None where it has none."""
    newest = "SELECT config, data_fingerprint FROM runs WHERE uid = :uid ORDER BY seq DESC LIMIT 1"
    for row in read_rows(workspace.ledger_url, newest, {"uid": uid}):
        return parse_column(row["config"]), row["data_fingerprint"]
    return None


def has_copy(workspace: Workspace, word: str) -> bool:
    """Whether a copy of this name is here, which does without the ledger while it is away."""
    return any(name == word for name, _ in read_pulled(workspace).values())


def find_teammates_run(workspace: Workspace, word: str) -> str:
    """The name here of the run that `mina/exp12` means: her copy, or `exp12` for one's own.

    Raises UnknownRunError, also for a run that was not pulled yet.
    """
    try:
        run = TeamRuns(workspace).find(word)
    except LedgerError:
        if has_copy(workspace, word):
            return word
        raise
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
