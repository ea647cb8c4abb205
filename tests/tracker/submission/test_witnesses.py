"""A ledger that was rewritten with valid hashes lacks heads that somebody saw."""

from __future__ import annotations

import json
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from typer.testing import CliRunner

from tests.conftest import NO_MLFLOW, run_tracker
from tests.support.ledger_rows import add, change, rewrite
from tests.support.workspaces import make_run, make_workspace
from tracker.commands.table import app
from tracker.core.errors import ConfigError, LedgerError, RefusedError
from tracker.ledger.append import create_ledger, open_ledger
from tracker.ledger.chain import read_head, verify_ledger
from tracker.ledger.connection import open_reader, read_rows
from tracker.ledger.heads import HEADS_FILE, MOST_LINES, load_memory, note_head, observe
from tracker.ledger.read import find_sota
from tracker.ledger.transfer import copy_ledger, restore_ledger
from tracker.mirror.copy import sync_run
from tracker.mirror.targets.mlflow_heads import HEADS_TAG, MOST_HEADS, merge_heads
from tracker.submission.examine import check
from tracker.submission.submit import submit
from tracker.submission.witnesses import accept_heads, ask_witnesses, explain_way_on
from tracker.training.files import write_text
from tracker.workflows.doctor import examine_machine
from tracker.workspace.tracker_toml import Workspace, load_workspace

BETTER = "UPDATE scores SET value = 0.99 WHERE seq = 2"
DELETED = ("DELETE FROM scores WHERE submission = 1", "DELETE FROM submissions WHERE number = 1")
UNLINKED = "DELETE FROM chain WHERE seq IN (1, 2)"
TAIL = (
    "DELETE FROM scores WHERE seq = 4",
    "DELETE FROM submissions WHERE seq = 3",
    "DELETE FROM chain WHERE seq > 2",
)
INSERTED = (
    "UPDATE chain SET seq = 9 WHERE seq = 4",
    "UPDATE scores SET seq = 9 WHERE seq = 4",
    "INSERT INTO chain VALUES (5, 'note', 'x', 'x')",
    "INSERT INTO notes VALUES (5, 1, NULL, 'note', 'said long ago', 'eve',"
    " '2026-01-01T00:00:00.000000Z')",
)


