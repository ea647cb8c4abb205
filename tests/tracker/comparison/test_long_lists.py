"""Lists of a long ledger read what they show, and say what a reader of everything would say."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import tracker.ledger.read
import tracker.run_folder.read
from tests.support.ledger_rows import draft
from tests.support.servers import new_ledger_url
from tests.support.workspaces import begin_run, make_run, make_workspace
from tracker.commands import options
from tracker.commands.runs import runs_command
from tracker.commands.submissions import _print_rows, audit_command
from tracker.comparison.duplicates import find_duplicates
from tracker.comparison.marks import read_marks
from tracker.comparison.search import rank_submissions, search_submissions, sort_submissions
from tracker.ledger.append import open_ledger
from tracker.ledger.connection import open_reader
from tracker.ledger.historical import HistoricalSubmission
from tracker.ledger.read import (
    list_sota_numbers,
    list_submissions,
    list_unscored,
    list_validation_scores,
)
from tracker.ledger.records import Submission
from tracker.ledger.team_runs import TeamRuns, name_runs
from tracker.run_folder.read import list_running
from tracker.run_folder.record import RunRecord
from tracker.run_folder.running import RunWatcher
from tracker.training.errors import ConfigError
from tracker.workspace.tracker_toml import Metric, Workspace

ROWS, SHOWN = 300, 10


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def long(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """A hand-kept table of 300 rows with few different scores, then three submissions, then
    corrections; not to be changed."""
    folder = tmp_path_factory.mktemp("long")
    workspace = make_workspace(folder / "ws", ledger_url=new_ledger_url(request, folder))
    rng = random.Random(3)  # noqa: S311
    rows = []
    for number in range(1, ROWS + 1):
        scores = {
            ("public", "f1"): rng.randrange(40) / 40,
            ("public", "accuracy"): rng.randrange(5) / 5,
        }
        if number % 7 == 0:
            scores["private", "f1"] = rng.randrange(3) / 3
        rows.append(
            HistoricalSubmission(number=number, memo="m", scores={} if number % 11 == 0 else scores)
        )
    with open_ledger(workspace) as ledger:
        ledger.append_historical(rows, workspace.competition)
        for letter in "012":
            number = ledger.append_submission(draft(letter), workspace.competition).number
            ledger.append_missing(number, rows[int(letter)].scores)
        for number in (3, 50, 301):
            ledger.append_missing(number, {("public", "f1"): rows[0].scores["public", "f1"]})
        ledger.append_note(kind="note", text="kept", submission=302)
    return workspace


def count_parsed(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The numbers of the submissions that are read whole from now on."""
    found: list[int] = []
    build = tracker.ledger.read._Builder.build

    def build_counted(*arguments: Any, **others: Any) -> Submission:
        row = build(*arguments, **others)
        found.append(row.number)
        return row

    monkeypatch.setattr(tracker.ledger.read._Builder, "build", build_counted)
    return found


