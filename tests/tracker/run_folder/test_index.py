"""The index of very many runs is only a cache: with and without it, every list says the same."""

from __future__ import annotations

import json
import multiprocessing
import os
import random
import shutil
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import tracker
from tests.support.ledger_rows import draft
from tests.support.workspaces import begin_run, make_run, make_workspace
from tracker.comparison.compare import compare_runs
from tracker.comparison.search import search_runs
from tracker.comparison.tree import build_family
from tracker.core.errors import TrackerError
from tracker.ledger.append import open_ledger
from tracker.run_folder import index, look, read
from tracker.run_folder.marks import archive_runs, tag_run, unarchive_runs
from tracker.run_folder.read import list_running, list_runs, load_config, look_once
from tracker.workspace.tracker_toml import Workspace

RUNS = 12
YOUNG_S = 0.02
SEARCHES = [
    ("val/f1 > 0.3", "val/f1"),
    ("optim.lr < 0.003 and tags = null", "optim.lr"),
    ("public_f1 > 0.1 or submission = null", "public_f1"),
    ("status = finished", ""),
    ("status ~ k", "created_at"),
    ("note ~ own", "epoch"),
    ("none > 1", ""),
    ("note > 1", ""),
    ("lr > 0", "lr"),
    ("optim.lr > 0", "nothing"),
]


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    """A dozen runs, of which one was submitted, and an index for so few."""
    monkeypatch.setattr(look, "FEWEST", 1)
    monkeypatch.setattr(index, "YOUNG_S", YOUNG_S)
    workspace = make_workspace(tmp_path / "ws")
    for number in range(RUNS):
        make_run(workspace, config={"optim.lr": 0.001 * (1 + number % 4)}, f1=number / RUNS)
    with open_ledger(workspace) as ledger:
        sent = replace(draft("0"), record=list_runs(workspace.runs_dir)[-1])
        number = ledger.append_submission(sent, workspace.competition).number
        ledger.append_missing(number, {("public", "f1"): 0.5})
    age()
    return workspace


def age() -> None:
    """Wait until what was written is old enough to be trusted."""
    time.sleep(2 * YOUNG_S)


def describe(workspace: Workspace) -> dict[str, Any]:
    """What lists, searches, the tree and a comparison say of the runs."""
    found: dict[str, Any] = {
        "runs": list_runs(workspace.runs_dir),
        "shown": list_runs(workspace.runs_dir, archived=False),
        "running": list_running(workspace.runs_dir),
        "tree": answer(lambda: build_family(workspace, archived=True)),
        "compared": answer(lambda: compare_runs(workspace, (), limit=0).to_dict()),
    }
    for place, (where, sort) in enumerate(SEARCHES):
        wanted: dict[str, Any] = {"where": where, "sort": sort, "archived": place % 2 == 0}
        found[f"{wanted}"] = answer(lambda wanted=wanted: search_runs(workspace, **wanted))  # type: ignore[misc]
        found[f"compared {wanted}"] = answer(
            lambda wanted=wanted: compare_runs(workspace, (), limit=0, **wanted).to_dict()  # type: ignore[misc]
        )
    found["frame"] = answer(
        lambda: tracker.runs(sort="val/f1", root=workspace.root, frame="arrow").to_pydict()
    )
    with look_once(workspace.runs_dir):
        for record in found["runs"]:
            name = record.name
            found[name] = answer(lambda name=name: load_config(workspace.runs_dir, name))  # type: ignore[misc]
    return found


def answer(ask: Callable[[], Any]) -> Any:
    """What is returned, or said of an error."""
    try:
        return ask()
    except TrackerError as error:
        return repr(error), error.hint


def check(workspace: Workspace) -> None:
    """With the index, twice, and without it: the same."""
    few, look.FEWEST = look.FEWEST, 10**9
    plain = describe(workspace)
    look.FEWEST = few
    assert describe(workspace) == plain
    assert describe(workspace) == plain


def count_indexed(workspace: Workspace) -> int:
    with look_once(workspace.runs_dir) as found:
        return 0 if found is None else RUNS - len(found.list_unknown())


def find_index(workspace: Workspace) -> Path:
    return workspace.root / ".tracker" / "runs.db"


def edit(workspace: Workspace, name: str, **changes: Any) -> None:
    path = workspace.runs_dir / name / "run.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def test_runs_that_ended_are_answered_by_the_index(workspace: Workspace) -> None:
    assert count_indexed(workspace) == RUNS
    check(workspace)


