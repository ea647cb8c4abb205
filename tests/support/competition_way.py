"""The whole way of a competition: init, check, train, predict, submit, score, submit once more."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd
from sklearn import metrics as sk
from sklearn.preprocessing import MultiLabelBinarizer

from tests.support.competitions import Miniature
from tracker.workspace.tracker_toml import Competition, load_workspace

# One epoch of the smallest model, on one process: what is learned does not matter.
SMALLEST = (
    *("--set", "model.name=test_resnet", "--set", "model.pretrained=false"),
    *("--set", "train.epochs=1", "--set", "data.image_size=32", "--set", "data.workers=0"),
)
Command = Callable[[tuple[str, ...], Path], tuple[int, str]]  # words, folder -> exit code, output


@dataclass
class Way:
    """What the commands gave: exit codes, output and seconds by step, and the public score."""

    root: Path
    command: Command
    codes: dict[str, int] = field(default_factory=dict)
    outputs: dict[str, str] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    score: float = float("nan")

    @property
    def predictions(self) -> Path:
        """predictions.csv of the run."""
        return self.root / "runs" / "exp1" / "predictions.csv"

    def take(self, step: str, *words: str) -> str:
        """Run a command, in the workspace once there is one; returns its output."""
        started = time.perf_counter()
        folder = self.root if self.root.exists() else self.root.parent
        self.codes[step], self.outputs[step] = self.command(words, folder)
        self.seconds[step] = time.perf_counter() - started
        return self.outputs[step]


def go_the_whole_way(miniature: Miniature, root: Path, command: Command) -> Way:
    """Take a competition folder from init to a scored submission, and try to submit it again."""
    way = Way(root, command)
    way.take(
        "init",
        *("init", str(root), "--data", str(miniature.folder), "--metric", miniature.metric),
        *("--solution", str(miniature.answers), "--no-pretrained"),
    )
    way.take("data check", "data", "check")
    way.take("train", "run", "train", "--quiet", *SMALLEST)
    way.take("check", "check")
    way.take("submit", "submit", "--memo", "first", "--yes")
    way.take("submit again", "submit", "--memo", "again", "--yes")
    rows = json.loads(way.take("leaderboard", "leaderboard", "--json"))
    way.score = float(rows[0][f"public_{miniature.metric}"])
    return way


def judge(miniature: Miniature, way: Way) -> float:
    """What scikit-learn gives for predictions.csv and the judge's answers, read by pandas."""
    competition = load_workspace(way.root).competition
    id_column = competition.id_column
    truth = pd.read_csv(miniature.answers, dtype=str, keep_default_na=False).set_index(id_column)
    guess = pd.read_csv(way.predictions, dtype=str, keep_default_na=False).set_index(id_column)
    guess = guess.loc[truth.index]
    columns = list(guess.columns)
    if miniature.metric in ("roc_auc", "log_loss", "rmse"):
        return _judge_numbers(miniature.metric, truth[columns].astype(float), guess.astype(float))
    (column,) = columns
    return _judge_words(miniature.metric, list(truth[column]), list(guess[column]), competition)


def _judge_numbers(metric: str, truth: pd.DataFrame, guess: pd.DataFrame) -> float:
    if metric == "rmse":
        return float(sk.root_mean_squared_error(truth, guess))
    if metric == "roc_auc":
        pairs = [(truth[name].to_numpy(), guess[name].to_numpy()) for name in guess.columns]
        return float(np.mean([sk.roc_auc_score(true, scores) for true, scores in pairs]))
    if len(guess.columns) == 1:
        return float(sk.log_loss(truth.iloc[:, 0], guess.iloc[:, 0], labels=[0, 1]))
    labels = list(range(len(guess.columns)))
    return float(sk.log_loss(truth.to_numpy().argmax(1), guess.to_numpy(), labels=labels))


def _judge_words(
    metric: str, truth: list[str], guess: list[str], competition: Competition
) -> float:
    words = list(competition.answer_words)
    if metric == "map@5":
        listed = [row.split()[:5] for row in guess]
        pairs = zip(truth, listed, strict=True)
        return float(np.mean([1 / (row.index(one) + 1) if one in row else 0 for one, row in pairs]))
    if metric == "f1_micro":
        binarizer = MultiLabelBinarizer(classes=words)
        tables = [binarizer.fit_transform([row.split() for row in rows]) for rows in (truth, guess)]
        return float(sk.f1_score(*tables, average="micro", zero_division=0))
    if metric == "kappa_quadratic":
        return float(sk.cohen_kappa_score(truth, guess, labels=words, weights="quadratic"))
    if metric == "accuracy":
        return float(sk.accuracy_score(truth, guess))
    assert metric == "f1_macro"
    return float(sk.f1_score(truth, guess, labels=words, average="macro", zero_division=0))
