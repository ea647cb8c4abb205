"""tracker data suspects and explain on drawn faces; bench/suspects.py finds what is planted by a
real training."""

from __future__ import annotations

import csv
import io
import json
import re
import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure
from PIL import Image as Picture
from PIL import ImageEnhance

from tests.conftest import NO_MLFLOW, run_tracker, save_image
from tests.support.forks import Forks
from tests.support.workspaces import make_run
from tracker.core.errors import TrackerError
from tracker.images.explain import explain
from tracker.images.report_pictures import describe_model, print_explanation, print_suspects
from tracker.images.suspects import SuspectReport, _write_pairs, find_suspects
from tracker.setup.demo_faces import make_competition
from tracker.setup.init import init_workspace
from tracker.training.data.data import load_data
from tracker.training.errors import ConfigError, DataError
from tracker.training.inspect.duplicates import Image, Pair
from tracker.training.inspect.suspects import Agreement, Suspect
from tracker.training.pictures import sheets
from tracker.training.predict.probabilities import (
    Predictions,
    load_probabilities,
    save_probabilities,
)
from tracker.workflows.folds import train_folds
from tracker.workflows.resolve import resolve_config
from tracker.workspace.data import build_task, prepare_data
from tracker.workspace.tracker_toml import Workspace

# nobody waits for the mirrors: they look for MLflow a few times and end
pytestmark = pytest.mark.filterwarnings("ignore:subprocess .* is still running:ResourceWarning")

IMAGES, PLANTED = 80, 8
TINY = (
    *(
        "model.name=test_resnet",
        "data.image_size=[32,32]",
        "data.workers=0",
        "train.accelerator=cpu",
    ),
    *("train.batch_size=16", "train.epochs=1", "data.folds=2"),
)


def copy_as(source: Path, target: Path, *, resize: float = 1.0, brighten: float = 1.0) -> None:
    """A photograph saved once more, in another size or brightness."""
    with Picture.open(source) as image:
        size = (round(image.width * resize), round(image.height * resize))
        copy = ImageEnhance.Brightness(
            image.convert("RGB").resize(size, Picture.Resampling.BICUBIC)
        ).enhance(brighten)
        copy.save(target, quality=80)


@pytest.fixture(scope="module")
def judged(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """Faces with and without mask: exp1 and exp2 are folds that were trained for one epoch, exp3 is
    their ensemble."""
    root = tmp_path_factory.mktemp("judged")
    make_competition(root / "drawn", people=IMAGES // 2, eval_people=2, seed=11)
    for name, photo in {"bare": "normal", "mask": "mask1"}.items():
        (root / "data" / name).mkdir(parents=True)
        for path in sorted((root / "drawn" / "train").rglob(f"{photo}.*")):
            shutil.copy(path, root / "data" / name / f"{path.parent.name[:6]}_{path.name}")
    data = {"train_dir": str(root / "data"), "eval_dir": str(root / "drawn" / "eval")}
    workspace = init_workspace(root / "ws", data=data, competition={"classes": ["bare", "mask"]})
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TRACKER_MLFLOW_URI", NO_MLFLOW["TRACKER_MLFLOW_URI"])
        patch.setenv("TRACKER_MLFLOW_WAIT_S", "0")
        config = resolve_config(workspace, assignments=TINY)
        assert train_folds(workspace, config, quiet=True).name == "exp3"
    return workspace


@pytest.fixture(scope="module")
def planted(judged: Workspace) -> set[str]:
    """Ids of the images whose label is wrong, by the out-of-fold probabilities that exp3 is given
    here.

    What one epoch learned is different on every machine. These models are sure of most images,
    guess wrongly, but without being sure, of one image in ten, and give the planted ones' labels
    between 2 and 15 %.
    """
    path = judged.runs_dir / "exp3" / "validation.npz"
    kept = load_probabilities(path)
    assert kept.labels is not None
    rows = np.random.default_rng(0).permutation(len(kept.ids))
    wrong, unsure = rows[:PLANTED], rows[PLANTED : PLANTED + IMAGES // 10]
    given = np.linspace(0.7, 0.98, len(rows))[rows]
    given[wrong], given[unsure] = (
        np.linspace(0.02, 0.15, len(wrong)),
        np.linspace(0.32, 0.45, len(unsure)),
    )
    probabilities = np.where(
        np.arange(2) == kept.labels[:, None], given[:, None], 1 - given[:, None]
    )
    save_probabilities(path, replace(kept, probabilities=probabilities.astype(np.float32)))
    return {kept.ids[row] for row in wrong}


def read_rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def accept(path: Path, answers: Mapping[str, str]) -> None:
    """Write these answers, by id, into the column `accept` of a labels.csv."""
    rows = read_rows(path)
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]))
    writer.writeheader()
    writer.writerows({**row, "accept": answers.get(row["id"], row["accept"])} for row in rows)
    path.write_text(text.getvalue())


