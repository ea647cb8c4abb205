"""The winners' own table of 2022, as a ledger of submissions."""

from __future__ import annotations

import csv
from pathlib import Path

from tests.conftest import ROOT
from tests.support.workspaces import make_workspace
from tracker.ledger.submission_table import import_table, read_submission_table
from tracker.workspace.tracker_toml import Workspace

TABLE = ROOT / "tests" / "assets" / "submissions-2022.csv"


def import_winners(root: Path, *, private: bool = True) -> Workspace:
    """The table of 2022 on a leaderboard elsewhere, with or without its private columns."""
    workspace = make_workspace(root, solution=None)
    with TABLE.open(newline="") as file:
        rows = [
            {k: v for k, v in row.items() if private or "private" not in k}
            for row in csv.DictReader(file)
        ]
    path = root / "table.csv"
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    import_table(workspace, read_submission_table(path, workspace.competition))
    return workspace
