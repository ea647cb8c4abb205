"""Trained runs used again: inferred, continued, reproduced, and not trained twice."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.conftest import COMMAND_LIMIT_S, NO_MLFLOW, ROOT, make_pictures
from tests.support.forks import TORCHRUN, Forks
from tests.support.mlflow_runs import find_runs
from tests.support.servers import free_port
from tracker.comparison.diff import diff_runs
from tracker.core.errors import AlreadyTrainedError, InterruptedByUserError, RefusedError
from tracker.run_folder.points import read_curves
from tracker.run_folder.read import list_runs, load_config, load_run
from tracker.run_folder.record import RunRecord
from tracker.setup.init import init_workspace
from tracker.training.errors import ConfigError
from tracker.training.machine import has_bfloat16
from tracker.training.model import model
from tracker.training.predict.probabilities import load_probabilities, measure_classes
from tracker.training.run import precision
from tracker.training.run.checkpoint import load_checkpoint
from tracker.workflows import train as workflow
from tracker.workflows.folds import train_folds
from tracker.workflows.infer import infer
from tracker.workflows.precision import FIGURES
from tracker.workflows.reproduce import reproduce
from tracker.workflows.resolve import resolve_config
from tracker.workflows.reuse import decides_alike
from tracker.workflows.train import resume, train
from tracker.workspace.tracker_toml import Workspace, load_workspace

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("forked_mirrors")]

CODE = ("tracker.toml", "cli.py", "ledger.db.sql", "tracker", "training")
BASE = (
    "model.name=test_resnet",
    "train.epochs=2",
    "train.batch_size=8",
    "optim.lr=0.003",
    "sched.name=constant",
    "data.image_size=[32,32]",
    "data.split=stratified",
    "data.workers=0",
    "train.log_every=1",
    "train.accelerator=cpu",
)


@pytest.fixture
def drawn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    """Real (tiny) photographs; MLflow is away, so that nothing waits for it."""
    monkeypatch.setenv("TRACKER_MLFLOW_URI", NO_MLFLOW["TRACKER_MLFLOW_URI"])
    monkeypatch.setenv("TRACKER_MLFLOW_WAIT_S", "0")
    root = tmp_path / "ws"
    make_pictures(root)
    return init_workspace(
        root,
        data={"train_dir": str(root / "train"), "eval_dir": str(root / "eval")},
        competition={},
        leaderboard_options={"solution": root / "solution.csv"},
    )


@pytest.fixture
def ws(drawn: Workspace, no_pictures: None) -> Workspace:
    """The same, whose runs draw nothing."""
    return drawn


def run(
    workspace: Workspace, *assign: str, force: bool = False, parent: str | None = None
) -> RunRecord:
    config = resolve_config(
        workspace, parent=parent, assignments=(*(() if parent else BASE), *assign)
    )
    return train(workspace, config, parent=parent, quiet=True, force=force)


@contextmanager
def threads(number: int) -> Iterator[None]:
    """Compute with so many threads, unless a run says otherwise."""
    before = torch.get_num_threads()
    torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def test_a_config_that_was_trained_is_not_trained_again_unless_forced(ws: Workspace) -> None:
    first = run(ws)
    with pytest.raises(RefusedError, match="exp1 already has this config, data and code") as caught:
        run(ws)
    assert (caught.value.exit_code, "--force" in caught.value.hint) == (3, True)
    shutil.copytree(ws.root / "train", ws.root / "elsewhere" / "photos")
    with pytest.raises(RefusedError, match="exp1 already has this config, data and code"):
        run(ws, "data.train_dir=elsewhere/photos", "data.workers=1", "train.strategy=fsdp")
    again = run(ws, force=True)
    assert again.name == "exp2"
    assert again.fingerprints == first.fingerprints
    (ws.root / "train" / "cat" / "cat00.png").write_bytes(
        (ws.root / "train" / "cat" / "cat01.png").read_bytes()
    )
    assert run(ws).name == "exp3", "other data are another training"


def test_more_epochs_go_on_from_an_earlier_run_and_equal_training_from_scratch(
    ws: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    def press_ctrl_c(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with threads(1):
        run(ws)
    shutil.copytree(ws.root / "train", ws.root / "copy")
    with threads(2):
        with monkeypatch.context() as patch, pytest.raises(InterruptedByUserError):
            patch.setattr(workflow, "choose_precision", press_ctrl_c)  # before it computes anything
            run(ws, "train.epochs=4", "data.train_dir=copy", parent="exp1")
        with monkeypatch.context() as patch, pytest.raises(InterruptedByUserError):
            patch.setattr("tracker.run_folder.recorder.Recorder.keep_logged", press_ctrl_c)
            resume(ws, "exp2", quiet=True)
        assert load_run(ws.runs_dir, "exp2").status == "interrupted"
        longer = resume(ws, "exp2", quiet=True)
    assert longer.facts["continues"]
    assert longer.facts["threads"] == 1
    with threads(1):
        scratch = run(ws, "train.epochs=4", force=True)
    assert "continues" not in scratch.facts
    assert longer.fingerprints == scratch.fingerprints
    assert longer.summary.keys() == scratch.summary.keys()
    curves = [
        read_curves(ws.runs_dir / name / "metrics.jsonl") for name in (longer.name, scratch.name)
    ]
    for key in ("val/f1", "train/loss", "train/batch_loss", "train/batch_lr"):
        assert curves[0][key] == curves[1][key]
    assert [key for key, _ in curves[0]["val/f1"].items()] == [1, 2, 3, 4]


def test_a_run_whose_best_epoch_another_decision_chose_is_not_continued() -> None:
    earlier: dict[str, Any] = {"eval": {"threshold": 0.5, "decide": "plain", "tta": "none"}}
    for keys, alike in (
        ({"tta": "flip"}, True),
        ({"decide": "tuned"}, True),  # tuned after training, on the best epoch
        ({"threshold": 0.3}, False),
        ({"decide": "expected"}, False),
    ):
        assert decides_alike(earlier, {"eval": {**earlier["eval"], **keys}}) == alike
    assert decides_alike({"data": {}}, earlier)  # a run before there were such keys


def test_a_schedule_that_depends_on_the_epochs_or_patience_is_not_continued(ws: Workspace) -> None:
    run(ws, "sched.name=cosine")
    assert "continues" not in run(ws, "sched.name=cosine", "train.epochs=3").facts
    assert (
        "continues" not in run(ws, "sched.name=cosine", "train.patience=1", "train.epochs=3").facts
    )


def test_folds_are_runs_and_their_ensemble_has_out_of_fold_predictions(ws: Workspace) -> None:
    run(ws, "data.folds=3", "data.fold=1")
    config = resolve_config(ws, assignments=(*BASE, "data.folds=3"))
    said: list[str] = []
    record = train_folds(ws, config, note="cv", quiet=True, report=said.append)
    assert (record.name, record.kind) == ("exp4", "ensemble")
    assert said[0] == "fold 1: skipped, exp1 already has this config, data and code"
    assert len(said) == 2 and said[1].startswith("MLflow is behind (")
    assert load_config(ws.runs_dir, "exp4")["ensemble"]["members"] == ["exp2", "exp1", "exp3"]
    validation = load_probabilities(ws.runs_dir / "exp4" / "validation.npz")
    assert sorted(validation.ids) == sorted(
        f"{kind}/{kind}{n:02d}.png" for kind in ("cat", "dog") for n in range(12)
    )
    parts = [
        load_probabilities(ws.runs_dir / name / "validation.npz")
        for name in ("exp2", "exp1", "exp3")
    ]
    assert validation.ids == tuple(name for part in parts for name in part.ids)
    assert record.summary["val/f1"] == measure_classes(validation)["val/f1"]
    assert (ws.runs_dir / "exp4" / "predictions.csv").is_file()


def test_the_ensemble_of_folds_is_copied_to_mlflow_as_they_are(
    ws: Workspace, mlflow_db: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("TRACKER_MLFLOW_URI")
    monkeypatch.setenv("TRACKER_MLFLOW_WAIT_S", str(COMMAND_LIMIT_S))
    shutil.copy(mlflow_db, ws.root / "mlflow.db")
    ws = load_workspace(ws.root)  # without the address that leads nowhere
    config = resolve_config(ws, assignments=(*BASE, "data.folds=2", "train.epochs=1"))
    said: list[str] = []
    assert train_folds(ws, config, quiet=True, report=said.append).name == "exp3"
    copied = {run.info.run_name: run.info.status for run in find_runs(ws)}
    assert copied == dict.fromkeys(("exp1", "exp2", "exp3"), "FINISHED")
    assert said == []


def test_forced_folds_are_trained_again(ws: Workspace) -> None:
    config = resolve_config(ws, assignments=(*BASE, "data.folds=2", "train.epochs=1"))
    said: list[str] = []
    assert train_folds(ws, config, quiet=True, report=said.append).name == "exp3"
    assert train_folds(ws, config, quiet=True, force=True, report=said.append).name == "exp6"
    assert not any("skipped" in line for line in said)
    assert load_config(ws.runs_dir, "exp6")["ensemble"]["members"] == ["exp4", "exp5"]


def test_two_machines_under_torchrun_make_one_run(ws: Workspace, forks: Forks) -> None:
    plain = ("model.name=test_vit", "optim.name=sgd", "optim.lr=0.05")  # neither magnifies rounding
    words = [word for text in (*BASE, "train.num_nodes=2", *plain) for word in ("--set", text)]
    machine = ("--nnodes", "2", "--master-port", str(free_port()), "--node-rank")
    command = ("-m", "tracker.cli", "run", "train", *words)
    machines = [
        forks.start(*machine, str(rank), *command, cwd=ws.root, module=TORCHRUN, ranks=1)
        for rank in range(2)
    ]
    outputs = [machine.communicate(timeout=COMMAND_LIMIT_S) for machine in machines]
    assert [machine.wait() for machine in machines] == [0, 0], outputs
    assert [stdout.count("finished") for stdout, _ in outputs] == [1, 0]
    (record,) = list_runs(ws.runs_dir)
    assert (record.status, record.facts["processes"]) == ("finished", 2)
    with pytest.raises(RefusedError, match="exp1 already has this config"):
        run(ws, *plain)
    alone = run(ws, *plain, force=True)
    assert record.summary["val/loss"] == pytest.approx(alone.summary["val/loss"], rel=1e-3)


def test_trained_and_inferred_runs_have_their_pictures(drawn: Workspace) -> None:
    run(drawn, "train.epochs=1")
    infer(drawn, "exp1", ["eval.tta=flip"], quiet=True)
    for name, others in (("exp1", {"curves.png"}), ("exp2", set())):
        figures = {"confusion.png", "images.png", *others}
        assert figures <= {path.name for path in (drawn.runs_dir / name).iterdir()}


def test_infer_is_a_run_whose_diff_is_the_eval_key(ws: Workspace) -> None:
    trained = run(ws)
    record = infer(ws, "exp1", ["eval.tta=crops_flip"], quiet=True)
    assert (record.name, record.kind, record.parent, record.status) == (
        "exp2",
        "infer",
        "exp1",
        "finished",
    )
    found = diff_runs(ws, "exp1", "exp2")
    assert found.config == {"eval.tta": ["none", "crops_flip"]}
    assert record.fingerprints["weights"] == trained.fingerprints["weights"]
    one, other = (
        load_probabilities(ws.runs_dir / name / "probabilities.npz") for name in ("exp1", "exp2")
    )
    assert one.ids == other.ids
    assert one.probabilities.tobytes() != other.probabilities.tobytes()
    with pytest.raises(
        AlreadyTrainedError, match="exp2 already has this config, data and weights"
    ) as caught:
        infer(ws, "exp1", ["eval.tta=crops_flip"], quiet=True)
    assert "--force to predict again" in caught.value.hint
    again = infer(ws, "exp1", ["eval.tta=crops_flip"], quiet=True, force=True)
    assert again.fingerprints["predictions"] == record.fingerprints["predictions"]
    same = infer(ws, "exp2", ["eval.tta=none"], quiet=True)
    assert same.fingerprints["predictions"] == trained.fingerprints["predictions"]
    assert same.summary == pytest.approx({key: trained.summary[key] for key in same.summary})


def test_infer_changes_nothing_that_was_trained_and_notices_other_weights(ws: Workspace) -> None:
    run(ws)
    with pytest.raises(
        ConfigError,
        match=(
            r"can only change keys of eval, train\.accelerator and train\.precision,"
            r" not optim\.lr"
        ),
    ):
        infer(ws, "exp1", ["optim.lr=0.1"])
    with pytest.raises(ConfigError, match="this would change nothing in exp1"):
        infer(ws, "exp1")
    other = run(ws, "train.seed=1")
    best = ws.runs_dir / "exp1" / "best.pth"
    best.write_bytes((ws.runs_dir / other.name / "best.pth").read_bytes())
    with pytest.raises(ConfigError, match="has changed since the run was recorded"):
        infer(ws, "exp1", ["eval.tta=flip"])


def commit(root: Path) -> None:
    identity = ("-c", "user.name=a", "-c", "user.email=a@b")
    for words in (
        ("init", "-q"),
        ("add", "--", *(path.name for path in root.iterdir() if path.name in CODE)),
        (*identity, "commit", "-qm", "start"),
    ):
        subprocess.run(["git", "-C", root, *words], check=True, capture_output=True)


def test_a_recipe_is_shown_and_recorded_and_set_wins_over_it(ws: Workspace, forks: Forks) -> None:
    assigned = [
        word for text in BASE if not text.startswith("train.batch") for word in ("--set", text)
    ]
    words = ("run", "train", "--recipe", "fast", "--batch-size", "auto", *assigned)
    done = forks.run(*words, cwd=ws.root, **NO_MLFLOW)
    assert "recipe fast sets (--set wins over it):" in done.stderr
    assert "  augment: name = standard" in done.stderr
    assert "train.batch_size = 32 (auto: " in done.stderr
    record, config = list_runs(ws.runs_dir)[0], load_config(ws.runs_dir, "exp1")
    assert record.facts["recipe"] == "fast"
    assert record.facts["auto_batch_size"] == config["train"]["batch_size"] == 32
    assert (config["optim"]["lr"], config["sched"]["name"]) == (0.003, "constant")
    assert (config["augment"]["name"], config["eval"]["tta"]) == ("standard", "flip")
    assert config["loss"]["name"] == "label_smoothing"
    refused = forks.run(*words[:3], "fsat", cwd=ws.root, ok=False, **NO_MLFLOW)
    assert refused.returncode == 2
    assert "(nearest: fast)" in refused.stderr
    assert len(list_runs(ws.runs_dir)) == 1
    listed = forks.run("run", "options", cwd=ws.root, **NO_MLFLOW)
    assert all(f"--recipe {name}" in listed.stdout for name in ("fast", "strong"))


def test_what_auto_stands_for_is_measured_once_and_kept_by_whatever_goes_on_from_a_run(
    ws: Workspace, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for module in (precision, model):
        monkeypatch.setattr(module, "has_bfloat16", lambda: True)
    monkeypatch.setattr(precision, "LEAST_PIXELS", 0)
    monkeypatch.setattr(precision, "MARGIN", 0.0)
    first = train(ws, resolve_config(ws, assignments=BASE))
    assert "train.precision = bf16-mixed (auto, a step trains " in capsys.readouterr().err
    figures = {name: first.facts[name] for name in FIGURES}
    assert first.facts["auto_precision"] == first.facts["precision"] == "bf16-mixed"
    assert all(value > 0 for value in figures.values())
    assert load_config(ws.runs_dir, "exp1")["train"]["precision"] == "auto"
    # From here on a measurement would be an error.
    monkeypatch.setattr(precision, "measure_steps", None)
    other = train(ws, resolve_config(ws, assignments=(*BASE, "train.seed=7")))
    assert "(auto, measured before: " in capsys.readouterr().err
    assert {name: other.facts[name] for name in FIGURES} == figures
    # What was measured would mean float32 now, but a run stays what it is.
    monkeypatch.setattr(precision, "MARGIN", 1e9)
    longer = run(ws, "train.epochs=3", parent="exp1")
    assert longer.facts["continues"]
    assert longer.facts["precision"] == longer.facts["auto_precision"] == "bf16-mixed"
    assert infer(ws, "exp1", ["eval.tta=flip"], quiet=True).facts["precision"] == "bf16-mixed"
    # A damaged file of measurements is measured anew, and the setting comes before it.
    (ws.state_dir / "precision.json").write_text('[{"step": 1}]')
    monkeypatch.setenv("TRACKER_AUTO_PRECISION", "16-mixed")
    with pytest.raises(ConfigError, match="TRACKER_AUTO_PRECISION=16-mixed: expected 32-true or"):
        run(ws, "train.seed=9")
    monkeypatch.setenv("TRACKER_AUTO_PRECISION", "32-true")
    assert run(ws, "train.seed=9", force=True).facts["precision"] == "32-true"
    monkeypatch.delenv("TRACKER_AUTO_PRECISION")
    with pytest.raises(TypeError):
        run(ws, "train.seed=10")


def test_a_run_is_reproduced_from_its_record_on_its_commit(
    ws: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in CODE[1:]:
        source = ROOT / name
        (
            shutil.copytree(source, ws.root / name)
            if source.is_dir()
            else shutil.copy(source, ws.root / name)
        )
    commit(ws.root)
    with (ws.root / "tracker" / "__init__.py").open("a") as file:
        file.write(
            "\nfrom pathlib import Path as _Path\n_Path('code-of-exp1').write_text(__file__)\n"
        )
    with threads(1), pytest.MonkeyPatch.context() as patch:
        patch.setenv("TRACKER_AUTO_PRECISION", "bf16-mixed")
        record = run(ws)
    expected = "bf16-mixed" if has_bfloat16() else "32-true"
    assert record.facts["precision"] == expected
    shutil.rmtree(ws.root / "tracker")
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    found = reproduce(ws, "exp1", quiet=True)
    assert load_run(ws.runs_dir, "exp2").facts["threads"] == record.facts["threads"] == 1
    assert load_run(ws.runs_dir, "exp2").facts["precision"] == expected
    assert found.agrees
    assert found.lines[0].startswith("code: commit ")
    assert found.lines[0].endswith(" with its uncommitted changes")
    assert "tracker-reproduce-" in (ws.root / "code-of-exp1").read_text()
    assert found.lines[-2:] == ("predictions: equal to exp1's", "weights: equal to exp1's")
    listed = subprocess.run(
        ["git", "-C", ws.root, "worktree", "list"], check=True, capture_output=True, text=True
    )
    assert len(listed.stdout.splitlines()) == 1
    assert load_config(ws.runs_dir, "exp2") == load_config(ws.runs_dir, "exp1")
    assert load_checkpoint(ws.runs_dir / "exp1" / "best.pth")["epoch"] == record.best_epoch


def test_a_run_is_not_reproduced_when_a_label_has_changed(ws: Workspace, forks: Forks) -> None:
    run(ws)
    (ws.root / "train" / "cat" / "cat00.png").rename(ws.root / "train" / "dog" / "cat00.png")
    done = forks.run("run", "reproduce", "exp1", cwd=ws.root, ok=False, **NO_MLFLOW)
    assert done.returncode == 1
    assert "exp1 cannot be reproduced: images, labels or label fixes have changed" in done.stdout
    with pytest.raises(ConfigError, match="not a finished training run"):
        reproduce(ws, infer(ws, "exp1", quiet=True).name)


def test_an_epoch_that_was_saved_but_not_recorded_is_in_the_record_after_a_resume(
    ws: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = workflow._record_epoch

    def die(recorder: Any, advice: Any, report: Any, release: Any) -> None:
        if report.epoch == 2:
            raise ConfigError("as a kill between last.pth and run.json")
        record(recorder, advice, report, release)

    monkeypatch.setattr(workflow, "_record_epoch", die)
    with pytest.raises(ConfigError, match="as a kill"):
        run(ws, "optim.lr=0.01")
    assert load_run(ws.runs_dir, "exp1").epoch == 1
    best = load_checkpoint(ws.runs_dir / "exp1" / "last.pth")["best"]
    done = resume(ws, "exp1", quiet=True)
    assert (done.status, done.epoch, done.best_epoch) == ("finished", 2, best["epoch"])
    measured = {name: done.summary[name] for name in best["metrics"]}
    assert measured == best["metrics"]


def test_a_run_without_some_images_keeps_their_list_and_infer_cannot_change_it(
    ws: Workspace,
) -> None:
    (ws.root / "bad.csv").write_text("path,reason\ncat/cat00.png,blurred\n")
    first = run(ws, "data.exclude=bad.csv", "train.epochs=1")
    assert (ws.runs_dir / "exp1" / "exclude.csv").read_bytes() == (ws.root / "bad.csv").read_bytes()
    with pytest.raises(RefusedError, match="exp1 already has this config, data and code"):
        run(ws, parent="exp1")
    with pytest.raises(
        ConfigError, match=r"infer can only change keys of eval.*, not data\.exclude"
    ):
        infer(ws, "exp1", ["eval.tta=flip", "data.exclude="])
    other = run(ws, "data.exclude=", parent="exp1")
    assert other.fingerprints["data"] != first.fingerprints["data"]
    assert other.fingerprints["config"] != first.fingerprints["config"]
