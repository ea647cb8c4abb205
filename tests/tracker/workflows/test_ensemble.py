"""Ensembles are runs: measured, compared and submitted like any other."""

from __future__ import annotations

import csv
import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.conftest import run_tracker
from tests.support.workspaces import IMAGES, begin_run, make_run
from tracker.comparison.audit import audit
from tracker.comparison.compare import compare_runs
from tracker.comparison.diff import diff_runs
from tracker.core.config_diff import describe_ensemble, is_searched
from tracker.core.errors import AlreadyTrainedError, InterruptedByUserError
from tracker.images.explain import explain
from tracker.run_folder.read import find_latest, list_runs, load_config
from tracker.setup.init import init_workspace
from tracker.submission.submit import submit
from tracker.training.errors import ConfigError, DataError
from tracker.training.predict.probabilities import Predictions, save_probabilities
from tracker.workflows.ensemble import ensemble
from tracker.workflows.infer import infer
from tracker.workflows.reproduce import reproduce
from tracker.workflows.resolve import resolve_config
from tracker.workspace.tracker_toml import Workspace, find_workspace

IDS = np.array([f"i{number}.png" for number in range(IMAGES)])
CLASSES = np.array(["cat", "dog"])


def make_member(workspace: Workspace, answers: str, sure: float, f1: float = 0.5) -> str:
    """A run that gives its answers this probability, on the evaluation and on the validation
    images."""
    record = make_run(workspace, answers, f1=f1)
    chosen = np.array([int(letter) for letter in answers])
    probabilities = np.full((IMAGES, 2), 1 - sure, dtype=np.float32)
    probabilities[np.arange(IMAGES), chosen] = sure
    folder = workspace.runs_dir / record.name
    np.savez(folder / "probabilities.npz", ids=IDS, classes=CLASSES, probabilities=probabilities)
    labels = np.array([0] * 5 + [1] * 5, dtype=np.int64)
    np.savez(
        folder / "validation.npz",
        ids=IDS,
        classes=CLASSES,
        labels=labels,
        probabilities=probabilities,
    )
    return record.name


@pytest.fixture
def members(workspace: Workspace) -> Workspace:
    for answers, sure in (("0000011110", 0.6), ("0000011101", 0.6), ("1111111111", 0.95)):
        make_member(workspace, answers, sure)
    return workspace


def test_an_ensemble_is_a_run_with_members_validation_and_predictions(members: Workspace) -> None:
    record = ensemble(members, ["exp1", "exp2", "exp3"], method="hard", note="vote")
    assert (record.name, record.kind, record.status, record.parent) == (
        "exp4",
        "ensemble",
        "finished",
        "exp1",
    )
    assert (record.summary["val/f1"], record.summary["val/accuracy"]) == (1.0, 1.0)
    assert find_latest(members.runs_dir) == "exp4"
    submit(members, "exp3", "all dogs")
    row, _ = submit(members, "exp4", "hard vote")
    spent = audit(members)
    assert (spent.one_key, spent.ensembles) == ([], [{"number": 2, "sota": 1}])
    assert row.scores["public_f1"] == 1.0
    found = diff_runs(members, "exp1", "exp4")
    assert set(found.config) == {
        f"ensemble.{key}" for key in ("method", "members", "weights", "searched")
    }
    assert found.config["ensemble.members"] == [None, ["exp1", "exp2", "exp3"]]
    assert found.predictions == {"equal_share": 0.9, "changed": 1, "total": 10}


def test_the_parent_of_an_ensemble_is_a_member_that_is_part_of_it(members: Workspace) -> None:
    names = ["exp1", "exp2", "exp3"]
    assert ensemble(members, names, method="weighted", weights=(0.0, 1.0, 2.0)).parent == "exp2"


