"""What is installed is one name, `tracker`; it works without the checkout and beside other people's
code.

The session's demo is made by the installed wheel (tests/conftest.py).
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.conftest import COMMAND_LIMIT_S, NO_MLFLOW, ROOT, make_pictures, make_project
from tracker.mirror.mirror import LOG_NAME

pytestmark = pytest.mark.slow

# the loop is only looked for: to import it takes four seconds, and the demo does
WHERE = (
    "import importlib.util as util, tracker.cli as cli; print(cli.__file__,"
    " util.find_spec('tracker.training.run.loop').origin)"
)


def test_the_installed_program_is_the_wheel_and_not_the_checkout(
    installed: Path, tmp_path: Path
) -> None:
    done = subprocess.run(
        [installed / "python", "-c", WHERE],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    for place in done.stdout.split():
        assert Path(place).is_relative_to(installed.parent)
        assert not Path(place).is_relative_to(ROOT)


def test_the_wheel_has_one_name(installed: Path) -> None:
    (wheel,) = installed.parent.parent.glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    assert {name.partition("/")[0] for name in names if ".dist-info/" not in name} == {"tracker"}
    assert {
        "tracker/cli.py",
        "tracker/ledger.db.sql",
        "tracker/py.typed",
        "tracker/training/run/loop.py",
    } <= set(names)
    assert len(names) == len(set(names))


def test_the_installed_program_makes_a_ledger_and_a_run(demo: tuple[Path, str]) -> None:
    folder, story = demo
    assert (folder / "ledger.db").is_file()
    assert (folder / "runs" / "exp1" / "best.pth").is_file()
    assert "submission 2" in story


def test_the_installed_program_has_the_reports_page(
    installed: Path, demo: tuple[Path, str], tmp_path: Path
) -> None:
    target = tmp_path / "report.html"
    command = [installed / "tracker", "report", "--html", target]
    subprocess.run(
        command, cwd=demo[0], env={**os.environ, **NO_MLFLOW}, capture_output=True, check=True
    )
    assert "<!doctype html>" in target.read_text()


# --- A project with names of ours ---

THEIRS = """
import training, cli, tests
import tracker
with tracker.start_run({"optim": {"lr": 2e-5}}, note="own loop") as run:
    run.log({"train/loss": training.LOSS}, step=1, epoch=1)
print(training.__file__, cli.__file__, tests.__path__[0])
"""
SHORT = (
    "model.name=test_resnet",
    "data.image_size=[32,32]",
    "train.batch_size=8",
    "data.workers=0",
)


@pytest.fixture(params=["wheel", "editable"])
def python(request: pytest.FixtureRequest) -> Path:
    """An interpreter that has the wheel, and one that has the checkout (`pip install -e`, as make
    does)."""
    return (
        request.getfixturevalue("installed") / "python"
        if request.param == "wheel"
        else Path(sys.executable)
    )


def run_in(root: Path, *words: str) -> str:
    """What a command prints, run in a project."""
    done = subprocess.run(
        words,
        cwd=root,
        env={**os.environ, "PYTHONPATH": ""},
        capture_output=True,
        text=True,
        timeout=COMMAND_LIMIT_S,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def check_copied(root: Path, *names: str) -> None:
    """These runs are in MLflow."""
    for name in names:
        state = json.loads((root / "runs" / name / "mlflow.json").read_text())
        assert state["run_id"], (root / "runs" / name / LOG_NAME).read_text()


def test_an_own_loop_works_beside_folders_of_the_same_names(
    python: Path, tmp_path: Path, mlflow_db: Path
) -> None:
    root = make_project(tmp_path / "project")
    (root / "loop.py").write_text(THEIRS)
    shutil.copy(mlflow_db, root)
    run_in(root, str(python), "-P", "-m", "tracker.cli", "init", ".", "--no-pretrained")
    places = run_in(root, str(python), "loop.py").split()
    assert places == [str(root / name) for name in ("training/__init__.py", "cli.py", "tests")]
    check_copied(root, "exp1")
    assert run_in(root, str(python), "-c", "import training; print(training.LOSS)").strip() == "0.5"


def test_a_training_works_beside_folders_of_the_same_names(
    demo: tuple[Path, str], tmp_path: Path, mlflow_db: Path
) -> None:
    assert (
        demo[0].parent / "training" / "__init__.py"
    ).is_file()  # the wheel's trainings were begun there
    check_copied(demo[0], "exp1", "exp2")
    make_pictures(pictures := tmp_path / "pictures")
    root = make_project(tmp_path / "project")
    shutil.copy(mlflow_db, root)
    tracker = (sys.executable, "-P", "-m", "tracker.cli")  # and the checkout's
    data = ("--train-dir", str(pictures / "train"), "--eval-dir", str(pictures / "eval"))
    run_in(root, *tracker, "init", ".", *data, "--no-pretrained")
    words = [word for text in SHORT for word in ("--set", text)]
    run_in(root, *tracker, "run", "train", "--epochs", "1", *words)
    listed = json.loads(run_in(root, *tracker, "runs", "--json"))
    assert [(row["name"], row["status"]) for row in listed] == [("exp1", "finished")]
    check_copied(root, "exp1")


def test_a_plain_folder_called_training_is_not_hidden(python: Path, tmp_path: Path) -> None:
    (tmp_path / "training").mkdir()
    (tmp_path / "training" / "mine.py").write_text("WORD = 'mine'\n")
    done = subprocess.run(
        [str(python), "-c", "import tracker, training.mine; print(training.mine.WORD)"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": ""},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == "mine"
