"""The line that check, submit and score begin with: what it says, and that nothing stands before
it."""

from __future__ import annotations

import json
import re
import shutil
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import typer.testing

from tests.conftest import NO_MLFLOW
from tests.support.workspaces import IMAGES, begin_run, make_run, make_workspace
from tracker.commands.table import app
from tracker.comparison.diff import diff_runs
from tracker.comparison.leaderboard_noise import SampleSizes
from tracker.core.config_diff import describe_ensemble_step
from tracker.core.errors import TrackerError, UnknownRunError
from tracker.core.table import measure
from tracker.jobs.stop import resolve_running
from tracker.ledger.history import list_history
from tracker.submission.examine import check
from tracker.submission.headlines import _render_gap, render_score_headline
from tracker.submission.notes import add_note
from tracker.submission.scores import score
from tracker.submission.submit import submit
from tracker.training.errors import ConfigError
from tracker.training.predict.probabilities import Predictions, save_probabilities
from tracker.workflows.ensemble import ensemble
from tracker.workflows.own_loop.begin import begin
from tracker.workspace.tracker_toml import Metric, Workspace, load_workspace

NONE = "no SOTA yet: no submission has a public score"


@pytest.fixture
def manual(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    """Scores are typed in; commands are called in this process."""
    workspace = make_workspace(tmp_path / "ws", solution=None)
    monkeypatch.chdir(workspace.root)
    for name, value in NO_MLFLOW.items():
        monkeypatch.setenv(name, value)
    return load_workspace(workspace.root)


def say(*words: str, code: int = 0) -> list[str]:
    """The lines that a command writes to stdout."""
    done = typer.testing.CliRunner().invoke(app, list(words))
    assert done.exit_code == code or (code and done.exception), done.output
    return done.stdout.splitlines()


def test_check_submit_and_score_begin_with_the_answer(manual: Workspace) -> None:
    make_run(manual, "0000011110", config={"optim.lr": 0.1}, f1=0.8)
    assert say("check")[0] == NONE
    assert say("submit", "--memo", "a")[0] == "submitted as 1, no public score yet"
    assert (
        say("score", "1", "--private-f1", "0.9")[0]
        == "recorded for submission 1; it has no public f1 yet"
    )
    assert say("score", "1", "--public-f1", "0.8437")[0] == "first SOTA: public f1 0.8437"
    sent = r"already submitted as 1 on \d{4}-\d\d-\d\d \d\d:\d\d: "
    assert re.fullmatch(sent + r"public f1 0\.8437", say("check", code=1)[0])
    make_run(manual, "0000001111", config={"optim.lr": 0.2}, f1=0.9)
    better = (
        "0.1000 above SOTA by validation (f1 0.8000 -> 0.9000), unknown whether real; one change:"
        " optim.lr 0.1 -> 0.2"
    )
    assert say("check")[0] == better
    assert say("submit", "--memo", "b")[0] == f"submitted as 2, no public score yet; {better}"
    small = "new SOTA: public f1 0.8437 -> 0.8750"
    assert say("score", "2", "--public-f1", "0.875")[0] == small
    assert say("score", "2", "--public-f1", "0.876")[0] == "still SOTA: public f1 0.8750 -> 0.8760"
    changed = {
        "optim.lr": 0.3,
        "train.epochs": 3,
        "model.name": "resnet34",
        "optim.weight_decay": 0.3,
    }
    make_run(manual, "0000000111", config=changed, f1=0.8187)
    worse = (
        "0.0813 below SOTA by validation (f1 0.9000 -> 0.8187), unknown whether real; 4 keys"
        " changed at once"
    )
    assert say("check")[0] == worse
    assert say("submit", "--memo", "c")[0].endswith(worse)
    below = "0.0760 below SOTA, submission 2: public f1 0.8760 -> 0.8000"
    assert say("score", "3", "--public-f1", "0.8")[0] == below
    lost = "no longer SOTA, 0.0437 below SOTA, submission 1: public f1 0.8437 -> 0.8000"
    assert say("score", "2", "--public-f1", "0.8")[0] == lost
    assert (
        say("score", "3", "--public-f1", "0.8437")[0]
        == "equal to SOTA, submission 1: public f1 0.8437"
    )


def test_a_gap_is_never_written_in_powers_of_ten(manual: Workspace) -> None:
    make_run(manual, "0000011110", f1=0.88744)
    say("submit", "--memo", "a")
    say("score", "1", "--public-f1", "0.9")
    make_run(manual, "0000001111", f1=0.88740)
    assert say("check")[0].startswith(
        "less than 0.0001 below SOTA by validation (f1 0.8874 -> 0.8874)"
    )


def test_the_local_leaderboard_answers_submit_with_the_public_score(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(workspace.root)
    make_run(workspace, "0000000110")
    first = say("submit", "--memo", "a")[0]
    assert first.startswith("first SOTA: public f1 0.")
    make_run(workspace, "0000011110")
    assert say("submit", "--memo", "b")[0] == f"new SOTA: public f1 {first.split()[-1]} -> 1.0000"
    make_run(workspace, "0000001110")
    lines = say("submit", "--memo", "c")
    assert lines[0] == "equal to SOTA, submission 2: public f1 1.0000"
    assert not [line for line in lines if line.startswith("would be")]  # it is done


def test_the_head_of_the_ledger_stands_in_the_command_that_checks_it_where_all_is_asked_for(
    manual: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_run(manual, "0000011110")
    monkeypatch.setenv("COLUMNS", "80")
    lines = say("submit", "--memo", "a", "--full")
    make_run(manual, "0000011100")
    assert not any("--head" in line for line in say("submit", "--memo", "b"))
    (line,) = (line for line in lines if "tracker ledger verify --head " in line)
    head = line.split()[-1]
    assert line.endswith(f": tracker ledger verify --head {head}")
    assert all(measure(line) <= 80 for line in lines)
    assert say("ledger", "verify", "--head", head)[0].startswith("all 2 rows agree")


def test_a_refusal_is_the_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    workspace = make_workspace(tmp_path / "ws", competition={"daily_limit": 1})
    monkeypatch.chdir(workspace.root)
    make_run(workspace, "0000011110")
    say("submit", "--memo", "a", "--yes")
    refused = say("submit", "--memo", "again", "--full", code=3)[0]
    assert refused.startswith("already submitted as 1 on 2"), refused
    make_run(workspace, "0000000111")
    told = say("check", code=1)[0]
    assert told.startswith(
        "refused: the one submission of today is spent; the next one is possible at"
    )
    assert say("submit", "--memo", "b", "--full", code=3)[0] == told
    assert say("submit", "--memo", "b", code=3) == [], "the error is the answer"


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"data.val_ratio": 0.5}, "different split (ratio 0.2 against 0.5)"),
        ({"data.split": "by_profile"}, "different split (split stratified against by_profile)"),
        ({"data.split_seed": 9}, "different validation images (split seed 0 against 9)"),
        ({"data.folds": 5}, "different split (one split of 0.2 against 5 folds)"),
    ],
)
def test_scores_of_another_split_are_called_neither_below_nor_above(
    workspace: Workspace, changes: dict[str, object], reason: str
) -> None:
    base = {"data.split": "stratified", "data.val_ratio": 0.2, "data.split_seed": 0}
    make_run(workspace, "0000011110", config=base, f1=0.5)
    submit(workspace, "exp1", "a")
    make_run(workspace, "0000000111", config={**base, **changes}, f1=0.9)
    report = check(workspace, "exp2")
    assert report.answer.startswith(
        f"not comparable with SOTA by validation: {reason}; one change: "
    )
    assert not any(word in report.answer for word in ("below", "above", "equal"))
    assert report.to_dict()["not_comparable"]["val_f1"] == reason
    make_run(workspace, "0000000011", config=base, f1=0.9)
    assert check(workspace, "exp3").answer.startswith("0.4000 above SOTA by validation")


