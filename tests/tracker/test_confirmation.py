"""What cannot be taken back is asked first; a script, which cannot be asked, says --yes."""

from __future__ import annotations

import datetime as dt
import json
import os
import pty
import select
import sys
from contextlib import suppress
from pathlib import Path

import pytest

from tests.conftest import NO_MLFLOW, Done, run_in_terminal, run_tracker, tracker_command
from tests.support.workspaces import begin_run, make_run, make_workspace
from tracker.core.locks import FileLock
from tracker.ledger.read import list_submissions
from tracker.submission.submit import submit
from tracker.training.config import Config, config_to_dict
from tracker.workspace.tracker_toml import Workspace, load_workspace


@pytest.fixture
def limited(tmp_path: Path) -> Workspace:
    """A local leaderboard that takes two submissions in 24 hours; one was sent."""
    competition = {"daily_limit": 2, "quota_window": "rolling"}
    workspace = make_workspace(tmp_path / "ws", competition=competition)
    make_run(workspace, "0000000110")
    submit(workspace, "exp1", "a")
    make_run(workspace, "0000011110", note="a larger model")
    return workspace


def type_in(workspace: Workspace, text: str, *words: str) -> str:
    return run_in_terminal(*words, cwd=workspace.root, width=200, typed=text, **NO_MLFLOW)


def test_the_last_submission_is_asked_for_in_a_terminal(limited: Workspace) -> None:
    said = type_in(limited, "n\n", "submit", "--memo", "b")
    lasts = "it is the last one of these 24 hours; no run was named: submit exp2 (a larger model; "
    assert lasts in said
    assert "; memo: b)? [y/N]" in said
    said = type_in(limited, "n\n", "submit", "exp2", "--memo", "b")
    assert "it is the last one of these 24 hours: submit exp2 (a larger model)? [y/N]" in said
    assert "nothing was submitted" in said
    assert len(list_submissions(limited)) == 1
    refused = type_in(
        limited, "", "submit", "exp1", "--memo", "b"
    )  # a duplicate takes none: no question
    assert "the same predictions are submission 1 (exp1: a)" in refused
    assert "[y/N]" not in refused
    said = type_in(limited, "y\n", "submit", "--memo", "b")
    assert "exp2: new SOTA: public f1" in said
    assert "that was the last one" in said


def test_the_last_submission_of_a_script_needs_yes(limited: Workspace) -> None:
    for option in ((), ("--json",)):
        refused = run_in_pipe(limited, "submit", "--memo", "it's b", *option)
        assert refused.returncode == 2
        assert "nothing was submitted, it is the last one of these 24 hours" in refused.stderr
        command = "tracker submit exp2 --memo 'it'\"'\"'s b'"
        assert f"try: {' '.join([command, *option])} --yes" in refused.stderr
        assert refused.stdout == ""
    assert len(list_submissions(limited)) == 1
    lines = run_in_pipe(limited, "submit", "--memo", "b", "--yes").stdout.splitlines()
    assert lines[0].startswith("new SOTA: public f1")
    said = type_in(make_second(limited), "", "submit", "--memo", "c", "--yes")
    assert "equal to SOTA" in said
    assert "[y/N]" not in said


def test_latest_is_asked_for_while_another_run_is_trained(tmp_path: Path) -> None:
    workspace = make_workspace(tmp_path / "ws")
    make_run(workspace, "0000011110", note="a larger model", f1=0.75)
    other = begin_run(workspace, config=config_to_dict(Config()), note="", fingerprints={})
    said = type_in(workspace, "n\n", "submit", "--memo", "b")
    scores = "val f1 0.7500, val accuracy 0.7500"
    question = f"submit exp1 (a larger model; {scores}; memo: b)? [y/N]"
    assert f"no run was named while exp2 is running: {question}" in said
    assert "nothing was submitted" in said
    refused = run_in_pipe(workspace, "submit", "--memo", "b")
    assert refused.returncode == 2
    assert "nothing was submitted, no run was named while exp2 is running" in refused.stderr
    assert "try: tracker submit exp1 --memo b --yes" in refused.stderr
    assert list_submissions(workspace) == []
    said = type_in(workspace, "", "submit", "exp1", "--memo", "b")  # a named run is sent
    assert "[y/N]" not in said
    assert len(list_submissions(workspace)) == 1
    other.finish("interrupted")
    make_run(workspace, "0000111110")
    said = type_in(workspace, "n\n", "submit", "--memo", "c")  # nothing is trained
    assert "no run was named: submit exp3 (no note; val f1 0.5000, " in said
    assert run_in_pipe(workspace, "submit", "--memo", "c").returncode == 0
    assert len(list_submissions(workspace)) == 2


