"""From predictions to the ledger: what is refused, what is recorded, and what the local leaderboard
says."""

from __future__ import annotations

import contextlib
import datetime as dt
import json
import multiprocessing
import os
import re
import shlex
import signal
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from multiprocessing.synchronize import Barrier, Event
from pathlib import Path

import pytest
from sklearn.metrics import accuracy_score, f1_score
from typer.testing import CliRunner

import tracker
import tracker.submission.scores
from tests.conftest import NO_MLFLOW, save_image
from tests.support.workspaces import IMAGES, make_run, make_workspace
from tracker.commands.table import app
from tracker.comparison.diff import diff_runs
from tracker.comparison.submission_rows import submission_to_json
from tracker.core.errors import (
    DuplicateError,
    InterruptedByUserError,
    LedgerError,
    RefusedError,
    UnknownRunError,
)
from tracker.leaderboards import build_leaderboard
from tracker.ledger.append import Draft, Ledger, Receipt, open_ledger
from tracker.ledger.connection import read_rows
from tracker.ledger.read import find_sota, get_submission, list_runs_with_weights, list_submissions
from tracker.ledger.records import Submission
from tracker.ledger.resolve import resolve_run
from tracker.ledger.submission_table import import_table, read_submission_table
from tracker.run_folder.read import list_runs
from tracker.setup.init import fit_similar_share, init_workspace
from tracker.submission.examine import check, examine, load_candidate
from tracker.submission.notes import add_note
from tracker.submission.scores import parse_scores, reveal, score, score_missing
from tracker.submission.submit import submit, submit_examined, sync_all
from tracker.training.errors import ConfigError, DataError
from tracker.workflows.resolve import find_resumable
from tracker.workspace.member_file import Member, write_member
from tracker.workspace.tracker_toml import Competition, Metric, Workspace

TRUTH = "0000011111"  # image n is public when n is even


def count_rows(workspace: Workspace) -> int:
    return int(read_rows(workspace.ledger_url, "SELECT count(*) AS n FROM chain")[0]["n"])


def test_a_submission_keeps_what_was_sent_and_what_it_was_made_of(workspace: Workspace) -> None:
    make_run(workspace, "0000011110", config={"optim.lr": 0.5}, f1=0.61)
    row, quota = submit(workspace, "exp1", "  the first  ")
    assert (row.number, row.run, row.memo, row.sota, row.config_diff) == (
        1,
        "exp1",
        "the first",
        None,
        None,
    )
    assert (row.val_f1, row.val_accuracy, row.best_epoch) == (0.61, 0.61, 1)
    assert row.config["optim"]["lr"] == 0.5
    assert row.weights_fingerprint == "sha256:w"
    assert (quota.used, quota.left) == (1, None)
    assert row.file is not None
    sent = workspace.root / row.file
    assert sent.read_bytes() == (workspace.runs_dir / "exp1" / "predictions.csv").read_bytes()
    assert sent.parent == workspace.submissions_dir


def test_public_scores_equal_scikit_learn_and_private_ones_stay_sealed(
    workspace: Workspace,
) -> None:
    answers = "0100011010"
    make_run(workspace, answers)
    row, _ = submit(workspace, "exp1", "m")
    for split, places in (
        ("public", range(0, IMAGES, 2)),
        ("private", range(1, IMAGES, 2)),
        ("overall", range(10)),
    ):
        truth, guesses = [TRUTH[n] for n in places], [answers[n] for n in places]
        scores = get_submission(workspace, 1).scores
        if split == "private":
            assert not any(name.startswith(("private", "overall")) for name in scores)
            reveal(workspace)
            scores = get_submission(workspace, 1).scores
        assert scores[f"{split}_f1"] == pytest.approx(
            f1_score(truth, guesses, average="macro"), abs=1e-12
        )
        assert scores[f"{split}_accuracy"] == pytest.approx(
            accuracy_score(truth, guesses), abs=1e-12
        )
    shown = submission_to_json(row, workspace.competition, {}, sota=1, was=True)
    assert shown["private_f1"] is None


def test_revealing_twice_adds_nothing(workspace: Workspace) -> None:
    make_run(workspace, "0000011110")
    submit(workspace, "exp1", "m")
    reveal(workspace)
    before = count_rows(workspace)
    reveal(workspace)
    assert count_rows(workspace) == before


def test_equal_predictions_of_another_run_are_refused_and_leave_nothing(
    workspace: Workspace,
) -> None:
    make_run(workspace, "0000011110")
    make_run(workspace, "0000011110", config={"optim.lr": 0.5})
    submit(workspace, "exp1", "the first")
    before = count_rows(workspace), sorted(workspace.submissions_dir.iterdir())
    with pytest.raises(DuplicateError, match=r"submission 1 \(exp1: the first\)"):
        submit(workspace, "exp2", "surely new")
    assert (count_rows(workspace), sorted(workspace.submissions_dir.iterdir())) == before


