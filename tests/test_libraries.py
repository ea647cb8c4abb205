"""What works without the libraries of others, and what the commands say that cannot."""

from __future__ import annotations

import json
import tomllib
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.support.forks import PROGRAM, Forks
from tests.support.limits import CHILD, Case, list_files, run_forked
from tests.support.workspaces import make_run, make_workspace, make_workspace_with_images
from tracker.mirror.mirror import LOG_NAME
from tracker.submission.submit import submit
from tracker.training.errors import MissingLibraryError
from tracker.training.libraries import INSTALL_TRAIN, REQUIREMENTS, require, translate_import_errors
from tracker.workspace.tracker_toml import Workspace

OPTIONAL = {
    *(
        "albumentations",
        "captum",
        "cleanlab",
        "cv2",
        "imagehash",
        "kaggle",
        "lightning_fabric",
        "matplotlib",
        "mlflow",
    ),
    *(
        "optuna",
        "pandas",
        "psutil",
        "psycopg",
        "pynvml",
        "rembg",
        "sklearn",
        "tensorboard",
        "timm",
        "torch",
    ),
    "torchvision",
}

# --- Commands that do without ---


def test_what_needs_no_library_of_the_optional_ones_works_without_any(workspace: Workspace) -> None:
    for answers in ("0000011110", "0000011100", "1110000011"):
        make_run(workspace, answers)
    submit(workspace, "exp1", "first")
    commands = (
        "runs",
        "show exp1",
        "diff exp1 exp2",
        "compare",
        "tree",
        "logs exp1",
        "check exp3",
        "leaderboard",
        "leaderboard cv-lb",
        "sota",
        "select -n 1",
        "audit",
        "run options",
        "ledger init",
        "ledger verify",
        "ledger history",
        "ledger upgrade",
        "ledger backup copy.db",
        "ledger export table.csv",
        "init ../other",
        "--version",
    )
    cases = [Case(workspace.root, words.split(), sorted(OPTIONAL)) for words in commands]
    for words, result in zip(commands, run_forked(cases), strict=True):
        assert (result.code, result.err) == (0, ""), f"{words}: {result.err}"
        assert result.out, words


def test_the_images_are_checked_and_split_without_any_of_them(full: Workspace) -> None:
    commands = ("data check", "data split --out split.csv")
    for result in run_forked(
        [Case(full.root, words.split(), sorted(OPTIONAL)) for words in commands]
    ):
        assert result.code == 0, result.err
    assert (full.root / "split.csv").read_text().startswith("id,label,split\n")


def test_what_is_written_without_mlflow_stays_and_one_line_says_what_is_left_to_do(
    tmp_path: Path,
) -> None:
    workspace = make_workspace(tmp_path / "ws", solution=None)
    make_run(workspace, "0000011110")
    commands = (
        ("submit", "--memo", "first"),
        ("score", "1", "--public-f1", "0.75", "--public-acc", "80"),
        ("note", "exp1", "the site was slow"),
        ("report", "--html", "r.html"),
        ("run", "ensemble", "exp1", "exp1"),
    )
    results = run_forked([Case(workspace.root, words, ["mlflow"]) for words in commands])
    for words, result in zip(commands[:4], results[:4], strict=True):
        assert result.code == 0, f"{words}: {result.err}"
        (line,) = result.err.splitlines()
        assert 'mlflow is not installed (pip install "mlflow[auth]>=3.7,<4")' in line
    (row,) = json.loads(
        run_forked([Case(workspace.root, ("leaderboard", "--json"), ["mlflow"])])[0].out
    )
    assert (row["memo"], row["public_f1"]) == ("first", 0.75)
    assert (workspace.root / "r.html").is_file()


# --- Commands that cannot ---

