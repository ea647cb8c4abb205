"""The pages as HTML: each is made once for a state of the ledger and the runs."""

from __future__ import annotations

import datetime as dt
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

from tracker.board.details import read_diff, read_run, read_submission
from tracker.board.now import read_now
from tracker.board.state import State, StateReader
from tracker.comparison.tree import Node
from tracker.core.clock import to_utc_text
from tracker.core.text import clean_text, render_number
from tracker.ledger.read import read_clock
from tracker.report.data import TeamReport, build_entry, build_report
from tracker.report.page import (
    build_environment,
    describe_marks,
    describe_report,
    hash_text,
    read_own_file,
)
from tracker.run_folder.read import look_once
from tracker.workspace.metrics import metric_title
from tracker.workspace.tracker_toml import Workspace

FOLDER = Path(__file__).resolve().parent
MOST_PAGES = 200  # kept of one state
POLL_S = 5  # a browser asks so often
REFRESH_S = 30  # without a script it loads the page anew so often


class Links:
    """The addresses of the pages, relative to the root of the board."""

    def __init__(self, here: Mapping[int, str]) -> None:
        """`here` has the name here of the run of each submission that has one."""
        self._here = here

    def run(self, name: str) -> str:
        """The page of a run."""
        return "/runs/" + quote(name)

    def run_of(self, number: int) -> str | None:
        """The name here of a submission's run; None where only the ledger knows it."""
        return self._here.get(number)

    def submission(self, number: int) -> str:
        """The page of a submission."""
        return f"/submissions/{number}"

    def node(self, node: Node) -> str:
        """The page of a node of the family."""
        if node.kind == "submission" and node.submission is not None:
            return self.submission(node.submission)
        return self.run(node.name)

    def diff(self, a: str, b: str) -> str:
        """The page that compares two runs or submissions."""
        return "/diff?" + urlencode({"a": a, "b": b})


@dataclass(frozen=True)
class Page:
    """A page and the key of the state that it shows."""

    html: str
    key: str


class Pages:
    """Makes the pages of a workspace; several threads may ask.

    Every method raises TrackerError as the command does that prints the same.
    """

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace
        self.states = StateReader(workspace)
        self._environment = build_environment(workspace.competition, FOLDER)
        self._environment.filters["number"] = render_number
        self._style = read_own_file("style.css") + read_own_file("board.css", FOLDER)
        self._script = read_own_file("sort.js") + read_own_file("live.js", FOLDER)
        self._lock = threading.Lock()
        self._key = ""
        self._report: TeamReport | None = None
        self._made: dict[tuple[str, ...], str] = {}

    @property
    def policy(self) -> str:
        """The Content-Security-Policy: our one style and our one script, and nothing else."""
        style = hash_text(f"\n{self._style}\n")  # as base.html has it between its tags
        return (
            "default-src 'none'; img-src data:; connect-src 'self'; form-action 'self';"
            " base-uri 'none'; frame-ancestors 'none';"
            f" style-src 'sha256-{style}'; script-src 'sha256-{hash_text(self._script)}'"
        )

    def home(self) -> Page:
        """The report with what happens now."""
        return self._make(("home",), self._render_home)

    def run(self, name: str) -> Page:
        """A run."""
        return self._make(("run", name), lambda state: self._render_run(state, name))

    def submission(self, number: int) -> Page:
        """A submission."""
        return self._make(
            ("submission", str(number)), lambda state: self._render_submission(state, number)
        )

    def diff(self, a: str, b: str) -> Page:
        """Two runs or submissions compared; without `a` and `b` the form that asks for them."""
        return self._make(("diff", a, b), lambda state: self._render_diff(state, a, b))

    def error(self, title: str, text: str, *, retry: bool = False) -> str:
        """A page that says what is wrong; it reads nothing. With `retry` it asks again."""
        return self._render("error.html", None, title=title, text=text, retry=retry)

    def _make(self, words: tuple[str, ...], render: Callable[[State], str]) -> Page:
        state = self.states.read()
        with self._lock:
            if state.key != self._key:
                self._key, self._report, self._made = state.key, None, {}
            if words not in self._made:
                html = render(state)
                if len(self._made) >= MOST_PAGES:
                    self._made.clear()
                self._made[words] = html
            return Page(self._made[words], state.key)

    def _read_report(self) -> TeamReport:
        if self._report is None:
            self._report = build_report(self._workspace)
        return self._report

    def _render_home(self, state: State) -> str:
        clock = read_clock(self._workspace)
        with look_once(self._workspace.runs_dir):
            report = self._read_report()
            now = read_now(self._workspace, state, report.quota, clock)
        known = describe_report(report)
        del known["facts"]["Quota"]  # a clock has it
        return self._render(
            "home.html",
            state,
            **known,
            now=now,
            links=Links({entry.number: entry.here for entry in report.entries if entry.here}),
        )

    def _render_run(self, state: State, name: str) -> str:
        run = read_run(self._workspace, name)
        return self._render("run.html", state, run=run)

    def _render_submission(self, state: State, number: int) -> str:
        details = read_submission(self._workspace, number)
        report = self._read_report()
        entry = next((entry for entry in report.entries if entry.number == number), None)
        entry = entry or build_entry(self._workspace, number)  # of very many some are shown
        return self._render("submission.html", state, details=details, entry=entry, report=report)

    def _render_diff(self, state: State, a: str, b: str) -> str:
        found = read_diff(self._workspace, a, b) if a and b else None
        report = self._read_report()
        nodes = report.family.nodes
        names = [node.name for node in nodes]
        if not report.is_whole:
            names += [entry.here or f"s{entry.number}" for entry in report.entries]
            names = list(dict.fromkeys(names))
        best = next((node.name for node in nodes if node.is_sota), "")
        first, last = best or next(iter(names), ""), next(reversed(names), "")
        known = {"found": found, "names": names, "a": a, "b": b, "first": first, "last": last}
        # loaded anew, it would forget what is chosen in the form
        return self._render("diff.html", state, refresh_s=None, **known)

    def _render(self, template: str, state: State | None, **known: Any) -> str:
        competition = self._workspace.competition
        values = {
            **describe_marks(),
            "competition": competition,
            "metric": competition.primary,
            "metric_name": metric_title(competition.primary),
            "links": Links({}),
            "problem": state.problem if state else "",
            "key": state.key if state else "",
            "made_at": to_utc_text(dt.datetime.now(dt.UTC)),
            "poll_s": POLL_S,
            "refresh_s": REFRESH_S,
            "style": self._style,
            "script": self._script,
            **known,
        }
        return clean_text(self._environment.get_template(template).render(**values))