def test_config_diff_against_sota_is_stored_with_the_row(workspace: Workspace) -> None:
    make_run(workspace, "0000111111", config={"optim.lr": 0.1})
    make_run(workspace, "0000011111", config={"optim.lr": 0.2, "train.seed": 7})
    submit(workspace, "exp1", "a")
    row, _ = submit(workspace, "exp2", "b")
    assert row.sota == 1
    assert row.config_diff == {"optim.lr": [0.1, 0.2], "train.seed": [42, 7]}
    best = find_sota(workspace)
    assert best is not None
    assert best.number == 2


@pytest.mark.parametrize("memo", ["", "   ", "\n\t"])
def test_a_submission_needs_a_memo(workspace: Workspace, memo: str) -> None:
    make_run(workspace, "0000011110")
    with pytest.raises(RefusedError, match="no memo"):
        submit(workspace, "exp1", memo)
    assert list_submissions(workspace) == []


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (
            "ImageID,ans\n" + "".join(f"i{n}.png,0\n" for n in range(9)),
            r"1 image \(i9.png\) without",
        ),
        (
            "ImageID,ans\n" + "".join(f"i{n}.png,0\n" for n in range(11)),
            r"1 id \(i10\.png in line 12\) not in the competition",
        ),
        (
            "ImageID,ans\n" + "".join(f"i{n}.png,0\n" for n in [*range(10), 3]),
            r"1 id \(i3\.png in lines 5 and 12\) listed twice",
        ),
        ("ImageID,ans\n" + "".join(f"i{n}.png,2\n" for n in range(10)), r"10 answers \(.* unknown"),
        ("ImageID,ans\n" + "".join(f"i{n}.png,\n" for n in range(10)), r"10 answers \(.* unknown"),
        ("ImageID,ans\n", "no rows"),
    ],
)
def test_a_table_that_cannot_be_scored_is_refused(
    workspace: Workspace, text: str, words: str
) -> None:
    make_run(workspace, "0000011110")
    (workspace.runs_dir / "exp1" / "predictions.csv").write_text(text)
    with pytest.raises(RefusedError, match=words):
        submit(workspace, "exp1", "m")
    assert count_rows(workspace) == 0
    assert not workspace.submissions_dir.exists()


def test_a_wrong_column_names_the_columns_of_the_file(workspace: Workspace) -> None:
    make_run(workspace, "0000011110")
    (workspace.runs_dir / "exp1" / "predictions.csv").write_text("id,label\ni0.png,0\n")
    with pytest.raises(DataError, match="has no column ImageID, ans") as caught:
        submit(workspace, "exp1", "m")
    assert caught.value.hint == "its columns: id, label"


def test_predictions_changed_after_the_run_are_refused(workspace: Workspace) -> None:
    make_run(workspace, "0000011110")
    path = workspace.runs_dir / "exp1" / "predictions.csv"
    path.write_text(path.read_text().replace("i0.png,0", "i0.png,1"))
    with pytest.raises(RefusedError, match="was changed after exp1"):
        submit(workspace, "exp1", "m")


@pytest.mark.parametrize("status", ["killed", "interrupted", "failed"])
def test_a_run_that_did_not_finish_has_nothing_to_submit(workspace: Workspace, status: str) -> None:
    make_run(workspace, status=status)
    with pytest.raises(RefusedError, match=rf"exp1 \({status}\) has no predictions") as caught:
        submit(workspace, "exp1", "m")
    assert caught.value.hint == "finish it: tracker run train --from exp1 --resume"


def test_a_loop_of_ones_own_without_predictions_is_told_how_to_hand_them_over(
    workspace: Workspace,
) -> None:
    for status in ("finished", "interrupted"):
        tracker.start_run({}, root=workspace.root, follow=False).finish(status)
    hints = []
    for name in ("exp1", "exp2"):
        with pytest.raises(RefusedError, match="has no predictions") as caught:
            submit(workspace, name, "m")
        hints.append(caught.value.hint)
    what = (
        "run.save_probabilities(ids, probabilities) or run.save_predictions(...) before the run"
        " ends"
    )
    assert hints == [
        f"train again, and in the script {what}",
        f'in its script, resume="exp2" and {what}',
    ]
    with pytest.raises(ConfigError, match="no killed, interrupted or failed run to resume"):
        find_resumable(workspace)  # `run train --resume` cannot go on with it