TRAINS = ("torch", "torchvision", "timm", "albumentations", "lightning_fabric", "matplotlib", "cv2")
NEEDS = {
    "ui --port 0": ("mlflow", "flask"),
    "sync": ("mlflow",),
    "adopt --mlflow 0123": ("mlflow",),
    "adopt events": ("tensorboard",),
    "adopt weights": ("torch",),
    "run train --epochs 1 --model test_resnet": TRAINS,
    "run train --from exp1 --resume": TRAINS,
    "run train --folds 2": ("torch", "matplotlib"),
    "run train --detach": ("torch",),
    "run queue queue.toml --detach": ("timm",),
    "run infer --from exp1": TRAINS,
    "run reproduce exp1": TRAINS,
    "run queue queue.toml": TRAINS,
    "run sweep sweep.toml": ("optuna", *TRAINS),
    "run sweep elsewhere.toml": ("psycopg",),
    "demo new": TRAINS,
    "explain exp1": ("captum", *TRAINS),
    "data stats --figures drawn": ("matplotlib", "albumentations"),
    "data suspects exp1": ("cleanlab", "imagehash", "matplotlib"),
    "data remove-background photos/train": ("cv2", "albumentations"),
    "data remove-background photos/train --method rembg": ("rembg",),
    "diff exp1 exp2 --open": ("matplotlib",),
}


@pytest.fixture
def full(tmp_path: Path) -> Workspace:
    """A workspace with images, runs, and a file for each command that reads one."""
    workspace = make_workspace_with_images(tmp_path / "ws")
    for status in ("killed", "finished"):
        make_run(workspace, "0000011110", status=status, config={"data.train_dir": "photos/train"})
    for name, file in (("events", "events.out.tfevents.1"), ("weights", "best.pth")):
        (workspace.root / name).mkdir()
        (workspace.root / name / file).write_bytes(b"x")
    (workspace.root / "queue.toml").write_text("[[run]]\nepochs = 1\n")
    sweep = "trials = 1\n[space]\noptim.lr = [0.1, 0.2]\n"
    (workspace.root / "sweep.toml").write_text(sweep)
    (workspace.root / "elsewhere.toml").write_text(
        'storage = "postgresql+psycopg://u@127.0.0.1:9/x"\n' + sweep
    )
    return workspace


def test_each_command_names_the_library_that_it_lacks_before_it_writes(full: Workspace) -> None:
    pairs = [(words, name) for words, names in NEEDS.items() for name in names]
    before = list_files(full.root)
    results = run_forked([Case(full.root, words.split(), [name]) for words, name in pairs])
    for (words, name), result in zip(pairs, results, strict=True):
        lines = result.err.splitlines()
        install = INSTALL_TRAIN if name == "torch" else f'pip install "{REQUIREMENTS[name]}"'
        told = f"{words} without {name}: exit {result.code}\n{result.err}"
        assert result.code == 2, told
        assert lines == [
            f"error: {name} is not installed",
            f"  try: {install}",
        ], told
        assert result.out == "", told
    assert list_files(full.root) == before


def test_all_that_is_missing_is_named_at_once(full: Workspace) -> None:
    (result,) = run_forked([Case(full.root, ["run", "train"], ["torch", "timm"])])
    assert result.err.splitlines() == [
        "error: torch, timm are not installed",
        f"  try: {INSTALL_TRAIN}",
    ]


def test_a_ledger_on_postgresql_needs_its_driver(full: Workspace) -> None:
    url = {"TRACKER_LEDGER_URL": "postgresql+psycopg://u@127.0.0.1:9/x"}
    commands = (
        "leaderboard",
        "submit exp2 --memo m",
        "ledger init",
        "ledger backup b.db",
        "init ../other",
    )
    before = list_files(full.root)
    for result in run_forked(
        [Case(full.root, words.split(), ["psycopg"], url) for words in commands]
    ):
        assert (result.code, result.err.splitlines()[0]) == (2, "error: psycopg is not installed")
    assert list_files(full.root) == before


def test_submitting_to_kaggle_needs_its_client_and_writes_no_row_without_it(
    full: Workspace,
) -> None:
    text = (full.root / "tracker.toml").read_text()
    text = text.replace('kind = "manual"', 'kind = "kaggle"').replace(
        'competition = ""', 'competition = "masks"'
    )
    (full.root / "tracker.toml").write_text(text)
    submitted, listed = run_forked(
        [
            Case(full.root, ["submit", "exp2", "--memo", "m"], ["kaggle"]),
            Case(full.root, ["leaderboard", "--json"], ["kaggle"]),
        ]
    )
    assert (submitted.code, submitted.err.splitlines()[0]) == (2, "error: kaggle is not installed")
    assert json.loads(listed.out) == []


