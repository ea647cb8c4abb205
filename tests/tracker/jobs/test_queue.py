"""Queue files and what is kept of them; trainings and kill -9 are in tests/test_jobs.py."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from tests.conftest import NO_MLFLOW, run_tracker
from tracker.core.clock import utc_now
from tracker.jobs.queue import QueueResult, _Queue, find_folder, read_queue, run_queue
from tracker.jobs.views import print_queue
from tracker.training.errors import ConfigError, StorageError
from tracker.workflows.own_loop.begin import begin
from tracker.workflows.resolve import resolve_config
from tracker.workspace.tracker_toml import Workspace

BAD = "[[run]]\nepochs = 0\nset = { lr = 1 }\nnote = 3\n"


def test_an_entry_is_known_by_what_it_and_its_config_file_say_wherever_it_stands(
    tmp_path: Path,
) -> None:
    file, config = tmp_path / "q.toml", tmp_path / "base.toml"
    entry, other = '[[run]]\nconfig = "base.toml"\nlr = 0.1\n', "[[run]]\nlr = 0.2\n"

    def keys(text: str) -> list[str]:
        file.write_text(text)
        return [entry.key for entry in read_queue(file)]

    config.write_text("[train]\nepochs = 2\n")
    (first,) = keys(entry)
    assert keys(other + entry)[1] == first
    assert keys(entry.replace("0.1", "0.3")) != [first]
    assert len(set(keys(entry * 2))) == 2
    config.write_text("[train]\nepochs = 3\n")
    assert keys(entry) != [first]


def test_words_of_an_entry_are_those_of_the_command_line(tmp_path: Path) -> None:
    (tmp_path / "q.toml").write_text(
        '[[run]]\nfrom = "exp3"\nconfig = "b.toml"\nmodel = "resnet18"\nbatch_size = 4\nforce ='
        ' true\nnote = "n"\nset = { loss.name = "f1", eval.center_crop = [320, 256] }\n'
    )
    (entry,) = read_queue(tmp_path / "q.toml")
    changes = [
        'model.name="resnet18"',
        "train.batch_size=4",
        'loss.name="f1"',
        "eval.center_crop=[320, 256]",
    ]
    options = [word for change in changes for word in ("--set", change)]
    words = [
        "run",
        "train",
        str(tmp_path / "b.toml"),
        "--from",
        "exp3",
        *options,
        "--note",
        "n",
        "--force",
    ]
    assert entry.training.to_arguments() == words


def test_a_recipe_of_an_entry_is_that_of_the_command_line(workspace: Workspace) -> None:
    file = workspace.root / "q.toml"
    file.write_text(
        '[[run]]\nrecipe = "fast"\nset = { train.epochs = 3 }\n[[run]]\nrecipe = "fats"\n'
    )
    entry, wrong = read_queue(file)
    assert entry.training.to_arguments()[2:4] == ["--recipe", "fast"]
    assert entry.label == "recipe fast, train.epochs=3"
    config = entry.training.resolve(workspace)
    assert config == resolve_config(workspace, assignments=["train.epochs=3"], recipe="fast")
    assert config != resolve_config(workspace, assignments=["train.epochs=3"])
    assert "recipe" in wrong.problems[0]
    assert "fast" in wrong.problems[0]


def test_files_that_are_no_queue_are_refused(tmp_path: Path) -> None:
    for text, words in (
        ("", "run: is missing, expected [[run]] tables"),
        ("run = 3", "run: expected [[run]] tables, not 3"),
        ("run = []", "run: expected [[run]] tables, not []"),
        ("[run]\nlr = 1", "run: expected [[run]] tables, not {'lr': 1}"),
        ("[[runs]]\n[[run]]", "runs: unknown key (nearest: run)"),
    ):
        (tmp_path / "q.toml").write_text(text)
        with pytest.raises(ConfigError) as caught:
            read_queue(tmp_path / "q.toml")
        assert words in caught.value.problems


def test_every_mistake_of_a_refused_queue_is_told_with_its_place(tmp_path: Path) -> None:
    (tmp_path / "q.toml").write_text(
        "seeds = 1\n[[run]]\nlr = 0.1\n[[run]]\nepoch = 3\nset = { optim.lrr = 1 }\n"
    )
    with pytest.raises(ConfigError, match=r"3 problems in .*q\.toml") as caught:
        read_queue(tmp_path / "q.toml")
    assert list(caught.value.problems) == [
        "seeds: unknown key (known: run)",
        "run[2].epoch: unknown key (nearest: epochs)",
        "run[2].set.optim.lrr: unknown key (nearest: optim.lr)",
    ]


def test_each_mistake_of_an_entry_is_told_with_what_was_meant(tmp_path: Path) -> None:
    lines = {
        "epochs = 0": "epochs: expected at least 1, not 0",
        'loss = "f2"': "loss: expected one of cross_entropy, focal, label_smoothing, f1, bce,"
        " asymmetric, smooth_l1, mse, not 'f2' (nearest: f1)",
        "learning_rate = 0.1": "learning_rate: unknown key (nearest: lr)",
        "weight_decay = 0.1": "weight_decay: unknown key (nearest: set.optim.weight_decay)",
        "grad_clip = 0.1": "grad_clip: unknown key (nearest: set.train.clip_grad)",
        "note = 2021-08-23": "note: expected a text, not 2021-08-23",
        "set.lr = 1": "set.lr: this key needs its section: optim.lr",
        'set."optim.lr" = 1': "set.optim.lr: in quotes it is one word, write it without them",
        "set.optim = 1": "set.optim: is a table, write [optim]",
        "lr = 1\nset.optim.lr = 1": "lr: is in set, too, as optim.lr",
        'set.train.epochs = "3"': "set.train.epochs: expected a whole number, not '3'",
    }
    (tmp_path / "q.toml").write_text("".join(f"[[run]]\n{line}\n" for line in lines))
    entries = read_queue(tmp_path / "q.toml")
    assert [entry.problems for entry in entries] == [(problem,) for problem in lines.values()]


def test_everything_wrong_in_an_entry_is_told_and_the_table_is_also_json(
    workspace: Workspace,
) -> None:
    (workspace.root / "q.toml").write_text(BAD)
    done = run_tracker(
        "run", "queue", "q.toml", "--json", cwd=workspace.root, ok=False, **NO_MLFLOW
    )
    assert done.returncode == 1
    (outcome,) = json.loads(done.stdout)
    assert (outcome["entry"], outcome["run"], outcome["status"], outcome["val_f1"]) == (
        1,
        None,
        "failed",
        None,
    )
    assert "note: expected a text, not 3" in outcome["reason"]
    assert "set.lr: this key needs its section: optim.lr" in outcome["reason"]


def test_a_reason_is_told_whole_at_80_columns(
    workspace: Workspace, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    reason = "grad_clip: unknown key (nearest: set.train.clip_grad); " * 3
    failed = QueueResult(
        entry=1, label="a", run=None, status="failed", val_f1=None, metrics={}, reason=reason
    )
    print_queue([failed], workspace.competition)
    out = capsys.readouterr().out
    assert reason.split() == out.partition("entry 1: ")[2].split()
    assert max(map(len, out.splitlines())) <= 80


def test_an_entry_that_cannot_be_a_training_fails_alone(workspace: Workspace) -> None:
    wrong = {
        "lr = 2021-08-23": "lr: expected a number, not 2021-08-23",
        "set = { optim.lr = 2021-08-23 }": "optim.lr: expected a number",
        'config = "\\u0000"': "config: expected a text",
        'note = "\\u0000"': "note: expected a text",
        'set = { augment.name = "\\u0000.yaml" }': (
            "augment.name: expected a text in UTF-8 without NUL"
        ),
        'from = "s\u00b2"': "no run s\u00b2",
        'from = "s99999999999999999999999"': "no submission 99999999999999999999999",
    }
    file = workspace.root / "q.toml"
    file.write_text("".join(f"[[run]]\n{line}\n" for line in wrong), encoding="utf-8")
    outcomes = run_queue(workspace, file)
    assert [outcome.status for outcome in outcomes] == ["failed"] * len(wrong)
    for outcome, words in zip(outcomes, wrong.values(), strict=True):
        assert words in outcome.reason


def test_a_process_whose_entry_was_changed_is_waited_for(workspace: Workspace) -> None:
    file = workspace.root / "q.toml"
    file.write_text(BAD)
    child = subprocess.Popen(["sleep", "1"])
    path = find_folder(workspace, file, "queues") / "state.json"
    path.parent.mkdir(parents=True)
    state = {"entry": "old", "status": "running", "pid": child.pid, "started": utc_now(), "run": ""}
    path.write_text(json.dumps({"gone-1": state}))
    (outcome,) = run_queue(workspace, file)
    assert (outcome.status, child.poll()) == ("failed", 0)
    path.write_text("{")
    with pytest.raises(StorageError, match=r"cannot read .*state\.json"):
        run_queue(workspace, file)


def test_an_entry_from_latest_is_judged_when_its_turn_comes(
    workspace: Workspace, capsys: pytest.CaptureFixture[str]
) -> None:
    with begin({"optim": {"lr": 0.1}}, root=workspace.root, follow=False) as run:
        run.log({"val/f1": 0.5}, step=1)
    file = workspace.root / "q.toml"
    file.write_text(
        '[[run]]\nfrom = "latest"\nnote = 3\n[[run]]\nfrom = "latest"\n[[run]]\nfrom ='
        f' "{run.name}"\n'
    )
    queue = _Queue(workspace, file, workspace.root / "state.json")
    for entry in read_queue(file):
        queue.warn(entry)
    lines = [line for line in capsys.readouterr().err.splitlines() if "will fail" in line]
    assert [line.partition(" will fail: ")[0] for line in lines] == ["entry 1", "entry 3"]
    assert "was made by another program or by a loop of your own" in lines[1]


def test_a_refused_queue_tells_what_is_wrong_with_the_configs_too(workspace: Workspace) -> None:
    file = workspace.root / "q.toml"
    file.write_text('runs = 1\n[[run]]\nmodel = "resnet1t"\n')
    with pytest.raises(ConfigError) as caught:
        read_queue(file, workspace)
    assert caught.value.problems == (
        "runs: unknown key (nearest: run)",
        "run[1]: model.name: timm has no model 'resnet1t'",
    )
