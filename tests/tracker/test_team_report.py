"""The team's report as a file: what it says, that every text in it is text, and its one copy in
MLflow."""

from __future__ import annotations

import base64
import csv
import hashlib
import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from scipy.stats import spearmanr

from tests.conftest import NO_MLFLOW, run_tracker
from tests.support.mlflow_runs import find_runs
from tests.support.report_texts import CELLS, HEBREW, HOSTILE, list_expected, make_hostile
from tests.support.winners_table import TABLE
from tests.support.workspaces import make_run, make_workspace
from tracker.comparison.cv_lb import compare_cv_with_leaderboard
from tracker.comparison.statistics.regression import describe_rank, spearman
from tracker.core.markdown import escape
from tracker.ledger.submission_table import import_table, read_submission_table
from tracker.mirror.targets.mlflow_server import connect
from tracker.mirror.targets.mlflow_view import ensure_experiment
from tracker.report import charts, excerpt, page
from tracker.report.charts import (
    _list_rising,
    describe_scatter,
    describe_timeline,
    draw_timeline,
    render_ticks,
)
from tracker.report.data import TeamReport, build_entry, build_report, explain_parts, list_facts
from tracker.report.markdown import render_markdown
from tracker.report.page import FOLDER, render_page
from tracker.report.svg import Drawing, Scale, measure_text
from tracker.report.write import copy_report, write_report
from tracker.run_folder.recorder import Recorder
from tracker.submission.notes import add_note
from tracker.submission.scores import parse_scores, reveal, score
from tracker.submission.submit import submit
from tracker.training.errors import ConfigError
from tracker.workspace.tracker_toml import Workspace

VOID = {"meta", "link", "br", "line", "path"}