def test_another_fold_is_not_compared_and_unknown_splits_are_said(workspace: Workspace) -> None:
    make_run(workspace, "0000011110", config={"data.folds": 2}, f1=0.5)
    submit(workspace, "exp1", "a")
    make_run(workspace, "0000000111", config={"data.folds": 2, "data.fold": 1}, f1=0.9)
    assert (
        check(workspace, "exp2").not_comparable["val_f1"]
        == "different validation images (fold 0 against 1)"
    )
    record = make_run(workspace, "0000000011", f1=0.9)
    (workspace.runs_dir / record.name / "config.toml").write_text("[own]\nlr = 1.0\n")
    assert (
        check(workspace, "exp3")
        .not_comparable["val_f1"]
        .startswith("how exp3 validated is not known")
    )


def test_less_is_better_is_told_in_other_words(tmp_path: Path) -> None:
    workspace = make_workspace(
        tmp_path / "ws", solution=None, leaderboard="manual", metrics=["rmse:lower"]
    )
    rows = []
    for number, (answers, value) in enumerate((("0000011110", 0.5), ("0000000111", 0.75)), start=1):
        make_run(workspace, answers)
        submit(workspace, f"exp{number}", "m")
        rows.append(score(workspace, number, {("public", "rmse"): value}))
    sample = SampleSizes(public=160, private=160, source="solution")
    pair = (rows[0], rows[0])
    told = render_score_headline(workspace.competition, rows[1], *pair, lambda: sample)
    assert told == "0.2500 worse than SOTA, submission 1: public rmse 0.5000 -> 0.7500"