# --- Training ---


@pytest.mark.slow
def test_a_run_is_trained_without_mlflow_tensorboard_and_the_drivers(full: Workspace) -> None:
    words = [
        "run",
        "train",
        "--epochs",
        "1",
        "--model",
        "test_resnet",
        "--set",
        "data.image_size=[32,32]",
    ]
    words += ["--set", "data.workers=0", "--set", "model.pretrained=false"]
    without = ("mlflow", "tensorboard", "psycopg", "pynvml", "psutil", "kaggle")
    blocker = full.root / "blocker"  # the mirror is a process of its own
    blocker.mkdir()
    (blocker / "sitecustomize.py").write_text(
        CHILD.partition("def run")[0].replace("import tracker.cli\n", "")
        + f"forget({set(without)!r})\n"
    )
    (result,) = run_forked([Case(full.root, words, without, {"PYTHONPATH": str(blocker)})])
    assert result.code == 0, result.err
    assert "exp3 finished" in result.out
    assert result.err.count("mlflow is not installed") == 1
    assert "Traceback" not in result.err
    assert (full.runs_dir / "exp3" / "best.pth").is_file()
    assert (full.runs_dir / "exp3" / LOG_NAME).read_text().count("\n") == 1


# --- The words ---


def test_the_packages_named_are_those_of_the_project() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    known = {*project["dependencies"], *project["optional-dependencies"]["kaggle"]}
    known |= {
        *project["optional-dependencies"]["train"],
        *project["optional-dependencies"]["rembg"],
        *project["optional-dependencies"]["slurm"],
        "opencv-python-headless",
    }  # albumentations brings that
    assert set(REQUIREMENTS.values()) <= known
    assert project["name"] not in " ".join(REQUIREMENTS.values())


def test_a_library_that_cannot_be_loaded_is_named_with_the_reason() -> None:
    with (
        pytest.raises(MissingLibraryError, match=r"cv2 cannot be loaded: libGL.so.1") as told,
        translate_import_errors(),
    ):
        raise ImportError("libGL.so.1: cannot open shared object file", name="cv2")
    assert told.value.hint == 'pip install --force-reinstall "opencv-python-headless"'


def test_an_import_error_without_a_name_is_that_of_the_library_that_raised_it() -> None:
    code = compile(
        "raise ImportError('no pq wrapper available.\\nAttempts made: ...')", "psycopg", "exec"
    )
    words = r"psycopg cannot be loaded: no pq wrapper available\."
    with pytest.raises(MissingLibraryError, match=words), translate_import_errors():
        exec(code, {"__name__": "psycopg.pq"})  # noqa: S102  (a module of that name)


def test_the_library_of_a_library_is_no_name_to_install_blindly() -> None:
    with (
        pytest.raises(MissingLibraryError, match="flask is not installed") as told,
        translate_import_errors(),
    ):
        raise ModuleNotFoundError("No module named 'nosuchflask'", name="nosuchflask")
    assert "pip install nosuchflask" not in told.value.hint


def test_an_import_error_of_our_own_stays_a_bug() -> None:
    with pytest.raises(ImportError, match="cannot import name") as told, translate_import_errors():
        raise ImportError("cannot import name 'x'", name="tracker.run_folder.record")
    assert not isinstance(told.value, MissingLibraryError)


def test_what_is_installed_is_not_asked_for() -> None:
    require("numpy", "sqlalchemy")


def test_a_training_leaves_torchmetrics_to_those_who_want_it(forks: Forks, tmp_path: Path) -> None:
    if find_spec("torchmetrics") is None:  # importing it here would take two seconds
        pytest.skip("needs torchmetrics")
    (tmp_path / "script.py").write_text(
        "import sys\nassert 'tracker.training.run.loop' in sys.modules\n"
        "names = ('torchmetrics', 'transformers', 'scipy.signal')\n"
        "heavy = [name for name in names if name in sys.modules]\n"
        "import torchmetrics\nprint(heavy, torchmetrics.__name__)\n"
    )
    child = forks.start("script.py", cwd=tmp_path, module=PROGRAM)
    assert child.communicate() == ("[] torchmetrics\n", "")
