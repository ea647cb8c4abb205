"""Each kind of answer, from the hands of a script to a scored row; and what is refused."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn import metrics as sk
from typer.testing import CliRunner

from tracker.commands.table import app
from tracker.core.errors import DuplicateError, RefusedError
from tracker.ledger.read import get_submission
from tracker.setup.init import init_workspace
from tracker.submission.examine import check
from tracker.submission.scores import reveal
from tracker.submission.submit import submit
from tracker.training.errors import ConfigError, DataError
from tracker.workflows.own_loop.begin import begin
from tracker.workspace.answer_kinds import find_answer_kind, normalize_number
from tracker.workspace.predictions import Answers, check_answers, load_answers
from tracker.workspace.tracker_toml import Competition, Workspace

IMAGES = 40
CLASSES = ("ant", "bee", "cat")
IDS = [f"{number:03}" for number in range(IMAGES)]  # ids with leading zeros stay texts
RNG = np.random.default_rng(0)
LABELS = np.arange(IMAGES) % 3
TRUTH_TABLE = np.column_stack([np.arange(IMAGES) % 2, np.arange(IMAGES) % 3 == 0, LABELS > 0])
SCORES = RNG.dirichlet(np.ones(3), IMAGES)
SECOND = RNG.random(IMAGES).round(6)
VALUES = RNG.normal(50, 20, IMAGES).round(3)
TRUE_VALUES = RNG.normal(50, 20, IMAGES).round(1)


def write_csv(path: Path, columns: Mapping[str, Any]) -> Path:
    pd.DataFrame({"id": IDS, **columns}).to_csv(path, index=False)
    return path


def make_contest(
    root: Path, solution: Mapping[str, Any], metrics: list[str], **competition: Any
) -> Workspace:
    root.mkdir(exist_ok=True)
    return init_workspace(
        root,
        data={},
        competition={"id_column": "id", "label_column": "label", **competition},
        metrics=metrics,
        leaderboard_options={"solution": write_csv(root / "solution.csv", solution)},
    )


def predict(workspace: Workspace, given: Any) -> str:
    with begin({"model": "mine"}, root=workspace.root, follow=False) as run:
        run.save_predictions(given)
    return run.name


def words(table: Any) -> list[str]:
    """Texts with the classes of each row."""
    return [" ".join(str(column) for column in np.flatnonzero(row)) for row in table]


RANKED = [" ".join(CLASSES[label] for label in np.argsort(-row)[:2]) for row in SCORES]
ONE_HOT = np.eye(3, dtype=int)[LABELS]
EVERY_KIND: dict[str, tuple[dict[str, Any], Any, Any, dict[str, float]]] = {
    # name: (competition, solution, predictions, {metric: scikit-learn's value})
    "class": (
        {"classes": CLASSES, "answers": "name"},
        {"label": [CLASSES[label] for label in LABELS]},
        {"label": [CLASSES[label] for label in SCORES.argmax(1)]},
        {
            "f1": sk.f1_score(LABELS, SCORES.argmax(1), average="macro"),
            "f1_weighted": sk.f1_score(LABELS, SCORES.argmax(1), average="weighted"),
            "f1_micro": sk.f1_score(LABELS, SCORES.argmax(1), average="micro"),
            "accuracy": sk.accuracy_score(LABELS, SCORES.argmax(1)),
            "balanced_accuracy": sk.balanced_accuracy_score(LABELS, SCORES.argmax(1)),
            "mcc": sk.matthews_corrcoef(LABELS, SCORES.argmax(1)),
        },
    ),
    "ordered": (
        {"classes": ("0", "1", "2"), "target": "ordered"},
        {"label": LABELS},
        {"label": SCORES.argmax(1)},
        {
            "kappa_quadratic": sk.cohen_kappa_score(LABELS, SCORES.argmax(1), weights="quadratic"),
            "kappa_linear": sk.cohen_kappa_score(LABELS, SCORES.argmax(1), weights="linear"),
            "mae": sk.mean_absolute_error(LABELS, SCORES.argmax(1)),
        },
    ),
    "probability": (
        {"classes": ("no", "yes"), "target": "binary", "answer": "probability"},
        {"label": TRUTH_TABLE[:, 0]},
        {"label": SECOND},
        {
            "roc_auc": sk.roc_auc_score(TRUTH_TABLE[:, 0], SECOND),
            "log_loss": sk.log_loss(TRUTH_TABLE[:, 0], SECOND),
            "average_precision": sk.average_precision_score(TRUTH_TABLE[:, 0], SECOND),
            "f1_binary": sk.f1_score(TRUTH_TABLE[:, 0], SECOND >= 0.5),
        },
    ),
    "columns of one class": (
        {"classes": CLASSES, "answer": "columns"},
        dict(zip(CLASSES, ONE_HOT.T, strict=True)),
        dict(zip(CLASSES, SCORES.T, strict=True)),
        {
            "log_loss": sk.log_loss(LABELS, SCORES),
            "roc_auc": sk.roc_auc_score(LABELS, SCORES, multi_class="ovr"),
            "accuracy": sk.accuracy_score(LABELS, SCORES.argmax(1)),
        },
    ),
    "columns of several labels": (
        {"classes": CLASSES, "target": "labels", "answer": "columns"},
        dict(zip(CLASSES, TRUTH_TABLE.T.astype(int), strict=True)),
        dict(zip(CLASSES, SCORES.T, strict=True)),
        {
            "roc_auc": np.mean(
                [sk.roc_auc_score(TRUTH_TABLE[:, k], SCORES[:, k]) for k in range(3)]
            ),
            "f1_micro": sk.f1_score(TRUTH_TABLE, SCORES >= 0.5, average="micro"),
        },
    ),
    "labels": (
        {"classes": ("0", "1", "2"), "target": "labels", "answer": "labels"},
        {"label": words(TRUTH_TABLE)},
        {"label": words(SCORES >= 0.4)},
        {
            "f1_micro": sk.f1_score(TRUTH_TABLE, SCORES >= 0.4, average="micro"),
            "f1_samples": sk.f1_score(
                TRUTH_TABLE, SCORES >= 0.4, average="samples", zero_division=0
            ),
        },
    ),
    "ranked": (
        {"classes": CLASSES, "answers": "name", "answer": "ranked", "top_k": 2},
        {"label": [CLASSES[label] for label in LABELS]},
        {"label": RANKED},
        {
            "map@2": np.mean(
                [
                    1 / (row.split().index(CLASSES[label]) + 1)
                    if CLASSES[label] in row.split()
                    else 0
                    for label, row in zip(LABELS, RANKED, strict=True)
                ]
            )
        },
    ),
    "number": (
        {"target": "number", "answer": "number"},
        {"label": TRUE_VALUES},
        {"label": VALUES},
        {
            "rmse": sk.root_mean_squared_error(TRUE_VALUES, VALUES),
            "mae": sk.mean_absolute_error(TRUE_VALUES, VALUES),
            "r2": sk.r2_score(TRUE_VALUES, VALUES),
        },
    ),
}


@pytest.mark.parametrize("name", EVERY_KIND)
def test_a_frame_of_each_kind_is_scored_as_scikit_learn_does_and_sent_once(
    tmp_path: Path, name: str
) -> None:
    competition, solution, given, expected = EVERY_KIND[name]
    workspace = make_contest(tmp_path / "ws", solution, list(expected), **competition)
    first = predict(workspace, pd.DataFrame({"id": IDS, **given}))
    number = submit(workspace, first, "a frame")[0].number
    scores = get_submission(workspace, number).scores
    for metric, value in expected.items():
        assert scores[f"public_{metric}"] == pytest.approx(value, abs=1e-12), metric
    # the same from a shuffled file with its columns in another order, with CRLF and a BOM
    frame = pd.DataFrame({**dict(reversed(list(given.items()))), "id": IDS}).iloc[::-1]
    text = "\ufeff" + frame.to_csv(index=False, lineterminator="\r\n")
    (tmp_path / "again.csv").write_bytes(text.encode())
    again = predict(workspace, tmp_path / "again.csv")
    with pytest.raises(DuplicateError):
        submit(workspace, again, "the same once more")


NUMBER_KINDS = [name for name in EVERY_KIND if name[:6] in ("probab", "column", "number")]


@pytest.mark.parametrize("name", NUMBER_KINDS)
def test_a_large_solution_and_large_predictions_score_as_small_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setattr("tracker.workspace.number_tables.LARGE_FILE", 1)
    competition, solution, given, expected = EVERY_KIND[name]
    workspace = make_contest(tmp_path / "ws", solution, list(expected), **competition)
    run = predict(workspace, pd.DataFrame({"id": IDS, **given}).iloc[::-1])
    row = submit(workspace, run, "a frame")[0]
    for metric, value in expected.items():
        assert row.scores[f"public_{metric}"] == pytest.approx(value, abs=1e-12), metric


def test_a_large_solution_with_usage_scores_its_parts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tracker.workspace.number_tables.LARGE_FILE", 1)
    competition, solution, given, _ = EVERY_KIND["number"]
    usage = {"Usage": ["Public"] * 30 + ["private"] * 10}
    workspace = make_contest(tmp_path / "ws", {**solution, **usage}, ["mae"], **competition)
    submit(workspace, predict(workspace, pd.DataFrame({"id": IDS, **given})), "m")
    scores = reveal(workspace)[0].scores
    distance = np.abs(TRUE_VALUES - VALUES)
    for part, rows in {"public": slice(30), "private": slice(30, 40), "overall": slice(40)}.items():
        assert scores[f"{part}_mae"] == pytest.approx(distance[rows].mean(), abs=1e-12), part


def test_a_solution_without_usage_is_public_as_a_whole_in_every_view(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    competition, solution, given, expected = EVERY_KIND["number"]
    workspace = make_contest(tmp_path / "ws", solution, ["mae"], **competition)
    submit(workspace, predict(workspace, pd.DataFrame({"id": IDS, **given})), "m")
    scores = reveal(workspace)[0].scores
    assert scores["public_mae"] == scores["overall_mae"] == pytest.approx(expected["mae"])
    assert "private_mae" not in scores
    monkeypatch.chdir(workspace.root)
    for command in ("leaderboard --wide", "leaderboard cv-lb", "audit", "report", "sota"):
        done = CliRunner().invoke(app, command.split())
        assert done.exit_code == 0, (command, done.output)


def test_the_file_has_the_columns_of_the_competition_in_their_order(tmp_path: Path) -> None:
    competition, solution, given, _ = EVERY_KIND["columns of one class"]
    workspace = make_contest(tmp_path / "ws", solution, ["log_loss"], **competition)
    frame = pd.DataFrame({"more": 1, **dict(reversed(list(given.items()))), "id": IDS})
    run = predict(workspace, frame)
    rows = list(csv.reader(io.StringIO((workspace.runs_dir / run / "predictions.csv").read_text())))
    assert rows[0] == ["id", *CLASSES]
    assert [row[0] for row in rows[1:]] == IDS
    written = np.array([row[1:] for row in rows[1:]], dtype=float)
    assert np.array_equal(written, SCORES)


def test_a_mapping_a_frame_with_an_index_and_a_csv_are_the_same_predictions(tmp_path: Path) -> None:
    competition, solution, given, _ = EVERY_KIND["columns of one class"]
    workspace = make_contest(tmp_path / "ws", solution, ["log_loss"], **competition)
    forms: list[Any] = [
        dict(zip(IDS, SCORES, strict=True)),
        {name: dict(zip(CLASSES, row, strict=True)) for name, row in zip(IDS, SCORES, strict=True)},
        pd.DataFrame(given, index=pd.Index(IDS, name="id")),
        write_csv(tmp_path / "p.csv", given),
    ]
    runs = [predict(workspace, form) for form in forms]
    assert len({check(workspace, run).fingerprint for run in runs}) == 1


NUMBERS = st.floats(allow_nan=False, allow_infinity=False)


@given(NUMBERS, st.sampled_from(["{!r}", "{:+}", " {:.17g} ", "{:.17e}", "{:.17E}"]))
def test_a_number_has_one_text_and_loses_no_bit(value: float, form: str) -> None:
    text = normalize_number(form.format(value))
    assert float(text) == value
    assert text == normalize_number(repr(value))
    assert text == normalize_number(text)


@pytest.mark.parametrize("text", ["", "nan", "inf", "1_0", "1,5", "0x10", "one", "\u0663", "1e999"])
def test_what_is_no_number_is_refused(text: str) -> None:
    competition = Competition(target="number", answer="number")
    answers = Answers(["a"], find_answer_kind(competition).read([[text]], competition))
    with pytest.raises(RefusedError, match="wrong: expected a number"):
        check_answers(answers, competition, ["a"])


WRONG: dict[str, tuple[dict[str, Any], list[str], str]] = {
    "above 1": ({"answer": "probability"}, ["1.5"], "from 0 to 1"),
    "no sum of 1": (
        {"answer": "columns", "classes": CLASSES, "sum_to_one": True},
        ["0.5", "0.4", "0.4"],
        "sum to 1.3, expected 1",
    ),
    "empty cell": ({"answer": "columns", "classes": CLASSES}, ["0.5", "", "0.4"], "a number in"),
    "foreign label": (
        {"answer": "labels", "classes": CLASSES, "answers": "name"},
        ["ant dog"],
        "unknown class dog",
    ),
    "too many": (
        {"answer": "ranked", "classes": CLASSES, "answers": "name", "top_k": 1},
        ["ant bee"],
        "at most 1",
    ),
    "none ranked": ({"answer": "ranked", "classes": CLASSES}, [""], "at least one"),
}


@pytest.mark.parametrize("name", WRONG)
def test_an_answer_that_the_judge_would_refuse_is_refused_with_its_id(name: str) -> None:
    keys, cells, reason = WRONG[name]
    competition = Competition(**keys)
    kind = find_answer_kind(competition)
    answers = Answers(["007"], kind.read([[cell] for cell in cells], competition))
    with pytest.raises(RefusedError, match=reason) as caught:
        check_answers(answers, competition, ["007"])
    assert "007=" in str(caught.value)
    assert caught.value.hint


IN_A_FILE = {
    # name: (competition, rows from line 2 on, message)
    "missing": ({"answer": "number"}, ["a,1"], "1 image (b) without a prediction"),
    "doubled": ({"answer": "number"}, ["a,1", "b,1", "a,2"], "1 id (a in lines 2 and 4) listed"),
    "unknown": ({"answer": "number"}, ["a,1", "b,1", "x,1"], "1 id (x in line 4) not in the"),
    "no number": ({"answer": "number"}, ["a,1", "b,-"], "(b='-' in line 3) wrong: expected a num"),
    "above 1": ({"answer": "probability"}, ["a,1", "b,1.5"], "(b='1.5' in line 3) wrong: expected"),
    "no sum": (
        {"answer": "columns", "answer_columns": ["ans", "no"], "sum_to_one": True},
        ["a,0.5,0.5", "b,0.5,0.4"],
        "(b='0.5 0.4' in line 3) wrong: its numbers sum to 0.9, expected 1",
    ),
    "no number in a column": (
        {"answer": "columns", "answer_columns": ["ans", "no"]},
        ["a,0.5,0.5", "b,0.5,"],
        "(b='0.5 ' in line 3) wrong: expected a number in each column, see no",
    ),
}


@pytest.mark.parametrize("name", IN_A_FILE)
def test_what_is_wrong_in_a_file_is_told_with_its_line(tmp_path: Path, name: str) -> None:
    keys, rows, message = IN_A_FILE[name]
    competition, path = Competition(**keys), tmp_path / "p.csv"
    path.write_text("\n".join(["ImageID,ans,no", *rows]))
    with pytest.raises(RefusedError) as caught:
        check_answers(load_answers(path, competition), competition, ["a", "b"])
    assert message in str(caught.value)


def test_an_image_may_have_no_label_where_several_are_asked_for() -> None:
    competition = Competition(answer="labels", classes=CLASSES, answers="name")
    kind = find_answer_kind(competition)
    check_answers(Answers(["a"], kind.read([[" "]], competition)), competition, ["a"])


def test_the_order_of_labels_does_not_matter_and_that_of_ranked_classes_does() -> None:
    def read(answer: str, text: str) -> str:
        competition = Competition(answer=answer, classes=CLASSES, answers="name")
        return find_answer_kind(competition).read([[text]], competition)[0]

    assert read("labels", "cat ant") == read("labels", " ant  cat ant") == "ant cat"
    assert read("ranked", "cat ant") != read("ranked", "ant cat")


def test_a_class_name_that_looks_like_a_number_is_not_rewritten() -> None:
    competition = Competition(classes=("007", "1e5", "3.0"), answers="name")
    kind = find_answer_kind(competition)
    read = kind.read([["007", "1e5", "3.0"]], competition)
    assert read == ["007", "1e5", "3.0"]


def test_numbers_in_nearly_the_same_order_or_nearly_equal_need_even_if_similar(
    tmp_path: Path,
) -> None:
    competition, solution, given, _ = EVERY_KIND["probability"]
    workspace = make_contest(tmp_path / "ws", solution, ["roc_auc"], **competition)
    submit(workspace, predict(workspace, pd.DataFrame({"id": IDS, **given})), "first")
    close = predict(workspace, dict(zip(IDS, SECOND * 0.99999, strict=True)))
    with pytest.raises(RefusedError, match=r"no number differs from submission 1 by more than"):
        submit(workspace, close, "rounded")
    squeezed = predict(workspace, dict(zip(IDS, SECOND / 2, strict=True)))
    with pytest.raises(RefusedError, match=r"the order of submission 1 \(Spearman 1\.00000") as e:
        submit(workspace, squeezed, "half")
    assert "--even-if-similar" in e.value.hint
    nearest = check(workspace, squeezed).nearest[0]
    assert nearest["rank_correlation"] == pytest.approx(1)
    assert nearest["greatest_difference"] == pytest.approx(SECOND.max() / 2)
    assert submit(workspace, squeezed, "half", even_if_similar=True)[0].number == 2
    other = predict(workspace, dict(zip(IDS, SECOND[::-1], strict=True)))
    assert submit(workspace, other, "reversed")[0].number == 3


def test_a_judges_own_function_scores_two_frames(tmp_path: Path) -> None:
    (tmp_path / "ws").mkdir()
    (tmp_path / "ws" / "judge.py").write_text(
        "def worst(truth, predictions):\n"
        "    assert list(truth.columns) == ['id', 'label']\n"
        "    assert truth['id'].tolist() == predictions['id'].tolist()\n"
        "    return (truth['label'] - predictions['label']).abs().max()\n"
    )
    competition, solution, given, _ = EVERY_KIND["number"]
    workspace = make_contest(tmp_path / "ws", solution, ["judge.py:worst:lower"], **competition)
    run = predict(workspace, pd.DataFrame({"id": IDS, **given}))
    row = submit(workspace, run, "m")[0]
    expected = np.abs(TRUE_VALUES - VALUES).max()
    assert get_submission(workspace, row.number).scores["public_worst"] == expected
    assert not workspace.competition.primary.higher_is_better


def test_a_judges_function_that_fails_or_is_missing_is_named(tmp_path: Path) -> None:
    competition, solution, given, _ = EVERY_KIND["number"]
    with pytest.raises(ConfigError, match=r"no such file: .*judge\.py"):
        make_contest(tmp_path / "ws", solution, ["judge.py:score"], **competition)
    assert not (tmp_path / "ws" / "tracker.toml").exists()
    (tmp_path / "ws" / "judge.py").write_text("def score(truth, predictions): return 1 / 0\n")
    workspace = make_contest(tmp_path / "ws", solution, ["judge.py:score"], **competition)
    run = predict(workspace, pd.DataFrame({"id": IDS, **given}))
    with pytest.raises(DataError, match=r"judge\.py:score failed: ZeroDivisionError"):
        submit(workspace, run, "m")
    assert check(workspace, run).duplicate is None


def test_a_metric_that_the_answers_cannot_give_is_refused_at_init(tmp_path: Path) -> None:
    competition, solution, *_ = EVERY_KIND["class"]
    with pytest.raises(ConfigError, match="log_loss needs probabilities or scores"):
        make_contest(tmp_path / "ws", solution, ["log_loss"], **competition)
    assert not (tmp_path / "ws" / "tracker.toml").exists()


def test_a_metric_that_is_not_defined_for_the_images_says_so(tmp_path: Path) -> None:
    competition, _, given, _ = EVERY_KIND["probability"]
    solution = {"label": np.ones(IMAGES, int)}
    workspace = make_contest(tmp_path / "ws", solution, ["roc_auc"], **competition)
    run = predict(workspace, pd.DataFrame({"id": IDS, **given}))
    with pytest.raises(DataError, match="roc_auc: not defined for these 40 images"):
        submit(workspace, run, "m")


def test_a_competition_of_texts_needs_neither_images_nor_classes(tmp_path: Path) -> None:
    solution = {"label": [["good", "bad"][number % 2] for number in range(IMAGES)]}
    workspace = make_contest(tmp_path / "ws", solution, ["accuracy", "f1_macro"])
    guesses = [["good", "bad", "bad"][number % 3] for number in range(IMAGES)]
    run = predict(workspace, dict(zip(IDS, guesses, strict=True)))
    row = get_submission(workspace, submit(workspace, run, "m")[0].number)
    expected = sk.accuracy_score(solution["label"], guesses)
    assert row.scores["public_accuracy"] == pytest.approx(expected, abs=1e-12)
    expected = sk.f1_score(solution["label"], guesses, average="macro")
    assert row.scores["public_f1_macro"] == pytest.approx(expected, abs=1e-12)