class Page(HTMLParser):
    """The parts of a page; fails at an element that is closed in the wrong place or not at all."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None], list[str]]] = []
        self._open: list[int] = []
        self.feed(text)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs), []))
        if tag not in VOID:
            self._open.append(len(self.elements) - 1)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs), []))

    def handle_endtag(self, tag: str) -> None:
        assert self.elements[self._open.pop()][0] == tag

    def handle_data(self, data: str) -> None:
        for place in self._open:
            self.elements[place][2].append(data)

    def find(self, tag: str, **wanted: str) -> list[str]:
        """Texts of the elements with these attributes."""
        return [
            " ".join("".join(texts).split())
            for name, attributes, texts in self.elements
            if name == tag and wanted.items() <= attributes.items()
        ]


@pytest.fixture
def winners(workspace: Workspace) -> Workspace:
    """The submissions of 2022."""
    import_table(workspace, read_submission_table(TABLE, workspace.competition))
    return workspace


@pytest.fixture
def report(winners: Workspace) -> TeamReport:
    return build_report(winners)


# --- What it says ---


def test_the_winners_report_tells_sota_and_what_agrees_with_what(report: TeamReport) -> None:
    assert report.sota is not None
    assert report.best_private is not None
    assert (report.sota.number, report.best_private.number) == (17, 12)
    assert [entry.number for entry in report.entries if entry.was_sota] == [1, 2, 4, 6, 7, 12, 17]
    assert {e.number: e.equal_to for e in report.entries if e.equal_to} == {9: 8, 11: 7, 14: 7}
    found = {(relation.x, relation.y): relation for relation in report.relations}
    both = found["public_f1", "private_f1"]
    assert (len(both.points), both.rank and round(both.rank.rho, 3)) == (18, 0.985)
    assert len(found["val_accuracy", "public_accuracy"].points) == 15
    assert report.entries[16].gain == pytest.approx(0.0014)


def test_the_page_has_the_18_rows_of_the_reference(report: TeamReport) -> None:
    found = Page(render_page(report))
    expected = list(list_expected())
    assert len(expected) == 18
    for label in CELLS:
        cells = [text.rstrip("\u2260") for text in found.find("td", **{"data-label": label})]
        assert cells == [row[label] for row in expected]
    assert found.find("span", **{"data-key": "model"}) == [row["model"] for row in expected]
    assert found.find("span", **{"data-key": "memo"}) == [row["memo"] for row in expected]
    numbers = found.find("th", **{"data-key": "number"})
    split = [re.fullmatch(r"(\d+)(.*)", text) for text in numbers]
    assert [part and part[1] for part in split] == [row["number"] for row in expected]
    marks = [part[2] for part in split if part]
    family = [report.marks.list_marks(node.submission, node.name) for node in report.family.nodes]
    assert marks == [" ".join(entry.own_marks) for entry in report.entries]
    assert (marks.count("**"), set(marks)) == (1, {"", "*", "**", "* ^", "=7", "=8"})
    stars = found.find("span", **{"class": "star"})
    own = [mark for entry in report.entries for mark in entry.own_marks]
    assert stars == own + [mark for marks in family for mark in marks]
    assert found.find("p", **{"class": "bad"}) == [
        "duplicate of 8",
        "duplicate of 7",
        "duplicate of 7",
    ]


def test_the_leaderboard_has_the_18_rows_too(winners: Workspace) -> None:
    rows = json.loads(run_tracker("leaderboard", "--json", cwd=winners.root).stdout)
    with TABLE.open(newline="") as file:
        expected = list(csv.DictReader(file))
    assert [(row["number"], row["memo"], row["public_f1"], row["private_f1"]) for row in rows] == [
        (int(row["number"]), row["memo"], float(row["public_f1"]), float(row["private_f1"]))
        for row in expected
    ]
    shown = run_tracker("leaderboard", cwd=winners.root).stdout
    shares = [
        f"{float(row[key]) / 100:.4f}" for row in expected for key in ("public_acc", "private_acc")
    ]
    assert all(share in shown for share in shares)
    assert "%" not in shown


def test_the_markdown_has_the_same_rows(report: TeamReport) -> None:
    lines = [line for line in render_markdown(report).splitlines() if line.startswith("| ")]
    table = [[cell.strip() for cell in line.strip("| ").split(" | ")] for line in lines[:20]]
    for row, expected in zip(table[2:], list_expected(), strict=True):
        cells = dict(zip(table[0], row, strict=True))
        assert cells["No."].split()[0] == expected["number"]
        assert cells["Memo"] == expected["memo"]
        assert {label: cells[label].rstrip(" \u2260") for label in CELLS} == {
            label: expected[label].replace("\u2013", "-") for label in CELLS
        }
    assert re.search(
        r"Spearman 0\.985, 95 % interval [\d.]+ to [\d.]+, over 18", render_markdown(report)
    )


def test_validation_is_ranked_within_the_largest_scheme_as_truth_does(
    winners: Workspace, report: TeamReport
) -> None:
    shown = next(item for item in report.relations if item.x == "val_accuracy")
    told = next(
        item
        for item in compare_cv_with_leaderboard(winners).relations
        if (item.metric, item.x) == ("accuracy", "val")
    )
    assert told.rank is not None
    assert shown.rank == told.rank
    told_words = describe_rank(told.rank, told.n)
    assert told_words in render_markdown(report)
    assert (shown.ranked, shown.schemes) == (told.n, 6)
    words = (
        "over 6 of 15 submissions, those of the largest of 6 validation schemes, which do not"
        " compare. Few submissions"
    )
    assert words in render_markdown(report)
    figure = next(
        part for part in render_page(report).split('<figure class="relation">') if words in part
    )
    dots = re.findall(r'<circle class="([^"]*)"', figure.partition("</svg>")[0])
    hollow = [kind for kind in dots if kind.endswith("other")]
    assert (len(dots), len(hollow)) == (15, 9)  # what is drawn is what the words count
    assert "The other 9 are drawn hollow." in figure


def test_validation_scores_of_other_images_are_marked_in_table_and_family(
    workspace: Workspace,
) -> None:
    for answers, ratio in (("0000011110", 0.2), ("0000011100", 0.3), ("0000011000", 0.2)):
        submit(workspace, make_run(workspace, answers, config={"data.val_ratio": ratio}).name, "m")
    make_run(workspace, "0000010000", config={"data.val_ratio": 0.3})
    report = build_report(workspace)
    assert report.sota is not None and report.sota.number == 1
    assert [bool(entry.marks.get("val_f1")) for entry in report.entries] == [False, True, False]
    assert report.node_marks == {"exp2": "\u2260", "exp4": "\u2260"}
    meaning = "does not compare with SOTA's: other images or labels, another loss"
    text = render_markdown(report)
    assert text.count(f"\u2260 {meaning}") == 2
    lines = [line for line in text.splitlines() if "exp" in line and line.lstrip().startswith("-")]
    assert ["\u2260" in line for line in lines] == [
        "exp2" in line or "exp4" in line for line in lines
    ]
    page = Page(render_page(report))
    cells = page.find("td", **{"data-label": "val F1"})
    assert [text.endswith("\u2260") for text in cells] == [False, True, False]
    named = [
        attributes["aria-label"]
        for tag, attributes, _ in page.elements
        if tag == "span" and attributes.get("class") == "apart"
    ]
    assert named and all(str(name).startswith(meaning) for name in named)
    (caption,) = [text for text in page.find("caption") if "submissions by number" in text]
    assert f"\u2260 {meaning}" in caption


def test_a_report_of_one_validation_scheme_has_no_marks(workspace: Workspace) -> None:
    for answers in ("0000011110", "0000011100"):
        submit(workspace, make_run(workspace, answers).name, "m")
    report = build_report(workspace)
    assert "\u2260" not in render_markdown(report) + render_page(report)


def test_the_timeline_counts_what_it_draws(report: TeamReport) -> None:
    metric = report.competition.primary
    unscored = replace(report.entries[0], number=99, values={}, was_sota=False)
    entries = [*report.entries, unscored]
    drawing = draw_timeline(entries, metric, width=1240, height=400, name="n")
    assert len(re.findall("<circle[^>]*><title>[0-9]+, public ", drawing)) == 18
    steps = [entry for entry in entries if entry.was_sota]
    words = describe_timeline(entries, metric)
    assert words.startswith(
        f"18 of 19 submissions have a score; {len(steps)} became SOTA with this public F1"
    )
    assert words.count("(") == len(steps) + 1
    many = [replace(entry, was_sota=True) for entry in report.entries]
    assert "18 submissions; 18 became SOTA, the last 10 with this" in describe_timeline(
        many, metric
    )


def test_private_scores_are_told_only_when_they_were_revealed(workspace: Workspace) -> None:
    for answers in ("0000011110", "0000011100"):
        submit(workspace, make_run(workspace, answers).name, "m")
    sealed = build_report(workspace)
    assert sealed.best_private is None
    assert not Page(render_page(sealed)).find("td", **{"data-label": "private F1"})
    reveal(workspace)
    assert Page(render_page(build_report(workspace))).find(
        "td", **{"data-label": "private F1"}
    ) == ["0.8000", "0.8000"]


def test_notes_gain_and_author_of_a_real_submission_are_shown(workspace: Workspace) -> None:
    for answers in ("0000011100", "0000011110"):
        submit(workspace, make_run(workspace, answers, config={"optim.lr": 0.5}).name, "m")
    add_note(workspace, "2", "should have waited")
    report = build_report(workspace)
    assert report.entries[1].notes == ["should have waited"]
    text = render_page(report)
    assert "should have waited" in text
    assert "first to last" in text.lower()
    assert f">{report.entries[0].author}<" in text


def test_a_metric_where_lower_is_better_has_its_best_below(tmp_path: Path) -> None:
    workspace = make_workspace(tmp_path / "ws", metrics=["rmse:lower"], solution=None)
    for number, (answers, value) in enumerate(
        {"0000011110": "3.5", "0000011100": "2.5"}.items(), start=1
    ):
        submit(workspace, make_run(workspace, answers).name, "m")
        score(workspace, number, parse_scores(workspace.competition, {"public": [f"rmse={value}"]}))
    report = build_report(workspace)
    assert report.sota is not None
    assert report.sota.number == 2
    assert Page(render_page(report)).find("td", **{"data-label": "public RMSE"}) == [
        "3.500",
        "2.500",
    ]


def test_an_empty_workspace_has_a_report(workspace: Workspace) -> None:
    report = build_report(workspace)
    assert "No submissions yet." in render_page(report)
    assert "No submissions yet." in render_markdown(report)


# --- That it is well made ---


def test_every_text_is_escaped_and_the_only_script_is_ours(workspace: Workspace) -> None:
    make_hostile(workspace)
    text = render_page(build_report(workspace))
    found = Page(text)
    assert len(found.find("script")) == 1
    assert not found.find("b")
    assert not found.find("i")
    assert found.find("span", **{"data-key": "memo"})[:2] == [" ".join(HOSTILE.split()), HEBREW]
    script = re.search(r"<script>(.*?)</script>", text, re.DOTALL)
    assert script is not None
    digest = base64.b64encode(hashlib.sha256(script[1].encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in text


def test_markdown_texts_stay_in_their_cell(workspace: Workspace) -> None:
    make_hostile(workspace)
    text = render_markdown(build_report(workspace))
    assert "<" not in text
    assert f"\u2068{HEBREW}\u2069" in text
    rows = [re.sub(r"\\.", "", line) for line in text.splitlines() if line.startswith("|")]
    tables = "\n".join(row if row[0] == "|" else "" for row in rows)
    assert {row.count("|") for row in tables.splitlines()[:5]} == {rows[0].count("|")}
    assert escape("a|b\n`c` <d> _e_") == r"a\|b \`c\` &lt;d&gt; \_e\_"
    assert escape("  ") == escape(None) == "-"


def test_the_page_is_one_file_with_headings_captions_and_descriptions(report: TeamReport) -> None:
    found = Page(render_page(report))
    addresses = [a[key] or "" for _, a, _ in found.elements for key in ("href", "src") if key in a]
    ids = [attributes["id"] for _, attributes, _ in found.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    assert all(address.startswith("data:") or address[1:] in ids for address in addresses)
    levels = [int(tag[1]) for tag, _, _ in found.elements if re.fullmatch(r"h\d", tag)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after <= before + 1 for before, after in pairwise(levels))
    count = {tag: len(found.find(tag)) for tag in ("table", "caption")}
    assert count["table"] == count["caption"] == 5
    assert all("scope" in attributes for tag, attributes, _ in found.elements if tag == "th")
    charts = [
        attributes
        for tag, attributes, _ in found.elements
        if tag == "svg" and attributes.get("role") == "img"
    ]
    assert len(charts) == 8
    for chart in charts:
        title, description = (chart["aria-labelledby"] or "").split()
        assert found.find("title", id=title)[0]
        assert len(found.find("desc", id=description)[0]) > 20
    assert all(
        attributes.get("tabindex") == "0"
        for _, attributes, _ in found.elements
        if attributes.get("role") == "region"
    )


def contrast(a: str, b: str) -> float:
    """WCAG 2.1's contrast ratio of two colours #rrggbb."""
    light = []
    for colour in (a, b):
        parts = [int(colour[n : n + 2], 16) / 255 for n in (1, 3, 5)]
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
        light.append(0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2] + 0.05)
    return max(light) / min(light)


