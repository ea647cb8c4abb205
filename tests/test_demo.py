"""The demo tells its story in one page, and what it tells is what the ledger and the runs say."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from sklearn.metrics import f1_score

from tests.conftest import run_tracker
from tracker.training.tables import read_table

pytestmark = pytest.mark.slow


def test_the_story_fits_on_a_page_and_ends_with_one_refusal(demo: tuple[Path, str]) -> None:
    _, story = demo
    assert len(story.splitlines()) < 60
    assert story.count("refused, nothing was spent: the same predictions are submission 2") == 1
    assert "optim.lr" in story
    assert "tracker ui" in story


def test_the_ledger_has_two_submissions_that_differ_in_one_field(demo: tuple[Path, str]) -> None:
    folder, _ = demo
    runs = json.loads(run_tracker("runs", "--json", cwd=folder).stdout)
    assert [(run["name"], run["status"], run["parent"]) for run in runs] == [
        ("exp3", "finished", "exp2"),
        ("exp2", "finished", "exp1"),
        ("exp1", "finished", None),
    ]
    rows = json.loads(run_tracker("leaderboard", "--json", cwd=folder).stdout)
    assert [row["number"] for row in rows] == [1, 2]
    assert rows[1]["config_diff"] == {"optim.lr": [0.001, 0.003]}
    assert all(row["private_f1"] is not None for row in rows)


def test_the_scores_equal_scikit_learn_on_the_sealed_solution(demo: tuple[Path, str]) -> None:
    folder, _ = demo
    solution = read_table(folder / "data" / "solution.csv", ("ImageID", "ans", "Usage"))
    truth = {name: {"ans": answer, "Usage": usage} for name, answer, usage in solution}
    for row in json.loads(run_tracker("leaderboard", "--json", cwd=folder).stdout):
        sent = dict(read_table(folder / row["file"], ("ImageID", "ans")))
        for split in ("Public", "Private"):
            ids = [name for name, line in truth.items() if line["Usage"] == split]
            labels = [str(number) for number in range(18)]
            expected = f1_score(
                [truth[n]["ans"] for n in ids],
                [sent[n] for n in ids],
                labels=labels,
                average="macro",
                zero_division=0,
            )
            assert row[f"{split.lower()}_f1"] == pytest.approx(expected, abs=1e-12)
            assert expected > 0.1  # eighteen classes: guessing gives 0.05, six epochs 0.2 to 0.8


def test_a_folder_with_files_is_refused_and_left_alone(tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("work")
    done = run_tracker("demo", tmp_path, cwd=tmp_path, ok=False)
    assert done.returncode == 2
    assert "is not empty" in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]
