"""What init says about what it was given."""

from __future__ import annotations

from pathlib import Path

from tests.conftest import run_tracker


def test_a_metric_that_is_not_computed_here_is_named_once(tmp_path: Path) -> None:
    done = run_tracker("init", "ws", "--metric", "f1", "--metric", "auc", cwd=tmp_path)
    (line,) = [line for line in done.stdout.splitlines() if "auc" in line]
    assert line == (
        "auc: not computed here, type in what the leaderboard shows (tracker score);"
        " computed are f1 and accuracy"
    )


def test_metrics_that_are_computed_need_no_remark(tmp_path: Path) -> None:
    done = run_tracker("init", "ws", "--metric", "f1", "--metric", "accuracy", cwd=tmp_path)
    assert "not computed" not in done.stdout