@pytest.mark.parametrize(
    ("metric", "sample", "new", "said"),
    [
        ("accuracy", (160, "solution"), 0.8934, " by less than one image of 160 public ones"),
        ("accuracy", (160, "half"), 0.8934, " by less than one image of about 160 public ones"),
        ("accuracy", (160, "solution"), 0.8994, ""),  # one image, rounded to four decimals
        ("accuracy", (None, ""), 0.8934, ""),
        ("f1", (160, "solution"), 0.8934, ""),  # an image changes macro F1 by more or by less
    ],
)
def test_a_new_sota_by_less_than_one_image_is_said_to_be_that_of_a_share_of_the_images(
    tmp_path: Path, metric: str, sample: tuple[int | None, str], new: float, said: str
) -> None:
    workspace = make_workspace(
        tmp_path / "ws", solution=None, leaderboard="manual", metrics=[metric]
    )
    rows = []
    for number, (answers, value) in enumerate(
        (("0000011110", 0.8932), ("0000000111", new)), start=1
    ):
        make_run(workspace, answers)
        submit(workspace, f"exp{number}", "m")
        rows.append(score(workspace, number, {("public", metric): value}))
    sizes = SampleSizes(public=sample[0], private=None, source=sample[1])
    told = render_score_headline(workspace.competition, rows[1], rows[0], rows[1], lambda: sizes)
    shown = workspace.competition.primary.render
    assert told == f"new SOTA{said}: public {metric} {shown(0.8932)} -> {shown(new)}"


# --- Ensembles ---


def make_members(workspace: Workspace) -> None:
    """Two runs with probabilities, and their weighted ensemble, exp3; the first was submitted."""
    ids, classes = (
        np.array([f"i{number}.png" for number in range(IMAGES)]),
        np.array(["cat", "dog"]),
    )
    for answers, f1 in (("0000011110", 0.8), ("0000001111", 0.7)):
        record = make_run(workspace, answers, f1=f1)
        probabilities = np.eye(2, dtype=np.float32)[[int(letter) for letter in answers]]
        np.savez(
            workspace.runs_dir / record.name / "probabilities.npz",
            ids=ids,
            classes=classes,
            probabilities=probabilities,
        )
    submit(workspace, "exp1", "the first")
    ensemble(workspace, ["exp1", "exp2"], method="weighted", weights=[2, 6])


MADE = "weighted ensemble of exp1, exp2 (2, 6)"