def test_an_ensemble_that_is_interrupted_says_what_is_left(
    members: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = [record.name for record in list_runs(members.runs_dir)]

    def stop(*_: object) -> None:
        raise KeyboardInterrupt("SIGTERM")

    monkeypatch.setattr("tracker.training.predict.decide.save_decision", stop)
    with pytest.raises(InterruptedByUserError, match=r"SIGTERM.*members are as they were") as error:
        ensemble(members, names, method="soft")
    assert error.value.hint == "the same command makes it anew"
    assert list_runs(members.runs_dir)[0].status == "interrupted"


def test_methods_lead_to_different_answers(members: Workspace) -> None:
    prints = {
        method: (
            ensemble(
                members, ["exp1", "exp2", "exp3"], method=method, weights=weights
            ).fingerprints["predictions"]
        )
        for method, weights in (("hard", ()), ("soft", ()), ("weighted", (20.0, 1.0, 1.0)))
    }
    assert len(set(prints.values())) == 3


def test_a_vote_says_how_many_images_were_tied_and_what_decided_them(
    members: Workspace, capfd: pytest.CaptureFixture[str]
) -> None:
    ensemble(members, ["exp1", "exp2", "exp3"], method="hard")
    ensemble(members, ["exp1", "exp3"], method="soft")
    assert "tied" not in capfd.readouterr().err
    ensemble(members, ["exp1", "exp3"], method="hard")
    told = capfd.readouterr().err
    assert "the vote is tied for 6 of 10 images, where the greatest sum of probabilities" in told
    # of two runs the mean would decide the same
    assert told.endswith("better add a third run, or --method weighted --weights 2,1\n")
    assert told.count("\n") == 1


def test_an_ensemble_is_shown_without_epochs(members: Workspace) -> None:
    record = ensemble(members, ["exp1", "exp2"], method="soft")
    shown = run_tracker("show", record.name, cwd=members.root).stdout
    assert "duration" in shown and "epoch" not in shown


def test_what_an_ensemble_has_no_key_for_is_no_column_of_a_comparison(members: Workspace) -> None:
    ensemble(members, ["exp1", "exp2", "exp3"], method="soft")
    found = compare_runs(members, [])
    assert set(found.keys) == {
        f"ensemble.{key}" for key in ("method", "members", "weights", "searched")
    }
    assert {tuple(row.runs) for row in found.rows} == {("exp4",), ("exp3", "exp2", "exp1")}


def test_weights_searched_on_validation_images_never_need_the_solution(members: Workspace) -> None:
    Path(members.leaderboard_options["solution"]).unlink()
    record = ensemble(members, ["exp1", "exp2", "exp3"], method="weighted")
    config = load_config(members.runs_dir, record.name)["ensemble"]
    assert config["searched"] is True
    assert sum(config["weights"]) >= 1
    assert record.summary["val/f1"] == 1.0
    outer = ensemble(members, ["exp1", record.name], method="soft")
    table = load_config(members.runs_dir, outer.name)["ensemble"]
    assert table["searched"] == "members"  # other workspaces know it from the ledger alone
    assert is_searched({"ensemble": table})
    assert "weights of a member searched on it" in describe_ensemble(table)


def test_one_member_or_the_same_twice_is_refused_before_a_run_exists(members: Workspace) -> None:
    for runs in (["exp1"], ["exp1", "exp1"]):
        with pytest.raises(ConfigError, match="two or more different"):
            ensemble(members, runs, method="soft")
    (members.runs_dir / "exp2" / "probabilities.npz").unlink()
    with pytest.raises(DataError, match="no such file"):
        ensemble(members, ["exp1", "exp2"], method="soft")
    assert len(list_runs(members.runs_dir)) == 3


def test_why_an_ensemble_has_no_validation_score_is_said(
    members: Workspace, capsys: pytest.CaptureFixture[str]
) -> None:
    ensemble(members, ["exp1", "exp2"], method="soft")
    assert "has no validation score" not in capsys.readouterr().err
    (members.runs_dir / "exp2" / "validation.npz").unlink()
    record = ensemble(members, ["exp1", "exp2"], method="soft", force=True)
    assert "val/f1" not in record.summary
    assert (
        "the ensemble has no validation score: no validation predictions in exp2"
        in capsys.readouterr().err
    )


def make_contest(root: Path, target: str, answer: str, metric: str, **more: Any) -> Workspace:
    return init_workspace(
        root,
        data={},
        competition={"target": target, "answer": answer, "id_column": "id", **more},
        metrics=[metric],
    )


def make_guesses(workspace: Workspace, table: Any, truth: Any, classes: tuple[str, ...]) -> str:
    """A run whose scores of the evaluation images are those of the validation images."""
    record = begin_run(workspace).finish("finished")
    folder = workspace.runs_dir / record.name
    ids = tuple(f"i{number}" for number in range(len(table)))
    scores = Predictions(ids, np.asarray(table, np.float32), classes=classes)
    save_probabilities(folder / "probabilities.npz", scores)
    save_probabilities(folder / "validation.npz", replace(scores, labels=truth))
    return record.name


def read_column(workspace: Workspace, name: str, column: str) -> list[str]:
    with (workspace.runs_dir / name / "predictions.csv").open() as file:
        return [row[column] for row in csv.DictReader(file)]


def test_an_ensemble_of_numbers_is_weighted_by_the_lower_error(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    workspace = make_contest(tmp_path, "number", "number", "rmse", label_column="age")
    truth = np.arange(1, 21, dtype=np.float32)[:, None]
    names = [make_guesses(workspace, truth + shift, truth, ()) for shift in (9, -1, 1)]
    record = ensemble(workspace, names, method="greedy")
    assert load_config(workspace.runs_dir, record.name)["ensemble"] == {
        "method": "weighted",
        "members": names,
        "weights": [0.0, 1.0, 1.0],
        "searched": True,
    }
    assert record.summary == {"val/rmse": 0.0}
    assert "weights found on the validation images for RMSE" in capsys.readouterr().err
    assert list(map(float, read_column(workspace, record.name, "age"))) == truth[:, 0].tolist()
    soft = ensemble(workspace, names, method="soft")
    assert soft.summary["val/rmse"] == pytest.approx(3.0)
    same = f"{soft.name} is the same ensemble, members in another order, with the same predictions"
    with pytest.raises(AlreadyTrainedError, match=same):
        ensemble(workspace, names[::-1], method="soft")
    for method in ("hard", "rank"):
        with pytest.raises(ConfigError, match=f"method {method}"):
            ensemble(workspace, names, method=method)
    assert len(list_runs(workspace.runs_dir)) == 5  # nothing was begun for them


def test_thresholds_of_an_ensemble_are_tuned_on_the_joined_predictions_and_kept(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ("ant", "bee", "cat")
    workspace = make_contest(
        tmp_path, "labels", "labels", "f1_micro", label_column="tags", classes=words, answers="name"
    )
    toml = tmp_path / "tracker.toml"
    toml.write_text(toml.read_text() + '\n[eval]\ndecide = "tuned"\n')
    workspace = find_workspace(tmp_path)
    truth = (np.random.default_rng(1).random((30, 3)) < 0.5).astype(np.float32)
    # no model is ever sure: at 0.5 no image has a label
    names = [make_guesses(workspace, truth * 0.2 + low, truth, words) for low in (0.1, 0.2)]
    record = ensemble(workspace, names, method="soft")
    kept = json.loads((workspace.runs_dir / record.name / "decision.json").read_text())
    assert kept["rule"] == "thresholds" and "f1_micro 0.0000 -> 1.0000" in kept["note"]
    assert kept["note"] in capsys.readouterr().err
    assert read_column(workspace, record.name, "tags") == [
        " ".join(word for word, has in zip(words, row, strict=True) if has) for row in truth
    ]
    assert load_config(workspace.runs_dir, record.name)["ensemble"]["decide"] == "tuned"
    # --set decides for one ensemble, and wins over tracker.toml
    given = ["eval.decide=plain", "eval.threshold=0.25"]
    other = ensemble(workspace, names, method="soft", assignments=given)
    assert load_config(workspace.runs_dir, other.name)["ensemble"]["threshold"] == 0.25
    kept = json.loads((workspace.runs_dir / other.name / "decision.json").read_text())
    assert (kept["rule"], kept["values"]) == ("thresholds", [0.25] * 3)
    assert read_column(workspace, other.name, "tags") == read_column(workspace, record.name, "tags")
    for wrong, text in (
        ("eval.tta=flip", "an ensemble takes eval.decide or eval.threshold"),
        ("eval.threshold=2", "threshold"),
        ("eval.decide", "expected section.key=value"),
    ):
        with pytest.raises(ConfigError, match=text):
            ensemble(workspace, names, method="soft", assignments=[wrong])
    # without validation predictions there is nothing to tune on
    for name in names:
        (workspace.runs_dir / name / "validation.npz").unlink()
    plain = ensemble(workspace, names, method="geometric")
    assert "eval.decide = tuned has no effect" in capsys.readouterr().err
    assert set(read_column(workspace, plain.name, "tags")) == {""}


def test_ranks_are_refused_where_rows_must_sum_to_one(tmp_path: Path) -> None:
    workspace = make_contest(
        tmp_path, "class", "columns", "log_loss", classes=("ant", "bee"), sum_to_one=True
    )
    names = [
        make_guesses(workspace, [[p, 1 - p], [1 - p, p]], np.array([0, 1]), ("ant", "bee"))
        for p in (0.6, 0.9)
    ]
    with pytest.raises(ConfigError, match="nothing to decide, an answer is 'columns'"):
        ensemble(workspace, names, method="soft", assignments=["eval.decide=tuned"])
    with pytest.raises(ConfigError, match="rank gives no probabilities"):
        ensemble(workspace, names, method="rank")
    record = ensemble(workspace, names, method="geometric")
    first = [read_column(workspace, record.name, word)[0] for word in ("ant", "bee")]
    assert sum(map(float, first)) == pytest.approx(1)


def test_what_needs_one_training_refuses_an_ensemble_and_names_its_best_member(
    members: Workspace,
) -> None:
    better = make_member(members, "0000011111", 0.6, f1=0.875)
    inner = ensemble(members, ["exp1", better], method="soft")
    outer = ensemble(members, ["exp2", inner.name], method="soft").name
    refusals = (
        (lambda: resolve_config(members, parent=outer), "--from"),
        (lambda: infer(members, outer), "--from"),
        (lambda: reproduce(members, outer), "tracker run reproduce"),
        (lambda: explain(members, outer), "tracker explain"),
    )
    for attempt, use in refusals:
        with pytest.raises(ConfigError) as refused:
            attempt()
        assert str(refused.value).startswith(f"{outer} is an ensemble of exp2, {inner.name}: ")
        assert refused.value.hint == f"{use} {better}, its best member (val f1 0.8750)"
    shutil.rmtree(members.runs_dir / "exp2")
    shutil.rmtree(members.runs_dir / inner.name)
    with pytest.raises(ConfigError) as refused:
        resolve_config(members, parent=outer)
    assert refused.value.hint.startswith("no member is in this workspace")
