"""What a model learns of several labels, ordered classes and numbers, and how it answers."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn import metrics as sk
from torch.nn import functional

from tests.conftest import save_image
from tracker.training.config import (
    Config,
    DataConfig,
    EvalConfig,
    LossConfig,
    ModelConfig,
    TrainConfig,
)
from tracker.training.data.data import inspect_data, read_labeled
from tracker.training.errors import ConfigError, DataError
from tracker.training.formats.samples import LabelValues, Sample, Task, TaskMetric
from tracker.training.formats.table_rows import list_set
from tracker.training.input.loader import stack_labels
from tracker.training.model.losses import build_loss
from tracker.training.model.model import NumberHead, build_model, find_scale
from tracker.training.predict.decide import (
    Decision,
    choose_decision,
    decide,
    measure,
    plain_decision,
    render_rows,
    save_decision,
)
from tracker.training.predict.probabilities import (
    Predictions,
    load_probabilities,
    save_probabilities,
    select,
)
from tracker.training.scorers import Parameters
from tracker.training.tables import write_table
from tracker.training.targets import TARGETS, check_config, count_present, stack_values

WORDS = ("ant", "bee", "cat")
IMAGES = 60


def make_task(target: str, answer: str = "class", **keys: Any) -> Task:
    classes = () if target == "number" else WORDS
    return Task(
        classes=classes,
        id_column="id",
        label_column="label",
        answer_words=classes,
        target=target,
        answer=answer,
        **keys,
    )


def make_metric(name: str, kind: str, *, higher: bool = True, **parameters: Any) -> TaskMetric:
    return TaskMetric(
        name=name, kind=kind, higher_is_better=higher, parameters=Parameters(**parameters)
    )


def make_predictions(probabilities: Any, labels: Any = None, classes: Any = WORDS) -> Predictions:
    ids = tuple(f"i{number}" for number in range(len(probabilities)))
    table = np.asarray(probabilities, np.float32)
    return Predictions(ids, table, classes=tuple(classes), labels=labels)


def test_values_of_several_labels_and_of_a_number_are_columns() -> None:
    samples = [
        Sample("a", "a", 0, "a", values=(1.0, 0.0, 1.0)),
        Sample("b", "b", 1, "b", values=(0.0, 0.0, 0.0)),
    ]
    assert stack_values(samples, make_task("labels")).tolist() == [[1, 0, 1], [0, 0, 0]]
    assert stack_values(samples, make_task("class")).tolist() == [0, 1]
    numbers = [Sample("a", "a", 0, "a", values=(37.5,))]
    assert stack_values(numbers, make_task("number")).tolist() == [[37.5]]


@pytest.mark.parametrize("top", [1.0, 0.3], ids=["0 and 1", "shares"])
def test_held_values_are_the_dense_ones_to_the_bit(top: float) -> None:
    dense = [(top, 0.0, 1.0, 0.0), (0.0, 0.0, 0.0, 0.0), (0.0, 1.0, 0.0, 0.7 if top < 1 else 0.0)]
    samples = [Sample(str(n), "x", 0, "x", values=row) for n, row in enumerate(dense)]
    held = [s._replace(values=LabelValues.of_dense(s.values)) for s in samples]
    task = make_task("labels")
    assert [tuple(s.values) for s in held] == dense
    assert [list_set(s.values) for s in held] == [list_set(row) for row in dense]
    assert [s.values[0] for s in held] == [row[0] for row in dense]
    assert stack_values(held, task).tobytes() == stack_values(samples, task).tobytes()
    assert count_present(held).tobytes() == stack_values(samples, task).sum(0).tobytes()
    batch = stack_labels([s.values for s in held])
    assert (batch.dtype, batch.tolist()) == (torch.float32, torch.tensor(dense).tolist())


def test_an_image_of_thousands_of_classes_holds_only_its_own(tmp_path: Path) -> None:
    (tmp_path / "labels.csv").write_text("id,label\na,448 2429\nb,\n")
    task = replace(make_task("labels"), classes=tuple(map(str, range(3474))), answer_words=())
    config = DataConfig(format="csv", train_dir="", label_id="id", ending=".png")
    for name in "ab":
        (tmp_path / f"{name}.png").touch()
    samples = read_labeled(replace(config, train_dir=str(tmp_path)), task, root=tmp_path)
    values = [sample.values for sample in samples]
    assert values == [LabelValues(3474, (448, 2429)), LabelValues(3474, ())]


@pytest.mark.parametrize("names", [("a", "b", "a-b", "d", "e"), ("a", "a,b", "a-b", "b", "c")])
def test_the_data_fingerprint_is_that_of_the_sorted_lines_with_all_values(
    tmp_path: Path, names: tuple[str, ...]
) -> None:
    rows = [("1", "1", "0.25"), ("0", "0", "0"), ("0", "1", "1"), ("1", "0", "1"), ("1", "1", "1")]
    pairs = list(zip(names, rows, strict=True))
    write_table(tmp_path / "labels.csv", ("id", *WORDS), [(name, *row) for name, row in pairs])
    hashes = {}
    for name, _ in pairs:
        save_image(tmp_path / f"{name}.png", seed=len(hashes))
        hashes[name] = hashlib.sha256((tmp_path / f"{name}.png").read_bytes()).hexdigest()
    config = DataConfig(
        format="csv", split="by_image", train_dir=str(tmp_path), label_id="id", ending=".png"
    )
    report = inspect_data(
        replace(config, label_columns=WORDS, val_ratio=0.2), make_task("labels"), root=tmp_path
    )
    lines = sorted(f"train,{name},{' '.join(row)},{hashes[name]}" for name, row in pairs)
    assert report.data is not None, report.problems
    digest = hashlib.sha256("\n".join(lines).encode()).hexdigest()
    assert report.data.fingerprint == f"sha256:{digest}"


@pytest.mark.parametrize(
    ("target", "loss", "monitor", "words"),
    [
        ("labels", "cross_entropy", "val/loss", "loss.name: cross_entropy does not fit"),
        ("number", "bce", "val/loss", "loss.name: bce does not fit"),
        ("class", "mse", "val/f1", "loss.name: mse does not fit"),
        ("number", "mse", "val/f1", "train.monitor: val/f1 is not measured"),
        ("labels", "bce", "val/rmse", "train.monitor: val/rmse is not measured"),
    ],
)
def test_a_loss_or_monitor_of_another_target_is_refused(
    target: str, loss: str, monitor: str, words: str
) -> None:
    config = Config(loss=LossConfig(name=loss), train=TrainConfig(monitor=monitor))
    with pytest.raises(ConfigError, match=words):
        check_config(config, make_task(target))


@pytest.mark.parametrize("name", ["bce", "asymmetric", "focal"])
def test_a_loss_of_several_labels_falls_towards_the_labels(name: str) -> None:
    loss = build_loss(LossConfig(name=name), target="labels")
    truth = torch.tensor([[1.0, 0.0, 1.0], [0.0, 0.0, 0.0]])
    right, unsure = (truth * 8 - 4), torch.zeros(2, 3)
    assert 0 <= float(loss(right, truth)) < float(loss(unsure, truth)) < float(loss(-right, truth))
    # the mean of two equal batches is the loss of both
    twice = loss(torch.cat([unsure, unsure]), torch.cat([truth, truth]))
    torch.testing.assert_close(twice, loss(unsure, truth))


def test_balanced_bce_counts_a_rare_label_by_its_rarity() -> None:
    weights = torch.tensor([9.0, 1.0])
    loss = build_loss(LossConfig(name="bce"), target="labels", weights=weights)
    logits, truth = torch.tensor([[0.3, -0.2]]), torch.tensor([[1.0, 1.0]])
    each = -functional.logsigmoid(logits)[0]
    torch.testing.assert_close(loss(logits, truth), (9 * each[0] + each[1]) / 2)


def test_a_loss_of_numbers_does_not_depend_on_their_unit() -> None:
    for name in TARGETS["number"].losses:
        meters = build_loss(LossConfig(name=name), target="number", scale=2.0)
        centimeters = build_loss(LossConfig(name=name), target="number", scale=200.0)
        guess, truth = torch.tensor([[1.5], [7.0]]), torch.tensor([[3.0], [5.0]])
        torch.testing.assert_close(meters(guess, truth), centimeters(guess * 100, truth * 100))


def test_a_model_of_a_number_begins_in_its_range_and_keeps_the_unit_with_its_weights(
    tmp_path: Path,
) -> None:
    def build() -> Any:
        config = ModelConfig(name="test_resnet", pretrained=False)
        return build_model(
            config, num_classes=1, image_size=(32, 32), root=tmp_path, is_number=True
        ).eval()

    torch.manual_seed(0)
    model = build()
    assert isinstance(model, NumberHead)
    model.fit(np.array([[900.0], [1100.0]], np.float32))
    assert (float(model.mean), find_scale(model)) == (1000.0, 100.0)
    images = torch.rand(2, 3, 32, 32)
    assert model(images).shape == (2, 1)
    other = build()
    other.load_state_dict(model.state_dict())
    torch.testing.assert_close(other(images), model(images))


def test_views_of_several_labels_and_numbers_are_averaged_in_their_own_way() -> None:
    views = torch.tensor([[[2.0, -1.0]], [[0.0, 3.0]]])
    mean = views.sigmoid().mean(0)
    torch.testing.assert_close(TARGETS["labels"].average(views).sigmoid(), mean)
    torch.testing.assert_close(TARGETS["number"].average(views), views.mean(0))


def test_rows_say_what_the_competition_asks_for() -> None:
    scores = [[0.7, 0.2, 0.1], [0.1, 0.3, 0.6]]
    plain = Decision(rule="argmax")

    def rows(task: Task, decision: Decision = plain, table: Any = scores) -> list[list[str]]:
        return render_rows(make_predictions(table), task, decision)[1]

    assert rows(make_task("class")) == [["i0", "ant"], ["i1", "cat"]]
    assert rows(make_task("class", "ranked", top_k=2)) == [["i0", "ant bee"], ["i1", "cat bee"]]
    assert rows(make_task("class", "columns")) == [
        ["i0", "0.7", "0.2", "0.1"],
        ["i1", "0.1", "0.3", "0.6"],
    ]
    two = [[0.75, 0.25], [0.5, 0.5]]
    assert rows(make_task("binary", "probability"), table=two) == [["i0", "0.25"], ["i1", "0.5"]]
    above = Decision(rule="thresholds", values=(0.25, 0.25, 0.5))
    assert rows(make_task("labels", "labels"), above) == [["i0", "ant"], ["i1", "bee cat"]]
    none = Decision(rule="thresholds", values=(0.9, 0.9, 0.9))
    assert rows(make_task("labels", "labels"), none) == [["i0", ""], ["i1", ""]]
    assert rows(make_task("number", "number"), table=[[37.5], [2.0]]) == [
        ["i0", "37.5"],
        ["i1", "2.0"],
    ]
    columns, _ = render_rows(make_predictions(scores), make_task("class", "columns"), plain)
    assert columns == ("id", *WORDS)


def test_an_ordered_class_may_be_the_expected_one() -> None:
    task, table = make_task("ordered"), np.array([[0.45, 0.1, 0.45], [0.9, 0.1, 0.0]])
    assert decide(table, task, plain_decision(task, EvalConfig())).tolist() == [0, 0]
    expected = plain_decision(task, EvalConfig(decide="expected"))
    assert decide(table, task, expected).tolist() == [1, 0]


def test_tuned_cut_points_and_thresholds_are_at_least_as_good_and_say_that_they_flatter() -> None:
    rng = np.random.default_rng(3)
    config = EvalConfig(decide="tuned")
    # grades whose probabilities lean to the lower class: halfway is the wrong limit
    truth = rng.integers(0, 3, IMAGES)
    grades = np.clip(truth * 0.7 + rng.normal(0, 0.15, IMAGES), 0, 2)
    table = np.stack([np.clip(1 - abs(grades - k), 0, 1) for k in range(3)], axis=1)
    table /= table.sum(1, keepdims=True)
    kappa = make_metric("kappa_quadratic", "kappa", weights="quadratic")
    task = make_task("ordered", metrics=(kappa,))
    tuned = choose_decision(task, config, make_predictions(table, truth))
    assert tuned.rule == "cuts"
    plain = sk.cohen_kappa_score(truth, table.argmax(1), weights="quadratic")
    better = sk.cohen_kappa_score(truth, decide(table, task, tuned), weights="quadratic")
    assert better > plain
    assert "on these same images, which flatters it" in tuned.note
    # labels of which the model is never sure
    labels = (rng.random((IMAGES, 3)) < 0.3).astype(np.float32)
    sure = labels * 0.2 + rng.random((IMAGES, 3)) * 0.2
    task = make_task("labels", metrics=(make_metric("f1_micro", "f_beta", average="micro"),))
    tuned = choose_decision(task, config, make_predictions(sure, labels))
    assert tuned.rule == "thresholds"
    decided = decide(sure.astype(np.float32), task, tuned)
    assert sk.f1_score(labels, decided, average="micro") > 0.9
    # the same predictions, but nobody asked for tuning
    assert choose_decision(task, EvalConfig(), make_predictions(sure, labels)).note == ""


def test_a_decision_is_kept_with_the_run_where_it_is_not_the_plain_one(tmp_path: Path) -> None:
    save_decision(tmp_path, Decision(rule="cuts", values=(0.4, 1.5)))
    kept = json.loads((tmp_path / "decision.json").read_text())
    assert (kept["rule"], kept["values"]) == ("cuts", [0.4, 1.5])
    save_decision(tmp_path, Decision(rule="argmax"))
    assert not (tmp_path / "decision.json").exists()


@pytest.mark.filterwarnings("ignore:The y_prob values do not sum to one")  # float32
def test_validation_is_measured_by_the_metrics_of_the_competition() -> None:
    rng = np.random.default_rng(5)
    truth, table = rng.integers(0, 3, IMAGES), rng.dirichlet(np.ones(3), IMAGES)
    table = table.astype(np.float32)
    log_loss = make_metric("log_loss", "log_loss", higher=False)
    auc = make_metric("roc_auc", "roc_auc")
    task = make_task("class", metrics=(log_loss, auc))
    values = measure(make_predictions(table, truth), task)
    wide = table.astype(np.float64)
    assert values["val/log_loss"] == pytest.approx(sk.log_loss(truth, wide), abs=1e-12)
    expected = sk.roc_auc_score(np.eye(3)[truth], wide, average="macro")
    assert values["val/roc_auc"] == pytest.approx(expected, abs=1e-12)
    assert {"val/f1", "val/accuracy"} <= values.keys()
    # numbers
    numbers, guesses = rng.normal(5, 2, (IMAGES, 1)), rng.normal(5, 2, (IMAGES, 1))
    guesses = guesses.astype(np.float32)
    task = make_task("number", metrics=(make_metric("rmse", "rmse", higher=False),))
    values = measure(make_predictions(guesses, numbers, ()), task)
    expected = sk.root_mean_squared_error(numbers, guesses.astype(np.float64))
    assert values == {"val/rmse": pytest.approx(expected, abs=1e-12)}
    # one class alone has no ROC curve
    task = make_task("class", metrics=(auc,))
    assert np.isnan(measure(make_predictions(table, np.zeros(IMAGES, int)), task)["val/roc_auc"])


def test_the_usual_metrics_are_of_the_decision_as_well() -> None:
    truth, table = (
        np.array([0, 1, 1, 1]),
        np.array([[0.8, 0.2], [0.6, 0.4], [0.6, 0.4], [0.9, 0.1]]),
    )
    task = replace(make_task("binary"), classes=WORDS[:2], answer_words=WORDS[:2])
    validation = make_predictions(table, truth, WORDS[:2])
    decision = plain_decision(task, EvalConfig(threshold=0.3))
    assert measure(validation, task)["val/accuracy"] == 0.25
    assert measure(validation, task, decision)["val/accuracy"] == 0.75
    grades = make_predictions([[0.45, 0.1, 0.45], [0.9, 0.1, 0.0]], np.array([1, 0]))
    expected = plain_decision(make_task("ordered"), EvalConfig(decide="expected"))
    assert measure(grades, make_task("ordered"))["val/f1"] < 1
    assert measure(grades, make_task("ordered"), expected)["val/accuracy"] == 1


def test_labels_of_every_form_come_back_from_their_file(tmp_path: Path) -> None:
    table = np.random.default_rng(0).random((4, 3)).astype(np.float32)
    several = (table > 0.5).astype(np.float32)
    save_probabilities(tmp_path / "v.npz", make_predictions(table, several))
    loaded = load_probabilities(tmp_path / "v.npz")
    assert np.array_equal(loaded.labels, several)
    assert not loaded.has_classes
    save_probabilities(tmp_path / "n.npz", make_predictions(table[:, :1], table[:, 1:2], ()))
    assert np.array_equal(load_probabilities(tmp_path / "n.npz").labels, table[:, 1:2])
    one = replace(make_predictions(table), labels=np.arange(4) % 3)
    save_probabilities(tmp_path / "c.npz", one)
    assert load_probabilities(tmp_path / "c.npz").has_classes


def test_groups_of_images_are_kept_without_pickles_and_older_files_have_none(
    tmp_path: Path,
) -> None:
    table, path = np.random.default_rng(0).random((4, 3)).astype(np.float32), tmp_path / "v.npz"
    groups = ("p1", "p1", "p2", "환자 3")
    save_probabilities(path, replace(make_predictions(table), groups=groups, group_name="patient"))
    loaded = load_probabilities(path)
    assert (loaded.groups, loaded.group_name) == (groups, "patient")
    assert select(loaded, [3, 0]).groups == ("환자 3", "p1")
    save_probabilities(path, make_predictions(table))
    with np.load(path) as file:  # as files of earlier versions
        assert sorted(file.files) == ["classes", "ids", "probabilities"]
    assert (load_probabilities(path).groups, load_probabilities(path).group_name) == ((), "")
    ids = np.array(loaded.ids)
    np.savez(path, ids=ids, probabilities=table, groups=np.array(["p1", "p2"]))
    with pytest.raises(DataError, match="do not match"):
        load_probabilities(path)
    np.savez(path, ids=ids, probabilities=table, groups=np.array(groups, dtype=object))
    with pytest.raises(DataError, match="cannot read"):
        load_probabilities(path)