def test_an_image_with_two_right_answers_in_the_solution_is_told_and_not_chosen_from(
    workspace: Workspace,
) -> None:
    path = workspace.leaderboard_files[0]
    text = path.read_text()
    run = make_run(workspace, "0000011110").name
    path.write_text(text + "i3.png,1,Private\n")
    with pytest.raises(DataError) as caught:
        submit(workspace, run, "m")
    assert caught.value.problems == (f"{path}:12: i3.png was listed before as something else",)
    path.write_text(text + "i3.png,0,Private\n")  # the same again changes nothing
    assert submit(workspace, run, "m")[0].scores["public_f1"] == pytest.approx(1.0)


def test_an_imported_row_that_cannot_be_scored_does_not_keep_the_others_from_it(
    workspace: Workspace, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [f"i{number}.png,{number // 9 * 7}\n" for number in range(IMAGES)]
    (workspace.root / "unknown.csv").write_text("ImageID,ans\n" + "".join(rows))
    (workspace.root / "few.csv").write_text("ImageID,ans\n" + rows[0])
    path = workspace.root / "t.csv"
    path.write_text("memo,file\nm,unknown.csv\nm,few.csv\n")
    import_table(workspace, read_submission_table(path, workspace.competition))
    submit(workspace, make_run(workspace, "0000011110").name, "m")
    assert score_missing(workspace) == []
    told = capsys.readouterr().err
    assert "not scored: submission 1: 1 answer (i9.png='7'" in told
    assert "not scored: submission 2: the predictions have 1 ids" in told
    assert [bool(row.scores.get("private_f1")) for row in reveal(workspace)] == [False, False, True]


def test_a_wrong_solution_costs_no_number(workspace: Workspace) -> None:
    make_run(workspace, "0000011110")
    workspace.leaderboard_files[0].write_text("ImageID,ans,Usage\ni0.png,0,Public\n")
    with pytest.raises(RefusedError, match="the solution has 1"):
        submit(workspace, "exp1", "m")
    assert count_rows(workspace) == 0


def test_without_a_ledger_nothing_is_sent_or_kept(workspace: Workspace) -> None:
    make_run(workspace, "0000011110")
    (workspace.root / "ledger.db").unlink()
    with pytest.raises(LedgerError, match="no ledger at"):
        submit(workspace, "exp1", "m")
    assert not workspace.submissions_dir.exists()
    assert not (workspace.root / "ledger.db").exists()


def test_the_quota_is_spent_by_submissions_and_not_by_refusals(tmp_path: Path) -> None:
    workspace = make_workspace(tmp_path / "ws", competition={"daily_limit": 2})
    for answers in ("0000011110", "0000011100", "0000011000"):
        make_run(workspace, answers)
    assert submit(workspace, "exp1", "m")[1].left == 1
    with pytest.raises(DuplicateError):
        submit(workspace, "exp1", "m")
    assert submit(workspace, "exp2", "m")[1].left == 0
    with pytest.raises(RefusedError, match="all 2 submissions of today are spent") as caught:
        submit(workspace, "exp3", "m")
    assert "possible at 20" in str(caught.value)
    assert check(workspace, "exp3").refusal == str(caught.value)


def test_check_says_what_submit_would_and_writes_nothing(workspace: Workspace) -> None:
    make_run(workspace, "0000011110", config={"optim.lr": 0.1}, f1=0.5)
    make_run(workspace, "0000001111", config={"optim.lr": 0.2}, f1=0.7)
    submit(workspace, "exp1", "a")
    before = count_rows(workspace)
    report = check(workspace, "exp2")
    assert (report.refusal, report.duplicate, report.sota, report.images) == ("", None, 1, 10)
    assert report.config_diff == {"optim.lr": [0.1, 0.2]}
    assert report.validation["val_f1"] == [0.5, 0.7]
    assert report.changed_from_sota == {"dog -> cat": 1, "cat -> dog": 1}
    assert list(report.nearest) == [
        {"number": 1, "run": "exp1", "run_name": "exp1", "changed": 2, "equal_share": 0.8}
    ]
    again = check(workspace, "exp1")
    assert again.duplicate == 1
    assert "submission 1 (exp1: a)" in again.refusal
    assert count_rows(workspace) == before
    json.dumps(report.to_dict())


def test_scores_typed_by_a_person_count_and_a_correction_stays_beside_the_old(
    tmp_path: Path,
) -> None:
    workspace = make_workspace(tmp_path / "ws", solution=None)
    assert workspace.leaderboard == "manual"
    make_run(workspace, "0000011110")
    submit(workspace, "exp1", "m")
    assert find_sota(workspace) is None
    given = {"public": ["f1=0.7656", "accuracy=81.6508"], "private": []}
    score(workspace, 1, parse_scores(workspace.competition, given))
    score(workspace, 1, {("public", "f1"): 0.76})
    assert get_submission(workspace, 1).scores == {
        "public_f1": 0.76,
        "public_accuracy": pytest.approx(0.816508),
    }
    values = read_rows(
        workspace.ledger_url, "SELECT value FROM scores WHERE metric = 'f1' ORDER BY seq"
    )
    assert [row["value"] for row in values] == [0.7656, 0.76]


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"public": ["f1"]}, "expected metric=value"),
        ({"public": ["auc=0.5"]}, r"no metric 'auc'(.|\n)*known: f1, accuracy$"),
        ({"public": ["acc=0.5"]}, r"no metric 'acc'(.|\n)*known: f1, accuracy \(nearest: accuracy"),
        ({"public": ["f1=x"]}, "not a number"),
        ({"public": ["f1=1.5"]}, "expected 0 to 1"),
        ({"private": ["accuracy=181"]}, "expected 0 to 1, or a percentage"),
    ],
)
def test_a_wrong_score_is_refused(
    workspace: Workspace, given: dict[str, list[str]], words: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_scores(workspace.competition, given)
    assert re.search(words, f"{caught.value}\n{caught.value.hint}")


@pytest.mark.parametrize(
    ("typed", "hint"),
    [
        ("81.6", "if 81.6 is a percentage, write 0.816"),
        ("81.6%", "if 81.6% is a percentage, write 0.816"),
        ("181", ""),
        ("-3", ""),
    ],
)
def test_a_percentage_typed_for_a_share_is_told_from_other_wrong_scores(
    workspace: Workspace, typed: str, hint: str
) -> None:
    with pytest.raises(ConfigError) as error:
        parse_scores(workspace.competition, {"public": [f"f1={typed}"]})
    assert (error.value.hint or "") == hint


def test_scores_need_a_known_submission_and_at_least_one_value(workspace: Workspace) -> None:
    with pytest.raises(UnknownRunError, match="no submission 4"):
        score(workspace, 4, {("public", "f1"): 0.5})
    with pytest.raises(ConfigError, match="no score given"):
        score(workspace, 4, {})


def test_a_refused_submit_leaves_the_copy_of_the_accepted_one(workspace: Workspace) -> None:
    make_run(workspace, "0000011110")
    early = examine(workspace, "exp1")  # before the other was submitted
    row, _ = submit(workspace, "exp1", "the first")
    sent = workspace.root / str(row.file)
    content = sent.read_bytes()
    path = workspace.runs_dir / "exp1" / "predictions.csv"
    path.write_text(path.read_text().replace("i0.png,0", "i0.png,1"))
    with pytest.raises(DuplicateError):
        submit_examined(workspace, early, "at once")
    assert sent.read_bytes() == content


def submit_beside_an_interrupted_one(
    workspace: Workspace, copied: Barrier, dropped: Event, *, interrupted: bool
) -> None:
    """Submit, and wait after the copy for the other process, which Ctrl-C then ends first."""
    append = Ledger.append_submission

    def append_together(ledger: Ledger, draft: Draft, competition: Competition) -> Receipt:
        with contextlib.suppress(threading.BrokenBarrierError):
            copied.wait(0.5)  # too long where the other may not copy yet
        if interrupted:
            raise KeyboardInterrupt
        if not copied.broken:
            dropped.wait(20)
        return append(ledger, draft, competition)

    Ledger.append_submission = append_together  # type: ignore[method-assign]
    # a duplicate, where the other one was first
    with contextlib.suppress(KeyboardInterrupt, DuplicateError):
        submit(workspace, "exp1", "m")
    dropped.set()


def test_an_interrupted_submit_leaves_the_copy_that_another_is_about_to_name(
    workspace: Workspace,
) -> None:
    make_run(workspace, "0000011110")
    context = multiprocessing.get_context("fork")
    copied, dropped = context.Barrier(2), context.Event()
    both = [
        context.Process(
            target=submit_beside_an_interrupted_one,
            args=(workspace, copied, dropped),
            kwargs={"interrupted": interrupted},
        )
        for interrupted in (True, False)
    ]
    for process in both:
        process.start()
    for process in both:
        process.join(60)
        assert process.exitcode == 0
    (row,) = list_submissions(workspace)
    assert (workspace.root / str(row.file)).is_file()


def test_a_score_lost_to_a_crash_is_made_up_once(workspace: Workspace) -> None:
    make_run(workspace, "0000011110")
    submit(replace(workspace, leaderboard="manual"), "exp1", "as if cut off before its score")
    assert score_missing(workspace) == [1]
    assert "public_f1" in get_submission(workspace, 1).scores
    assert score_missing(workspace) == []


def do_at_once(
    action: Callable[[Workspace], object], workspace: Workspace, barrier: Barrier
) -> None:
    """Do it, but read the ledger together with the other processes."""
    name = "list_unscored" if action is score_missing else "list_submissions"
    read = getattr(tracker.submission.scores, name)

    def read_together(asked: Workspace) -> list[Submission]:
        found: list[Submission] = read(asked)
        with contextlib.suppress(threading.BrokenBarrierError):
            barrier.wait(20)
        return found

    setattr(tracker.submission.scores, name, read_together)
    action(workspace)


@pytest.mark.parametrize(("action", "rows"), [(reveal, 4 + 1), (score_missing, 2)])
def test_two_at_once_write_each_score_and_note_once(
    ledger_url: str, tmp_path: Path, action: Callable[[Workspace], object], rows: int
) -> None:
    workspace = make_workspace(tmp_path / "ws", ledger_url=ledger_url)
    make_run(workspace, "0000011110")
    submit(replace(workspace, leaderboard="manual"), "exp1", "no score yet")
    before = count_rows(workspace)
    context = multiprocessing.get_context("fork")
    barrier = context.Barrier(2)
    both = [context.Process(target=do_at_once, args=(action, workspace, barrier)) for _ in range(2)]
    for process in both:
        process.start()
    for process in both:
        process.join(60)
        assert process.exitcode == 0
    assert count_rows(workspace) - before == rows


def test_a_reveal_that_was_cut_off_after_its_scores_is_completed(workspace: Workspace) -> None:
    make_run(workspace, "0000011110")
    submit(workspace, "exp1", "m")
    hidden = build_leaderboard(workspace).score_private(load_candidate(workspace, "exp1").answers)
    with open_ledger(workspace) as ledger:
        ledger.append_missing(1, hidden)
    for _ in range(2):
        reveal(workspace)
        assert [
            row["kind"] for row in read_rows(workspace.ledger_url, "SELECT kind FROM notes")
        ] == ["revealed"]
    assert len(read_rows(workspace.ledger_url, "SELECT * FROM scores")) == 6


def test_a_corrected_private_score_is_kept_by_a_later_reveal(workspace: Workspace) -> None:
    make_run(workspace, "0000011110")
    submit(workspace, "exp1", "m")
    reveal(workspace)
    score(replace(workspace, leaderboard="manual"), 1, {("private", "f1"): 0.25})
    reveal(workspace)
    assert get_submission(workspace, 1).scores["private_f1"] == 0.25


def test_reveal_is_refused_where_nothing_is_sealed(tmp_path: Path) -> None:
    workspace = make_workspace(tmp_path / "ws", solution=None)
    with pytest.raises(ConfigError, match="no hidden scores"):
        reveal(workspace)


def test_the_local_leaderboard_refuses_a_metric_it_cannot_compute(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot compute coverage"):
        make_workspace(tmp_path / "ws", metrics=["f1", "coverage"])


def test_runs_are_named_by_number_submission_latest_and_sota(workspace: Workspace) -> None:
    for answers in ("0000011110", "0000011111", "1111100000"):
        make_run(workspace, answers)
    for run in ("exp2", "exp1"):
        submit(workspace, run, "m")
    assert resolve_run(workspace, "exp3") == "exp3"
    assert resolve_run(workspace, "latest") == "exp3"
    assert resolve_run(workspace, "s2") == "exp1"
    assert resolve_run(workspace, "sota") == "exp2"
    with pytest.raises(UnknownRunError, match="no submission 9"):
        resolve_run(workspace, "s9")
    with pytest.raises(UnknownRunError, match="no run exp9"):
        resolve_run(workspace, "exp9")


def test_lower_is_better_makes_the_smaller_score_sota(tmp_path: Path) -> None:
    workspace = make_workspace(tmp_path / "ws", solution=None, metrics=["rmse:lower"])
    assert workspace.competition.primary == Metric(name="rmse", kind="rmse", higher_is_better=False)
    for answers, value in (("0000011110", "3.5"), ("0000011111", "2.25")):
        make_run(workspace, answers)
        number = len(list_runs(workspace.runs_dir))
        submit(workspace, f"exp{number}", "m")
        score(workspace, number, parse_scores(workspace.competition, {"public": [f"rmse={value}"]}))
    best = find_sota(workspace)
    assert best is not None
    assert best.number == 2


def test_near_duplicates_need_a_word_and_exact_ones_are_never_accepted(tmp_path: Path) -> None:
    workspace = make_workspace(tmp_path / "ws", competition={"similar_share": 0.9})
    for answers in ("0000011110", "0000011111", "0000011110"):
        make_run(workspace, answers)
    submit(workspace, "exp1", "m")
    with pytest.raises(
        RefusedError, match=r"90\.0 % of the predictions are those of submission 1; 1 differs"
    ) as caught:
        submit(workspace, "exp2", "m")
    assert "--even-if-similar" in caught.value.hint
    assert "submission 1; 1 differs" in check(workspace, "exp2").refusal
    assert submit(workspace, "exp2", "m", even_if_similar=True)[0].number == 2
    with pytest.raises(DuplicateError):
        submit(workspace, "exp3", "m", even_if_similar=True)


@pytest.mark.parametrize(
    ("images", "differ"),
    [(0, 0), (10, 0), (99, 0), (100, 1), (299, 2), (320, 3), (999, 3), (3000, 3), (50_000, 50)],
)
def test_a_handful_of_changed_answers_is_nearly_the_same_however_many_images_there_are(
    images: int, differ: int
) -> None:
    share = fit_similar_share(images)
    asked = [count for count in range(1, images) if (images - count) / images >= share]
    assert len(asked) == differ


def test_init_fits_the_share_to_the_images_and_says_what_it_means(tmp_path: Path) -> None:
    (tmp_path / "eval" / "images").mkdir(parents=True)
    (tmp_path / "eval" / "info.csv").write_text(
        "ImageID,ans\n" + "".join(f"i{n}.png,0\n" for n in range(320))
    )
    data, classes = {"eval_dir": str(tmp_path / "eval")}, {"classes": ["cat", "dog"]}
    workspace = init_workspace(tmp_path / "ws", data=data, competition=classes)
    assert workspace.competition.similar_share == 0.9906
    text = (workspace.root / "tracker.toml").read_text().replace("\n# ", " ")
    assert "need --even-if-similar. Of 320 images, 3 may differ.\n" in text
    given = init_workspace(
        tmp_path / "given", data=data, competition={**classes, "similar_share": 0.999}
    )
    assert given.competition.similar_share == 0.999
    text = (given.root / "tracker.toml").read_text().replace("\n# ", " ")
    assert "with 320 images, no others than equal ones" in text
    (tmp_path / "eval" / "info.csv").write_text("other\n")
    unknown = init_workspace(tmp_path / "unknown", data=data, competition=classes)
    assert unknown.competition.similar_share == 0.999


def test_a_rejected_submission_does_not_count_in_the_quota(tmp_path: Path) -> None:
    workspace = make_workspace(tmp_path / "ws", competition={"daily_limit": 1}, solution=None)
    for answers in ("0000011110", "0000011100"):
        make_run(workspace, answers)
    submit(workspace, "exp1", "m")
    with pytest.raises(RefusedError, match="the one submission"):
        submit(workspace, "exp2", "m")
    add_note(workspace, "1", "the site was down", rejected=True)
    assert submit(workspace, "exp2", "m")[1].left == 0
    with pytest.raises(ConfigError, match="note is empty"):
        add_note(workspace, "1", "  ")
    score(workspace, 2, {("public", "f1"): 0.5})
    with pytest.raises(ConfigError, match="has scores"):
        add_note(workspace, "2", "after all", rejected=True)


def test_the_scores_that_the_local_leaderboard_computed_cannot_be_typed_over(
    workspace: Workspace,
) -> None:
    make_run(workspace, "0000011110")
    submit(workspace, "exp1", "m")
    before = get_submission(workspace, 1).scores
    with pytest.raises(ConfigError, match="already scored submission 1") as caught:
        score(workspace, 1, {("public", "f1"): 0.9})
    assert get_submission(workspace, 1).scores == before
    typed = 'to type scores in, set kind = "manual" in tracker.toml'
    opened = "the private ones with tracker leaderboard reveal"
    assert caught.value.hint == f"its scores come from solution.csv, {opened}; {typed}"
    # without private images, or without the file, nothing is said about them
    solution = workspace.root / "solution.csv"
    solution.write_text(solution.read_text().replace("Private", "Public"))
    for hint in (f"its scores come from solution.csv; {typed}", typed):
        with pytest.raises(ConfigError, match="already scored submission 1") as caught:
            score(workspace, 1, {("public", "f1"): 0.9})
        assert caught.value.hint == hint
        solution.unlink(missing_ok=True)


def test_runs_with_equal_weights_are_named_with_their_submissions(workspace: Workspace) -> None:
    for answers in ("0000011110", "0000011100"):
        record = make_run(workspace, answers)
        with open_ledger(workspace) as ledger:
            ledger.append_run(record, {}, "p")
    submit(workspace, "exp1", "m")
    assert list_runs_with_weights(workspace, "sha256:w", exclude=record.uid) == [
        f"exp1 of {record.author}, submission 1"
    ]
    assert list_runs_with_weights(workspace, "sha256:other", exclude="") == []


def test_a_teammates_submission_of_the_same_run_name_is_not_taken_for_ours(tmp_path: Path) -> None:
    ann = make_workspace(tmp_path / "ann")
    bob = make_workspace(tmp_path / "bob", ledger_url=ann.ledger_url)
    make_run(ann, "0000011110", config={"optim.lr": 0.1})
    make_run(bob, "0000011100", config={"optim.lr": 0.2})
    submit(ann, "exp1", "from ann")
    with pytest.raises(UnknownRunError, match="submission 1 was made by"):
        resolve_run(bob, "s1")
    found = diff_runs(bob, "s1", "exp1")
    assert (found.a, found.b, found.config) == ("s1", "exp1", {"optim.lr": [0.1, 0.2]})
    assert found.predictions == {"equal_share": 0.9, "changed": 1, "total": 10}


def test_a_refusal_of_similar_predictions_gives_the_command_to_type(tmp_path: Path) -> None:
    competition = {"similar_share": 0.8}
    workspace = make_workspace(tmp_path / "ws", solution=None, competition=competition)
    for answers in ("0000011110", "0000011100"):
        make_run(workspace, answers)
    submit(workspace, "exp1", "m")
    with pytest.raises(RefusedError, match=r"90\.0 % of the predictions") as caught:
        submit(workspace, "latest", "it's near")
    words = shlex.split(caught.value.hint)
    expected = ["tracker", "submit", "exp2", "--memo", "it's near", "--even-if-similar"]
    assert words == expected
    with pytest.raises(RefusedError, match="no memo") as caught:
        submit(workspace, "exp2", " ")
    assert caught.value.hint.startswith("tracker submit exp2 --memo ")


def test_init_quotes_the_folder_in_the_command_that_follows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("a", "b"):
        save_image(tmp_path / "photos" / name / "1.png", seed=0)
    monkeypatch.chdir(tmp_path)
    words = ["init", "우리 팀 대회 🎭", "--data", "photos", "--no-pretrained"]
    said = CliRunner().invoke(app, words, env=NO_MLFLOW)
    assert "next: cd '우리 팀 대회 🎭' && tracker run train" in said.output


@pytest.mark.parametrize(
    ("place", "board", "said"),
    [
        ("tracker.submission.submit._save_copy", "local", "interrupted: nothing was submitted"),
        (
            "tracker.ledger.append.Ledger.append_missing",
            "local",
            "interrupted, but submission 1 is recorded, not yet scored",
        ),
        (
            "tracker.commands.submissions._update_mlflow",
            "local",
            "interrupted, but submission 1 is recorded: public f1 1.0000",
        ),
        ("tracker.submission.submit._send", "manual", "submission 1 is recorded, file submissions"),
    ],
)
def test_a_submit_that_ctrl_c_ends_says_whether_it_is_recorded(
    place: str, board: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = {"solution": None} if board == "manual" else {}
    workspace = make_workspace(tmp_path / "ws", **keys)
    make_run(workspace, "0000011110")
    monkeypatch.chdir(workspace.root)
    with monkeypatch.context() as patch:
        patch.setattr(place, press_ctrl_c)
        stopped = CliRunner().invoke(app, ["submit", "exp1", "--memo", "m"], env=NO_MLFLOW)
    assert isinstance(stopped.exception, InterruptedByUserError)
    assert said in str(stopped.exception)
    recorded = "is recorded" in said
    assert len(list_submissions(workspace)) == recorded
    assert len(list(workspace.submissions_dir.glob("*.csv"))) == recorded
    step = "upload the file, then: tracker score 1" if board == "manual" else "tracker sync"
    assert stopped.exception.hint.startswith(step if recorded else "")
    assert score_missing(workspace) == ([1] if "not yet scored" in said else [])


def test_scores_a_reveal_and_a_remark_say_what_ctrl_c_left_in_the_ledger(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    workspace = make_workspace(tmp_path / "ws")
    make_run(workspace, "0000011110")
    submit(workspace, "exp1", "m")
    typed = make_workspace(tmp_path / "typed", solution=None)
    make_run(typed, "0000011110")
    submit(typed, "exp1", "m")
    copy, opening = "tracker.commands.submissions._copy_runs", "tracker.submission.scores.reveal"
    scored, noted = "tracker.submission.scores.score", "tracker.submission.notes.add_note"
    imported = "tracker.ledger.submission_table.import_table"
    table = tmp_path / "table.csv"
    table.write_text("number,memo\n2,by hand\n")
    for place, root, words, said in (
        (scored, typed, "score 1 --public-f1 0.5", ": no score was recorded"),
        (copy, typed, "score 1 --public-f1 0.5", ", but the scores of submission 1 are recorded"),
        (noted, typed, "note 1 later", ": nothing was noted"),
        (copy, typed, "note 1 later", ", but the remark on submission 1 is recorded"),
        (imported, typed, f"ledger import {table}", ": nothing was added"),
        (opening, workspace, "leaderboard reveal --yes", ": nothing was opened"),
        (
            copy,
            workspace,
            "leaderboard reveal --yes",
            ", but the private scores of 1 submission are open",
        ),
    ):
        monkeypatch.chdir(root.root)
        with monkeypatch.context() as patch:
            patch.setattr(place, press_ctrl_c)
            stopped = CliRunner().invoke(app, words.split(), env=NO_MLFLOW)
        assert isinstance(stopped.exception, InterruptedByUserError)
        assert str(stopped.exception) == f"interrupted{said}"
    done = CliRunner().invoke(app, ["leaderboard", "reveal", "--yes"], env=NO_MLFLOW)
    assert "nothing left to open: every private score is open already" in done.output
    monkeypatch.chdir(typed.root)
    with monkeypatch.context() as patch:
        patch.setattr(imported, lambda *given: press_ctrl_c(import_table(*given)))
        stopped = CliRunner().invoke(app, ["ledger", "import", str(table)], env=NO_MLFLOW)
    assert str(stopped.exception) == "interrupted, but 1 submission is added"


def test_the_last_one_before_the_deadline_is_called_that(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    deadline = dt.datetime.now(dt.UTC).replace(tzinfo=None) + dt.timedelta(hours=20)
    competition = {"daily_limit": 1, "quota_window": "rolling", "deadline": deadline}
    workspace = make_workspace(tmp_path / "ws", competition=competition)
    make_run(workspace, "0000011110")
    make_run(workspace, "0000011100")
    monkeypatch.chdir(workspace.root)
    words = ["submit", "exp1", "--memo", "m", "--yes"]
    sent = CliRunner().invoke(app, words, env=NO_MLFLOW, catch_exceptions=False)
    assert "that was the last one before the deadline\n" in sent.output
    refused = CliRunner().invoke(app, ["check", "exp2"], env=NO_MLFLOW)
    assert "none is left before the deadline at" in refused.output


def press_ctrl_c(*_: object, **__: object) -> None:
    raise KeyboardInterrupt


def test_sigterm_says_what_the_ledger_has_as_ctrl_c_does(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_run(workspace, "0000011110")
    monkeypatch.chdir(workspace.root)
    with monkeypatch.context() as patch:
        patch.setattr("tracker.commands.submissions._update_mlflow", end_by_sigterm)
        stopped = CliRunner().invoke(app, ["submit", "exp1", "--memo", "m"], env=NO_MLFLOW)
    assert isinstance(stopped.exception, InterruptedByUserError)
    assert str(stopped.exception).startswith("interrupted (SIGTERM), but submission 1 is recorded")
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


def end_by_sigterm(*_: object, **__: object) -> None:
    assert signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL, "it would end the tests"
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(1)


def test_a_score_that_a_teammate_recorded_is_not_overwritten_by_another_without_force(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    workspace = make_workspace(tmp_path / "ws", solution=None)
    make_run(workspace, "0000011110")
    submit(workspace, "exp1", "ours")
    monkeypatch.setenv("TRACKER_AUTHOR", "kim")
    assert score(workspace, 1, {("public", "f1"): 0.7}).scores["public_f1"] == 0.7
    assert score(workspace, 1, {("public", "f1"): 0.7382}).scores["public_f1"] == 0.7382  # her own
    monkeypatch.setenv("TRACKER_AUTHOR", "mina")
    assert score(workspace, 1, {("public", "f1"): 0.7382}).scores["public_f1"] == 0.7382
    with pytest.raises(RefusedError, match=r"kim has recorded public f1 0\.7382 for"):
        score(workspace, 1, {("public", "f1"): 0.75})
    assert get_submission(workspace, 1).scores["public_f1"] == 0.7382
    assert score(workspace, 1, {("public", "f1"): 0.75}, force=True).scores["public_f1"] == 0.75


def test_a_member_is_told_whose_machine_scores_and_the_owners_sync_says_what_it_scored(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    member = make_workspace(tmp_path / "ws", solution=None)
    make_run(member, "0000011110")
    submit(member, "exp1", "from the laptop")
    comp = member.competition
    assert build_leaderboard(member).next_step(1, comp).startswith("upload the file, then: ")
    write_member(member.root, Member("mina", 1))
    step = build_leaderboard(member).next_step(1, comp)
    assert step.startswith("where the owner's machine has the solution, tracker sync there scores")
    owner = make_workspace(tmp_path / "owner", ledger_url=member.ledger_url)
    capsys.readouterr()
    sync_all(owner, [])
    value = comp.primary.render(get_submission(owner, 1).scores["public_f1"])
    assert f"submission 1: public f1 {value}, computed here" in capsys.readouterr().err
    sync_all(owner, [])
    assert "computed here" not in capsys.readouterr().err
