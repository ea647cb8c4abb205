"""What an own training loop hands over makes its run as good as any: ensembles, statistics,
suspects, resume."""

from __future__ import annotations

import multiprocessing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import tracker
from tests.conftest import COMMAND_LIMIT_S, NO_MLFLOW, ROOT, make_pictures
from tests.support.forks import PROGRAM, Forks
from tests.support.workspaces import (
    IMAGES,
    make_run,
    make_workspace,
    make_workspace_with_images,
)
from tracker.comparison.diff import diff_runs
from tracker.comparison.selection import select_final
from tracker.core.errors import UnknownRunError
from tracker.images.dataset import write_split
from tracker.images.suspects import find_suspects
from tracker.run_folder.points import read_curves
from tracker.run_folder.read import list_runs, load_config, load_run
from tracker.setup.init import init_workspace
from tracker.submission.submit import submit
from tracker.training.errors import ConfigError, DataError, WeightsError
from tracker.training.predict.probabilities import load_probabilities, save_probabilities, select
from tracker.workflows.ensemble import ensemble
from tracker.workflows.own_loop.active_run import ActiveRun
from tracker.workflows.resolve import resolve_config
from tracker.workspace.data import prepare_data
from tracker.workspace.tracker_toml import Workspace, load_workspace

IDS = [f"i{number}.png" for number in range(IMAGES)]
TRUTH = [number // 5 for number in range(IMAGES)]


@pytest.fixture(autouse=True)
def _without_mlflow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(*next(iter(NO_MLFLOW.items())))


def begin(workspace: Workspace, **options: Any) -> ActiveRun:
    return tracker.start_run(
        options.pop("config", {}), root=workspace.root, follow=False, **options
    )


def say(answers: str, sure: float = 0.9) -> Any:
    """Probabilities [images, 2] of these answers, a letter an image."""
    rows = np.full((len(answers), 2), 1 - sure)
    rows[np.arange(len(answers)), [int(letter) for letter in answers]] = sure
    return rows


def make_own_run(
    workspace: Workspace, answers: str, *, order: Any = slice(None), sure: float = 0.9
) -> str:
    """A run that says so of the evaluation and of ten validation images, in this order."""
    with begin(workspace) as run:
        ids = [f"cat/{number}.png" for number in range(IMAGES)]
        run.save_validation(ids[order], TRUTH[order], say(answers, sure)[order])
        run.save_probabilities(
            IDS[order], torch.tensor(say(answers, sure)[order].copy(), dtype=torch.bfloat16)
        )
    return run.name


# --- Probabilities ---


def test_probabilities_make_predictions_in_the_order_of_the_competition(
    workspace: Workspace,
) -> None:
    make_own_run(workspace, "0000011110", order=slice(None, None, -1))
    lines = (workspace.runs_dir / "exp1" / "predictions.csv").read_text().split()
    assert lines == [
        "ImageID,ans",
        *(f"{name},{letter}" for name, letter in zip(IDS, "0000011110", strict=True)),
    ]
    kept = load_probabilities(workspace.runs_dir / "exp1" / "probabilities.npz")
    assert kept.ids == tuple(IDS)
    assert kept.classes == ("cat", "dog")
    assert np.allclose(kept.probabilities.sum(1), 1, atol=1e-6)
    assert (
        submit(workspace, "exp1", "own")[0].scores["public_f1"] == 1.0
    )  # the wrong image is private
    assert load_run(workspace.runs_dir, "exp1").summary["val/accuracy"] == 0.9


def test_predictions_that_were_given_stay_and_those_of_the_argmax_follow(
    workspace: Workspace,
) -> None:
    path = workspace.runs_dir / "exp1" / "predictions.csv"
    with begin(workspace) as run:
        run.save_probabilities(IDS, say("0000000000"))
        run.save_probabilities(IDS, say("1000000000"))
        assert path.read_text().startswith("ImageID,ans\ni0.png,1\ni1.png,0\n")
        run.save_predictions(dict.fromkeys(IDS, 1))
        given = path.read_text()
        run.save_probabilities(IDS, say("0000000000"))
        assert path.read_text() == given
        run.save_probabilities(IDS, say("0000000001"))
    assert path.read_text() == given


def test_what_a_model_gives_for_one_image_is_an_answer(workspace: Workspace) -> None:
    """An arg max is a tensor or an array without axes, which has no elements to list."""
    logits = torch.tensor(say("0000011110"))
    with begin(workspace) as run:
        path = run.folder / "predictions.csv"
        for rows in (logits, logits.numpy()):
            run.save_predictions(dict(zip(IDS, [row.argmax() for row in rows], strict=True)))
            assert path.read_text().split()[1:] == [
                f"{name},{letter}" for name, letter in zip(IDS, "0000011110", strict=True)
            ]
            path.unlink()


def test_labels_of_several_classes_are_from_0_to_1(tmp_path: Path) -> None:
    competition = {"target": "labels", "answer": "labels"}
    workspace = make_workspace(tmp_path / "several", solution=None, competition=competition)
    sure = np.full((IMAGES, 2), 0.5)
    with begin(workspace) as run:
        for wrong in (2, -1):
            labels = np.full((IMAGES, 2), wrong)
            with pytest.raises(DataError, match="labels must be from 0 to 1"):
                run.save_validation(IDS, labels, sure)
        assert not (run.folder / "validation.npz").exists()


def test_ids_in_a_tensor_are_their_numbers(workspace: Workspace) -> None:
    ids = torch.arange(IMAGES)
    with begin(workspace) as run:
        run.save_validation(ids, TRUTH, say("0000011110"))
    assert load_probabilities(run.folder / "validation.npz").ids == tuple("0123456789")


BAD = {
    "another shape": (IDS, say("00000"), r"\[5, 2\] of float64 for 10 ids and 2 classes"),
    "one column": (IDS, np.zeros(IMAGES), r"not \[10\] of float64"),
    "texts": (IDS, [["a", "b"]] * IMAGES, "must be numbers"),
    "ragged": (IDS, [[1.0], [0.0, 1.0]], "not an array"),
    "logits": (IDS, say("0000000000") * 4, "10 rows are not probabilities.*i0.png, its sum is 4"),
    "not finite": (IDS, np.where(np.eye(IMAGES, 2) == 1, np.nan, 0.5), "i0.png are not finite"),
    "twice": ([*IDS[:9], IDS[0]], say("0000000000"), r"1 id \(i0.png\) given twice"),
    "missing": (IDS[:9], say("000000000"), r"1 evaluation image \(i9.png\) without"),
    "foreign": ([*IDS, "x.png"], say("00000000000"), r"1 id \(x.png\) not in the evaluation set"),
    "one text": ("i0.png", say("000000"), "must be a list"),
    "nothing": ([], np.zeros((0, 2)), "no ids"),
}


@pytest.mark.parametrize("case", BAD)
def test_what_no_classifier_says_is_refused_and_the_run_goes_on(
    workspace: Workspace, case: str
) -> None:
    ids, rows, message = BAD[case]
    with begin(workspace) as run:
        with pytest.raises(DataError, match=message):
            run.save_probabilities(ids, rows)
        assert not (run.folder / "probabilities.npz").exists()
        run.save_probabilities(IDS, say("0000011111"))
    assert load_run(workspace.runs_dir, "exp1").status == "finished"


@pytest.mark.parametrize(
    "labels", [TRUTH, np.array(TRUTH), torch.tensor(TRUTH), ["cat"] * 5 + ["dog"] * 5]
)
def test_labels_may_be_numbers_or_names(workspace: Workspace, labels: Any) -> None:
    with begin(workspace) as run:
        run.save_validation(IDS, labels, say("0000011111"))
    kept = load_probabilities(run.folder / "validation.npz")
    assert kept.labels is not None
    assert kept.labels.tolist() == TRUTH


@pytest.mark.parametrize(
    "labels", [[2] * IMAGES, [-1] * IMAGES, ["Cat"] * IMAGES, [0.5] * IMAGES, [float("nan")] * 10]
)
def test_labels_that_are_none_are_refused(workspace: Workspace, labels: Any) -> None:
    with begin(workspace) as run, pytest.raises(DataError, match="not a label of this competition"):
        run.save_validation(IDS, labels, say("0000011111"))


# --- Comparison ---


def test_two_own_loops_are_diffed_with_statistics_whatever_their_order(
    workspace: Workspace,
) -> None:
    make_own_run(workspace, "0000011111")
    make_own_run(workspace, "0110011110", order=slice(None, None, -1))
    found = diff_runs(workspace, "exp1", "exp2")
    assert found.statistics is not None, found.problem
    assert found.statistics.samples == IMAGES
    assert (found.statistics.mcnemar.only_a, found.statistics.mcnemar.only_b) == (3, 0)
    assert found.statistics.metrics["accuracy"].delta == pytest.approx(-0.3)


def test_photographs_of_one_person_are_drawn_together_where_tracker_toml_has_people(
    workspace: Workspace,
) -> None:
    ids = [f"person{number // 2}/{number}.png" for number in range(IMAGES)]
    for answers in ("0000011111", "0110011110"):
        with begin(workspace) as run:
            run.save_validation(ids, TRUTH, say(answers))
    found = [diff_runs(workspace, "exp1", "exp2").statistics]
    path = workspace.root / "tracker.toml"
    path.write_text(
        path.read_text().replace('format = "image_folder"', 'format = "mask_profiles"', 1)
    )
    found.append(diff_runs(load_workspace(workspace.root), "exp1", "exp2").statistics)
    assert [(paired.samples, paired.units) for paired in found if paired] == [
        (IMAGES, IMAGES),
        (IMAGES, 5),
    ]


def test_own_loops_may_pass_the_group_of_each_image(workspace: Workspace) -> None:
    order = slice(None, None, -1)
    for answers, number in (("0000011111", np.int64), ("0110011110", str)):
        with begin(workspace) as run:
            groups = np.array([number(index // 2) for index in range(IMAGES)])
            run.save_validation(IDS[order], TRUTH[order], say(answers)[order], groups=groups[order])
    found = diff_runs(workspace, "exp1", "exp2")
    assert found.statistics is not None
    assert (found.statistics.units, found.statistics.unit) == (5, "group")
    joined = ensemble(workspace, ["exp1", "exp2"], method="soft")
    kept = load_probabilities(workspace.runs_dir / joined.name / "validation.npz")
    assert kept.groups == tuple("0011223344")
    with (
        begin(workspace) as run,
        pytest.raises(DataError, match="9 groups for 10 ids"),
    ):
        run.save_validation(IDS, TRUTH, say(answers), groups=range(9))


def test_runs_validated_on_other_images_say_so(workspace: Workspace) -> None:
    make_own_run(workspace, "0000011111")
    with begin(workspace) as run:
        run.save_validation(["cat/0.png", "cat/99.png"], [0, 1], say("01"))
    problem = diff_runs(workspace, "exp1", "exp2").problem
    assert problem.startswith(
        "the validation sets differ: exp1 has 10 images, exp2 has 2, 1 are in both"
    )


def test_own_loops_are_ensembled_whatever_their_order(workspace: Workspace) -> None:
    make_own_run(workspace, "0000011110")
    make_own_run(workspace, "0001111111", order=slice(None, None, -1))
    path = workspace.runs_dir / "exp2" / "validation.npz"
    save_probabilities(
        path, select(load_probabilities(path), range(IMAGES)[::-1])
    )  # this program sorts by path
    record = ensemble(workspace, ["exp1", "exp2"], method="weighted")
    assert load_config(workspace.runs_dir, record.name)["ensemble"]["searched"] is True
    assert record.summary["val/accuracy"] is not None
    soft = ensemble(workspace, ["exp1", "exp2"], method="soft", note="soft")
    assert load_probabilities(workspace.runs_dir / soft.name / "validation.npz").ids == tuple(
        f"cat/{number}.png" for number in range(IMAGES)
    )
    assert submit(workspace, record.name, "ensemble")[0].number == 1


def test_own_loops_of_folds_make_out_of_fold_predictions(workspace: Workspace) -> None:
    for half in (slice(0, 10, 2), slice(1, 10, 2)):
        with begin(workspace) as run:
            groups = [f"p{number // 2}" for number in range(10)[half]]
            run.save_validation(IDS[half], TRUTH[half], say("0000011111")[half], groups=groups)
            run.save_probabilities(IDS, say("0000011111"))
    record = ensemble(workspace, ["exp1", "exp2"], method="soft")
    joined = load_probabilities(workspace.runs_dir / record.name / "validation.npz")
    assert (len(joined.ids), joined.group_name) == (IMAGES, "group")
    assert dict(zip(joined.ids, joined.groups, strict=True))["i3.png"] == "p1"
    assert record.summary["val/f1"] == 1.0


def test_select_simulates_the_private_score_on_the_validation_images_of_own_loops(
    workspace: Workspace,
) -> None:
    for number, answers in enumerate(("0000011110", "0001111111", "0110011111"), start=1):
        make_own_run(workspace, answers)
        submit(workspace, f"exp{number}", "own", even_if_similar=True)
    simulation = select_final(workspace, 1).simulation
    assert simulation is not None
    assert (simulation.source, simulation.among) == (
        "10 validation images, resampled to 5",
        [1, 2, 3],
    )


def test_suspects_are_found_by_an_own_loop_and_other_ids_are_named(tmp_path: Path) -> None:
    make_workspace_with_images(tmp_path / "ws")
    workspace = load_workspace(tmp_path / "ws")
    ids = [f"{name}/{name}{number:02d}.png" for name in ("cat", "dog") for number in range(3)]
    with begin(workspace, config={"optim": {"lr": 0.1}, "mine": {"depth": 3}}) as run:
        run.save_validation(ids, [0, 0, 0, 1, 1, 1], say("001111", 0.99))
    found = find_suspects(workspace, "exp1", out="suspects", threshold=0, count=1)
    assert [suspect.id for suspect in found.suspects] == ["cat/cat02.png"]
    assert found.covered == 6
    with begin(workspace) as run:
        run.save_validation(["img_1", "img_2"], [0, 1], say("01"))
    with pytest.raises(DataError, match="none of the 2 validation images of exp2") as error:
        find_suspects(workspace, "exp2", out="others", threshold=0, count=1)
    assert error.value.hint.endswith(".png")


# --- The summary ---


def test_without_save_best_the_summary_is_the_best_and_the_last_value_of_every_metric(
    workspace: Workspace,
) -> None:
    f1, loss = (0.2, 0.6, 0.4, float("nan")), (1.0, 0.9, 0.5, 0.7)
    with begin(workspace) as run:
        for epoch in (1, 2, 3, 4):
            run.log(
                {"val/f1": f1[epoch - 1], "val/loss": loss[epoch - 1], "lr": 1 / epoch, "same": 1},
                epoch=epoch,
            )
        run.add_facts({"written": "now"})
        before = load_run(workspace.runs_dir, "exp1")
    record = load_run(workspace.runs_dir, "exp1")
    assert record.summary == {
        "val/f1": 0.6,
        "last/val/f1": None,
        "val/loss": 0.5,
        "last/val/loss": 0.7,
        "lr": 0.25,
        "same": 1.0,
    }
    assert (record.best_epoch, record.epoch) == (2, 4)
    assert before.summary == record.summary  # what a kill leaves


def test_what_save_best_says_stays_whatever_is_logged_after(workspace: Workspace) -> None:
    with begin(workspace) as run:
        run.log({"val/f1": 0.5}, epoch=1)
        run.save_best({"w": torch.ones(2)}, epoch=1, metrics={"val/f1": 0.5})
        run.log({"val/f1": 0.9}, epoch=2)
        run.save_validation(IDS, TRUTH, say("0000011111"))
    record = load_run(workspace.runs_dir, "exp1")
    assert (record.best_epoch, record.epoch, record.summary) == (1, 2, {"val/f1": 0.5})


def test_what_else_was_logged_in_the_best_epoch_stays_in_the_summary(workspace: Workspace) -> None:
    with begin(workspace) as run:
        for epoch, (loss, score) in enumerate([(0.5, 0.25), (0.25, 0.75), (0.125, 0.5)], start=1):
            run.log({"train/loss": 9.0}, epoch=epoch)
            run.log({"train/loss": loss, "val/f1": score}, epoch=epoch)
            if epoch < 3:
                run.save_best({"w": torch.ones(2)}, epoch=epoch, metrics={"val/f1": score})
    record = load_run(workspace.runs_dir, "exp1")
    assert (record.best_epoch, record.epoch, record.summary) == (
        2,
        3,
        {"val/f1": 0.75, "train/loss": 0.25},
    )


def test_a_score_that_the_probabilities_contradict_is_told(
    workspace: Workspace, capsys: pytest.CaptureFixture[str]
) -> None:
    with begin(workspace) as run:
        run.log({"val/f1": 0.5}, epoch=1)
        run.save_validation(IDS, TRUTH, say("0000011111"))
    assert load_run(workspace.runs_dir, "exp1").summary == {
        "val/f1": 0.5
    }  # not those of other weights beside it
    assert (
        "val/f1 is 0.5 as logged, but 1 from the probabilities of save_validation"
        in capsys.readouterr().err
    )


# --- Figures and files ---


def test_figures_of_every_kind_are_kept_as_pictures(workspace: Workspace, tmp_path: Path) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(2, 1), dpi=50)
    figure.subplots().plot([1, 2])
    Image.new("RGB", (8, 6)).save(tmp_path / "photo.jpg")
    kinds = {
        "curve": (figure, (100, 50)),
        "val/confusion": (np.zeros((6, 8)), (8, 6)),
        "tensor": (torch.rand(3, 6, 8), (8, 6)),
        "bytes": (np.zeros((6, 8, 3), dtype=np.uint8), (8, 6)),
        "pil": (Image.new("L", (8, 6)), (8, 6)),
        "혼동 행렬": (str(tmp_path / "photo.jpg"), (8, 6)),
    }
    with begin(workspace) as run:
        for name, (given, size) in kinds.items():
            with Image.open(run.log_figure(name, given)) as picture:
                assert picture.size == size, name
        assert (
            run.log_file(tmp_path / "photo.jpg").read_bytes()
            == (tmp_path / "photo.jpg").read_bytes()
        )
        assert (
            run.log_file(tmp_path / "photo.jpg", "raw/one.jpg")
            == run.folder / "files" / "raw" / "one.jpg"
        )
    assert (run.folder / "figures" / "val" / "confusion.png").is_file()
    assert (run.folder / "figures" / "혼동 행렬.jpg").is_file()


@pytest.mark.parametrize(
    "name",
    ["", "../up", "/abs", "a//b", "a/..", ".hidden", "a\nb", "x" * 201, "\uac00" * 84],
)
def test_a_name_that_leads_out_of_the_run_folder_is_refused(
    workspace: Workspace, tmp_path: Path, name: str
) -> None:
    (tmp_path / "there.txt").touch()
    with begin(workspace) as run:
        with pytest.raises(ConfigError, match="cannot be the name"):
            run.log_figure(name, np.zeros((2, 2)))
        if name:
            with pytest.raises(ConfigError, match="cannot be the name"):
                run.log_file(tmp_path / "there.txt", name)


def test_what_is_no_picture_or_no_file_is_refused(workspace: Workspace, tmp_path: Path) -> None:
    (tmp_path / "a.txt").touch()
    with begin(workspace) as run:
        for figure in (
            np.zeros(3),
            np.zeros((2, 2, 7)),
            [["a"]],
            tmp_path / "a.txt",
            tmp_path / "none.png",
        ):
            with pytest.raises(DataError):
                run.log_figure("a", figure)
        with pytest.raises(DataError, match="no such file"):
            run.log_file(tmp_path)
    assert not list((run.folder / "figures").glob("*"))


# --- Parents, tags, resuming ---


def test_parent_and_tags_are_those_of_any_run(workspace: Workspace) -> None:
    make_own_run(workspace, "0000011111")
    with begin(workspace, parent="latest", tags={"who": "mina"}) as run:
        pass
    record = load_run(workspace.runs_dir, run.name)
    assert (record.parent, record.tags) == ("exp1", ("who=mina",))
    with begin(workspace, tags=["final", "final"]) as run:
        pass
    assert load_run(workspace.runs_dir, run.name).tags == ("final",)
    for wrong, error in (({"parent": "exp99"}, UnknownRunError), ({"tags": "final"}, ConfigError)):
        with pytest.raises(error):
            begin(workspace, **wrong)
    assert len(list_runs(workspace.runs_dir)) == 3  # nothing began


def test_a_run_that_broke_off_goes_on_where_it_was(workspace: Workspace) -> None:
    config = {"optim": {"lr": 0.1}, "sizes": [1, 2]}
    with (
        pytest.raises(ValueError, match="broke"),
        begin(workspace, config=config, tags=["a"]) as run,
    ):
        for epoch in (1, 2):
            run.log({"train/f1": 0.3 * epoch}, epoch=epoch)
        run.save_validation(IDS, TRUTH, say("0000011110"))
        raise ValueError("broke")
    with pytest.raises(ConfigError, match=r"exp1 has another config: optim\.lr"):
        begin(workspace, config={**config, "optim": {"lr": 0.2}}, resume="exp1")
    with begin(workspace, config=config, resume="exp1", note="again", tags=["b"]) as run:
        assert (run.name, run.last_step, run.last_epoch) == ("exp1", 2, 2)
        run.log({"train/f1": 0.5}, step=2, epoch=2)
        run.log({"train/f1": 0.4}, epoch=3)
    record = load_run(workspace.runs_dir, "exp1")
    assert (record.status, record.error, record.note, record.tags) == (
        "finished",
        "",
        "again",
        ("a", "b"),
    )
    assert read_curves(run.folder / "metrics.jsonl")["train/f1"] == {
        1: (1, 0.3),
        2: (2, 0.5),
        3: (3, 0.4),
    }
    assert record.summary == {"train/f1": 0.6, "last/train/f1": 0.4, **_measured(record.summary)}
    assert record.summary["val/accuracy"] == 0.9
    with pytest.raises(ConfigError, match="exp1 is finished and cannot be resumed") as error:
        begin(workspace, resume="exp1")
    assert error.value.hint == 'parent="exp1", without resume, starts a new run from it'
    assert (
        load_run(workspace.runs_dir, make_run(workspace, status="failed").name).status == "failed"
    )


def test_a_resumed_run_keeps_its_best_weights_until_an_epoch_is_better(
    workspace: Workspace, capfd: pytest.CaptureFixture[str]
) -> None:
    config = {"train": {"epochs": 2}, "optim": {"lr": 0.1}}
    with pytest.raises(ValueError, match="broke"), begin(workspace, config=config) as run:
        assert run.best == {}
        run.save_best(
            {"a": torch.ones(1)}, epoch=2, metrics={"val/accuracy": 0.75, "val/loss": 0.5}
        )
        raise ValueError("broke")
    longer = {"train": {"epochs": 5}, "optim": {"lr": 0.1}}
    with (
        pytest.raises(ValueError, match="broke"),
        begin(workspace, config=longer, resume="exp1") as run,
    ):
        assert run.best == {"val/accuracy": 0.75, "val/loss": 0.5}
        for epoch, accuracy in ((1, 0.5), (2, 0.75), (3, float("nan"))):
            run.save_best({"a": torch.zeros(1)}, epoch=epoch, metrics={"val/accuracy": accuracy})
        assert torch.load(run.folder / "best.pth", weights_only=True)["model"]["a"].item() == 1
        with pytest.raises(ConfigError, match="'val/f1', which is not among"):
            run.save_best(
                {"a": torch.zeros(1)}, epoch=3, metrics={"val/accuracy": 0.9}, monitor="val/f1"
            )
        raise ValueError("broke")
    record = load_run(workspace.runs_dir, "exp1")
    assert (record.best_epoch, record.summary["val/accuracy"]) == (2, 0.75)
    lines = capfd.readouterr().err.splitlines()
    assert "exp1: train.epochs is 5, was 2" in lines
    assert (
        "exp1: best.pth is still the one of epoch 2 (val/accuracy 0.7500); epoch 1 has 0.5000"
        in lines
    )
    assert load_config(workspace.runs_dir, "exp1") == longer
    with begin(workspace, resume="exp1") as run:
        less = {"val/accuracy": 0.5, "val/loss": 0.25}
        run.save_best({"a": torch.zeros(1)}, epoch=4, metrics=less, monitor="val/loss")
        run.save_best(
            {"a": torch.zeros(1)}, epoch=5, metrics={"val/accuracy": 0.25}
        )  # the loop knows better now
    record = load_run(workspace.runs_dir, "exp1")
    assert (record.best_epoch, record.summary["val/accuracy"]) == (5, 0.25)


def test_the_last_state_is_whole_or_the_one_before(workspace: Workspace) -> None:
    with pytest.raises(KeyboardInterrupt), begin(workspace) as run:
        assert run.load_last() is None
        run.save_last({"model": {"a": torch.ones(2)}, "epoch": 1})
        with pytest.raises(WeightsError, match="may have tensors, numbers") as error:
            run.save_last({"model": {"a": torch.zeros(2)}, "epoch": np.float64(2)})
        assert "float" in error.value.hint
        raise KeyboardInterrupt
    with begin(workspace, resume="exp1") as run:
        state = run.load_last()
        assert state is not None
        assert (state["epoch"], state["model"]["a"].tolist()) == (1, [1, 1])
        other = tracker.start_run({}, root=workspace.root, rank=1, resume="exp1").load_last()
        assert other is not None  # every process of a group goes on from there
        assert other["epoch"] == 1
    assert sorted(path.name for path in run.folder.glob("*last*")) == ["last.pth"]


def _measured(summary: Any) -> dict[str, float]:
    return {name: value for name, value in summary.items() if name.startswith("val/")}


def test_keys_are_added_to_a_config_until_the_first_point(workspace: Workspace) -> None:
    with begin(workspace, config={"optim": {"lr": 0.1}}) as run:
        before = load_run(workspace.runs_dir, "exp1").fingerprints["config"]
        run.add_config({"optim": {"lr": 0.1, "beta": 0.9}, "depth": 3})
        with pytest.raises(ConfigError, match=r"optim\.lr cannot be added.*another value"):
            run.add_config({"optim": {"lr": 0.2}})
        run.log({"loss": 1})
        run.add_config({"depth": 3})
        with pytest.raises(
            ConfigError, match=r"config\.width cannot be added.*points were already logged"
        ):
            run.add_config({"width": 3})
    assert load_config(workspace.runs_dir, "exp1") == {
        "optim": {"lr": 0.1, "beta": 0.9},
        "config": {"depth": 3},
    }
    assert load_run(workspace.runs_dir, "exp1").fingerprints["config"] != before


def _train_in_a_fork(root: Path, ending: str) -> None:
    run = tracker.start_run({}, root=root, note=ending, follow=False)
    run.log({"loss": 1.0})
    if ending == "failed":
        raise ValueError("no")


def test_a_run_begun_in_a_forked_process_ends_like_it(workspace: Workspace) -> None:
    for ending in ("finished", "failed"):
        process = multiprocessing.get_context("fork").Process(
            target=_train_in_a_fork, args=(workspace.root, ending)
        )
        process.start()
        process.join(COMMAND_LIMIT_S)
    records = list_runs(workspace.runs_dir)
    assert (
        [record.status for record in records]
        == ["failed", "finished"]
        == [record.note for record in records]
    )
    assert records[0].error == "ValueError: no"


# --- The documents ---


def test_the_example_of_the_documents_makes_a_run_that_can_be_submitted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, forks: Forks
) -> None:
    # the photographs lie beside the workspace, as docs/first-hour.md has them
    make_pictures(tmp_path / "photos")
    root = tmp_path / "masks"
    root.mkdir()
    monkeypatch.chdir(root)
    data = {"train_dir": "../photos/train", "eval_dir": "../photos/eval"}
    board = {"solution": tmp_path / "photos/solution.csv"}
    options: dict[str, Any] = {
        "competition": {"classes": ["cat", "dog"]},
        "leaderboard_options": board,
    }
    workspace = init_workspace(root, data=data, **options)
    page = (ROOT / "docs" / "own-training-loop.md").read_text(encoding="utf-8")
    example = page.partition("```python")[2].partition("```")[0]
    last = '"epoch": epoch})\n'  # of the epoch
    stop = f"{last}        if epoch == 2 and not resume:\n            raise KeyboardInterrupt\n"
    assert example.count(last) == 1
    (root / "train.py").write_text(example.replace(last, stop))
    config = resolve_config(workspace)
    write_split(workspace, config, root / "split.csv")
    stopped = forks.start("train.py", cwd=root, module=PROGRAM)
    told = stopped.communicate(timeout=COMMAND_LIMIT_S)
    assert (load_run(workspace.runs_dir, "exp1").status, len(list_runs(workspace.runs_dir))) == (
        "interrupted",
        1,
    ), told
    resumed = forks.start("train.py", "exp1", cwd=root, module=PROGRAM)
    told = resumed.communicate(timeout=COMMAND_LIMIT_S)
    assert resumed.wait() == 0, told
    assert list(read_curves(workspace.runs_dir / "exp1" / "metrics.jsonl")["train/loss"]) == [
        1,
        2,
        3,
    ]
    record = load_run(workspace.runs_dir, "exp1")
    assert (record.status, record.tags) == ("finished", ("linear",))
    assert {"val/accuracy", "val/f1", "train/loss"} <= record.summary.keys()
    curve = dict(
        read_curves(workspace.runs_dir / "exp1" / "metrics.jsonl")["val/accuracy"].values()
    )
    assert record.best_epoch == max(curve, key=lambda epoch: (curve[epoch], -epoch))
    assert record.summary["val/accuracy"] == max(curve.values())
    assert submit(workspace, "exp1", "own loop")[0].number == 1
    # The validation images and labels are those of `tracker run train`.
    _, data = prepare_data(workspace, config)
    predictions = load_probabilities(workspace.runs_dir / "exp1" / "validation.npz")
    assert predictions.labels is not None
    validated = dict(zip(predictions.ids, predictions.labels.tolist(), strict=True))
    assert validated == {sample.id: sample.label for sample in data.val}
    found = find_suspects(workspace, "exp1", out="suspects", threshold=0, count=1)
    assert found.covered == len(data.val)