@pytest.mark.parametrize(
    "words", [("show", "exp3"), ("check", "exp3", "--json"), ("diff", "exp1", "exp3"), ("runs",)]
)
def test_an_ensemble_reads_the_same_everywhere(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...]
) -> None:
    from tracker.workspace.predictions import load_answers

    make_members(workspace)
    path = workspace.runs_dir / "exp3" / "predictions.csv"
    assert (
        load_answers(path, workspace.competition).by_id["i5.png"] == "0"
    )  # the second outvotes the first
    monkeypatch.chdir(workspace.root)
    text = "\n".join(say(*words))
    assert MADE in text
    assert "ensemble.members" not in text or "--json" in words
    if words[0] != "runs":
        assert "0.8" in text and "0.7" in text  # how the members scored


def test_a_ledgers_diff_names_the_ensemble_as_one_change(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tracker.report.data import build_report
    from tracker.report.page import render_page

    make_members(workspace)
    monkeypatch.chdir(workspace.root)
    report = check(workspace, "exp3")
    assert (report.ensemble, [member.value for member in report.members]) == (MADE, [0.8, 0.7])
    lines = say("submit", "exp3", "--memo", "mean of both", "--even-if-similar")
    assert any(MADE in line for line in lines)
    assert any(MADE in line for line in say("leaderboard"))
    assert MADE in render_page(build_report(workspace))


# --- show, logs, stop ---


def test_show_has_the_metrics_of_classes_with_full_only(manual: Workspace) -> None:
    record = make_run(manual)
    path = manual.runs_dir / record.name / "run.json"
    values = json.loads(path.read_text(encoding="utf-8"))
    values["summary"] |= {"val/f1/cat": 0.25, "train/images_per_s": 99.0}
    path.write_text(json.dumps(values), encoding="utf-8")
    for options, shown in (((), False), (("--full",), True)):
        lines = say("show", "exp1", *options)
        assert any("val/f1/cat" in line for line in lines) == shown
        assert ("2 more metrics are shown by --full" in lines) != shown
        assert not any(a == b == "" for a, b in pairwise(lines[:12]))


def test_show_has_metrics_before_the_config_and_of_that_only_what_differs(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(workspace.root)
    make_run(workspace, config={"optim.lr": 0.5})
    child = make_run(workspace, config={"optim.lr": 0.5, "train.epochs": 3})
    twin = make_run(workspace, config={"optim.lr": 0.5})
    text = "\n".join(say("show", "exp1"))
    assert text.index("val/f1") < text.index("optim.lr")
    assert "train.epochs" not in text and "sha256" not in text
    for record in (child, twin):
        path = workspace.runs_dir / record.name / "run.json"
        path.write_text(path.read_text().replace('"parent": null', '"parent": "exp1"'))
    lines = say("show", "exp2")
    assert [line.split() for line in lines if "train.epochs" in line] == [
        ["train.epochs", "10", "3"]
    ]
    assert not [line for line in lines if "optim.lr" in line]
    assert any(
        line.endswith("of all config keys are as in exp1, --full shows all") for line in lines
    )
    full = "\n".join(say("show", "exp2", "--full"))
    assert all(word in full for word in ("optim.lr", "data.workers", "sha256:d"))
    assert "config: no difference from exp1" in say("show", "exp3")
    shutil.rmtree(workspace.runs_dir / "exp1")
    assert any(
        "optim.lr" in line for line in say("show", "exp2")
    )  # the parent is gone: against the defaults


def test_show_begins_with_the_result_and_has_the_whole_note_at_any_width(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(workspace.root)
    note = " ".join(f"작은 모델 {number}" for number in range(30))
    table = {"method": "weighted", "members": [f"exp{n}" for n in range(5)], "weights": [1.0] * 5}
    recorder = begin_run(
        workspace, kind="ensemble", config={"ensemble": {**table, "searched": True}}, note=note
    )
    recorder.progress(epoch=0, best_epoch=None, summary={"val/f1": 0.75})
    recorder.finish("finished")
    monkeypatch.setenv("COLUMNS", "80")
    lines = say("show", "exp1")
    words = "flattered: weights were searched on these validation images"
    assert " ".join(" ".join(lines).split()).startswith(f"exp1 finished: val f1 0.7500 (~ {words})")
    start = next(place for place, line in enumerate(lines) if line.startswith("note"))
    end = next(place for place, line in enumerate(lines) if line.startswith("author"))
    assert note in " ".join(" ".join(lines[start:end]).split())
    assert all(measure(line) <= 80 for line in lines)
    listed = next(line for line in say("runs") if line.startswith("exp1"))
    assert "ensemble of 5: 작은" in listed
    assert "weighted ensemble of exp0, exp1" in " ".join(say("runs", "--wide"))


def test_show_of_a_loop_of_ones_own_shows_its_keys_alone(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(workspace.root)
    with begin({"optim": {"lr": 2e-5}, "epochs": 5}, root=workspace.root, follow=False):
        pass
    lines = [line.split() for line in say("show", "exp1")]
    assert ["optim.lr", "2e-05"] in lines and ["config.epochs", "5"] in lines
    assert not [line for line in lines if line[:1] == ["optim.weight_decay"]]


def test_latest_is_the_running_run_for_logs_and_stop(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(workspace.root)
    with pytest.raises(UnknownRunError, match="no run yet"):
        resolve_running(workspace, "latest", or_newest=True)
    make_run(workspace, "0000011110")
    running = begin_run(workspace, fingerprints={"config": "c"})
    make_run(workspace, "0000001111")
    for or_newest in (True, False):
        assert resolve_running(workspace, "latest", or_newest=or_newest) == "exp2"
    assert resolve_running(workspace, "exp1", or_newest=False) == "exp1"
    running.finish("failed", error="no")
    assert say("logs", "latest")[-1].startswith("exp3 finished: ")
    with pytest.raises(TrackerError, match="no run is running"):
        resolve_running(workspace, "latest", or_newest=False)


def save_guesses(workspace: Workspace, name: str, wrong: int, *, first: int = 0) -> None:
    """Validation predictions of 40 images, of which `wrong` are wrong from image `first` on."""
    truth = np.arange(40) % 2
    missed = (np.arange(40) >= first) & (np.arange(40) < first + wrong)
    certain = np.eye(2, dtype=np.float32)[np.where(missed, 1 - truth, truth)]
    ids = tuple(f"v{n}" for n in range(40))
    kept = Predictions(ids, certain, ("cat", "dog"), truth)
    save_probabilities(workspace.runs_dir / name / "validation.npz", kept)


def test_check_says_whether_the_gain_on_validation_is_real(manual: Workspace) -> None:
    first = make_run(manual, "0000011110", f1=0.5).name
    save_guesses(manual, first, 20)
    submit(manual, first, "a")
    score(manual, 1, {("public", "f1"): 0.8})
    better = make_run(manual, "0000001111", f1=0.975).name
    save_guesses(manual, better, 1)
    line = say("check")[0]
    p_value = diff_runs(manual, first, better).statistics.metrics["f1"].p  # type: ignore[union-attr]
    words = f"0.4750 above SOTA by validation (f1 0.5000 -> 0.9750), real (p = {p_value:.2g}); "
    assert line.startswith(words)
    close = make_run(manual, "0000111100", f1=0.55).name
    save_guesses(manual, close, 18, first=4)
    answer = diff_runs(manual, first, close).verdict[1].partition(":")[0]
    assert answer == "no difference that 40 samples can show"  # one pair has one answer
    assert re.search(rf"SOTA by validation \(.*\), {answer} \(p = [\d.]+\); ", say("check")[0])
    make_run(manual, "0011001100", f1=0.6)  # without validation predictions nothing is said
    assert "unknown whether real" in (line := say("check")[0]) and "no difference" not in line
    equal = make_run(manual, "0011001111", f1=0.51).name
    save_guesses(manual, equal, 20)
    assert (
        ", no difference at all (the predictions on the validation images are equal;"
        " other than logged: f1 0.5000 -> 0.5000); " in say("check")[0]
    )
    other = make_run(manual, "0101001111", f1=0.6).name
    save_guesses(manual, other, 40)
    line = say("check")[0]
    assert (
        "(f1 0.5000 -> 0.6000), but the saved predictions (other than logged: f1 0.5000 -> 0.0000)"
        " say the opposite (p = "
    ) in line
    late = make_run(manual, "0101011111", f1=0.9).name  # the last epoch's, not the best one's
    save_guesses(manual, late, 10)
    line = say("check")[0]
    assert (
        "(f1 0.5000 -> 0.9000), by the saved predictions (other than logged: f1 0.5000 -> 0.7500)"
    ) in line
    verdict = diff_runs(manual, first, late).verdict
    assert verdict[2].startswith("logged is another pair, macro F1 0.5000 -> 0.9000: ")
    assert not any("another pair" in text for text in diff_runs(manual, first, better).verdict)


def test_searched_weights_are_said_to_flatter_a_validation_score(manual: Workspace) -> None:
    from tracker.submission.headlines import render_check_headline

    make_run(manual, "0000011110")
    submit(manual, "exp1", "a")
    sota = score(manual, 1, {("public", "f1"): 0.8})
    known: dict[str, object] = {
        "duplicate": None,
        "sota": sota,
        "config_diff": {},
        "not_comparable": {},
    }
    told = render_check_headline(
        manual.competition, validation={"val_f1": [0.8, 0.9]}, searched=True, **known
    )  # type: ignore[arg-type]
    place = "0.1000 above SOTA by validation (f1 0.8000 -> 0.9000)"
    words = "flattered: weights were searched on these validation images"
    assert told == f"{place}, {words}; no config key changed"
    same = render_check_headline(
        manual.competition, validation={"val_f1": [0.9, 0.9 + 1e-8]}, searched=False, **known
    )  # type: ignore[arg-type]
    assert same.startswith("equal to SOTA by validation (f1 0.9000)")
    known |= {"sota_searched": True}
    below = render_check_headline(
        manual.competition, validation={"val_f1": [0.9, 0.8]}, searched=False, **known
    )  # type: ignore[arg-type]
    assert f"below SOTA by validation (f1 0.9000 -> 0.8000), but SOTA's score is {words}" in below


@pytest.mark.parametrize(
    ("percent", "old", "new", "text"),
    [
        (False, 0.89396, 0.88444, "0.0095 below"),
        (True, 0.89396, 0.88444, "0.0095 below"),
        (False, 0.88441, 0.88444, "less than 0.0001 above"),
        (False, 1234.4, 1236.4, "2.000 above"),
    ],
)
def test_a_gap_is_one_rounding_of_one_difference(
    percent: bool, old: float, new: float, text: str
) -> None:
    metric = Metric(name="f1", percent=percent, higher_is_better=True)
    assert _render_gap(metric, new, old) == text


def test_a_refusal_says_its_reason_once(
    manual: Workspace, capfd: pytest.CaptureFixture[str]
) -> None:
    make_run(manual, "0000011110")
    submit(manual, "exp1", "first")
    make_run(manual, "0000011110", config={"optim.lr": 0.5})
    lines = say("check", "exp2", code=1)
    assert (
        sum(
            "submission 1" in line for line in lines if "nearest" not in line and "SOTA" not in line
        )
        == 1
    )
    assert lines[-1] == "would be refused"


def test_check_names_the_way_round_a_refusal_and_still_compares_with_sota(
    manual: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    toml = manual.root / "tracker.toml"
    text = re.sub(r"(?m)^similar_share.*\n", "", toml.read_text())
    toml.write_text(text.replace("[competition]\n", "[competition]\nsimilar_share = 0.8\n"))
    monkeypatch.chdir(manual.root)
    make_run(manual, "0000011110", f1=0.7)
    submit(manual, "exp1", "first")
    score(manual, 1, {("public", "f1"): 0.8})
    make_run(manual, "0000011111", f1=0.8)
    lines = say("check", "exp2", code=1)
    assert lines[0].startswith("refused: 90.0 % of the predictions are those of submission 1")
    assert lines[1].startswith("0.1000 above SOTA by validation (f1 0.7000 -> 0.8000)")
    way = "tracker submit exp2 --memo 'what is new' --even-if-similar"
    assert lines[-2:] == [f"try: {way}", "would be refused"]
    sent = say("submit", "exp2", "--memo", "m", "--even-if-similar")
    assert "refused" not in "\n".join(sent)


@pytest.mark.parametrize("searched", [True, False])
def test_an_ensemble_against_a_single_model_is_one_plain_sentence(searched: bool) -> None:
    table = {"method": "weighted", "members": ["exp8", "exp9"], "weights": [9, 29]}
    diff = {f"ensemble.{key}": [None, value] for key, value in table.items()}
    diff["ensemble.searched"] = [None, searched]
    told = describe_ensemble_step(diff)
    made = "weighted ensemble of exp8, exp9 (9, 29)"
    assert told == f"{made} against a single model, so no single change can be named"


def test_a_score_that_is_typed_again_adds_no_row(manual: Workspace) -> None:
    make_run(manual, "0000011110")
    submit(manual, "exp1", "first")
    for value, rows in ((0.5, 1), (0.5, 1), (0.6, 2), (0.5, 3)):
        score(manual, 1, {("public", "f1"): value})
        assert sum(event.kind.startswith("score") for event in list_history(manual)) == rows


def test_an_ensemble_has_no_epochs_and_no_metric_at_a_best_epoch(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_members(workspace)
    path = workspace.runs_dir / "exp3" / "run.json"
    weights = {"weights": "sha256:w"}
    path.write_text(
        json.dumps(
            json.loads(path.read_text()) | {"summary": {"val/f1": 0.8}, "fingerprints": weights}
        )
    )
    monkeypatch.chdir(workspace.root)
    lines = say("show", "exp3")
    assert not any(line.startswith(("epochs", "metric at best epoch")) for line in lines)
    assert any(line.startswith("metric ") for line in lines)
    assert any(line.startswith("epochs") for line in say("show", "exp1"))


def test_check_and_submit_say_only_what_changes_the_decision(
    manual: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    make_run(manual, "0000011110", f1=0.8)
    submit(manual, "exp1", "first")
    score(manual, 1, {("public", "f1"): 0.8})
    changed = {"optim.lr": 0.3, "train.epochs": 3, "model.name": "resnet34", "train.seed": 5}
    make_run(manual, "0000001111", config={**changed, "optim.weight_decay": 0.3}, f1=0.9)
    make_run(manual, "0000011110", config={"optim.lr": 0.7})
    checked, whole = say("check", "exp2"), say("check", "exp2", "--full")
    assert len(checked) <= 10
    assert (checked[0], checked[-1]) == (whole[0], "would be accepted")
    assert [line for line in checked if "submission" in line and "left" not in line][:2] == [
        "change to SOTA (submission 1): model.name resnet18 -> resnet34, optim.lr 0.001",
        "nearest: submission 1 (exp1, SOTA), 2 differ, 80.0 % equal",
    ]
    assert any(line.startswith("answers moved from submission 1: ") for line in whole)
    assert not [line for line in [*checked, *whole] if "- -> -" in line]
    refused = say("check", "exp3", code=1)
    assert refused[:2] == ["duplicate of submission 1", "exp3: 10 predictions, those of exp1"]
    assert len(refused) <= 5
    sent = say("submit", "exp2", "--memo", "second")
    assert len(sent) <= 10
    assert len(set(sent)) == len(sent)
    assert [line for line in sent if line.startswith("submission 2: exp2, file ")]


def test_the_rank_says_by_which_score_and_a_note_names_its_own_submission(
    manual: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(manual.root)
    make_run(manual, "0000011110")
    say("submit", "exp1", "--memo", "first")
    say("score", "1", "--public-f1", "0.5", "--public-acc", "0.6")
    assert " rank " in "\n".join(say("leaderboard"))
    by_accuracy = say("leaderboard", "--sort", "public_accuracy", "--wide")
    assert "rank by public_accuracy" in "\n".join(by_accuracy)
    with pytest.raises(ConfigError) as refused:
        add_note(manual, "1", " ")
    assert 'tracker note 1 "' in refused.value.hint
    assert "1 submission, 1 with a public score" in say("leaderboard", "cv-lb")