def test_latest_is_asked_for_between_two_entries_of_a_queue(limited: Workspace) -> None:
    lock = FileLock(limited.state_dir / "queues" / "night-0" / "lock")
    assert lock.acquire()
    said = type_in(limited, "n\n", "submit", "--memo", "b")
    lasts = "it is the last one of these 24 hours; no run was named while a queue is running"
    assert f"{lasts}: submit exp2 (a larger model; " in said
    assert said.count("[y/N]") == 1
    lock.release()
    assert "a queue is running" not in type_in(limited, "n\n", "submit", "--memo", "b")
    assert len(list_submissions(limited)) == 1


def run_in_pipe(workspace: Workspace, *words: str) -> Done:
    """A command as a script has it, without a terminal to ask on."""
    return run_tracker(*words, cwd=workspace.root, ok=False, **NO_MLFLOW)


def make_second(workspace: Workspace) -> Workspace:
    """One more submission is free, and one more run there to be sent."""
    text = (
        (workspace.root / "tracker.toml").read_text().replace("daily_limit = 2", "daily_limit = 3")
    )
    (workspace.root / "tracker.toml").write_text(text)
    make_run(workspace, "0000001110")
    return workspace


def test_reveal_asks_in_a_terminal_and_says_what_it_did(limited: Workspace) -> None:
    said = type_in(limited, "n\n", "leaderboard", "reveal")
    assert "open the private scores of submission 1? It cannot be undone [y/N]" in said
    assert "nothing was opened" in said
    assert not any(
        name.startswith("private_") for row in list_submissions(limited) for name in row.scores
    )
    for option in ((), ("--json",)):
        refused = run_in_pipe(limited, "leaderboard", "reveal", *option)
        assert (refused.returncode, refused.stdout) == (2, "")
        assert "nothing was opened: there is no terminal to ask on" in refused.stderr
        command = " ".join(["tracker leaderboard reveal", *option])
        assert f"try: {command} --yes" in refused.stderr
    assert not any(
        name.startswith("private_") for row in list_submissions(limited) for name in row.scores
    )
    lines = run_in_pipe(limited, "leaderboard", "reveal", "--yes").stdout.splitlines()
    assert lines[0] == "opened the private scores of submission 1; the ledger keeps them"
    again = type_in(limited, "", "leaderboard", "reveal")
    assert "every private score is open already" in again
    assert "[y/N]" not in again


def test_a_submission_after_the_reveal_says_why_it_has_no_private_score(limited: Workspace) -> None:
    before = run_tracker("leaderboard", cwd=limited.root).stdout
    run_tracker("leaderboard", "reveal", "--yes", cwd=limited.root, **NO_MLFLOW)
    said = run_tracker("submit", "--memo", "b", "--yes", cwd=limited.root, **NO_MLFLOW).stdout
    reason = "no private score of 2: submitted after the private scores were opened"
    assert reason in said
    assert reason in run_tracker("leaderboard", cwd=limited.root).stdout
    assert "no private score" not in before
    done = run_tracker("score", "1", "--private-f1", "0.5", cwd=limited.root, ok=False)
    assert "reveal" not in done.stderr


def test_a_local_leaderboard_is_never_said_to_take_typed_scores(tmp_path: Path) -> None:
    workspace = make_workspace(tmp_path / "ws")
    make_run(workspace, "0000011110")
    for words in (["sota"], ["select"], ["check", "sota"]):
        done = run_tracker(*words, cwd=workspace.root, ok=False)
        assert done.stderr.endswith('  try: tracker submit R --memo "what is new"\n')


