"""`tracker init --holdout`: labeled images are predicted and scored here, and never trained on."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from sklearn.metrics import f1_score
from typer.testing import CliRunner

from tests.conftest import save_image
from tests.support.workspaces import begin_run
from tracker.commands.table import app
from tracker.core.errors import TrackerError
from tracker.setup.init import init_workspace
from tracker.training.config_reading import config_from_dict
from tracker.training.errors import ConfigError, DataError
from tracker.training.formats.samples import LoadedData
from tracker.training.tables import read_table
from tracker.workflows.own_loop.checks import check_validation
from tracker.workflows.train import train
from tracker.workspace.data import build_task, list_competition_ids, prepare_data
from tracker.workspace.predictions import load_answers
from tracker.workspace.tracker_toml import TRACKER_TOML, Workspace, load_workspace

PATIENTS = 20  # with three images each, every other patient is of the second class


def write_images(root: Path) -> Path:
    """train/ with 60 images, and labels.csv with the column patient."""
    lines = ["ImageID,ans,patient"]
    for number in range(3 * PATIENTS):
        patient = number // 3
        save_image(root / "train" / f"{number:03}.png", seed=number)
        lines.append(f"{number:03}.png,{['cat', 'dog'][patient % 2]},p{patient}")
    (root / "train" / "labels.csv").write_text("\n".join(lines) + "\n")
    return root / "train"


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    """A fifth of the images is held out, whole patients."""
    data = {"train_dir": str(write_images(tmp_path)), "format": "csv", "group": "patient"}
    return init_workspace(tmp_path / "ws", data=data, competition={}, holdout=0.2)


def list_held(workspace: Workspace) -> list[str]:
    path = workspace.root / "holdout" / "images.csv"
    return [name for (name,) in read_table(path, ("id",))]


def load(workspace: Workspace, **data: Any) -> LoadedData:
    config = config_from_dict({"data": {**workspace.data, **data}})
    return prepare_data(workspace, config)[1]


def list_trained(data: LoadedData) -> set[str]:
    """The ids that are trained or validated on."""
    return {sample.id for sample in (*data.train, *data.val)}


def test_whole_groups_and_each_class_are_held_out_and_halved(workspace: Workspace) -> None:
    path = workspace.root / "holdout" / "solution.csv"
    rows = read_table(path, ("ImageID", "ans", "Usage"))
    assert [row[0] for row in rows] == list_held(workspace)
    assert len(rows) == 12
    assert Counter(row[1:] for row in rows) == {
        (name, usage): 3 for name in ("cat", "dog") for usage in ("Public", "Private")
    }
    held = {int(row[0][:3]) // 3 for row in rows}
    assert len(held) == 4  # patients, with all their images
    usage_of = {int(row[0][:3]) // 3: row[2] for row in rows}
    assert all(usage_of[int(row[0][:3]) // 3] == row[2] for row in rows)


def test_held_out_images_are_predicted_and_never_trained_on(workspace: Workspace) -> None:
    held = list_held(workspace)
    ways: list[dict[str, Any]] = [
        {},
        {"split_seed": 7},
        {"split": "by_image", "group": ""},
        {"folds": 4, "fold": 3},
        {"val_ratio": 0.5},
        {"exclude": held[0]},
    ]
    for way in ways:
        data = load(workspace, **way)
        assert not list_trained(data) & set(held)
        assert len(list_trained(data)) == 48
        assert [image.id for image in data.eval] == held
    assert list_competition_ids(workspace, {}) == held


def test_label_fixes_and_fold_files_bring_no_held_out_image_back(workspace: Workspace) -> None:
    held = list_held(workspace)
    rows = "".join(f"{name},label,cat\n" for name in held)
    (workspace.root / "fixes.csv").write_text("id,field,value\n" + rows)
    folds = "".join(f"{number:03}.png,{number // 6 % 2}\n" for number in range(60))
    (workspace.root / "folds.csv").write_text("id,fold\n" + folds)
    before = (workspace.root / "holdout" / "solution.csv").read_bytes()
    data = load(workspace, label_fixes="fixes.csv", fold_file="folds.csv")
    assert not list_trained(data) & set(held)
    assert (workspace.root / "holdout" / "solution.csv").read_bytes() == before


def test_a_copy_of_a_held_out_image_is_left_out(workspace: Workspace) -> None:
    held = list_held(workspace)
    table = workspace.root.parent / "train" / "labels.csv"
    shutil.copy(table.parent / held[0], table.parent / "again.png")
    table.write_text(table.read_text() + "again.png,cat,p99\n")
    data = load(workspace)
    assert "again.png" not in list_trained(data)
    assert "left out: 1 training image with the content of a held-out image" in data.notes
    # the ids of two images change places: the file that was held out decides
    other = next(sample.id for sample in data.train)
    table.write_text(
        table.read_text().replace(held[1], "x").replace(other, held[1]).replace("x,", other + ",")
    )
    first, second = table.parent / held[1], table.parent / other
    first.rename(table.parent / "swap")
    second.rename(first)
    (table.parent / "swap").rename(second)
    assert not list_trained(load(workspace)) & {held[1], other}


def test_training_refuses_when_it_cannot_tell_what_is_held_out(workspace: Workspace) -> None:
    folder = workspace.root / "holdout"
    images = folder / "images.csv"
    text = images.read_text()
    images.write_text("".join(text.splitlines(keepends=True)[:-1]))
    with pytest.raises(DataError, match="was changed after its images were held out"):
        load(workspace)
    images.unlink()
    with pytest.raises(DataError, match="is missing"):
        load(workspace)
    images.write_text(text)
    # another leaderboard in tracker.toml does not open them
    toml = workspace.root / TRACKER_TOML
    toml.write_text(toml.read_text().replace('kind = "holdout"', 'kind = "manual"'))
    assert not list_trained(load(load_workspace(workspace.root))) & set(list_held(workspace))
    toml.write_text(toml.read_text().replace('kind = "manual"', 'kind = "holdout"'))
    shutil.rmtree(folder)
    with pytest.raises(DataError, match="is missing"):
        load(load_workspace(workspace.root))


def test_what_would_predict_other_images_is_refused(workspace: Workspace) -> None:
    with pytest.raises(DataError) as caught:
        load(workspace, eval_dir="train")
    assert "data.eval_dir: the held-out images are predicted here" in caught.value.problems[0]
    table = workspace.root.parent / "train" / "labels.csv"
    held = list_held(workspace)
    table.write_text("".join(x for x in table.read_text().splitlines(True) if held[0] not in x))
    with pytest.raises(DataError) as caught:
        load(workspace)
    assert f"held-out image {held[0]} is no labeled image here" in caught.value.problems


def test_a_loop_of_ones_own_cannot_validate_on_held_out_images(workspace: Workspace) -> None:
    held, task = list_held(workspace), build_task(workspace)
    rows = [[0.5, 0.5], [0.25, 0.75]]
    with pytest.raises(DataError, match="of the held-out ones among the validation images"):
        check_validation(["a", held[0]], [0, 1], rows, task)
    assert check_validation(["a", "b"], [0, 1], rows, task).ids == ("a", "b")


def predict(workspace: Workspace, answers: dict[str, str]) -> str:
    """A run with these predictions."""
    recorder = begin_run(workspace)
    path = recorder.folder / "predictions.csv"
    path.write_text("ImageID,ans\n" + "".join(f"{a},{b}\n" for a, b in answers.items()))
    known = load_answers(path, workspace.competition)
    recorder.fingerprint(predictions=known.fingerprint)
    return recorder.finish("finished").name


def call(*words: str) -> str:
    done = CliRunner().invoke(app, list(words), catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.output


def test_submissions_are_scored_sealed_and_counted(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(workspace.root)
    monkeypatch.setenv("TRACKER_MLFLOW_URI", "")
    solution = workspace.root / "holdout" / "solution.csv"
    truth = read_table(solution, ("ImageID", "ans", "Usage"))
    guesses = {row[0]: ("cat" if number % 4 else row[1]) for number, row in enumerate(truth)}
    for number, answers in enumerate(({row[0]: "dog" for row in truth}, guesses)):
        name = predict(workspace, answers)
        assert json.loads(call("check", name, "--json"))["looks"] == number
        assert f"look {number + 1} at the held-out images" in call("check", name)
        call("submit", name, "--memo", "a look", "--yes")
    public = [row for row in truth if row[2] == "Public"]
    expected = f1_score(
        [row[1] for row in public], [guesses[row[0]] for row in public], average="macro"
    )
    rows = json.loads(call("leaderboard", "--json"))
    second = next(row for row in rows if row["number"] == 2)
    assert second["public_f1"] == pytest.approx(expected, abs=1e-12)
    assert second["private_f1"] is None
    assert "2 looks at the public half of the held-out images" in call("leaderboard")
    call("leaderboard", "reveal", "--yes")
    rows = json.loads(call("leaderboard", "--json"))
    assert all(row["private_f1"] is not None for row in rows)


def test_a_changed_solution_is_not_scored_with(workspace: Workspace) -> None:
    from tracker.leaderboards import build_leaderboard

    solution = workspace.root / "holdout" / "solution.csv"
    answers = {row[0]: row[1] for row in read_table(solution, ("ImageID", "ans"))}
    name = predict(workspace, answers)
    known = load_answers(workspace.runs_dir / name / "predictions.csv", workspace.competition)
    assert build_leaderboard(workspace).score_public(known)["public", "f1"] == 1
    solution.write_text(solution.read_text().replace("cat", "dog", 1))
    with pytest.raises(DataError, match="was changed after its images were held out"):
        build_leaderboard(workspace).score_public(known)


@pytest.mark.usefixtures("forked_mirrors")
def test_a_run_trains_on_the_rest_and_predicts_what_is_held_out(workspace: Workspace) -> None:
    tables: dict[str, dict[str, Any]] = {
        "data": {**workspace.data, "image_size": [32, 32], "workers": 0},
        "model": {"name": "test_resnet", "pretrained": False},
        "train": {"epochs": 1, "batch_size": 16, "precision": "32-true"},
    }
    (workspace.root / "holdout" / "solution.csv").unlink()  # training needs none
    record = train(workspace, config_from_dict(tables), quiet=True, force=True)
    path = workspace.runs_dir / record.name / "predictions.csv"
    assert sorted(load_answers(path, workspace.competition).by_id) == sorted(list_held(workspace))


def flag(number: int) -> list[int]:
    return [number % 2, number % 3 // 2, int(number % 5 > 2)]


def tag(number: int) -> str:
    return "a b" if number % 2 else "c"


def one_of_three(number: int) -> list[int]:
    return [int(index == number % 3) for index in range(3)]


# {(target, answer): the columns of labels, the cells of an image in them, and in the solution}
FORMS: dict[tuple[str, str], tuple[tuple[str, ...], Any, Any]] = {
    ("binary", "probability"): (("x",), lambda n: [n % 2], lambda n: [n % 2]),
    ("labels", "columns"): (("a", "b", "c"), flag, flag),
    ("labels", "labels"): (("tags",), lambda n: [tag(n)], lambda n: [tag(n)]),
    ("number", "number"): (("age",), lambda n: [n + 0.5], lambda n: [n + 0.5]),
    ("class", "columns"): (("x",), lambda n: ["abc"[n % 3]], one_of_three),
}


@pytest.mark.parametrize("form", FORMS)
def test_the_solution_has_the_form_of_the_answer(tmp_path: Path, form: tuple[str, str]) -> None:
    (target, answer), (columns, cells, expected) = form, FORMS[form]
    lines = [",".join(("id", *columns))]
    for number in range(40):
        save_image(tmp_path / "train" / f"{number}.png", seed=number)
        lines.append(",".join(map(str, (number, *cells(number)))))
    (tmp_path / "train.csv").write_text("\n".join(lines) + "\n")
    classes = {"number": [], "binary": ["0", "1"]}.get(target, ["a", "b", "c"])
    competition = {"target": target, "answer": answer, "classes": classes, "answers": "name"}
    data = {"train_dir": str(tmp_path / "train"), "labels": str(tmp_path / "train.csv")}
    workspace = init_workspace(
        tmp_path / "ws",
        data={**data, "format": "csv", "label_columns": list(columns), "ending": ".png"},
        competition={**competition, "id_column": "id", "label_column": columns[0]},
        metrics=["rmse" if target == "number" else "accuracy"],
        holdout=0.3,
    )
    wanted = workspace.competition.value_columns
    rows = read_table(workspace.root / "holdout" / "solution.csv", ("id", *wanted))
    assert rows
    for name, *found in rows:
        assert found == [str(value) for value in expected(int(name))]


def test_nothing_is_left_when_too_little_would_be_held_out(tmp_path: Path) -> None:
    data = {"train_dir": str(write_images(tmp_path)), "format": "csv", "group": "patient"}
    with pytest.raises(DataError, match="too few for a public and a private half"):
        init_workspace(tmp_path / "ws", data=data, competition={}, holdout=0.02)
    assert not (tmp_path / "ws").exists()
    (tmp_path / "ws" / "holdout").mkdir(parents=True)
    with pytest.raises(ConfigError, match="is there already"):
        init_workspace(tmp_path / "ws", data=data, competition={}, holdout=0.2)
    assert (tmp_path / "ws" / "holdout").is_dir()


def test_the_command_holds_out_and_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = write_images(tmp_path)
    before = sorted(path.name for path in folder.iterdir())
    monkeypatch.chdir(tmp_path)
    words = ("init", "ws", "--train-dir", str(folder), "--holdout", "0.2", "--group", "patient")
    for more in (["--solution", "x.csv"], ["--eval-dir", "x"], ["--leaderboard", "manual"]):
        with pytest.raises(TrackerError, match=more[0]):
            CliRunner().invoke(app, [*words, *more], catch_exceptions=False)
    with pytest.raises(ConfigError, match="needs labeled images"):
        CliRunner().invoke(app, ["init", "ws", "--holdout", "0.2"], catch_exceptions=False)
    out = call(*words, "--no-pretrained")
    assert "12 labeled images are held out: never trained or validated on" in out
    assert sorted(path.name for path in folder.iterdir()) == before
    assert load_workspace(tmp_path / "ws").leaderboard == "holdout"
