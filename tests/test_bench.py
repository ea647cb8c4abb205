"""`make bench`: what it runs is there, what fails is written down, and the documents say no figure
that it does not print."""

from __future__ import annotations

import itertools
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from bench import __main__ as bench
from bench import page
from bench.figures import Row, weigh
from bench.measurements import MEASUREMENTS, Measurement
from tests.conftest import ROOT
from tests.support.workspaces import make_workspace

FIGURE = re.compile(
    r"\d[\d.,]*(?:x\b| ?(?:"
    r"(?:[mun]?s|sec|seconds?|minutes?|hours?|[kKMGT]i?B|times|images/s|rows/s|runs/s)\b"
    r"|(?:images|rows|runs|steps) (?:a|per) second|초|밀리초|분(?!의)|시간|배|번))"
)
DOCUMENTS = [ROOT / "README.md", ROOT / "README.ko.md", *sorted((ROOT / "docs").glob("*.md"))]
FAULTS, MEMO = "how often `make faults` strikes", "of a run, in its memo"
NO_MEASUREMENT = {  # what is a setting, or no figure of speed or size, by document
    "README.md": {"200 times": FAULTS, "3x": MEMO},
    "README.ko.md": {"3x": MEMO},
    "ledger.md": {"5 minutes": "a clock that is further behind is refused"},
    "live.md": {
        "24 hours": "of events that are shown",
        "1 hours": "before the deadline",
        "30 seconds": "between two pages",
    },
    "team-server.md": {"1 hours": "before the deadline", "80 s": "before the last try"},
    "training.md": {
        "30 seconds": "between two signs of life",
    },
}


def test_each_measurement_is_a_script_that_has_its_quick_options() -> None:
    for one in MEASUREMENTS:
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
        *(
            {"Point": {"plot": plot, "series": "tracker runs", "x": size, "y": size / 1e5}}
            for plot in ("scale-ledger", "scale-runs")
            for size in (1_000_000, 100, 3_000)  # whatever was measured, in any order
        ),
    )
    lines = "".join(json.dumps(one) + "\n" for one in figures)
    record = f"open(os.environ['BENCH_FIGURES'], 'a').write({lines!r})"
    (tmp_path / "good.py").write_text(f"import os\nprint('| a | 1 |')\n{record}\n")
    names = ("bad", "good")
    measure_in(tmp_path, monkeypatch, *(Measurement(name, "Both", name, 1, ()) for name in names))
    (tmp_path / "pictures").mkdir()
    monkeypatch.setattr("sys.argv", ["bench", "--quick"])
    assert bench.main() == 1
    text = (tmp_path / "BENCHMARKS.md").read_text()
    assert "**bad** `python bench/bad.py`, failed with 3" in text
    assert "\nhalf\n```" in text
    assert "| a | 1 |" in text and "cores of" in text
    assert "2 goals: 1 reached, 1 missed." in text and "| [Both](#both) | 1 | 1 |" in text
    head, _, both = text.partition("## Both")
    assert "| start | 3 |  | 2 | slow |" in head  # what is missed is told first, and why
    assert "| reached | points lost | 0 |  |  | 0 |" in both
    assert "| [**missed**](#missed-goals) | start | 3 |  |  | 2 |" in both
    for plot, scheme in itertools.product(("logging", "scale"), ("light", "dark")):
        name = f"pictures/bench-{plot}-{scheme}.png"
        assert name in text
        assert (tmp_path / name).read_bytes().startswith(b"\x89PNG")
    # what was measured before stays on the page
    monkeypatch.setattr("sys.argv", ["bench", "--quick", "--only", "bad"])
    assert bench.main() == 1
    assert (tmp_path / "BENCHMARKS.md").read_text().count("| points lost | 0 |") == 1


def measure_in(folder: Path, monkeypatch: pytest.MonkeyPatch, *measurements: Measurement) -> None:
    """Let the scripts be those of a folder, and what they found and the page be kept there."""
    monkeypatch.setattr(bench, "BENCH", folder)
    monkeypatch.setattr(page, "ROOT", folder)
    monkeypatch.setattr(page, "PAGE", folder / "BENCHMARKS.md")
    monkeypatch.setattr(page, "RESULTS", folder / "results")
    monkeypatch.setattr(page, "PICTURES", folder / "pictures")
    for module in (bench, page):
        monkeypatch.setattr(module, "MEASUREMENTS", measurements)