@pytest.fixture(autouse=True)
def without_mlflow(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in NO_MLFLOW.items():
        monkeypatch.setenv(name, value)


def look(workspace: Workspace) -> str:
    """What a command does that reads the ledger."""
    with open_reader(workspace.ledger_url) as query:
        return observe(workspace, query)


def make_team(tmp_path: Path, ledger_url: str) -> tuple[Workspace, Workspace]:
    """Two workspaces on one ledger with two scored submissions: rows 1 to 4, each row seen by the
    second workspace."""
    owner = make_workspace(tmp_path / "owner", ledger_url=ledger_url)
    member = make_workspace(tmp_path / "member", ledger_url=owner.ledger_url)
    for letter, value in (("0", 0.5), ("1", 0.6)):
        add(owner, letter)
        assert look(member) == ""
        with open_ledger(owner) as ledger:
            ledger.append_missing(int(letter) + 1, {("public", "f1"): value})
        assert look(member) == ""
    return owner, member


@pytest.mark.parametrize(
    ("statements", "problem"),
    [
        ([BETTER], "row 2 (score of submission 1) is not what this workspace saw on 20"),
        ([*DELETED, UNLINKED], "row 1 (submission 2) is not what this workspace saw on 20"),
        (TAIL, "rows 3 to 4 are missing: this workspace saw them on 20"),
        (INSERTED, "row 4 (note of submission 1) is not what this workspace saw on 20"),
    ],
)
def test_a_ledger_with_valid_hashes_is_not_what_the_other_member_saw(
    tmp_path: Path, statements: list[str], problem: str
) -> None:
    owner, member = make_team(tmp_path, "")
    make_run(member, "0000011110")
    rewrite(owner.ledger_url, *statements)
    assert verify_ledger(owner.ledger_url).problem == ""
    assert look(member).startswith(problem)
    assert look(member).startswith(problem)  # it is not forgotten
    assert ask_witnesses(member).comparison.problem.startswith(problem)
    assert check(member, "exp1").refusal.startswith(f"the ledger was changed: {problem}")
    with pytest.raises(RefusedError, match="the ledger was changed: row") as refused:
        submit(member, "exp1", "a try")
    assert "--accept-heads" in refused.value.hint
    assert not list(member.submissions_dir.glob("*"))
    # a later row does not hide it
    add(owner, "a")
    assert "this workspace saw" in look(member)


def test_the_other_members_next_command_says_which_row_was_rewritten(
    ledger_url: str, tmp_path: Path
) -> None:
    owner, member = make_team(tmp_path, ledger_url)
    rewrite(owner.ledger_url, BETTER)
    shown = run_tracker("leaderboard", cwd=member.root, **NO_MLFLOW)
    message = "warning: the ledger was changed: row 2 (score of submission 1) is not what this"
    assert shown.stderr.startswith(message)
    assert "0.99" in shown.stdout
    found = run_tracker("ledger", "verify", "--json", cwd=member.root, ok=False, **NO_MLFLOW)
    assert found.returncode == 1
    assert "warning: the ledger was changed" not in found.stderr
    assert json.loads(found.stdout)["problem"].startswith("row 2 (score of submission 1)")
    # the owner has seen nothing: for this workspace the ledger is right
    assert run_tracker("ledger", "verify", cwd=owner.root, **NO_MLFLOW).returncode == 0


def test_the_owners_own_verify_finds_it_through_mlflow_and_through_the_kept_file(
    workspace: Workspace, mlflow_db: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("TRACKER_MLFLOW_URI")
    workspace = load_workspace(workspace.root)
    make_run(workspace, "0000011110")
    submit(workspace, "exp1", "the first")
    shutil.copy(mlflow_db, workspace.root / "mlflow.db")
    sync_run(workspace, "exp1")
    assert ask_witnesses(workspace).counts == {"workspace": 1, "files": 1, "mlflow": 1}
    rewrite(workspace.ledger_url, BETTER)
    (workspace.state_dir / HEADS_FILE).unlink()
    (kept,) = workspace.submissions_dir.glob("*.head")
    saw = "a row from 1 to 3 is not what {} saw on 20"
    problem = ask_witnesses(workspace).comparison.problem
    assert problem.startswith(saw.format(f"submissions/{kept.name}"))
    kept.unlink()
    sync_run(workspace, "exp1")  # adds the new head to the tag, and takes none away
    found = CliRunner().invoke(
        app, ["ledger", "verify"], env={"TRACKER_WORKSPACE": str(workspace.root)}
    )
    assert isinstance(found.exception, LedgerError)
    assert str(found.exception).startswith(saw.format("MLflow (run exp1)"))
    assert ask_witnesses(workspace).counts["mlflow"] == 2
    make_run(workspace, "0000011111")
    with pytest.raises(RefusedError, match=r"is not what MLflow \(run exp1\) saw"):
        submit(workspace, "exp2", "the second")
    # a run whose submission is gone keeps its tag
    tables = ("scores", "submissions", "chain")
    rewrite(workspace.ledger_url, *(f"DELETE FROM {table}" for table in tables))
    sync_run(workspace, "exp1")
    problem = ask_witnesses(workspace).comparison.problem
    assert problem.startswith("rows 1 to 3 are missing: MLflow (run exp1) saw them on 20")


def test_a_row_that_was_changed_under_its_old_hash_stops_submit_and_doctor(
    workspace: Workspace,
) -> None:
    make_run(workspace, "0000011110")
    submit(workspace, "exp1", "first")
    make_run(workspace, "0000011100")
    change(workspace.ledger_url, "UPDATE scores SET value = 0.99 WHERE metric = 'f1'")
    with pytest.raises(RefusedError, match=r"the ledger was changed: row \d+ .* was changed") as no:
        submit(workspace, "exp2", "second")
    assert check(workspace, "exp2").refusal == str(no.value)
    found = [one for one in examine_machine(workspace) if one.check == "ledger"]
    assert [one.state for one in found] == ["problem"]
    assert "was changed" in found[0].text


def test_check_and_submit_refuse_alike_without_a_guard(workspace: Workspace) -> None:
    make_run(workspace, "0000011110")
    with closing(sqlite3.connect(workspace.root / "ledger.db")) as connection:
        connection.execute("DROP TRIGGER notes_no_update")
    missing = "the ledger was changed: the guard notes_no_update is missing: rows can be changed"
    assert check(workspace, "exp1").refusal == missing
    done = run_tracker("submit", "--memo", "x", cwd=workspace.root, ok=False, **NO_MLFLOW)
    assert done.returncode == 3
    assert done.stderr.startswith(f"error: {missing}\n  try: its rows can be taken into a ledger")


def test_a_false_score_is_accepted_computed_anew_and_the_next_submission_sent(
    workspace: Workspace,
) -> None:
    make_run(workspace, "0000011110")
    make_run(workspace, "0000011100")
    submit(workspace, "exp1", "first")
    true = find_sota(workspace)
    for value, why in ((0.1, "found at midnight"), (0.2, "it was changed once more")):
        change(workspace.ledger_url, f"UPDATE scores SET value = {value} WHERE seq = 2")
        with pytest.raises(RefusedError, match="was changed after it was written") as refused:
            submit(workspace, "exp2", "second")
        assert "computes their scores anew" in refused.value.hint
        accept = ["ledger", "verify", "--accept-heads", why]
        said = run_tracker(*accept, cwd=workspace.root, **NO_MLFLOW).stdout
        assert "accepted as it is now: row 2 (score of submission 1) was changed" in said
        scored = "submission 1 was scored anew: public f1 1.0000"
        assert (scored in said) == (value == 0.1)  # the second time the right score is there
    found = find_sota(workspace)
    assert true is not None
    assert found is not None
    assert found.scores == true.scores
    shown = run_tracker("ledger", "verify", cwd=workspace.root, **NO_MLFLOW).stdout
    assert "but this was accepted here: row 2 (score of submission 1) was changed" in shown
    texts = [row["text"] for row in read_rows(workspace.ledger_url, "SELECT text FROM notes")]
    assert texts[0].endswith("was changed after it was written: found at midnight")
    submit(workspace, "exp2", "second")


def test_the_advice_names_the_newest_backup_that_is_whole(tmp_path: Path) -> None:
    owner, _ = make_team(tmp_path, "")
    backups = [owner.root / f"{name}.db" for name in ("noon", "evening", "false")]
    copy_ledger(owner.ledger_url, backups[0])
    add(owner, "a")
    copy_ledger(owner.ledger_url, backups[1])
    add(owner, "b")
    change(owner.ledger_url, "UPDATE scores SET value = 0.99 WHERE seq = 2")
    copy_ledger(owner.ledger_url, backups[2])
    assert explain_way_on(owner).startswith("evening.db has the right rows up to 5: move")
    for path in owner.root.glob("ledger.db*"):
        path.unlink()
    restore_ledger(backups[1], owner.ledger_url)
    assert explain_way_on(owner) == ""


def test_verify_says_that_the_head_that_was_given_is_there(workspace: Workspace) -> None:
    add(workspace, "0")
    head = read_head(workspace.ledger_url)
    add(workspace, "1")
    done = run_tracker("ledger", "verify", "--head", head, cwd=workspace.root, **NO_MLFLOW)
    assert f"it has the head {head}: no row up to it was changed or deleted" in done.stdout


def test_a_restored_backup_is_accepted_with_a_note_that_everybody_sees(tmp_path: Path) -> None:
    owner, member = make_team(tmp_path, "")
    make_run(member, "0000011110")
    copy_ledger(owner.ledger_url, tmp_path / "all.db")
    rewrite(owner.ledger_url, *TAIL)
    with pytest.raises(ConfigError, match="say why"):
        accept_heads(member, " ")
    gone = accept_heads(member, "the disk was lost").heads
    assert [head.seq for head in gone] == [3, 4]
    assert look(member) == ""
    (note,) = read_rows(owner.ledger_url, "SELECT text FROM notes")
    assert note["text"].endswith("the disk was lost")
    assert note["text"].startswith("accepted that rows 3 to 4 are missing")
    submit(member, "exp1", "after the restore")
    assert ask_witnesses(member).comparison.problem == ""
    with pytest.raises(LedgerError, match="nothing to accept"):
        accept_heads(member, "again")
    # what was not accepted still counts
    rewrite(owner.ledger_url, BETTER)
    assert look(member).startswith("row 2 (score of submission 1) is not what")


def test_a_ledger_that_was_moved_keeps_its_heads_and_another_one_has_none(
    ledger_url: str, tmp_path: Path
) -> None:
    owner, member = make_team(tmp_path, ledger_url)
    copy_ledger(owner.ledger_url, tmp_path / "copy.db")
    rewrite(f"sqlite:///{tmp_path / 'copy.db'}", BETTER)
    address = f"sqlite:///{tmp_path / 'moved.db'}"
    restore_ledger(tmp_path / "copy.db", address)
    config = member.root / "tracker.toml"
    write_text(config, config.read_text().replace(owner.ledger_url, address))
    moved = load_workspace(member.root)
    assert moved.ledger_url == address
    problem = ask_witnesses(moved).comparison.problem
    assert problem.startswith("row 2 (score of submission 1) is not what this workspace saw")
    for path in tmp_path.glob("moved.db*"):
        path.unlink()
    create_ledger(address)
    add(moved, "1", 0.7)
    assert ask_witnesses(moved).comparison.problem == ""
    assert look(moved) == ""


def test_a_new_ledger_in_the_place_of_another_is_no_secret(tmp_path: Path) -> None:
    owner, member = make_team(tmp_path, "")
    for path in owner.root.glob("ledger.db*"):
        path.unlink()
    create_ledger(owner.ledger_url)
    assert look(member).startswith("rows 1 to 4 are missing: this workspace saw them on 20")
    add(owner, "0", 0.5)
    assert "is not what this workspace saw" in look(member)


def test_the_file_of_heads_is_short_and_survives_damage(workspace: Workspace) -> None:
    add(workspace, "0")
    assert look(workspace) == look(workspace) == ""
    path = workspace.state_dir / HEADS_FILE
    assert path.read_text().count("\n") == 1
    path.write_text('not json\n[1]\n{"head": 3}\n' + path.read_text() + '{"ledger": "sqli')
    add(workspace, "1")
    assert look(workspace) == ""
    assert [head.seq for head in load_memory(workspace).heads] == [1, 2]
    note_head(workspace, load_memory(workspace).heads[0])  # another process was late
    assert [head.seq for head in load_memory(workspace).heads] == [1, 2]
    line = path.read_text().splitlines()[3]
    path.write_text((line + "\n") * MOST_LINES)
    assert look(workspace) == ""
    assert path.read_text().count("\n") < 0.7 * MOST_LINES
    assert [head.seq for head in load_memory(workspace).heads][-1] == 2


def test_a_workspace_that_cannot_be_written_still_reads(workspace: Workspace) -> None:
    add(workspace, "0")
    workspace.state_dir.mkdir(exist_ok=True)
    (workspace.state_dir / "heads.lock").mkdir()
    assert look(workspace) == ""
    assert not (workspace.state_dir / HEADS_FILE).exists()


def test_a_full_tag_keeps_its_first_and_its_newest_heads() -> None:
    tag = ""
    for number in range(MOST_HEADS + 5):
        tag = merge_heads(tag, f"{number}:x@t")
    heads = tag.split()
    assert merge_heads(tag, heads[-1].rpartition("@")[0]) == tag
    assert len(heads) == MOST_HEADS
    assert (heads[0].partition(":")[0], heads[-1].partition(":")[0]) == ("0", str(MOST_HEADS + 4))
    assert HEADS_TAG.startswith("tracker.")
