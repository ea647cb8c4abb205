"""`make bench`: what it runs is there, and what fails is written down."""

from __future__ import annotations

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
    (tmp_path / "good.py").write_text("print('| a | 1 |')\n")
    names = ("bad", "good")
    monkeypatch.setattr(bench, "BENCH", tmp_path)
    monkeypatch.setattr(bench, "PAGE", tmp_path / "BENCHMARKS.md")
    monkeypatch.setattr(
        bench, "MEASUREMENTS", [bench.Measurement(name, name, ()) for name in names]
    )
    monkeypatch.setattr("sys.argv", ["bench", "--quick"])
    assert bench.main() == 1
    page = (tmp_path / "BENCHMARKS.md").read_text()
    assert "## bad\n\n`python bench/bad.py`, failed with 3" in page
    assert "```\nhalf\n```" in page
    assert "| a | 1 |" in page and "cores of" in page