# --- Labels ---


def test_planted_errors_are_among_the_first_tenth_and_before_what_is_only_hard(
    judged: Workspace, planted: set[str]
) -> None:
    found = find_suspects(judged, "exp3", out="first", threshold=0, count=5)
    assert found.covered == found.images == IMAGES
    suspects = [suspect.id for suspect in found.suspects]
    assert len(suspects) == 2 * PLANTED
    assert len(planted) == PLANTED == found.images // 10
    assert planted == set(suspects[:PLANTED])
    assert {"first/labels.csv", "first/labels-1.png"} <= set(found.files)
    with Picture.open(judged.root / "first" / "labels-1.png") as sheet:
        assert sheet.width > 500


def test_the_pages_say_what_their_frames_and_numbers_mean(
    judged: Workspace, planted: set[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    drawn: list[Figure] = []
    monkeypatch.setattr(sheets, "save_figure", lambda figure, path: drawn.append(figure) or path)
    path = save_image(tmp_path / "a.png", seed=1)
    a, b = (Image(f"{label}{'_long_name' * 9}.png", path, "train", label) for label in "ab")
    _write_pairs(judged.root, [Pair(a, b, 3), Pair(a, replace(b, label="a"), 5)], 2)
    find_suspects(judged, "exp3", out="legend", threshold=0, count=5)
    pairs, labels = drawn
    for figure, frames in (
        (
            pairs,
            {
                "the labels of the pair differ": "tab:red",
                "the labels are equal, or one is unknown": "0.7",
            },
        ),
        (labels, {"suspects of odd number": "tab:blue", "suspects of even number": "tab:orange"}),
    ):
        (legend,) = figure.legends
        words = [text.get_text().partition(":")[0] for text in legend.get_texts()]
        colours = [handle.get_color() for handle in legend.get_lines()]
        assert dict(zip(words, colours, strict=True)) == frames
        used = {axes.spines["left"].get_edgecolor() for axes in figure.axes}
        assert used == {
            to_rgba(colour) for colour in frames.values()
        }  # each frame of the page is explained
    assert "p(given)" in labels.legends[0].get_title().get_text()
    assert pairs.axes[0].get_xlabel().replace("\n", "") == a.id  # not cut


@pytest.mark.usefixtures("planted")
def test_a_weak_models_doubts_are_called_so_and_are_not_confident(judged: Workspace) -> None:
    found = find_suspects(judged, "exp3", out="weak", threshold=0, count=5)
    (strength,) = found.model
    assert (strength.judged, strength.right) == (IMAGES, IMAGES - 2 * PLANTED)
    assert (strength.weak, found.to_dict()["model"][0]["weak"]) == (True, True)
    assert not any(suspect.confident for suspect in found.suspects)
    scores = [suspect.score for suspect in found.suspects]
    assert scores == sorted(scores)  # what was confident is no reason that is not told
    lines = list(describe_model(found))
    assert (
        lines[0] == f"doubts of a weak model: exp3 predicts another label for {2 * PLANTED} labels"
    )
    assert lines[1].startswith(
        f"  it agrees with {100 * strength.accuracy:.1f} % of the {IMAGES} labels"
    )
    assert "most of these doubts are mistakes of the model" in lines[2]
    better = replace(strength, right=IMAGES, judged=IMAGES)
    lines = list(describe_model(replace(found, model=(better,))))
    assert lines[0] == f"exp3 doubts {2 * PLANTED} labels, 0 of them by confident learning"
    assert len(lines) == 2


def test_a_reviewed_table_mends_the_labels_and_is_not_written_over(
    judged: Workspace, planted: set[str]
) -> None:
    found = find_suspects(judged, "exp3", out="reviewed", threshold=0, count=5)
    table = judged.root / "reviewed" / "labels.csv"
    accept(
        table, {suspect.id: "yes" if suspect.id in planted else "no" for suspect in found.suspects}
    )
    config = resolve_config(judged, assignments=("data.label_fixes=reviewed/labels.csv",))
    task, fixed = prepare_data(judged, config)
    _, before = prepare_data(judged, resolve_config(judged))
    given = {sample.id: sample.label for sample in (*before.train, *before.val)}
    changed = {
        sample.id for sample in (*fixed.train, *fixed.val) if sample.label != given[sample.id]
    }
    assert changed == planted
    with pytest.raises(ConfigError, match="was reviewed and would be replaced"):
        find_suspects(judged, "exp3", out="reviewed", threshold=0, count=5)
    accept(table, {next(iter(planted)): "perhaps"})
    with pytest.raises(DataError, match="accept is 'perhaps', expected yes or no"):
        load_data(config.data, task, root=judged.root)


def test_one_fold_judges_its_own_images_and_says_how_to_judge_all(
    judged: Workspace, forks: Forks
) -> None:
    done = forks.run("data", "suspects", "exp1", "--out", "half", cwd=judged.root)
    assert f"judges {IMAGES // 2} of {IMAGES} training images" in done.stdout
    assert "tracker run train --from exp1 --folds 5" in done.stdout
    assert "--from exp1 --set data.label_fixes=half/labels.csv" in done.stdout


def test_of_an_ensemble_of_folds_the_next_command_trains_every_fold(
    judged: Workspace, forks: Forks
) -> None:
    done = forks.run("data", "suspects", "exp3", "--out", "every", cwd=judged.root)
    words = "tracker run train --from exp1 --folds 2 --set data.label_fixes=every/labels.csv"
    assert words in done.stdout


def test_every_kind_of_fix_of_profiles_is_taken_after_review(tmp_path: Path) -> None:
    """A model that knows the truth judges folders whose names are wrong; no training is needed for
    that."""
    make_competition(tmp_path / "data", people=36, eval_people=1, seed=2)
    data: dict[str, Any] = {"train_dir": str(tmp_path / "data/train")}
    workspace = init_workspace(tmp_path / "ws", data=data, competition={})
    config = resolve_config(workspace)
    task, loaded = prepare_data(workspace, config)
    truth = {sample.path: sample.label for sample in (*loaded.train, *loaded.val)}
    woman, young, swapped = sorted((tmp_path / "data" / "train").iterdir())[:3]
    moved = {}
    for person, name in (
        (woman, woman.name.replace("_male_", "_female_")),
        (young, young.name[:-2] + "80"),
    ):
        moved |= {person.with_name(name) / path.name: path for path in person.iterdir()}
        person.rename(person.with_name(name))
    first, second = next(swapped.glob("normal.*")), next(swapped.glob("incorrect_mask.*"))
    moved |= {second.with_suffix(first.suffix): first, first.with_suffix(second.suffix): second}
    second.rename(swapped / "held")
    first.rename(second.with_suffix(first.suffix))
    (swapped / "held").rename(first.with_suffix(second.suffix))
    task, loaded = prepare_data(workspace, config)
    samples = (*loaded.train, *loaded.val)
    labels = [truth[moved.get(sample.path, sample.path)] for sample in samples]
    probabilities = np.full((len(samples), 18), 0.01, dtype=np.float32)
    probabilities[np.arange(len(samples)), labels] = 0.83
    run = make_run(
        workspace, config={"data.format": "mask_profiles", "data.train_dir": config.data.train_dir}
    )
    kept = Predictions(tuple(sample.id for sample in samples), probabilities, classes=task.classes)
    save_probabilities(workspace.runs_dir / run.name / "validation.npz", kept)
    found = find_suspects(workspace, run.name, out="suspects", threshold=0, count=0)
    assert sorted(suspect.field for suspect in found.suspects) == ["age", "gender", "swap"]
    accept(
        workspace.root / "suspects" / "labels.csv", {suspect.id: "x" for suspect in found.suspects}
    )
    mended = resolve_config(workspace, assignments=("data.label_fixes=suspects/labels.csv",))
    _, fixed = prepare_data(workspace, mended)
    wanted = dict(zip((sample.id for sample in samples), labels, strict=True))
    assert {sample.id: sample.label for sample in (*fixed.train, *fixed.val)} == wanted


# --- Several labels, and numbers ---


def make_labeled(root: Path, target: str, labels: list[str], **competition: Any) -> Workspace:
    """A workspace whose table of labels has an image for each label."""
    rng = np.random.default_rng(0)
    lines = ["id,label"]
    for number, label in enumerate(labels):
        path = root / "train" / "images" / f"{number:02d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Picture.fromarray(rng.integers(0, 255, (32, 32, 3), dtype=np.uint8)).save(path)
        lines.append(f"{number:02d}.png,{label}")
    (root / "train" / "labels.csv").write_text("\n".join(lines) + "\n")
    return init_workspace(
        root / "ws",
        data={"train_dir": str(root / "train"), "format": "csv"},
        competition={
            "id_column": "id",
            "label_column": "label",
            "target": target,
            "answer": target,
            **competition,
        },
        metrics=["f1_micro" if target == "labels" else "rmse"],
    )


def judge_and_mend(workspace: Workspace, outputs: Any) -> tuple[SuspectReport, dict[str, Any]]:
    """The suspects by these outputs of a model, and the values after all were accepted."""
    _, data = prepare_data(workspace, resolve_config(workspace))
    ids = tuple(sorted(sample.id for sample in (*data.train, *data.val)))
    run = make_run(workspace)
    kept = Predictions(ids, np.asarray(outputs, np.float32))
    save_probabilities(workspace.runs_dir / run.name / "validation.npz", kept)
    found = find_suspects(workspace, run.name, out="suspects", threshold=0, count=0)
    print_suspects(found)
    table = workspace.root / "suspects" / "labels.csv"
    accept(table, {suspect.id: "yes" for suspect in found.suspects})
    mended = resolve_config(workspace, assignments=("data.label_fixes=suspects/labels.csv",))
    _, fixed = prepare_data(workspace, mended)
    return found, {sample.id: tuple(sample.values) for sample in (*fixed.train, *fixed.val)}


def test_each_of_several_labels_is_judged_and_an_image_is_mended_at_once(tmp_path: Path) -> None:
    names = ["ant", "bee", "cat"]
    rng = np.random.default_rng(1)
    truth = rng.random((40, 3)) < 0.5
    truth[3], truth[7] = (True, False, True), (False, False, True)
    outputs = np.where(truth, 0.92, 0.08) + rng.normal(0, 0.02, truth.shape)
    given = truth.copy()
    given[3], given[7] = (False, True, True), (False, False, False)  # two wrong, and one missing
    words = [" ".join(name for name, has in zip(names, row, strict=True) if has) for row in given]
    workspace = make_labeled(tmp_path, "labels", words, classes=names, answers="name")
    found, values = judge_and_mend(workspace, outputs)
    assert {(s.id, s.given, s.suggested) for s in found.suspects} == {
        ("03.png", "bee cat", "ant cat"),
        ("07.png", "none", "cat"),
    }
    assert all(suspect.confident for suspect in found.suspects)
    assert (found.model[0].right, found.model[0].judged) == (117, 120)
    assert values == {f"{row:02d}.png": tuple(map(float, has)) for row, has in enumerate(truth)}


def test_numbers_that_the_model_misses_by_far_are_suspects(tmp_path: Path) -> None:
    rng = np.random.default_rng(2)
    truth = rng.normal(50, 10, 40).round(1)
    outputs = (truth + rng.uniform(-1, 1, 40)).round(2)
    given = truth.copy()
    given[5], given[9] = truth[5] + 30, truth[9] * 10  # a typing error and a decimal point
    workspace = make_labeled(tmp_path, "number", [str(value) for value in given], classes=[])
    found, values = judge_and_mend(workspace, outputs[:, None])
    assert [suspect.id for suspect in found.suspects] == ["09.png", "05.png"]
    assert found.model == ()
    assert values["05.png"] == pytest.approx((outputs[5],), abs=1e-4)
    assert values["00.png"] == (truth[0],)


def test_a_label_fix_that_is_no_number_or_no_class_is_a_problem(tmp_path: Path) -> None:
    workspace = make_labeled(tmp_path, "labels", ["ant", "", "ant bee"] * 4, classes=["ant", "bee"])
    fixes = workspace.root / "fixes.csv"
    fixes.write_text("id,field,value\n00.png,label,none\n01.png,label,bee\n02.png,label,bee wasp\n")
    config = resolve_config(workspace, assignments=("data.label_fixes=fixes.csv",))
    with pytest.raises(DataError) as refused:
        prepare_data(workspace, config)
    (problem,) = refused.value.problems
    assert "fixes.csv:4: unknown label 'bee wasp', expected some of ant, bee, with" in problem
    fixes.write_text("id,field,value\n00.png,label,none\n01.png,label,bee\n")
    _, fixed = prepare_data(workspace, config)
    values = {sample.id: tuple(sample.values) for sample in (*fixed.train, *fixed.val)}
    assert (values["00.png"], values["01.png"], values["02.png"]) == ((0, 0), (0, 1), (1, 1))


# --- Near duplicates ---


def test_planted_copies_across_the_parts_of_the_data_are_all_found(tmp_path: Path) -> None:
    make_competition(tmp_path / "data", people=24, eval_people=6, seed=5)
    train, images = tmp_path / "data" / "train", tmp_path / "data" / "eval" / "images"
    workspace = init_workspace(
        tmp_path / "ws",
        data={"train_dir": str(train), "eval_dir": str(images.parent), "split": "by_profile"},
        competition={},
    )
    _, data = prepare_data(workspace, resolve_config(workspace))
    kinds = (
        {},
        {"resize": 0.6},
        {"resize": 1.4},
        {"brighten": 1.12},
        {"resize": 0.75, "brighten": 1.08},
    )
    planted = {}
    for number, kind in enumerate(kinds):
        sample, target = data.train[7 * number], data.val[7 * number]
        copy_as(sample.path, target.path, **kind)
        planted[sample.id, target.id] = ["train", "validation"]
        evaluated = data.eval[number]
        copy_as(data.train[7 * number + 1].path, evaluated.path, **kind)
        planted[data.train[7 * number + 1].id, evaluated.id] = ["train", "evaluation"]
        copy_as(data.val[7 * number + 1].path, data.eval[number + 5].path, **kind)
        planted[data.val[7 * number + 1].id, data.eval[number + 5].id] = [
            "validation",
            "evaluation",
        ]
    keys = {
        "train_dir": str(train),
        "eval_dir": str(images.parent),
        "split": "by_profile",
        "format": "mask_profiles",
    }
    run = make_run(workspace, config={f"data.{key}": value for key, value in keys.items()})
    rows = len(data.val)
    kept = Predictions(tuple(s.id for s in data.val), np.full((rows, 18), 1 / 18, dtype=np.float32))
    save_probabilities(workspace.runs_dir / run.name / "validation.npz", kept)
    done = run_tracker("data", "suspects", run.name, "--json", "--count", "3", cwd=workspace.root)
    found = json.loads(done.stdout)
    pairs = {tuple(pair["images"]): pair["splits"] for pair in found["pairs"]}
    assert {pair: pairs.get(pair) for pair in planted} == planted
    assert found["threshold"] == 24
    told = read_rows(workspace.root / "suspects" / "pairs.csv")
    assert len(told) == len(pairs)
    by_id = {sample.id: sample.label for sample in (*data.train, *data.val)}
    for pair in found["pairs"]:
        a, b = (by_id.get(image) for image in pair["images"])
        assert pair["labels_differ"] == (None not in (a, b) and a != b)
    assert (workspace.root / "suspects" / "pairs-1.png").is_file()


# --- explain ---


def test_explain_shows_wrong_uncertain_and_named_images(
    judged: Workspace, capsys: pytest.CaptureFixture[str]
) -> None:
    _, data = prepare_data(judged, resolve_config(judged, parent="exp1"))
    kept = load_probabilities(judged.runs_dir / "exp1" / "validation.npz")
    sure = dict(zip(kept.ids, kept.probabilities.max(1).tolist(), strict=True))
    errors = {
        name
        for name, right in zip(kept.ids, kept.probabilities.argmax(1) == kept.labels, strict=True)
        if not right
    }
    wrong = explain(judged, "exp1", pick="wrong", count=3)
    assert wrong.candidates == len(errors)
    assert [image.id for image in wrong.images] == sorted(errors, key=lambda name: -sure[name])[:3]
    assert [image.sure for image in wrong.images] == pytest.approx(
        [sure[i.id] for i in wrong.images], abs=1e-3
    )
    sheet = judged.runs_dir / "exp1" / "explain.png"
    before = sheet.read_bytes()
    assert wrong.earlier == ""
    unsure = explain(judged, "exp1", pick="uncertain", count=5)
    assert [image.id for image in unsure.images] == sorted(sure, key=lambda name: sure[name])[:5]
    assert unsure.candidates == len(sure) == len(data.val)
    assert unsure.earlier == "runs/exp1/explain-1.png"
    assert (judged.root / unsure.earlier).read_bytes() == before != sheet.read_bytes()
    named = explain(judged, "exp1", ids=(data.train[0].id, data.eval[0].id))
    assert named.earlier == "runs/exp1/explain-2.png"
    print_explanation(named)
    assert "the sheet of the call before is now runs/exp1/explain-2.png" in capsys.readouterr().out
    assert [image.truth for image in named.images] == [
        build_task(judged).classes[data.train[0].label],
        None,
    ]


def test_explain_says_what_it_cannot_do(judged: Workspace) -> None:
    with pytest.raises(ConfigError, match="exp3 is an ensemble") as refused:
        explain(judged, "exp3")
    assert refused.value.hint.startswith("tracker explain exp")
    with pytest.raises(ConfigError, match="expected one of wrong, uncertain"):
        explain(judged, "exp1", pick="best")
    with pytest.raises(ConfigError, match="--image nothing: no such image"):
        explain(judged, "exp1", ids=("nothing",))
    run = make_run(judged)
    with pytest.raises(TrackerError, match=f"{run.name} has no final weights"):
        explain(judged, run.name)


def test_the_command_tells_when_mlflow_has_not_the_sheet_and_does_not_fail(
    judged: Workspace, forks: Forks
) -> None:
    done = forks.run(
        "explain", "exp1", "--pick", "uncertain", "--count", "1", cwd=judged.root, **NO_MLFLOW
    )
    assert f"runs/exp1/explain.png: 1 of {IMAGES // 2} validation images" in done.stdout
    assert "MLflow is behind" in done.stderr


def test_suspects_at_80_columns_say_their_order_their_number_and_the_parts_of_pairs(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    suspects = tuple(
        Suspect(
            id=f"with_mask/{number}.jpg",
            field="label",
            value="x",
            given="with",
            suggested="without",
            score=0.5,
            images=(f"{number}",),
            against=1,
            confident=number < 9,
        )
        for number in range(24)
    )
    path = Path("a.jpg")
    a = Image("without_mask/without_mask_0036.jpg", path, "train", "without_mask")
    b = Image("9e0ad1162fca.jpg", path, "evaluation", None)
    c = Image("with_mask_0036.jpg", path, "validation", "with_mask")
    report = SuspectReport(
        run="exp1",
        source="exp1",
        covered=24,
        images=24,
        suspects=suspects,
        threshold=10,
        pairs=(Pair(a, b, 3), Pair(a, c, 4)),
        files=("suspects/labels.csv", "suspects/pairs.csv"),
        model=(Agreement(field="label", right=1000, judged=1024, majority=0.5),),
    )
    monkeypatch.setenv("COLUMNS", "80")
    print_suspects(report)
    out = capsys.readouterr().out
    text = " ".join(out.split())
    assert "the first 15 of 24 labels: first those of confident learning" in text
    assert "all are in suspects/labels.csv" in text
    assert "2 pairs of nearly equal images" in text
    assert "; the labels of 1 differ" in text
    assert re.search("9e0ad1162fca.jpg +train, eval", out)
    assert re.search("with_mask_0036.jpg +train, val", out)
    assert max(map(len, out.splitlines())) <= 80
