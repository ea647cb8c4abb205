"""The members of an ensemble on a terminal."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from typing import TYPE_CHECKING

from tracker.core.config_diff import is_elsewhere, strip_elsewhere
from tracker.core.terminal import print_table, print_text
from tracker.core.text import render_number
from tracker.workspace.metrics import choose_metrics

if TYPE_CHECKING:
    from tracker.comparison.members import Member
    from tracker.workspace.tracker_toml import Competition


def print_members(members: Sequence[Member], competition: Competition) -> None:
    """Print a table of the members; nothing for a run that is no ensemble."""
    if unknown := [member for member in members if is_elsewhere(member.run)]:
        names = [
            strip_elsewhere(member.run)
            + ("" if member.weight is None else f" (weight {member.weight:g})")
            for member in unknown
        ]
        print_text(f"members of another workspace: {', '.join(names)}; not known here")
    members = [member for member in members if member not in unknown]
    if not members:
        return
    measured = set(chain.from_iterable(member.validation for member in members))
    figures = choose_metrics(competition, measured)
    primary = competition.primary
    rows = []
    for member in members:
        weight = "-" if member.weight is None else f"{member.weight:g}"
        validation = [render_number(member.validation.get(name)) for name in figures]
        public, submission = primary.render(member.public), render_number(member.submission)
        rows.append((member.run, weight, *validation, public, submission))
    scores = [f"val {name}" for name in figures]
    print_table(("member", "weight", *scores, f"public {primary.name}", "submission"), rows)
