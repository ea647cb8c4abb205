"""What changed of the config: a row for each key, the members of ensembles, data and code."""

from __future__ import annotations

from collections.abc import Iterator

from tracker.comparison.diff import RunDiff
from tracker.console.diff.sections import Section
from tracker.core.config_diff import ENSEMBLE, list_implied_keys, render_unknown_keys
from tracker.core.table import MIN_WIDTH, Column, Styled
from tracker.core.text import render_number, render_values

SHORT = 24  # letters of a config value that is shown whole, fewer where the terminal is narrow
PLACE_OF_KEYS = 30  # columns beside two config values
NOT_LOGGED = (
    "a key that one of two programs never logged is not known to have changed: it counts as no"
    " change"
)


def build_config_columns(diff: RunDiff) -> list[Column]:
    """The columns of `list_config_rows`."""
    return [Column("config"), *[Column(name, text=True) for name in (diff.a, diff.b)]]


def list_config_rows(diff: RunDiff, width: int) -> list[tuple[Styled, ...]]:
    """A row for each key, those that follow from another one last."""
    pairs = {key: render_values(pair) for key, pair in diff.config.items()}
    if diff.ensembles:  # in words instead of its keys
        made = {"ensemble": [diff.ensembles.get(name, "-") for name in (diff.a, diff.b)]}
        pairs = made | {key: pair for key, pair in pairs.items() if not key.startswith(ENSEMBLE)}
    following = list_implied_keys(diff.config)
    order = [*(key for key in pairs if key not in following), *following]
    short = min(SHORT, max(MIN_WIDTH, (width - PLACE_OF_KEYS) // 2))
    rows = []
    for key in order:
        values = [Styled(text, whole=len(text) <= short) for text in pairs[key]]
        rows.append((Styled(key), *values))
    return rows


def list_config(diff: RunDiff, width: int) -> Iterator[Section]:
    """The table of changed keys, and what is left out of it."""
    if diff.config:
        rows = list_config_rows(diff, width)
        yield Section(columns=build_config_columns(diff), rows=rows)
    else:
        yield Section(lines=["config: no difference"])
    if diff.config and (following := list_implied_keys(diff.config)):
        yield Section(
            lines=[f"no change of their own, they follow from another key: {', '.join(following)}"]
        )
    if diff.not_known:
        yield Section(
            lines=[f"{render_unknown_keys(diff.not_known)} (--all shows them)", NOT_LOGGED]
        )
    if diff.members:
        yield Section(lines=list(list_members(diff)))
    if diff.ignored:
        yield Section(
            lines=[f"ignored by tracker.toml: {', '.join(diff.ignored)} (--all shows them)"]
        )


def list_members(diff: RunDiff) -> Iterator[str]:
    """How the members of each ensemble scored, in one line."""
    for name, members in diff.members.items():
        used = [member for member in members if member.weight != 0]
        shown = [f"{member.run} {render_number(member.value)}" for member in used]
        left_out = [member.run for member in members if member.weight == 0]
        rest = f"; of weight 0, so no part of it: {', '.join(left_out)}" if left_out else ""
        yield f"members of {name} by val {members[0].metric}: {', '.join(shown)}{rest}"


def list_differing_prints(diff: RunDiff) -> Iterator[str]:
    """A line each where data or code differ."""
    for name, part in (("data", diff.data), ("code", diff.code)):
        if not part["equal"]:
            a, b = ((part[side] or "").replace("sha256:", "")[:19] for side in ("a", "b"))
            unknown = [run for run, known in ((diff.a, a), (diff.b, b)) if not known]
            yield f"{name}: unknown of {unknown[0]}" if unknown else f"{name}: differs ({a} -> {b})"
