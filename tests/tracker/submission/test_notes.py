"""Remarks are added to submissions and runs, and shown wherever either is shown."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from tests.conftest import NO_MLFLOW, run_tracker
from tests.support.workspaces import make_run, make_workspace
from tracker.commands.table import app
from tracker.comparison.audit import audit
from tracker.comparison.diff import diff_runs
from tracker.comparison.selection import select_final
from tracker.comparison.subject import load_subject
from tracker.comparison.submission_rows import submission_to_json
from tracker.console.diff import print_diff
from tracker.console.runs import print_runs
from tracker.console.submissions import print_audit, print_check, print_leaderboard
from tracker.core.errors import DuplicateError, UnknownRunError
from tracker.core.list_marks import Marks
from tracker.ledger.append import open_ledger
from tracker.ledger.history import list_history
from tracker.ledger.read import (
    find_sota,
    get_submission,
    list_newest_scores,
    list_newest_submissions,
    list_notes,
)
from tracker.ledger.submission_table import import_table, read_submission_table
from tracker.run_folder.read import list_runs
from tracker.submission.examine import check
from tracker.submission.notes import add_note, find_note_target
from tracker.submission.scores import score
from tracker.submission.submit import submit
from tracker.training.errors import ConfigError
from tracker.workflows.own_loop.config_tables import to_tables
from tracker.workspace.tracker_toml import Workspace


def make_two(workspace: Workspace) -> None:
    """exp1, which is submission 1, and exp2, with three remarks."""
    for answers in ("0000011110", "0000011100"):
        make_run(workspace, answers)
    submit(workspace, "exp1", "first")
    add_note(workspace, "exp1", "the loss was flat")
    add_note(workspace, "s1", "  public was [lucky]  ")
    add_note(workspace, "exp2", "never again")


@pytest.fixture
def noted(ledger_url: str, tmp_path: Path) -> Workspace:
    workspace = make_workspace(tmp_path / "ws", ledger_url=ledger_url)
    make_two(workspace)
    return workspace


def test_a_run_and_its_submission_share_their_remarks(noted: Workspace) -> None:
    first, second = (record.uid for record in reversed(list_runs(noted.runs_dir)))
    notes = list_notes(noted, [record.uid for record in list_runs(noted.runs_dir)])
    assert [note.text for note in notes[first]] == ["the loss was flat", "public was [lucky]"]
    assert [note.text for note in get_submission(noted, 1).notes] == [
        "the loss was flat",
        "public was [lucky]",
    ]
    assert [(note.text, note.submission, note.run_uid) for note in notes[second]] == [
        ("never again", None, second)
    ]


def test_the_newest_submission_of_many_runs_is_found_at_once(noted: Workspace) -> None:
    second, first = (record.uid for record in list_runs(noted.runs_dir))
    found = list_newest_scores(noted, [*[f"u{number}" for number in range(600)], first, second])
    assert {uid: row.number for uid, row in found.items()} == {first: 1}


def test_words_for_nothing_are_unknown(noted: Workspace) -> None:
    many = "9" * 23
    for word in ("s\u00b2", "\u0661", "s\u0661", many, f"s{many}", f"-{many}", ""):
        for find in (find_note_target, load_subject):
            with pytest.raises(UnknownRunError, match=r"no (run|submission) "):
                find(noted, word)


def test_numbers_beyond_every_database_are_no_submission(noted: Workspace) -> None:
    with pytest.raises(UnknownRunError, match="no submission 9"):
        get_submission(noted, 10**23 - 1)
    assert len(list_newest_submissions(noted, 10**23)) == 1
    assert len(list_history(noted, limit=10**23)) == len(list_history(noted))


def test_words_for_submissions_and_runs(noted: Workspace) -> None:
    assert [
        str(find_note_target(noted, word)) for word in ("1", "s1", "sota", "exp1", "latest")
    ] == [
        *["submission 1"] * 3,
        "exp1",
        "exp2",
    ]
    assert [find_note_target(noted, word).run for word in ("1", "exp2")] == ["exp1", "exp2"]
    for word, said in (("7", "no submission 7"), ("exp9", "no run exp9")):
        with pytest.raises(UnknownRunError, match=said):
            add_note(noted, word, "m")
    with pytest.raises(ConfigError, match="for submissions, not for exp1"):
        add_note(noted, "exp1", "m", rejected=True)


def test_history_names_the_run(noted: Workspace) -> None:
    (record,) = [record for record in list_runs(noted.runs_dir) if record.name == "exp2"]
    with open_ledger(noted) as ledger:
        ledger.append_run(record, {}, "runs/exp2")
    texts = [event.text for event in list_history(noted)]
    assert "note on exp2: never again" in texts
    assert "note: public was [lucky]" in texts


def test_every_view_shows_them(workspace: Workspace, capsys: pytest.CaptureFixture[str]) -> None:
    make_two(workspace)
    row = get_submission(workspace, 1)
    print_runs(
        list_runs(workspace.runs_dir),
        {},
        list_notes(workspace, [record.uid for record in list_runs(workspace.runs_dir)]),
        workspace.competition,
    )
    out = capsys.readouterr().out
    assert "public was [lucky] (+1)" in out
    assert "never again" in out
    print_leaderboard([row], workspace.competition, {}, marks=Marks(now=1))
    assert "public was [lucky] (+1)" in capsys.readouterr().out
    print_diff(diff_runs(workspace, "exp1", "exp2"), full=True)
    out = capsys.readouterr().out
    assert ": the loss was flat" in out
    assert "noted on exp2, " in out
    print_audit(audit(workspace), workspace.competition)
    assert "note on submission 1 by " in capsys.readouterr().out
    shown = submission_to_json(row, workspace.competition, {}, sota=1, was=True)
    assert [note["text"] for note in shown["notes"]] == ["the loss was flat", "public was [lucky]"]


def test_the_commands_print_them_as_text_and_json(workspace: Workspace) -> None:
    make_two(workspace)
    assert (
        "public was [lucky]" in run_tracker("show", "exp1", cwd=workspace.root, **NO_MLFLOW).stdout
    )
    few = run_tracker("runs", "--limit", "1", cwd=workspace.root, **NO_MLFLOW).stdout
    assert "these are the newest 1: --limit 0 shows all\n" in few
    shown = json.loads(run_tracker("runs", "--json", cwd=workspace.root, **NO_MLFLOW).stdout)
    assert [len(run["notes"]) for run in shown] == [1, 2]
    shown = json.loads(
        run_tracker("show", "exp2", "--json", cwd=workspace.root, **NO_MLFLOW).stdout
    )
    assert shown["notes"][0]["text"] == "never again"


def test_nothing_is_added_where_nothing_was_noted(
    workspace: Workspace, capsys: pytest.CaptureFixture[str]
) -> None:
    make_run(workspace, "0000011110")
    submit(workspace, "exp1", "first")
    print_runs(
        list_runs(workspace.runs_dir),
        {},
        list_notes(workspace, [record.uid for record in list_runs(workspace.runs_dir)]),
        workspace.competition,
    )
    print_leaderboard([get_submission(workspace, 1)], workspace.competition, {}, marks=Marks(now=1))
    assert "noted last" not in capsys.readouterr().out


def test_a_note_or_memo_that_is_not_utf8_is_refused(workspace: Workspace) -> None:
    make_run(workspace, "0000011110")
    with pytest.raises(ConfigError, match="the note is not UTF-8"):
        add_note(workspace, "exp1", "a\udcff")
    with pytest.raises(ConfigError, match="the memo is not UTF-8"):
        submit(workspace, "exp1", "a\udcff")
    done = run_tracker("run", "train", "--fact", "a=\udcff", cwd=workspace.root, ok=False)
    assert (done.returncode, "--fact is not UTF-8" in done.stderr) == (2, True)


def test_a_note_a_memo_or_a_config_with_a_nul_is_refused(workspace: Workspace) -> None:
    make_run(workspace, "0000011110")
    with pytest.raises(ConfigError, match=r"the note has a NUL \(character 2\)"):
        add_note(workspace, "exp1", "a\0")
    with pytest.raises(ConfigError, match="the memo has a NUL"):
        submit(workspace, "exp1", "a\0b")
    for config in ({"a": "\0"}, {"a": ["\0"]}, {"a": {"\0": 1}}):
        with pytest.raises(ConfigError, match="the config has a NUL"):
            to_tables(config)


def test_a_rejected_submission_that_is_scored_counts_as_accepted_everywhere(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    workspace = make_workspace(tmp_path / "ws", competition={"daily_limit": 3}, solution=None)
    for answers in ("0000011110", "1100011100", "1100011100"):
        make_run(workspace, answers)
    submit(workspace, "exp1", "first")
    submit(workspace, "exp2", "second")
    score(workspace, 1, {("public", "f1"): 0.7})
    add_note(workspace, "2", "wrong columns", rejected=True)
    with pytest.raises(
        DuplicateError, match=r"submission 2 .*, which the leaderboard rejected"
    ) as e:
        submit(workspace, "exp3", "again")
    assert "tracker score 2 --public-f1 X" in e.value.hint
    assert check(workspace, "exp3").quota.used == 1
    print_check(check(workspace, "exp3"), workspace.competition)
    said_by_check = capsys.readouterr().out
    headline = "duplicate of submission 2, which the leaderboard rejected\n"
    assert said_by_check.startswith(headline)
    assert "tracker score 2 --public-f1 X makes it count" in " ".join(said_by_check.split())
    assert audit(workspace).unscored == []
    print_leaderboard([get_submission(workspace, 2)], workspace.competition, {}, marks=Marks(now=1))
    assert "rejected: sec" in capsys.readouterr().out
    monkeypatch.chdir(workspace.root)
    said = CliRunner().invoke(app, ["score", "2", "--public-f1", "0.8"], env=NO_MLFLOW)
    assert "submission 2 was noted as rejected: with a score it counts" in said.output
    assert sota_number(workspace) == 2
    assert select_final(workspace, 1).chosen == [2]
    assert check(workspace, "exp3").quota.used == 2
    report = check(workspace, "exp3")
    assert "rejected" not in report.refusal
    assert report.answer == "duplicate of submission 2"
    print_leaderboard([get_submission(workspace, 2)], workspace.competition, {}, marks=Marks(now=2))
    assert "rejected: sec" not in capsys.readouterr().out


def sota_number(workspace: Workspace) -> int | None:
    """The number of SOTA."""
    best = find_sota(workspace)
    return best.number if best else None


def test_a_note_on_a_run_is_told_as_one(
    workspace: Workspace, capsys: pytest.CaptureFixture[str]
) -> None:
    make_two(workspace)
    print_audit(audit(workspace), workspace.competition)
    out = capsys.readouterr().out
    assert ": the loss was flat" in out.partition("note on the run of submission 1 by ")[2]
    assert ": public was [lucky]" in out.partition("note on submission 1 by ")[2]


def test_a_duplicate_of_a_row_without_a_run_has_no_none(workspace: Workspace) -> None:
    rows = "".join(f"i{n}.png,{answer}\n" for n, answer in enumerate("0000011100"))
    (workspace.root / "a.csv").write_text(f"ImageID,ans\n{rows}")
    (workspace.root / "t.csv").write_text("memo,public_f1,file\n두 번째,0.5,a.csv\n")
    table = read_submission_table(workspace.root / "t.csv", workspace.competition)
    import_table(workspace, table)
    make_run(workspace, "0000011100")
    with pytest.raises(DuplicateError, match=r"are submission 1 \(두 번째\)$"):
        submit(workspace, "exp1", "again")