def test_texts_have_contrast_of_aa_in_light_and_dark() -> None:
    style = (page.FOLDER / "style.css").read_text()
    palettes = [
        dict(re.findall(r"--(\w+): (#[0-9a-f]{6});", block))
        for block in re.findall(r":root \{(.*?)\}", style, re.DOTALL)
    ]
    light, dark = [palette for palette in palettes if "muted" in palette][:2]
    for palette in (light, dark):
        for name in ("ink", "muted", "accent", "gold", "bad"):
            assert contrast(palette[name], palette["paper"]) >= 4.5, name


# --- Its parts ---


@pytest.mark.parametrize(
    ("x", "y"),
    [
        ([1, 2, 3, 4, 5, 6], [2, 1, 4, 3, 6, 5]),
        ([1, 1, 2, 3, 3, 3], [6, 5, 5, 2, 2, 1]),
        ([0.1, 0.2, 0.2], [3, 1, 2]),
    ],
)
def test_rank_correlation_is_scipys(x: list[float], y: list[float]) -> None:
    assert spearman(x, y) == pytest.approx(spearmanr(x, y).statistic, abs=1e-12)
    assert spearman([1, 1, 1], [1, 2, 3]) is None


def test_ticks_are_round_and_within() -> None:
    assert Scale(0.27, 0.79, 0, 1).ticks(6) == [0.3, 0.4, 0.5, 0.6, 0.7]
    assert Scale(1, 1000, 0, 1).ticks(10, whole=True) == [
        100,
        200,
        300,
        400,
        500,
        600,
        700,
        800,
        900,
        1000,
    ]
    assert Scale(1, 4, 0, 1).ticks(10, whole=True) == [1, 2, 3, 4]
    assert render_ticks([0.8, 0.825, 0.85]) == ["0.800", "0.825", "0.850"]
    assert render_ticks([0.75, 0.76]) == ["0.75", "0.76"]


