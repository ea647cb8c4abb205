"""Texts that a report shows: those of a real table, and hostile ones."""

from __future__ import annotations

import csv
from collections.abc import Iterator

from tests.support.winners_table import TABLE
from tests.support.workspaces import make_run, set_parent
from tracker.ledger.submission_table import import_table, read_submission_table
from tracker.submission.notes import add_note
from tracker.workspace.tracker_toml import Workspace

HOSTILE = "<script>document.title='owned'</script> | `b` & \"c\" 'd'\n# e"


HEBREW = "תיקון תוויות 12"


CELLS = {
    "public F1": ("public_f1", 1),
    "private F1": ("private_f1", 1),
    "public acc.": ("public_acc", 100),
    "private acc.": ("private_acc", 100),
    "train acc.": ("train_acc", 100),
    "val acc.": ("val_acc", 100),
    "train loss": ("train_loss", 1),
    "val loss": ("val_loss", 1),
}


def list_expected() -> Iterator[dict[str, str]]:
    """The cells of the reference table, as the report prints them."""
    with TABLE.open(newline="") as file:
        for row in csv.DictReader(file):
            yield {
                "number": row["number"],
                "model": row["model.name"],
                "memo": row["memo"],
                **{
                    label: f"{float(row[key]) / by:.4f}" if row[key] else "\u2013"
                    for label, (key, by) in CELLS.items()
                },
            }


def make_hostile(workspace: Workspace) -> None:
    """Every text that a user may give, with markup in it."""
    (workspace.root / "t.csv").write_text(
        "memo,model.name,author,public_f1,optim.name\n"
        f'"{HOSTILE.replace(chr(34), chr(34) * 2)}",<b>m</b>,<i>a</i>,0.5,x\n'
        f'{HEBREW},<b>m</b>,<i>a</i>,0.6,<script>1</script>\n"=1+1|x",m,a,0.7,"]]>"\n'
    )
    import_table(workspace, read_submission_table(workspace.root / "t.csv", workspace.competition))
    add_note(workspace, "1", HOSTILE)
    make_run(workspace, note=HOSTILE)
    set_parent(workspace, "exp1", "</li><script>2</script>")
