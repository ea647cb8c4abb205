"""Writes the report and gives MLflow a copy."""

from __future__ import annotations

from pathlib import Path

from tracker.team_report.charts import describe_timeline
from tracker.team_report.data import build_report
from tracker.team_report.markdown import render_markdown
from tracker.team_report.page import render_page
from tracker.workspace import Workspace
from training.atomic import write_text

HTML, MARKDOWN = "report.html", "report.md"  # names of the copies in MLflow, whatever the files are called


def write_report(workspace: Workspace, *, html: Path | None = None, markdown: Path | None = None) -> str:
    """Write the files that are asked for, and copy them to MLflow; returns why that failed, empty when it did not.

    Raises StorageError when a file cannot be written, LedgerError when the ledger cannot be read.
    """
    from tracker.mlflow_log import MlflowError, keep_report

    report = build_report(workspace)
    copies = {}
    for name, path, render in ((HTML, html, render_page), (MARKDOWN, markdown, render_markdown)):
        if path is not None:
            copies[name] = render(report)
            write_text(path, copies[name])
    try:
        keep_report(workspace, copies, about=describe_timeline(report.entries, workspace.competition.primary))
    except MlflowError as error:
        return f"MLflow has no copy of it ({error}): the next report brings it up to date"
    return ""