def test_labels_cover_neither_points_nor_each_other() -> None:
    drawing = Drawing(60, 30)
    for number in range(3):
        drawing.dot((30, 15), 4, "public", f"dot {number}")
    for number in range(40):
        drawing.label((30, 15), f"n{number}", "label")
    shown = re.findall(r">n\d+<", drawing.finish("n", "t", "d"))
    assert 1 <= len(shown) < 8


# --- Files and MLflow ---


def test_the_command_writes_what_is_asked_for(winners: Workspace, tmp_path: Path) -> None:
    done = run_tracker("report", cwd=winners.root, **NO_MLFLOW)
    assert done.stdout.strip() == str(winners.root / "report.html")
    assert "the report was not copied to MLflow" in done.stderr
    (winners.root / "report.html").unlink()
    done = run_tracker("report", "--md", "r.md", cwd=winners.root, **NO_MLFLOW)
    assert done.stdout.strip() == "r.md"
    assert not (winners.root / "report.html").exists()
    done = run_tracker(
        "report", "--html", tmp_path / "none" / "r.html", cwd=winners.root, ok=False, **NO_MLFLOW
    )
    assert done.returncode == 1
    assert "error: cannot write" in done.stderr


def test_a_report_replaces_a_report_and_nothing_else(winners: Workspace, tmp_path: Path) -> None:
    html, markdown = tmp_path / "a.html", tmp_path / "b.md"
    for _ in range(2):
        write_report(winners, html=html, markdown=markdown)
    for path, text in ((html, "<title>Mine</title>"), (markdown, "# Notes\n"), (markdown, "x")):
        path.write_text(text)
        with pytest.raises(ConfigError, match="already exists, and is no report") as caught:
            write_report(winners, html=html, markdown=markdown)
        assert "--force" in caught.value.hint
        assert path.read_text() == text
        write_report(winners, html=html, markdown=markdown, force=True)


