"""The command line as a whole: what it loads, its exit codes, its errors, and that the documents
name every command."""

from __future__ import annotations

import ast
import errno
import importlib.metadata
import json
import os
import platform
import subprocess
import sys
from pathlib import Path

import click
import pytest
import typer
from typer.testing import CliRunner

import tracker
from tests.conftest import NO_MLFLOW, ROOT, Done, run_interpreter, run_tracker
from tests.support.commands import COMMANDS
from tests.support.validation import guess, keep
from tests.support.workspaces import make_run, make_workspace
from tracker import cli
from tracker.commands.table import TABLE, app
from tracker.workspace.tracker_toml import Workspace

HEAVY = {
    *(
        "PIL",
        "albumentations",
        "cv2",
        "lightning_fabric",
        "matplotlib",
        "mlflow",
        "numpy",
        "optuna",
        "pandas",
        "scipy",
    ),
    *("sklearn", "sqlalchemy", "tensorboard", "timm", "torch", "torchvision"),
}


def run_python(code: str) -> list[str]:
    """What the code prints in a process of its own, and last the modules that are loaded then."""
    done = subprocess.run(
        [sys.executable, "-c", f"import sys\n{code}\nprint(*sys.modules)"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.splitlines()


def imported_modules(code: str) -> set[str]:
    """The modules that are loaded when the code has run in a process of its own."""
    return set(run_python(code)[-1].split())


def find_heavy(code: str) -> set[str]:
    """The heavy libraries that are loaded when the code has run."""
    return {name.partition(".")[0] for name in imported_modules(code)} & HEAVY


# --- What is loaded ---


@pytest.mark.parametrize(
    "words",
    [
        "--help",
        "--version",
        "run --help",
        "run train --help",
        "submit --help",
        "leaderboard --help",
    ],
)
def test_help_loads_no_heavy_library(words: str) -> None:
    argv = f"sys.argv = ['tracker', *{words.split()!r}]\n"
    code = f"{argv}from tracker import cli\ntry:\n    cli.main()\nexcept SystemExit:\n    pass"
    assert not find_heavy(code)


def code_of_command(workspace: Workspace, words: list[str]) -> str:
    """Python code that runs a command in a workspace; it fails if the command does."""
    return (
        f"sys.path.insert(0, {str(ROOT)!r})\nimport os\nos.chdir({str(workspace.root)!r})\n"
        f"sys.argv = ['tracker', *{words!r}]\nfrom tracker import cli\ntry:\n    cli.main()\n"
        "except SystemExit as end:\n    assert not end.code"
    )


@pytest.mark.parametrize(
    "words",
    [["show", "exp1"], ["diff", "exp1", "exp2"], ["runs"], ["compare"], ["leaderboard"], ["tree"]],
)
def test_reading_commands_load_no_heavy_library(workspace: Workspace, words: list[str]) -> None:
    for answers in ("0000011110", "0000011111"):
        make_run(workspace, answers)
    assert not find_heavy(code_of_command(workspace, words))


# What a plain list does without: each costs every start some milliseconds. `decimal`, which rounds
# every figure that is shown, costs 0.8.
LEFT_OUT = {
    *("hashlib", "statistics", "tempfile", "zoneinfo", "_strptime"),
    *("tracker.comparison.advice", "tracker.comparison.compare", "tracker.comparison.diff"),
    *("tracker.comparison.tree", "tracker.workspace.predictions"),
    *("tracker.training.formats.images", "tracker.training.formats.samples"),
    "tracker.training.formats.image_index",
}


@pytest.mark.parametrize("words", [["runs"], ["leaderboard"], ["sota"]])
def test_a_plain_list_loads_nothing_of_searches_and_comparisons(
    workspace: Workspace, words: list[str]
) -> None:
    make_run(workspace, "0000011110")
    run_tracker("submit", "--memo", "first", cwd=workspace.root, **NO_MLFLOW)
    run_tracker("runs", cwd=workspace.root)  # the first one after a change checks all rows
    assert not imported_modules(code_of_command(workspace, words)) & LEFT_OUT


@pytest.mark.parametrize("words", [["show", "exp1"], ["diff", "exp1", "exp2", "--no-stats"]])
def test_runs_are_shown_without_the_module_statistics(
    workspace: Workspace, words: list[str]
) -> None:
    for answers in ("0000011110", "0000011111"):
        make_run(workspace, answers)
    assert "statistics" not in imported_modules(code_of_command(workspace, words))


def test_two_runs_that_were_compared_before_are_compared_without_numpy(
    workspace: Workspace,
) -> None:
    for number in (1, 2):
        make_run(workspace, "0000011110")
        keep(workspace, f"exp{number}", guess(20 * number))
    code = code_of_command(workspace, ["diff", "exp1", "exp2"])
    first, second = run_python(code), run_python(code)
    assert first[:-1] == second[:-1]
    assert "numpy" in first[-1].split()
    assert "numpy" not in second[-1].split()


def test_check_loads_no_numpy_while_too_few_scores_are_known_for_a_line(
    workspace: Workspace,
) -> None:
    make_run(workspace, "0000011110")
    run_interpreter("runs", cwd=workspace.root)  # the first one after a change checks all rows
    loaded = imported_modules(code_of_command(workspace, ["check"]))
    assert not {name.partition(".")[0] for name in loaded} & HEAVY
    assert sorted(loaded & NOT_FOR_CHECK) == []


# Sockets and processes are for trainings and copies of runs
NOT_FOR_CHECK = {
    *("multiprocessing", "socket", "zipfile"),
    *("tracker.comparison.leaderboard_noise", "tracker.core.signals", "tracker.mirror.copy"),
    *("tracker.ledger.chain", "tracker.run_folder.output"),
}


def test_only_the_command_that_was_typed_is_imported(workspace: Workspace) -> None:
    loaded = imported_modules(code_of_command(workspace, ["runs"]))
    names = {name for name in loaded if name.startswith("tracker.commands.")}
    expected = ("group", "help", "options", "runs", "table")
    assert names == {f"tracker.commands.{name}" for name in expected}


def test_the_page_of_help_says_what_the_commands_say() -> None:
    group = typer.main.get_command(app)
    # the page has the first paragraph, as Typer's own page has
    first = {name: command.help.split("\n\n")[0] for name, command in group.commands.items()}
    said = {name: " ".join(text.split()) for name, text in first.items()}
    assert said == {name: entry.help for name, entry in TABLE.items()}
    shown = {name: command.hidden for name, command in group.commands.items()}
    assert shown == {name: entry.hidden for name, entry in TABLE.items()}


def imports_of(path: Path) -> set[str]:
    """The packages that a module imports; `training` is named so, though it is imported as
    tracker.training."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
    return {
        "training" if name.startswith("tracker.training") else name.partition(".")[0]
        for name in found
    }


def test_each_boundary_is_crossed_by_the_one_module_meant_for_it() -> None:
    edges = {str(path.relative_to(ROOT)): imports_of(path) for path in ROOT.glob("t*ing/**/*.py")}
    assert not [
        path
        for path, names in edges.items()
        if names & {"tracker", "mlflow", "sqlalchemy", "typer"}
    ]
    edges = {str(path.relative_to(ROOT)): imports_of(path) for path in ROOT.glob("tracker/**/*.py")}
    del edges["tracker/cli.py"]  # the link by which the top level's one is installed
    assert all(
        path.startswith("tracker/mirror/targets/")
        for path, names in edges.items()
        if "mlflow" in names
    )
    users = [path for path, names in edges.items() if "sqlalchemy" in names]
    writers = {
        "tracker/ledger/append.py",
        "tracker/ledger/migrations.py",
        "tracker/ledger/transfer.py",
    }
    targets = {"tracker/mirror/targets/mlflow_server.py", "tracker/mirror/targets/mlflow_store.py"}
    named = {
        *targets,
        "tracker/jobs/claims.py",
        "tracker/jobs/sweep_storage.py",
    }  # for the names of errors of MLflow and Optuna
    assert set(users) == writers | named
    assert [
        path for path, names in edges.items() if "typer" in names and "commands" not in path
    ] == []
    assert [path for path, names in edges.items() if "torch" in names] == []


def test_no_test_module_imports_another() -> None:
    paths = sorted((ROOT / "tests").glob("**/*.py"))
    found = []
    for path in paths:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and ".test_" in str(node.module):
                found.append(f"{path.relative_to(ROOT)} imports {node.module}")
    assert len(paths) > 50
    assert found == []


# --- The version ---


def test_the_version_names_what_a_bug_report_needs(tmp_path: Path) -> None:
    lines = run_interpreter("--version", cwd=tmp_path).stdout.splitlines()
    assert lines[0] == f"tracker {tracker.__version__}"
    assert lines[1].startswith(f"Python {platform.python_version()} on ")
    names = ("torch", "timm", "lightning-fabric", "mlflow")
    assert lines[2:] == [f"{name} {importlib.metadata.version(name)}" for name in names]


def test_a_checkout_that_was_not_installed_has_a_version_too(tmp_path: Path) -> None:
    code = (
        "from tracker.run_folder.environment import *; print(*describe_versions(),"
        " code_fingerprint(None), sep='|')"
    )
    done = subprocess.run(
        [
            sys.executable,
            "-S",
            "-P",
            "-c",
            code,
        ],  # -S: no site-packages, so no metadata of any distribution
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
    )
    own, python, code = done.stdout.strip().split("|")
    assert (own, code) == (f"tracker {tracker.__version__}", f"tracker:{tracker.__version__}")
    assert python.startswith("Python 3.")


# --- Exit codes and errors ---


def check_error(done: Done, code: int, words: str) -> None:
    assert done.returncode == code, done.stderr
    assert words in done.stderr
    assert done.stderr.startswith("error: ")
    assert len(done.stderr.splitlines()) <= 2


def test_exit_codes_of_the_whole_program(workspace: Workspace) -> None:
    make_run(workspace, "0000011110")
    root = workspace.root
    assert run_interpreter("show", "exp1", cwd=root).returncode == 0
    check_error(run_interpreter("sota", cwd=root, ok=False), 1, "no SOTA yet")
    check_error(run_interpreter("show", "exp9", cwd=root, ok=False), 2, "no run exp9")
    check_error(run_interpreter("submit", "exp1", cwd=root, **NO_MLFLOW, ok=False), 3, "no memo")
    check_error(run_interpreter("runs", cwd=root.parent, ok=False), 2, "no tracker.toml in")
    assert run_interpreter("nonsense", cwd=root, ok=False).returncode == 2
    assert run_interpreter("runs", "--nonsense", cwd=root, ok=False).returncode == 2


FIRST_RUN = "tracker.start_run(...) in a training script makes the first run"  # no images here


def test_an_option_without_its_value_is_answered_with_the_page_of_its_command(
    workspace: Workspace,
) -> None:
    for words in (["submit", "--memo"], ["run", "train", "--lr"], ["init", "ws", "--metric"]):
        done = run_tracker(*words, cwd=workspace.root, ok=False)
        named = " ".join(words[:2] if words[0] == "run" else words[:1])
        assert done.stderr == (
            f"error: option '{words[-1]}' needs a value\n  try: tracker {named} --help\n"
        )


def test_hints_in_an_empty_workspace_do_not_go_in_a_circle(workspace: Workspace) -> None:
    for words in (["score", "1", "--public-f1", "0.8"], ["sota"], ["select"], ["show", "s1"]):
        done = run_tracker(*words, cwd=workspace.root, **NO_MLFLOW, ok=False)
        assert done.stderr.endswith(f"  try: {FIRST_RUN}\n"), words
    for words in (["audit"], ["leaderboard", "cv-lb"]):
        done = run_tracker(*words, cwd=workspace.root)
        assert done.stdout.endswith(f"next: {FIRST_RUN}\n")
    make_run(workspace, "0000011110")
    done = run_tracker("show", "s1", cwd=workspace.root, ok=False)
    assert done.stderr.endswith('  try: tracker submit R --memo "what is new"\n')
    done = run_tracker("status", cwd=workspace.root, ok=False)
    assert "tracker runs, tracker leaderboard" in done.stderr


def test_runs_are_listed_without_a_ledger(workspace: Workspace) -> None:
    make_run(workspace, "0000011110")
    (workspace.root / "ledger.db").unlink()
    done = run_tracker("runs", cwd=workspace.root)
    assert "exp1" in done.stdout
    assert "submissions and notes are unknown, all runs are there: no ledger at" in done.stderr
    assert "tracker ledger" in done.stderr  # how it is made again
    done = run_tracker("runs", "--json", cwd=workspace.root)
    assert [run["name"] for run in json.loads(done.stdout)] == ["exp1"]
    assert "unknown" in done.stderr


def test_a_run_and_the_tree_are_shown_without_a_ledger(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_run(workspace, "0000011110")
    make_run(workspace, "0000011111")
    make_run(workspace, config={"ensemble.members": ["exp1", "exp2"]})
    (workspace.root / "ledger.db").unlink()
    monkeypatch.chdir(workspace.root)
    for words, shown in (
        (["show", "exp1"], "val/f1"),
        (["show", "exp3"], "exp2"),
        (["show", "exp1", "--json"], '"submissions": []'),
        (["tree"], "exp2"),
        (["tree", "--json"], '"name": "exp2"'),
    ):
        done = CliRunner().invoke(app, words, env=NO_MLFLOW)
        assert (done.exit_code, shown in done.stdout) == (0, True), (words, done.output)
        assert "submissions and notes are unknown, all runs are there: no" in done.stderr
    assert CliRunner().invoke(app, ["show", "s1"], env=NO_MLFLOW).exit_code == 1


def test_check_answers_with_its_exit_code(workspace: Workspace) -> None:
    make_run(workspace, "0000011110")
    assert "would be accepted" in run_tracker("check", cwd=workspace.root).stdout
    run_tracker("submit", "--memo", "m", cwd=workspace.root, **NO_MLFLOW)
    done = run_tracker("check", cwd=workspace.root, ok=False)
    assert done.returncode == 1
    assert done.stdout.startswith("already submitted as 1 on 2")
    assert done.stdout.endswith("would be refused\n")
    # a file that could never be sent is a no, too; submit refuses it
    path = workspace.runs_dir / make_run(workspace, "0000011111").name / "predictions.csv"
    path.write_text(path.read_text().replace("i3.png", "x3.png"))
    for words in (["check"], ["check", "--json"]):
        done = run_tracker(*words, cwd=workspace.root, ok=False)
        assert (done.returncode, done.stdout) == (1, "")
        assert "1 image (i3.png) without a prediction" in done.stderr
    done = run_tracker("submit", "--memo", "m", "--yes", cwd=workspace.root, ok=False)
    assert done.returncode == 3


def test_a_duplicate_exits_with_3_and_names_the_submission(workspace: Workspace) -> None:
    make_run(workspace, "0000011110")
    done = run_tracker("submit", "--memo", "first", cwd=workspace.root, **NO_MLFLOW)
    assert "submission 1: exp1" in done.stdout
    check_error(
        run_tracker("submit", "--memo", "again", cwd=workspace.root, **NO_MLFLOW, ok=False),
        3,
        "submission 1 (exp1: first)",
    )


def test_a_wrong_tracker_toml_reports_every_value(workspace: Workspace) -> None:
    path = workspace.root / "tracker.toml"
    path.write_text(path.read_text().replace("daily_limit = 0", "daily_limit = -1\nteam = 4"))
    done = run_tracker("runs", cwd=workspace.root, ok=False)
    assert done.returncode == 2
    assert "daily_limit" in done.stderr
    assert "competition.team: unknown key" in done.stderr


def test_debug_shows_the_traceback(workspace: Workspace) -> None:
    done = subprocess.run(
        [sys.executable, "-P", "-m", "tracker.cli", "--debug", "show", "exp9"],
        cwd=workspace.root,
        capture_output=True,
        text=True,
        check=False,
    )
    assert "Traceback" in done.stderr
    assert "UnknownRunError" in done.stderr


def test_an_unforeseen_error_is_two_lines(workspace: Workspace, tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(
        "import tracker.run_folder.read\ndef broken(*a, **k): raise ZeroDivisionError('one by"
        " nought')\ntracker.run_folder.read.list_runs = broken\n"
    )
    path = os.pathsep.join([str(tmp_path), str(ROOT)])
    done = run_interpreter("runs", cwd=workspace.root, ok=False, PYTHONPATH=path)
    check_error(done, 1, "ZeroDivisionError: one by nought (this is a bug in tracker)")


@pytest.mark.parametrize(
    ("number", "hint"), [(errno.ENOSPC, "free some space"), (errno.EROFS, "check the permissions")]
)
def test_a_disk_that_is_full_or_read_only_is_no_bug_wherever_a_command_meets_it(
    number: int, hint: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def invoke() -> int:
        raise OSError(number, os.strerror(number), "some/file")

    monkeypatch.setattr(cli, "_invoke", invoke)
    assert cli._run(debug=False) == 1
    told = capsys.readouterr().err
    assert told.startswith(f"error: cannot write some/file: {os.strerror(number)}\n  try: {hint}")
    with pytest.raises(OSError, match="some/file"):
        cli._run(debug=True)


def test_a_folder_that_cannot_be_written_is_an_error_with_advice(tmp_path: Path) -> None:
    target = Path("/proc/nothing-can-be-made-here")
    done = run_tracker("init", target, cwd=tmp_path, ok=False)
    assert done.returncode == 1
    assert "cannot create /proc/nothing-can-be-made-here" in done.stderr
    file = tmp_path / "file"
    file.write_text("")
    done = run_tracker("init", file / "below", cwd=tmp_path, ok=False)
    assert done.returncode == 1
    assert "cannot create" in done.stderr


# --- JSON ---


def test_every_reading_command_prints_one_json_document(workspace: Workspace) -> None:
    for answers in ("0000011110", "0000011100"):
        make_run(workspace, answers, note="a | b [bold]")
        run_tracker("submit", "--memo", "m [red]", cwd=workspace.root, **NO_MLFLOW)
    shown = {
        words: json.loads(
            run_tracker(*words.split(), "--json", cwd=workspace.root, ok=False).stdout
        )
        for words in ("runs", "show exp1", "diff exp1 exp2", "leaderboard", "sota", "check exp1")
    }
    assert [run["name"] for run in shown["runs"]] == ["exp2", "exp1"]
    assert {"name", "kind", "status", "parent", "config", "metrics", "best_epoch"} <= set(
        shown["runs"][0]
    )
    wanted = {
        "number",
        "run",
        "memo",
        "public_f1",
        "public_accuracy",
        "private_f1",
        "private_accuracy",
    }
    assert wanted | {"val_f1", "val_accuracy", "config_diff", "sota"} <= set(
        shown["leaderboard"][0]
    )
    assert shown["leaderboard"][0]["private_f1"] is None
    assert {"a", "b", "config", "metrics", "predictions", "code", "data"} <= set(
        shown["diff exp1 exp2"]
    )
    assert shown["diff exp1 exp2"]["predictions"]["changed"] == 1
    assert shown["sota"]["number"] == 1
    assert shown["check exp1"]["duplicate"] == 1
    assert shown["show exp1"]["submissions"][0]["memo"] == "m [red]"


def test_tables_show_texts_as_they_were_typed(workspace: Workspace) -> None:
    make_run(workspace, "0000011110", note="a [bold]b[/bold]")
    run_tracker("submit", "--memo", "m [red]c", cwd=workspace.root, **NO_MLFLOW)
    assert "a [bold]b[/bold]" in run_tracker("runs", cwd=workspace.root).stdout
    assert "m [red]c" in run_tracker("leaderboard", cwd=workspace.root).stdout


# --- Manual leaderboard ---


def test_scores_are_taken_as_fraction_or_percentage_and_printed_as_fraction(tmp_path: Path) -> None:
    workspace = make_workspace(tmp_path / "ws", solution=None)
    make_run(workspace, "0000011110")
    done = run_tracker("submit", "--memo", "m", cwd=workspace.root, **NO_MLFLOW)
    assert "upload the file, then: tracker score 1" in done.stdout
    done = run_tracker(
        "score",
        "1",
        "--public-f1",
        "0.7656",
        "--public-acc",
        "81.6508",
        cwd=workspace.root,
        **NO_MLFLOW,
    )
    assert "0.8165" in done.stdout
    run_tracker("score", "1", "--private", "f1=0.7462", cwd=workspace.root, **NO_MLFLOW)
    (row,) = json.loads(run_tracker("leaderboard", "--json", cwd=workspace.root).stdout)
    assert (row["public_f1"], row["public_accuracy"], row["private_f1"]) == (
        0.7656,
        0.816508,
        0.7462,
    )
    check_error(
        run_tracker("score", "2", "--public-f1", "0.5", cwd=workspace.root, **NO_MLFLOW, ok=False),
        2,
        "no submission 2",
    )
    check_error(
        run_tracker("score", "1", cwd=workspace.root, **NO_MLFLOW, ok=False),
        2,
        "no score given",
    )
    done = run_tracker("score", "1", "--public-f1", "0.7", cwd=workspace.root, **NO_MLFLOW)
    assert "public f1 was 0.7656; the old value stays" in done.stdout


# --- Documentation ---


@pytest.mark.parametrize("words", COMMANDS)
def test_every_command_and_option_says_what_it_does_and_is_in_the_documents(words: str) -> None:
    command = COMMANDS[words]
    assert command.help
    silent = [
        p.name
        for p in command.params
        if isinstance(p, click.Option) and not getattr(p, "help", None)
    ]
    assert silent == []
    assert f"`tracker {words}" in (ROOT / "docs" / "index.md").read_text(encoding="utf-8")


def test_options_tell_what_a_key_may_be(tmp_path: Path) -> None:
    done = run_tracker("run", "options", cwd=tmp_path)
    assert (
        "One of: cross_entropy, focal, label_smoothing, f1, bce, asymmetric, smooth_l1, mse."
        in done.stdout
    )


def test_options_show_the_defaults_in_force_in_a_workspace(tmp_path: Path) -> None:
    (tmp_path / "tracker.toml").write_text(
        '[competition]\nname = "c"\nclasses = ["a", "b"]\n'
        '[data]\nformat = "image_folder"\ntrain_dir = "photos"\n[optim]\nlr = 0.25\n'
    )
    rows = run_tracker("run", "options", cwd=tmp_path).stdout.splitlines()
    shown = {row.split("  ")[0]: row.split("  ", 1)[1].strip() for row in rows if "  " in row}
    assert shown["optim.lr"].startswith("0.25 (set in tracker.toml)")
    assert shown["data.train_dir"].startswith("photos (set in tracker.toml)")
    assert shown["augment.crop_mode"].startswith("model "), (
        "the format's mean, and with it the crop, follow the model"
    )
    assert shown["data.mean"].startswith("model ")
    (tmp_path / "tracker.toml").write_text("competition = 3\n")
    done = run_tracker("run", "options", cwd=tmp_path)
    assert "optim.lr" in done.stdout
    assert "these are the defaults without tracker.toml" in done.stderr


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_shell_completion_is_printed(shell: str, tmp_path: Path) -> None:
    done = run_tracker(
        "--show-completion",
        shell,
        cwd=tmp_path,
        ok=False,
        _TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION="1",
    )
    assert "_TRACKER_COMPLETE" in done.stdout