def test_a_list_reads_the_submissions_that_it_shows(
    long: Workspace, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    read = count_parsed(monkeypatch)
    monkeypatch.chdir(long.root)
    _print_rows(long, limit=SHOWN)
    assert "303" in capsys.readouterr().out
    best = read_marks(long).now
    assert set(read) == {*range(293, 304), best}  # one more tells that there are more
    read.clear()
    runs_command(limit=SHOWN)
    assert set(read) == {best}


def test_an_order_by_a_score_reads_the_submissions_that_it_shows(
    long: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    every = list_submissions(long)
    read = count_parsed(monkeypatch)
    for sort in ("public_f1", "public_accuracy", "private_f1"):
        whole = sort_submissions(long.competition, every, {}, sort)
        rows, ranks = search_submissions(long, sort=sort, limit=SHOWN)
        assert [row.number for row in rows] == [row.number for row in whole[:SHOWN]]
        assert ranks.keys() == {row.number for row in rows}
        assert set(read) == {row.number for row in rows}
        read.clear()
    # so few have a value that the others follow: all are read
    rows, _ = search_submissions(long, sort="private_f1", limit=ROWS)
    assert [row.number for row in rows] == [
        row.number for row in sort_submissions(long.competition, every, {}, "private_f1")[:ROWS]
    ]
    with pytest.raises(ConfigError, match="no submission has 'val_f2'"):
        search_submissions(long, sort="val_f2", limit=SHOWN)


def test_an_order_by_validation_is_that_of_all_submissions(tmp_path: Path) -> None:
    workspace = make_workspace(tmp_path / "ws")
    rng = random.Random(4)  # noqa: S311
    rows = [
        HistoricalSubmission(
            number=number,
            memo="m",
            scores={},
            columns={"val_f1": rng.choice([None, rng.randrange(9) / 9])},
        )
        for number in range(1, 60)
    ]
    with open_ledger(workspace) as ledger:
        ledger.append_historical(rows, workspace.competition)
    every = list_submissions(workspace)
    validation = list_validation_scores(workspace, every)
    for limit in (SHOWN, 59, 0):
        found, ranks = search_submissions(workspace, sort="val_f1", limit=limit)
        whole = sort_submissions(workspace.competition, every, validation, "val_f1")
        assert [row.number for row in found] == [row.number for row in whole[: limit or None]]
        slow = rank_submissions(workspace.competition, every, validation, "val_f1")
        assert {number: ranks[number] for number in ranks if number in slow} == ranks
        assert all(ranks[row.number] == slow[row.number] for row in found if row.number in slow)


def test_ranks_and_marks_are_those_of_the_whole_ledger(long: Workspace) -> None:
    every = list_submissions(long)
    turned = replace(
        long,
        competition=replace(long.competition, metrics=(Metric(name="f1", higher_is_better=False),)),
    )
    for workspace in (long, turned):
        for sort in ("", "private_f1", "public_f1"):
            rows, ranks = search_submissions(workspace, sort=sort, limit=40)
            whole = rank_submissions(workspace.competition, every, {}, sort or "public_f1")
            assert ranks == {row.number: whole[row.number] for row in rows if row.number in whole}
    wasted = {item["number"]: item["equal_to"] for item in find_duplicates(every)}
    assert read_marks(long).duplicates == wasted
    assert max(wasted) > ROWS  # one with predictions repeats one without
    numbers = [3, 50, 299, 300, 301, 302]
    marks = read_marks(long, numbers=numbers)
    assert marks.duplicates == {number: wasted[number] for number in numbers if number in wasted}
    assert list(marks.then) == [number for number in list_sota_numbers(long) if number in numbers]
    assert [row.number for row in list_unscored(long)] == [
        row.number for row in every if not row.scores
    ]
    rows, _ = search_submissions(long, limit=2)
    assert [(row.number, [note.text for note in row.notes]) for row in rows] == [
        (302, ["kept"]),
        (303, []),
    ]


def test_duplicates_are_those_of_a_comparison_with_every_earlier_one(long: Workspace) -> None:
    every = list_submissions(long)
    rng = random.Random(5)  # noqa: S311
    rows = [
        row._replace(predictions_fingerprint=rng.choice([None, "a", "b", str(row.number)]))
        for row in every
    ]
    slow: list[tuple[int, int]] = []
    for place, row in enumerate(rows):
        for earlier in rows[:place]:
            own, other = row.predictions_fingerprint, earlier.predictions_fingerprint
            shared = row.scores.keys() & earlier.scores.keys()
            alike = len(shared) > 1 and all(
                row.scores[name] == earlier.scores[name] for name in shared
            )
            if own == other if own and other else alike:
                slow.append((row.number, earlier.number))
                break
    assert [(item["number"], item["equal_to"]) for item in find_duplicates(rows)] == slow


def test_the_name_of_a_run_is_that_among_all_runs(ledger_url: str, tmp_path: Path) -> None:
    workspace = make_workspace(tmp_path / "ws", ledger_url=ledger_url)
    places = [(name, who, host) for name in ("exp1", "exp2") for who in "ab" for host in ("x", "y")]
    runs = [*places, ("exp1", "a", "x"), ("exp3", "a", "x"), ("exp11", "a", "y")]
    with open_ledger(workspace) as ledger:
        for number, (name, who, host) in enumerate(runs):
            record = RunRecord(
                name=name, uid=f"{number:06}", author=who, host=host, status="finished"
            )
            for epoch in (1, 2):  # a resumed run has two rows
                ledger.append_run(replace(record, best_epoch=epoch), {}, f"/elsewhere/{name}")
    team = TeamRuns(workspace).by_uid
    with open_reader(workspace.ledger_url) as query:
        for number, (name, *_) in enumerate(runs):
            row = {"run": name, "run_uid": f"{number:06}"}
            assert name_runs(workspace.runs_dir, query, [row]) == [team[f"{number:06}"].name]
    assert {team["000000"].name, team["000009"].name} == {"a@x/exp1~000000", "a/exp3"}


def test_a_command_says_before_it_reads_very_many_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    workspace = make_workspace(tmp_path / "ws")
    make_run(workspace, "01")
    monkeypatch.chdir(workspace.root)
    audit_command()
    assert capsys.readouterr().err == ""
    monkeypatch.setattr(options, "MANY", 0)
    audit_command()
    assert capsys.readouterr().err == "reading 1 run folders: about 2 seconds for each 0\n"
    runs_command()
    assert capsys.readouterr().err == ""
    runs_command(limit=0)
    assert "run folders" in capsys.readouterr().err


def test_whoever_watches_parses_the_records_of_running_runs_only(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    for _ in range(3):
        make_run(workspace, "01")
    make_run(workspace, "01", note="was running well")
    open_run = begin_run(workspace)
    parsed: list[str] = []
    load = tracker.run_folder.read.load_run

    def load_counted(runs_dir: Path, name: str) -> RunRecord:
        parsed.append(name)
        return load(runs_dir, name)

    monkeypatch.setattr(tracker.run_folder.read, "load_run", load_counted)
    assert [record.name for record in list_running(workspace.runs_dir)] == [open_run.folder.name]
    assert parsed == ["exp5", "exp4"]
    assert [run.name for run in RunWatcher(workspace).read()] == ["exp5"]