def test_mlflow_has_one_report_however_often_it_is_made(winners: Workspace, tmp_path: Path) -> None:
    html, markdown = tmp_path / "a.html", tmp_path / "b.md"
    client: Any = connect(winners)
    client.create_run(
        ensure_experiment(client, winners), run_name="report", tags={"tracker.kind": "report"}
    )  # older
    assert copy_report(winners, write_report(winners, html=html)) == ""
    add_note(winners, "3", "a later note")
    assert copy_report(winners, write_report(winners, html=html, markdown=markdown)) == ""
    assert find_runs(winners) == []
    apart = client.get_experiment_by_name(f"{winners.competition.name} report")
    (run,) = client.search_runs([apart.experiment_id])
    assert (run.info.run_name, run.info.status, run.data.tags["tracker.kind"]) == (
        "report",
        "FINISHED",
        "report",
    )
    assert "0.7822" in run.data.tags["mlflow.note.content"]
    assert {file.path for file in client.list_artifacts(run.info.run_id)} == {
        "report.html",
        "report.md",
    }
    copy = Path(client.download_artifacts(run.info.run_id, "report.html", str(tmp_path)))
    assert copy.read_text() == html.read_text()
    assert "a later note" in copy.read_text()


def test_room_is_kept_for_characters_that_are_twice_as_wide() -> None:
    assert measure_text("고양이") == measure_text("catcat")