def test_tracker_gives_the_answer_that_other_trackers_are_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(bench.BENCH))  # its scripts import each other
    from bench import queries

    workspace = make_workspace(tmp_path / "ws")
    peer = queries.PEERS[queries.OURS]
    source = queries.Source(Path(sys.executable), workspace.root, peer.ask, 40)
    subprocess.run(source.build_command(peer.fill), cwd=source.place, check=True)
    asked = source.build_command(queries.ASKED.format(ask=source.ask, again=1))
    printed = subprocess.check_output(asked, cwd=source.place, text=True)
    _, count, best, last = json.loads(printed.removeprefix("MEASURED "))
    scores = [number * 7919 % 10007 / 10007 for number in range(1, 41)]
    good = sorted(score for score in scores if score > queries.LEAST)
    assert (count, best, last) == (len(good), round(good[-1], 6), round(good[0], 6))
    programs = (text for one in queries.PEERS.values() for text in (one.begin, one.read, one.fill))
    assert all(compile(text, "peer", "exec") for text in programs)


def test_the_measurements_of_a_subject_are_together() -> None:
    subjects = [subject for subject, _ in itertools.groupby(one.subject for one in MEASUREMENTS)]
    assert len(subjects) == len(set(subjects))


def test_the_page_is_what_the_kept_results_say() -> None:
    assert page.render_page(page.read_results()) == page.PAGE.read_text(encoding="utf-8"), (
        "run python -m bench --only"
    )


def test_a_missed_goal_on_the_page_has_its_reason() -> None:
    rows = [row for one in page.read_results() for row in one.rows]
    assert len(rows) > 50
    assert [row.what for row in rows if row.reached is False and not row.reason] == []


def test_a_row_without_a_goal_says_so() -> None:
    assert page.render_row(Row("a|b", "1")) == "| no goal | a\\|b | 1 |  |  |  |"
    assert page.render_row(Row("a", "1", verdict="more")).endswith("|  | more |")
    assert page.render_row(Row("a", "", goal="2")) == "| not measured | a |  |  |  | 2 |"
    missed = Row("a", "1", goal="2", reached=False)
    assert page.render_missed([missed])[-2].endswith("| 2 | nobody has looked into it yet |")


def test_the_page_names_what_was_measured_while_others_computed() -> None:
    quiet = page.Result("input", "python bench/input.py", "done", 9.0, "day, commit", "", (), ())
    busy = quiet.__class__(**{**quiet.__dict__, "busy": True})
    assert ["Others computed" in page.render_printed("?", one)[0] for one in (quiet, busy)] == [
        False,
        True,
    ]


def test_a_verdict_names_the_peers_that_are_ahead() -> None:
    assert weigh(1.0, {"a": 2.0, "b": 3.0}, "why") == "less than all 2 peers"
    assert weigh(3.0, {"a": 2.0, "b": 4.0}, "why") == "for comparison; ahead: a 1.5 times: why"


def test_the_quick_forms_take_less_than_five_minutes_by_their_estimates(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert sum(one.quick_s for one in MEASUREMENTS) < 300
    assert all(one.quick_s for one in MEASUREMENTS if one.quick is not None)
    monkeypatch.setattr("sys.argv", ["bench", "--list", "--minutes", "10"])
    assert bench.main() == 0
    planned = capsys.readouterr().out
    assert "startup" in planned and "jitter_f1" not in planned


def test_what_another_machine_has_measured_is_not_replaced_by_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "gpu.py").write_text("print('no GPU')\nraise SystemExit(77)\n")
    one = Measurement("gpu", "GPU", "How fast?", 1, ())
    measure_in(tmp_path, monkeypatch, one)
    absent = bench.measure(one, quick=True)
    assert absent.end == "not measured"
    bench.keep(absent)
    assert page.read_results() == [absent]
    measured = bench.Result("gpu", "python bench/gpu.py", "done", 3.0, "a GPU", "fast", (), ())
    bench.keep(measured)
    bench.keep(absent)
    assert page.read_results() == [measured]


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_a_document_has_no_figure_that_the_page_has_not(path: Path) -> None:
    allowed = NO_MEASUREMENT.get(path.name, {})
    found = {figure.strip() for figure in FIGURE.findall(path.read_text(encoding="utf-8"))}
    printed = "\n".join(f"{one.printed}\n{one.rows}" for one in page.read_results())
    unknown = {one for one in found if not re.search(rf"(?<![\d.,]){re.escape(one)}\b", printed)}
    assert unknown - set(allowed) == set(), "measure it in bench/, or say why it is no measurement"
    assert set(allowed) - unknown == set(), "no longer needed"


def test_a_figure_that_nobody_measured_would_be_found() -> None:
    text = "It takes 0.3 s, 41 MB, 12 ms; 3 times quicker; 1분, 550 images/s; sha256, exp2, v3"
    expected = ["0.3 s", "41 MB", "12 ms", "3 times", "1분", "550 images/s"]
    assert FIGURE.findall(text) == expected
