"""Writes the report and copies it to MLflow."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from tracker.core.errors import TrackerError, render_error
from tracker.ledger.integrity import check_integrity
from tracker.report.charts import describe_timeline
from tracker.report.data import build_report, explain_parts
from tracker.report.markdown import render_markdown
from tracker.report.page import render_page
from tracker.training.errors import ConfigError
from tracker.training.files import translate_os_errors, write_text
from tracker.workspace.tracker_toml import Workspace

# Names of the copies in MLflow, whatever the files are called.
HTML, MARKDOWN = "report.html", "report.md"
TITLE_END = ": submissions"  # of every report, in both forms


@dataclass(frozen=True, kw_only=True)
class WrittenReport:
    """The texts written, by the names of their copies, and a sentence about them.

    `ledger_problem` says which row of the ledger was changed, as the report itself does.
    """

    texts: Mapping[str, str]
    about: str
    ledger_problem: str


def write_report(
    workspace: Workspace,
    *,
    html: Path | None = None,
    markdown: Path | None = None,
    force: bool = False,
) -> WrittenReport:
    """Write the requested files.

    Raises StorageError if a file cannot be written, LedgerError if the ledger cannot be read, and
    without `force` ConfigError for a file that is there and is no report; then nothing is written.
    """
    if not force:
        for target in filter(None, (html, markdown)):
            _refuse_to_replace(target)
    problem = check_integrity(workspace, in_full=True).warning
    report = replace(build_report(workspace), ledger_problem=problem)
    texts = {}
    for name, path, render in ((HTML, html, render_page), (MARKDOWN, markdown, render_markdown)):
        if path is not None:
            texts[name] = render(report)
            write_text(path, texts[name])
    timeline = describe_timeline(report.entries, workspace.competition.primary)
    return WrittenReport(
        texts=texts,
        about=" ".join(filter(None, [explain_parts(report).get("report"), timeline])),
        ledger_problem=problem,
    )


def _refuse_to_replace(path: Path) -> None:
    """Raise ConfigError where a file is there that is no report: what somebody wrote stays."""
    if not path.is_file():
        return
    with translate_os_errors(path, "read"):
        text = path.read_text(encoding="utf-8", errors="replace")
    title = text.partition("</title>")[0] if "<title>" in text else text.partition("\n")[0]
    if text.strip() and not title.rstrip().endswith(TITLE_END):
        raise ConfigError(
            f"{path} already exists, and is no report of tracker",
            hint="--force replaces it, or give another name",
        )


def copy_report(workspace: Workspace, written: WrittenReport) -> str:
    """Copy the report to MLflow; returns why that failed, empty if it worked."""
    from tracker.mirror.targets.mlflow_view import save_report

    try:
        save_report(workspace, written.texts, about=written.about)
    except TrackerError as error:
        return (
            f"the report was not copied to MLflow ({render_error(error)}); the next report tries"
            " again"
        )
    return ""