def test_the_page_names_fonts_that_have_korean_for_charts_and_texts() -> None:
    style = (FOLDER / "style.css").read_text(encoding="utf-8")
    assert style.count("var(--sans)") == 2
    assert "var(--cjk)" in style.partition("--sans:")[2].partition(";")[0]


def test_a_flattered_point_is_in_no_rank_correlation(workspace: Workspace) -> None:
    for place, answers in enumerate(("0000011100", "0000011000", "0000010000", "0001000000")):
        name = make_run(workspace, answers, f1=0.5 + place / 10).name
        path = workspace.runs_dir / name / "run.json"
        record = json.loads(path.read_text())
        record["summary"]["val/loss"] = 0.5
        path.write_text(json.dumps(record))
        submit(workspace, name, "m")
    names = ["exp1", "exp2"]
    tables = {"ensemble": {"method": "weighted", "members": names, "searched": True}}
    recorder = Recorder.create(
        workspace.runs_dir,
        kind="ensemble",
        config=tables,
        parent=None,
        note="",
        fingerprints={"config": "c"},
    )
    recorder.progress(epoch=0, best_epoch=None, summary={"val/f1": 0.99})
    answers = recorder.folder / "predictions.csv"
    rows = "".join(f"i{number}.png,{letter}\n" for number, letter in enumerate("0000011111"))
    answers.write_text("ImageID,ans\n" + rows)
    name = recorder.finish("finished").name
    submit(workspace, name, "ensemble", even_if_similar=True)
    report = build_report(workspace)
    assert report.sota is not None and report.sota.number == 5
    relation = next(item for item in report.relations if item.x == "val_f1")
    assert relation.flattered == [5] and 5 in relation.others
    assert (relation.ranked, len(relation.points)) == (4, 5)
    words = "(without 5, flattered: weights were searched on these validation images)"
    assert f"4 of 5 submissions {words}" in describe_scatter(relation)
    assert "The other one is drawn hollow." in render_page(report)
    # the ensemble logged no validation loss: nothing is apart from it
    assert [entry.values.get("val_loss") for entry in report.entries] == [0.5] * 4 + [None]
    assert [entry.marks.get("val_loss") for entry in report.entries] == [None] * 4 + ["~"]


