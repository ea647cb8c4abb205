"""No option is taken and does nothing: contradictions are refused, with exit code 2, before
anything is read."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import typer

from tests.conftest import ROOT, run_tracker
from tests.support.workspaces import make_run, make_workspace
from tracker.commands.options import refuse_beside, refuse_together
from tracker.commands.table import app
from tracker.jobs.job import read_training
from tracker.run_folder.record import list_run_numbers
from tracker.submission.scores import parse_scores
from tracker.training.errors import ConfigError
from tracker.workflows.ensemble import ensemble
from tracker.workspace.tracker_toml import Metric, Workspace, load_workspace

CONTRADICTIONS = (
    "compare --md --csv",
    "compare --json --csv",
    "compare --json --md",
    "compare exp1 exp2 --limit 5",
    "diff exp1 exp2 --json --md",
    "diff exp1 exp2 --no-stats --resamples 2000",
    "explain --image a.png --pick uncertain",
    "explain --image a.png --count 3",
    "report --html x.html --md ./x.html",
    "leaderboard --json cv-lb",
    "leaderboard --limit 5 reveal",
    "run queue q.toml --detach --json",
    "run sweep s.toml --detach --json",
    "init ws --solution s.csv --kaggle digits",
    "init ws --leaderboard manual --solution s.csv",
    "init ws --leaderboard local --kaggle digits",
    "init ws --format image_folder --labels l.csv",
    "init ws --classes a,b --format image_folder --age-bands 29,58",
    "init ws --classes a,b --metric rmse:lower:higher",
)


@pytest.fixture
def two_folds(workspace: Workspace) -> Workspace:
    """Two runs that validated on different images and predicted none: an ensemble of them calls no
    method."""
    for start in (0, 5):
        record = make_run(workspace)
        ids = np.array([f"v{number}.png" for number in range(start, start + 5)])
        words = {
            "ids": ids,
            "classes": np.array(["cat", "dog"]),
            "labels": np.array([0, 0, 1, 1, 1]),
        }
        path = workspace.runs_dir / record.name / "validation.npz"
        np.savez(path, **words, probabilities=np.full((5, 2), 0.5, dtype=np.float32))  # type: ignore[arg-type]
    return workspace


def call(words: str) -> None:
    """Run a command in this process; raises what it raises."""
    typer.main.get_command(app).main(words.split(), prog_name="tracker", standalone_mode=False)


@pytest.mark.parametrize("words", CONTRADICTIONS)
def test_a_contradiction_is_refused_and_nothing_is_made(
    words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError) as caught:
        call(words)
    assert caught.value.hint
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "words", ["--set data.folds=2", "--set data.fold=1", "--fact a=1 --fact a=2"]
)
def test_folds_and_facts_are_given_once(
    words: str, workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(workspace.root)
    with pytest.raises(ConfigError, match=r"contradict|twice"):
        call(f"run train --folds 3 {words}")


def test_refusals_name_the_options() -> None:
    refuse_together({"--a": True, "--b": False})
    refuse_beside("--a", {"--b": False}, why="of that")
    with pytest.raises(ConfigError, match="--a, --b and --c contradict each other"):
        refuse_together({"--a": True, "--b": True, "--c": True})
    with pytest.raises(ConfigError, match="--b and --c do nothing beside --a: of that"):
        refuse_beside("--a", {"--b": True, "--c": True}, why="of that")


@pytest.mark.parametrize("value", ["0", "-0.5", "1.5"])
def test_a_similar_share_that_cannot_be_is_refused_as_in_the_file(
    value: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match=r"similar-share: expected a share such as 0\.999"):
        call(f"init ws --classes a,b --similar-share {value}")
    assert not (tmp_path / "ws" / "tracker.toml").exists()


def test_a_similar_share_that_is_given_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    call("init a --classes a,b --similar-share 0.25")
    call("init b --classes a,b")
    assert load_workspace(tmp_path / "a").competition.similar_share == 0.25
    assert load_workspace(tmp_path / "b").competition.similar_share == 0.999


def test_of_a_loss_less_is_better_unless_told_otherwise(tmp_path: Path) -> None:
    names = ["rmse", "auc", "log_loss:higher", "mcd:lower"]
    workspace = make_workspace(tmp_path / "ws", solution=None, leaderboard="manual", metrics=names)
    assert workspace.competition.metrics == (
        Metric(name="rmse", kind="rmse", higher_is_better=False),
        Metric(name="auc", kind="roc_auc"),
        Metric(name="log_loss", kind="log_loss"),
        Metric(name="mcd", higher_is_better=False),
    )


def test_a_score_is_given_once(workspace: Workspace) -> None:
    with pytest.raises(ConfigError, match="the public f1 was given twice"):
        parse_scores(workspace.competition, {"public": ["f1=0.5", "f1=0.6"]})


def test_an_entry_of_a_queue_sets_a_key_once(tmp_path: Path) -> None:
    problems: list[str] = []
    read_training({"lr": 0.1, "set": {"optim": {"lr": 0.2}}}, tmp_path, problems)
    assert problems == ["lr: is in set, too, as optim.lr"]


@pytest.mark.parametrize(("method", "weights"), [("median", ()), ("soft", (2.0, 1.0))])
def test_a_method_or_weights_without_effect_are_refused_before_a_run_is_made(
    method: str, weights: tuple[float, ...], two_folds: Workspace
) -> None:
    with pytest.raises(ConfigError):
        ensemble(two_folds, ["exp1", "exp2"], method=method, weights=weights)
    assert list_run_numbers(two_folds.runs_dir) == [2, 1]


# --- Parameters ---


def list_parameters() -> Iterator[tuple[str, str, bool]]:
    """(command, parameter, whether its body reads it) of every function with a sentence in
    tracker/commands."""
    for path in sorted((ROOT / "tracker" / "commands").glob("*.py")):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.FunctionDef):
                read = {
                    inner.id
                    for part in node.body
                    for inner in ast.walk(part)
                    if isinstance(inner, ast.Name)
                }
                for argument in (*node.args.args, *node.args.kwonlyargs):
                    yield f"{path.stem}.{node.name}", argument.arg, argument.arg in read


def test_every_parameter_of_a_command_is_read() -> None:
    found = list(list_parameters())
    assert len(found) > 100
    unread = [(command, name) for command, name, is_read in found if not is_read]
    # main looks for --debug itself, and --version has a callback
    assert unread == [("table.common", "debug"), ("table.common", "version")]


@pytest.mark.parametrize(
    ("words", "message", "page"),
    [
        ("runs --nope", "error: no such option: --nope", "tracker runs --help"),
        ("runs --limit many", "error: invalid value for '--limit'", "tracker runs --help"),
        ("diff exp1", "error: missing argument 'B'", "tracker diff --help"),
        ("nope", "error: no such command 'nope'", "tracker --help"),
        ("ledger nope", "error: no such command 'nope'", "tracker ledger --help"),
    ],
)
def test_a_wrong_option_looks_like_every_other_error(
    tmp_path: Path, words: str, message: str, page: str
) -> None:
    done = run_tracker(*words.split(), cwd=tmp_path, ok=False)
    assert done.returncode == 2
    first, second = done.stderr.splitlines()
    assert first.startswith(message)
    assert second == f"  try: {page}"
    assert not done.stdout


def test_a_group_alone_prints_its_page(tmp_path: Path) -> None:
    done = run_tracker("ledger", cwd=tmp_path, ok=False)
    assert done.returncode == 2
    assert "verify" in done.stdout + done.stderr
    assert "error:" not in done.stderr
