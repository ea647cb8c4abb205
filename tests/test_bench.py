"""`make bench`: what it runs is there, and what fails is written down."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bench import __main__ as bench


def test_each_measurement_is_a_script_that_has_its_quick_options() -> None:
    for one in bench.MEASUREMENTS:
        text = (bench.BENCH / f"{one.name}.py").read_text()
        options = [word for word in one.quick or () if word.startswith("--")]
        assert not [option for option in options if f'"{option}"' not in text], one.name


def test_a_measurement_that_fails_is_written_down_and_the_others_are_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "bad.py").write_text("print('half')\nraise SystemExit(3)\n")
    figures = (
        {"Row": {"what": "points lost", "ours": "0", "goal": "0", "reached": True}},
        {"Row": {"what": "start", "ours": "3", "goal": "2", "reached": False, "reason": "slow"}},
        {"Point": {"plot": "logging-cost", "series": "tracker", "x": 0, "y": 6.0}},
        {"Point": {"plot": "logging-loss", "series": "tracker", "x": 0, "y": 0}},
    )
    lines = "".join(json.dumps(one) + "\n" for one in figures)
    record = f"open(os.environ['BENCH_FIGURES'], 'a').write({lines!r})"
    (tmp_path / "good.py").write_text(f"import os\nprint('| a | 1 |')\n{record}\n")
    names = ("bad", "good")
    monkeypatch.setattr(bench, "BENCH", tmp_path)
    monkeypatch.setattr(bench, "ROOT", tmp_path)
    monkeypatch.setattr(bench, "PAGE", tmp_path / "BENCHMARKS.md")
    monkeypatch.setattr(bench, "RESULTS", tmp_path / "results")
    monkeypatch.setattr(bench, "PICTURES", tmp_path / "pictures")
    (tmp_path / "pictures").mkdir()
    monkeypatch.setattr(
        bench, "MEASUREMENTS", [bench.Measurement(name, name, ()) for name in names]
    )
    monkeypatch.setattr("sys.argv", ["bench", "--quick"])
    assert bench.main() == 1
    page = (tmp_path / "BENCHMARKS.md").read_text()
    assert "## bad\n\n`python bench/bad.py`, failed with 3" in page
    assert "\nhalf\n```" in page
    assert "| a | 1 |" in page and "cores of" in page
    assert "| points lost | 0 |  |  | 0 | reached |" in page
    assert "| start | 3 |  |  | 2 | **missed**: slow |" in page
    for scheme in ("light", "dark"):
        name = f"pictures/bench-logging-{scheme}.png"
        assert name in page
        assert (tmp_path / name).read_bytes().startswith(b"\x89PNG")
    # what was measured before stays on the page
    monkeypatch.setattr("sys.argv", ["bench", "--quick", "--only", "bad"])
    assert bench.main() == 1
    assert (tmp_path / "BENCHMARKS.md").read_text().count("| points lost | 0 |") == 1