def test_people_read_times_in_the_zone_of_the_competition_and_programs_utc(tmp_path: Path) -> None:
    said = run_tracker(
        "init", "ws", "--classes", "cat,dog", "--no-pretrained",
        "--time-zone", "Asia/Seoul", "--deadline", "2021-01-01T10:00", cwd=tmp_path,
    )  # fmt: skip
    assert said.stderr.startswith(
        "warning: the deadline 2021-01-01 10:00 (Asia/Seoul) has passed: every submission"
    )
    workspace = load_workspace(tmp_path / "ws")
    record = make_run(workspace)
    seoul = dt.datetime.fromisoformat(record.created_at) + dt.timedelta(hours=9)
    listed = run_tracker("runs", cwd=workspace.root).stdout
    assert "created (Asia/Seoul)" in listed
    assert f"{seoul:%Y-%m-%d %H:%M}" in listed
    assert f"{seoul:%Y-%m-%d %H:%M:%S}" in run_tracker("show", "exp1", cwd=workspace.root).stdout
    (row,) = json.loads(run_tracker("runs", "--json", cwd=workspace.root).stdout)
    assert row["created_at"] == record.created_at
    assert "time (Asia/Seoul)" in run_tracker("ledger", "history", cwd=workspace.root).stdout


CTRL_C, CTRL_D = "\x03", "\x04"


@pytest.mark.parametrize(
    ("key", "said_first"), [(CTRL_D, "no answer to the question"), (CTRL_C, "interrupted")]
)
def test_a_question_left_by_ctrl_c_or_ctrl_d_says_that_nothing_was_done_and_how_to_go_on(
    limited: Workspace, key: str, said_first: str
) -> None:
    """The exit code is 1 after Ctrl-D, and 130 after Ctrl-C as everywhere."""
    (limited.runs_dir / "exp1" / "last.pth").write_bytes(b"weights")
    ways = {
        ("submit", "--memo", "it's b"): (
            "nothing was submitted",
            "tracker submit exp2 --memo 'it'\"'\"'s b' --yes",
        ),
        ("leaderboard", "reveal"): ("nothing was opened", "tracker leaderboard reveal --yes"),
        ("clean",): ("nothing was freed", "tracker clean --yes"),
    }
    for words, (undone, go_on) in ways.items():
        code, said = answer(limited, key, *words)
        assert f"{said_first}, {undone}" in said
        assert go_on in said
        assert "Aborted" not in said
        assert code == (130 if key == CTRL_C else 1)
    assert len(list_submissions(limited)) == 1
    assert (limited.runs_dir / "exp1" / "last.pth").exists()


def answer(workspace: Workspace, key: str, *words: str) -> tuple[int, str]:
    """Exit code and output of a command that is answered with a key when it has asked."""
    pid, terminal = pty.fork()
    if pid == 0:
        os.chdir(workspace.root)
        os.environ.update({"TERM": "xterm", "COLUMNS": "200", **NO_MLFLOW})
        os.execv(sys.executable, tracker_command(*words))  # noqa: S606
    written = b""
    with suppress(OSError):  # the terminal has gone with its last process
        while True:
            if select.select([terminal], [], [], 1.0)[0]:
                written += os.read(terminal, 65536)
            elif (
                b"[y/N]: " in written
            ):  # again, for a key is lost that comes before it is waited for
                os.write(terminal, key.encode())
    os.close(terminal)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), written.decode().replace("\r\n", "\n")


def test_init_cuts_no_name_of_a_class(tmp_path: Path) -> None:
    names = [f"a long name of class {number} of the competition" for number in range(8)]
    said = run_tracker(
        "init", "ws", "--classes", ",".join(names), "--no-pretrained", cwd=tmp_path
    ).stdout
    assert f"8 classes ({', '.join(names[:6])}, 2 more)" in " ".join(said.split())