def test_the_timeline_rises_where_a_row_was_scored_late(tmp_path: Path) -> None:
    workspace = make_workspace(tmp_path / "ws", solution=None)
    for answers in ("0000011110", "0000011100", "0000011000"):
        submit(workspace, make_run(workspace, answers).name, "m", even_if_similar=True)
    for number, value in ((1, 0.8), (3, 0.85), (2, 0.9)):
        score(workspace, number, {("public", "f1"): value})
    report = build_report(workspace)
    assert [entry.was_sota for entry in report.entries] == [True, True, True]
    told = describe_timeline(report.entries, report.competition.primary)
    assert told.endswith("0.8000 (1), 0.8500 (3), 0.9000 (2).")
    rising = _list_rising(report.entries, report.competition.primary)
    assert [entry.number for entry in rising] == [1, 2]
    text = render_markdown(report)
    assert "| 3 \\* |" in text and "exp3 \\* (submission 3)" in text


def test_of_very_many_submissions_some_are_shown_as_in_a_report_of_all(
    winners: Workspace, report: TeamReport, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = {entry.number: entry for entry in report.entries}
    assert report.is_whole and not explain_parts(report)
    monkeypatch.setattr(excerpt, "MOST", 5)
    monkeypatch.setattr(excerpt, "NEWEST", 4)
    monkeypatch.setattr(excerpt, "BEST", 1)
    some = build_report(winners)
    shown = [entry.number for entry in some.entries]
    became_sota = {number for number, entry in whole.items() if entry.was_sota}
    newest = set(sorted(whole)[-4:])
    repeated = {whole[number].equal_to for number in newest} - {None}
    assert newest | became_sota | repeated | {12} <= set(shown) < set(whole)  # 12: best private
    assert shown == sorted(shown)
    assert list(some.entries) == [whole[number] for number in shown]
    assert (some.sota, some.best_private) == (report.sota, report.best_private)
    own, others = list_facts(some), list_facts(report)
    assert own.pop("Duplicates").endswith("of the submissions shown")
    assert own == {name: fact for name, fact in others.items() if name != "Duplicates"}
    assert all(set(newest) >= {one for one, _, _ in item.points} for item in some.relations)
    line = [node.name for node in report.family.nodes if node.sota_line]
    assert [node.name for node in some.family.nodes] == line
    texts = explain_parts(some)
    assert f"{len(shown)} of {len(whole)} submissions" in texts["report"]
    for text in texts.values():
        assert text in render_page(some)
        assert escape(text) in render_markdown(some)
    for number, entry in whole.items():
        assert build_entry(winners, number) == entry


def test_older_rows_are_folded_and_none_is_missing(
    report: TeamReport, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "<details" not in render_page(report)
    whole = Page(render_page(report))
    monkeypatch.setattr(page, "NEWEST", 5)
    text = render_page(report)
    found = Page(text)
    rows = [a["id"] for tag, a, _ in found.elements if tag == "tr" and "id" in a]
    assert sorted(rows) == sorted(
        a["id"] for tag, a, _ in whole.elements if tag == "tr" and "id" in a
    )
    folded = re.findall("<details.*?</details>", text, re.DOTALL)
    ids = {f"s{entry.number}" for entry in report.entries}
    assert {one for one in ids if any(f'<tr id="{one}"' in part for part in folded)} == {
        f"s{entry.number}" for entry in report.entries[:-5]
    }
    hidden = " ".join(folded)
    for entry in report.entries[:-5]:
        assert all(column.render(entry) in hidden for column in report.columns)
    for node in report.family.nodes:
        assert f">{node.name}<" in hidden
    for item in report.audit.several_keys:
        assert f'<a href="#s{item["number"]}">' in text
    assert "<script" not in hidden


def test_beyond_the_newest_points_only_steps_have_a_title(
    report: TeamReport, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(charts, "MAX_TITLED", 2)
    metric = report.competition.primary
    drawn = draw_timeline(report.entries, metric, width=900, height=400, name="t")
    titled = {int(number) for number in re.findall(r"<title>(\d+), public", drawn)}
    scored = [entry.number for entry in report.entries if f"public_{metric.name}" in entry.values]
    assert titled == {*scored[-2:], *(entry.number for entry in report.entries if entry.was_sota)}
    assert drawn.count("<circle") > len(titled)
