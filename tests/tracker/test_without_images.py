"""Competitions without images: a team trains with whatever it likes, and the ledger serves it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import tracker
from tracker.comparison.diff import diff_runs
from tracker.console.diff import render_markdown
from tracker.core.errors import DuplicateError
from tracker.ledger.read import get_submission, list_submissions
from tracker.report.data import build_report
from tracker.report.markdown import render_markdown as render_report
from tracker.report.page import render_page
from tracker.setup.init import init_workspace
from tracker.submission.scores import parse_scores, score
from tracker.submission.submit import submit
from tracker.workspace.tracker_toml import Workspace, load_workspace

ROWS = 60
LONG = " ".join(str(number) for number in range(1, 60_001))  # a mask of 300,000 characters


def make_contest(root: Path, metric: str, **columns: str) -> Workspace:
    """What `tracker init DIR --metric METRIC` makes where there are no images."""
    root.mkdir()
    init_workspace(root, data={}, competition=columns, metrics=[metric])
    assert "classes = []" in (root / "tracker.toml").read_text()
    return load_workspace(root)


def make_texts() -> pd.DataFrame:
    """Predictions of a text competition: classes are words, an index has the ids."""
    words = np.array(["sincere", "troll, rude", 'says "no"', "다정함"])
    ids = [f"{number:04}" for number in range(ROWS)]
    return pd.DataFrame({"label": words[np.arange(ROWS) % 4]}, index=pd.Index(ids, name="qid"))


def make_masks() -> pd.DataFrame:
    """Predictions of a segmentation competition: run lengths; no mask is empty."""
    masks = ["", "1 3 10 5", "7", LONG, float("nan")]
    ids = [f"{number}.jpg_{kind}" for number in range(ROWS // 2) for kind in ("fish", "flower")]
    return pd.DataFrame({"image": ids, "mask": [masks[number % 5] for number in range(ROWS)]})


CONTESTS = {
    "texts": ("f1_macro", {"id_column": "qid", "label_column": "label"}, make_texts),
    "masks": ("dice", {"id_column": "image", "label_column": "mask"}, make_masks),
}


@pytest.mark.parametrize("name", list(CONTESTS))
def test_a_frame_is_submitted_once_scored_by_hand_listed_and_reported(
    tmp_path: Path, name: str
) -> None:
    metric, columns, make_frame = CONTESTS[name]
    workspace = make_contest(tmp_path / "ws", metric, **columns)
    frame = make_frame()
    with tracker.start_run({"model": "linear", "C": 0.5}, root=workspace.root, follow=False) as run:
        run.log({f"val/{metric}": 0.7, "train/loss": 0.4}, epoch=1)
        run.save_predictions(frame)
    written = pd.read_csv(run.folder / "predictions.csv", dtype=str, keep_default_na=False)
    given = frame.reset_index().fillna("")[list(columns.values())].astype(str)
    expected = given.sort_values(columns["id_column"]).to_numpy().tolist()
    assert written.to_numpy().tolist() == expected
    assert list(written.columns) == list(columns.values())
    submit(workspace, run.name, "first try")
    # the same predictions from a file, in another order, are the same submission
    shuffled = tmp_path / "shuffled.csv"
    given.sample(frac=1, random_state=0).to_csv(shuffled, index=False)
    with tracker.start_run({"model": "linear"}, root=workspace.root, follow=False) as again:
        again.save_predictions(shuffled)
    with pytest.raises(DuplicateError):
        submit(workspace, again.name, "again")
    # another model, a score by hand for each, and one of them is the best
    label = columns["label_column"]
    other = frame.reset_index()
    other.loc[:20, label] = other.loc[1, label]
    with tracker.start_run({"model": "forest"}, root=workspace.root, follow=False) as better:
        better.log({f"val/{metric}": 0.8}, epoch=1)
        better.save_predictions(other)
    submit(workspace, better.name, "a forest", even_if_similar=True)
    # however long a mask is, it does not fill the terminal
    text = render_markdown(
        diff_runs(workspace, run.name, better.name, images=ROWS), everything=True
    )
    assert max(map(len, text.splitlines())) < 500
    if name == "masks":
        assert "(empty) -> 1 3 10 5" in text
        assert f"... ({len(LONG):,} characters) -> 1 3 10 5" in text
    for number, value in ((1, "0.71"), (2, "0.79")):
        typed = parse_scores(workspace.competition, {"public": [f"{metric}={value}"]})
        score(workspace, number, typed)
    assert get_submission(workspace, 2).scores == {f"public_{metric}": 0.79}
    report = build_report(workspace)
    assert report.sota is not None and report.sota.number == 2
    assert [row.number for row in list_submissions(workspace)] == [1, 2]
    page = render_page(report)
    for text in ("0.7100", "0.7900", "first try", "a forest"):
        assert text in page
    assert "a forest" in render_report(report)