def test_threads_ask_where_the_disk_answers_late(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(index, "LATE_S", 0.0)
    check(workspace)
    assert count_indexed(workspace) == RUNS


def test_a_run_that_changed_a_moment_ago_is_read(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(index, "YOUNG_S", 3600.0)
    assert count_indexed(workspace) == 0
    check(workspace)


def list_changes(workspace: Workspace, rng: random.Random) -> Iterator[Callable[[], Any]]:
    """What people and programs do with run folders."""
    runs = workspace.runs_dir

    def pick() -> str:
        return rng.choice([path.name for path in sorted(runs.glob("exp*"))])

    def rewrite(name: str, file: str, text: str) -> None:
        (runs / name / file).write_text(text)

    def lower(name: str) -> None:
        path = runs / name / "config.toml"
        path.write_text(path.read_text().replace("lr = 0.001", "lr = 0.009"))  # of the same size

    def clone(name: str) -> None:
        shutil.copytree(runs / name, runs / f"exp{rng.randrange(50, 90)}", dirs_exist_ok=True)

    yield lambda: edit(workspace, pick(), summary={"val/f1": 0.75, "val/loss": None})
    yield lambda: edit(workspace, pick(), status="killed", facts={"lr": 3, "list": [1]})
    yield lambda: edit(workspace, pick(), status="running", host="elsewhere")
    yield lambda: edit(workspace, pick(), kind="ensemble", note="own")
    yield lambda: rewrite(pick(), "run.json", "{")
    yield lambda: rewrite(pick(), "config.toml", "lr = [")
    yield lambda: rewrite(pick(), "config.toml", "[train]\nlr = 0.5\n[other]\nx = [1, true]\n")
    yield lambda: rewrite(pick(), "config.toml", '[ensemble]\nmembers = ["exp2", "exp3"]\n')
    yield lambda: rewrite(pick(), "marks.json", "[]")
    yield lambda: lower(pick())
    yield lambda: (runs / pick() / "config.toml").unlink(missing_ok=True)
    yield lambda: shutil.rmtree(runs / pick())
    yield lambda: (runs / pick()).rename(runs / f"exp{rng.randrange(100, 10**6)}")
    yield lambda: clone(pick())
    yield lambda: answer(lambda: archive_runs(workspace, [pick()]))
    yield lambda: answer(lambda: unarchive_runs(workspace, [pick()]))
    yield lambda: answer(lambda: tag_run(workspace, pick(), ["good"]))
    yield lambda: begin_run(workspace).finish("failed")
    yield lambda: make_run(workspace, f1=0.9)


@pytest.mark.parametrize("order", range(2))
def test_whatever_is_done_to_run_folders_lists_are_the_same(
    workspace: Workspace, order: int
) -> None:
    rng = random.Random(order)  # noqa: S311
    for change in rng.sample(list(list_changes(workspace, rng)), k=9):
        change()
        if rng.random() < 0.5:
            age()
        check(workspace)


def test_an_edit_that_keeps_time_and_size_is_seen(workspace: Workspace) -> None:
    path = workspace.runs_dir / "exp5" / "run.json"
    count_indexed(workspace)
    before = path.stat()
    path.write_text(path.read_text().replace('"finished"', '"disliked"'))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    age()
    assert [run.name for run in search_runs(workspace, where="status = disliked")] == ["exp5"]


@pytest.mark.parametrize("damage", range(4))
def test_a_damaged_index_says_nothing_wrong(workspace: Workspace, damage: int) -> None:
    rng = random.Random(damage)  # noqa: S311
    count_indexed(workspace)
    path = find_index(workspace)
    data = bytearray(path.read_bytes())
    for _ in range((1, 20, 300, 3000)[damage]):
        data[rng.randrange(len(data))] = rng.randrange(256)
    path.write_bytes(data)
    check(workspace)


@pytest.mark.parametrize("table", ["runs", "records", "configs", "names"])
def test_a_damaged_index_is_made_anew(workspace: Workspace, table: str) -> None:
    count_indexed(workspace)
    path = find_index(workspace)
    with closing(sqlite3.connect(path)) as database:
        asked = "SELECT rootpage FROM sqlite_master WHERE name = ?"
        page = database.execute(asked, (table,)).fetchone()[0]
        size = database.execute("PRAGMA page_size").fetchone()[0]
    data = bytearray(path.read_bytes())
    data[(page - 1) * size : page * size] = bytes(size)
    path.write_bytes(data)
    check(workspace)  # the second time with a new one
    with look_once(workspace.runs_dir) as found:
        assert found is not None
        assert found.list_unknown() == []
        assert all(record is not None for _, record in found.read_records())
        values = found.read_values(["optim.lr", "note"])
        assert not any(isinstance(value, int) for value in values)


@pytest.mark.parametrize("column", ["uid", "low", "high", "archived", "names", "config", "state"])
def test_a_changed_cell_of_the_index_is_noticed(workspace: Workspace, column: str) -> None:
    count_indexed(workspace)
    with closing(sqlite3.connect(find_index(workspace))) as database, database:
        database.execute(f"UPDATE runs SET {column} = 1 WHERE number IN (3, 4, 5)")
    check(workspace)


def test_an_index_that_was_deleted_or_is_of_another_version_is_made_anew(
    workspace: Workspace,
) -> None:
    count_indexed(workspace)
    find_index(workspace).unlink()
    check(workspace)
    with closing(sqlite3.connect(find_index(workspace))) as database, database:
        database.execute("UPDATE version SET text = 'another'")
        database.execute("UPDATE runs SET low = '[]'")
    check(workspace)
    find_index(workspace).write_text("no database at all\n" * 100)
    check(workspace)
    assert count_indexed(workspace) == RUNS


def test_lists_do_without_an_index_that_cannot_be_written(workspace: Workspace) -> None:
    find_index(workspace).unlink()
    find_index(workspace).mkdir()
    assert count_indexed(workspace) == 0
    check(workspace)


def test_lists_do_not_wait_for_another_process_that_writes_the_index(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(index, "BUSY_S", 0.01)
    count_indexed(workspace)
    edit(workspace, "exp3", note="own")
    age()
    with closing(sqlite3.connect(find_index(workspace), isolation_level=None)) as other:
        for lock in ("BEGIN IMMEDIATE", "BEGIN EXCLUSIVE"):
            other.execute(lock)
            check(workspace)
            other.execute("ROLLBACK")


def _list_often(root: Path, queue: Any) -> None:
    look.FEWEST, index.YOUNG_S = 1, YOUNG_S
    queue.put([[run.name for run in list_runs(root / "runs")] for _ in range(20)])


def test_processes_that_make_the_index_at_once_list_the_same(workspace: Workspace) -> None:
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    processes = [context.Process(target=_list_often, args=(workspace.root, queue)) for _ in "123"]
    for process in processes:
        process.start()
    expected = [f"exp{number}" for number in range(RUNS, 0, -1)]
    for _ in processes:
        assert queue.get(timeout=60) == [expected] * 20
    for process in processes:
        process.join()
    check(workspace)


def test_a_run_that_is_deleted_while_runs_are_read_is_left_out(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    edit(workspace, "exp3", note="young")  # so that it is read from its folder
    list_numbers = read.list_run_numbers

    def delete_after_listing(runs_dir: Path) -> list[int]:
        numbers = list_numbers(runs_dir)
        if (gone := runs_dir / "exp3").exists():
            gone.rename(runs_dir / "gone")
        return numbers

    expected = {f"exp{number}" for number in range(1, RUNS + 1) if number != 3}
    for module in ("run_folder.read", "run_folder.look", "comparison.compared_run"):
        monkeypatch.setattr(f"tracker.{module}.list_run_numbers", delete_after_listing)
    for list_names in (
        lambda: [run.name for run in list_runs(workspace.runs_dir)],
        lambda: [run.name for run in search_runs(workspace, where="epoch >= 0")],
        lambda: [name for row in compare_runs(workspace, (), limit=0).rows for name in row.runs],
    ):
        assert {*list_names()} == expected
        (workspace.runs_dir / "gone").rename(workspace.runs_dir / "exp3")


def test_few_runs_have_no_index(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(look, "FEWEST", 500)
    find_index(workspace).unlink()
    list_runs(workspace.runs_dir)
    search_runs(workspace, where="val/f1 > 0.3")
    assert not find_index(workspace).exists()


def test_what_vanished_leaves_the_index(workspace: Workspace) -> None:
    count_indexed(workspace)
    for number in range(2, RUNS + 1):
        shutil.rmtree(workspace.runs_dir / f"exp{number}")
    list_runs(workspace.runs_dir)
    with closing(sqlite3.connect(find_index(workspace))) as database:
        counts = [
            database.execute(f"SELECT count(*) FROM {table}").fetchone()[0]
            for table in ("runs", "records", "configs", "tables")
        ]
    assert counts == [1, 1, 1, 1]


def test_the_members_of_an_ensemble_follow_the_folders_of_these(workspace: Workspace) -> None:
    uid = list_runs(workspace.runs_dir)[-2].uid
    text = '[ensemble]\nmembers = ["exp2"]\nmethod = "mean"\n'
    (workspace.runs_dir / "exp9" / "config.toml").write_text(text)
    edit(workspace, "exp9", kind="ensemble", facts={"members": [uid]})
    age()
    check(workspace)
    edit(workspace, "exp2", uid="another")
    age()
    check(workspace)
    with look_once(workspace.runs_dir):
        (member,) = load_config(workspace.runs_dir, "exp9")["ensemble"]["members"]
    assert member.startswith("exp2~")
