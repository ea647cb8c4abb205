"""A RunDiff for people: on the terminal, or as Markdown to be pasted. Both are views of the same
sections."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tracker.comparison.diff import RunDiff
from tracker.comparison.evidence import ChangedImage, Move
from tracker.comparison.statistics.paired import LEVEL, Difference, Paired
from tracker.comparison.verdict import WHY_LEVEL, render_range
from tracker.console.textplot import PLAIN, Panel, render_curves
from tracker.core.config_diff import ENSEMBLE, list_following, tell_unknown
from tracker.core.markdown import escape, render_table
from tracker.core.table import LEAST, Column, Styled
from tracker.core.terminal import find_width, print_table, print_text
from tracker.core.text import clean_text, render_number, render_values
from tracker.training.metrics import METRICS

LOSSES = ("val/loss", "train/loss")
PIPED_WIDTH = 100
SHORT = 24  # letters of a config value that is shown whole, fewer where the terminal is narrow
PLACE_OF_KEYS = 30  # columns beside two config values
MOVES = 8  # kinds of change to predictions; --json has them all
NOT_LOGGED = (
    "a key that one of two programs never logged is not known to have changed: it counts as no"
    " change"
)
WARNED = ("overfitting", "diverged")


@dataclass(frozen=True, kw_only=True)
class Section:
    """Lines of text, or a table with its columns; `drawing` lines keep their blanks."""

    lines: Sequence[str] = ()
    columns: Sequence[Column] = ()
    rows: Sequence[Sequence[Styled]] = ()
    drawing: bool = False


def print_diff(
    diff: RunDiff,
    *,
    everything: bool = False,
    brief: bool = False,
    markdown: bool = False,
    wide: bool | None = None,
) -> None:
    """The verdict first, then what it rests on; `brief` leaves out all but verdict and metrics."""
    if markdown:
        print(
            _fit_output(render_markdown(diff, everything=everything))
        )  # its texts are cleaned where they are escaped
        return
    width = find_width() or PIPED_WIDTH
    for place, section in enumerate(
        list_sections(diff, everything=everything, brief=brief, width=width)
    ):
        if section.rows:
            print_table(section.columns, section.rows, wide=wide)
        for line in section.lines:
            if section.drawing:
                print(_fit_output(clean_text(line)))
            else:
                print_text(line, style="bold" if place == 0 else "")


def render_markdown(diff: RunDiff, *, everything: bool = False) -> str:
    """The same as Markdown."""
    parts = []
    for place, section in enumerate(
        list_sections(diff, everything=everything, brief=False, width=PIPED_WIDTH)
    ):
        if section.rows:
            rows = [[escape(cell.text) for cell in row] for row in section.rows]
            parts.append(
                render_table([escape(column.title) for column in section.columns], rows).rstrip(
                    "\n"
                )
            )
        if section.drawing and section.lines:
            parts.append("\n".join(["```text", *map(clean_text, section.lines), "```"]))
        elif section.lines:
            bold = "**" if place == 0 else ""
            parts.append("\n".join(f"- {bold}{escape(line)}{bold}" for line in section.lines))
    return "\n\n".join(parts)


def _fit_output(line: str) -> str:
    """Block characters where the output can have them."""
    try:
        line.encode(sys.stdout.encoding or "ascii")
    except UnicodeEncodeError:
        return line.translate(PLAIN)
    return line


def list_sections(diff: RunDiff, *, everything: bool, brief: bool, width: int) -> Iterator[Section]:
    """What is shown, in order."""
    yield Section(lines=diff.verdict)
    if brief:
        yield from _list_metrics(replace(diff, gap={}), everything=everything)
        return
    yield from _list_config(diff, width)
    yield from _list_metrics(diff, everything=everything)
    yield from _list_statistics(diff)
    yield Section(lines=[_render_predictions(diff), *_list_differing_prints(diff)])
    yield from _list_moves(diff)
    yield Section(lines=_draw_curves(diff, width), drawing=True)
    yield Section(lines=[*_list_advice(diff), *_list_remarks(diff)])


def _list_config(diff: RunDiff, width: int) -> Iterator[Section]:
    if diff.config:
        pairs = {key: render_values(pair) for key, pair in diff.config.items()}
        if diff.ensembles:  # in words instead of its keys
            made = {"ensemble": [diff.ensembles.get(name, "-") for name in (diff.a, diff.b)]}
            pairs = made | {
                key: pair for key, pair in pairs.items() if not key.startswith(ENSEMBLE)
            }
        following = list_following(diff.config)
        order = [*(key for key in pairs if key not in following), *following]
        short = min(SHORT, max(LEAST, (width - PLACE_OF_KEYS) // 2))
        rows = []
        for key in order:
            rows.append(
                (Styled(key), *[Styled(text, whole=len(text) <= short) for text in pairs[key]])
            )
        sides = [Column(name, text=True) for name in (diff.a, diff.b)]
        yield Section(columns=(Column("config"), *sides), rows=rows)
    else:
        yield Section(lines=["config: no difference"])
    if diff.config and (following := list_following(diff.config)):
        yield Section(
            lines=[f"no change of their own, they follow from another key: {', '.join(following)}"]
        )
    if diff.not_known:
        yield Section(lines=[f"{tell_unknown(diff.not_known)} (--all shows them)", NOT_LOGGED])
    if diff.members:
        yield Section(lines=list(_list_members(diff)))
    if diff.ignored:
        yield Section(
            lines=[f"ignored by tracker.toml: {', '.join(diff.ignored)} (--all shows them)"]
        )


def _list_members(diff: RunDiff) -> Iterator[str]:
    """How the members of each ensemble scored, in one line."""
    for name, members in diff.members.items():
        shown = [f"{member.run} {render_number(member.value)}" for member in members]
        yield f"members of {name} by val {members[0].metric}: {', '.join(shown)}"


def _list_metrics(diff: RunDiff, *, everything: bool) -> Iterator[Section]:
    beginnings = tuple(f"val/{metric.name}/" for metric in METRICS.values() if metric.by_class)
    by_class = {name: item for name, item in diff.metrics.items() if name.startswith(beginnings)}
    rows = []
    for name, item in diff.metrics.items():
        if name in by_class and not everything:
            continue
        better = {"a": diff.a, "b": diff.b, None: "-"}[item["better"]]
        style = {"a": "red", "b": "green", None: ""}[
            item["better"] if _is_shown(name, diff) else None
        ]
        delta = Styled(render_number(item["delta"], signed=True), style)
        figures = [Styled(render_number(item[side])) for side in ("a", "b")]
        rows.append((Styled(name), *figures, delta, Styled(better, style)))
    if rows:
        rows += _list_gaps(diff)
        sides = [Column(name, leaves=2, right=True, group="sides") for name in (diff.a, diff.b)]
        columns = (Column("metric"), *sides, Column("delta", right=True), Column("ahead", leaves=3))
        yield Section(columns=columns, rows=rows)
    else:
        yield Section(lines=["metrics: no difference"])
    if by_class and not everything:
        yield Section(lines=[*_list_by_class(by_class, beginnings, diff)])
    yield Section(lines=[*_explain_incomparable(diff)])
    if diff.best_epoch[0] != diff.best_epoch[1]:
        yield Section(
            lines=[
                f"best epoch: {render_number(diff.best_epoch[0])} ->"
                f" {render_number(diff.best_epoch[1])}"
            ]
        )


def _is_shown(name: str, diff: RunDiff) -> bool:
    """Whether it is known that the difference is no chance: only then has it the color of better or
    worse.

    A leaderboard's score counts as it is.
    """
    if not name.startswith(("val/", "train/")):
        return True
    found = diff.statistics.metrics.get(name.removeprefix("val/")) if diff.statistics else None
    return found is not None and found.better == diff.metrics[name]["better"]


def _explain_incomparable(diff: RunDiff) -> Iterator[str]:
    """Of which metrics nobody is better, a line for each reason; F1 by class goes without saying."""
    for reason in dict.fromkeys(diff.not_comparable.values()):
        names = [
            name
            for name, why in diff.not_comparable.items()
            if why == reason and name.count("/") < 2
        ]
        if names:
            yield f"{', '.join(names)}: not comparable: {reason}"


def _list_gaps(diff: RunDiff) -> Iterator[tuple[Styled, ...]]:
    """Validation minus training at the best epochs."""
    for name, (a, b) in diff.gap.items():
        if a is not None or b is not None:
            delta = render_number(None if a is None or b is None else b - a, signed=True)
            texts = (f"gap {name} (val - train)", render_number(a), render_number(b), delta, "-")
            yield tuple(map(Styled, texts))


def _list_by_class(
    by_class: Mapping[str, Mapping[str, Any]], beginnings: Sequence[str], diff: RunDiff
) -> Iterator[str]:
    """A line on each metric that has classes; --all shows each class."""
    for beginning in beginnings:
        if of_metric := {
            name: item for name, item in by_class.items() if name.startswith(beginning)
        }:
            line = _render_by_class(beginning, of_metric, diff)
            if line:  # nothing where one of the two has no figure of any class
                yield line


def _render_by_class(
    beginning: str, by_class: Mapping[str, Mapping[str, Any]], diff: RunDiff
) -> str:
    title = f"{beginning.rstrip('/')} by class"
    if any(name in diff.not_comparable for name in by_class):
        return f"{title}: not comparable (--all shows each)"
    if all(item["delta"] is None for item in by_class.values()):
        return ""
    winners = [item["better"] for item in by_class.values()]
    name, item = max(by_class.items(), key=lambda pair: abs(pair[1]["delta"] or 0.0))
    most = f"most {name.removeprefix(beginning)} {render_number(item['delta'], signed=True)}"
    return (
        f"{title}: {winners.count('b')} higher in {diff.b}, {winners.count('a')} in {diff.a};"
        f" {most} (--all shows each)"
    )


def _list_statistics(diff: RunDiff) -> Iterator[Section]:
    paired = diff.statistics
    if paired is None:
        yield Section(lines=[f"no statistics: {diff.problem}"])
        return
    rows = [_render_difference(METRICS[name].title, item) for name, item in paired.metrics.items()]
    title = f"{paired.samples:,} validation images"
    columns = (
        Column(title),
        *[Column(name, leaves=2, right=True, group="sides") for name in (diff.a, diff.b)],
        Column("delta", right=True),
        Column("95 % interval", leaves=3),
        Column("swap test p", leaves=4, right=True),
        Column("detectable", leaves=5, right=True),
    )
    yield Section(columns=columns, rows=rows)
    lines = [
        (
            "a difference is called real where the 95 % interval leaves out 0 and the swap test"
            f" has p <= {LEVEL:g}, {WHY_LEVEL}"
        ),
        _render_mcnemar(diff, paired),
    ]
    if diff.folds_problem:
        lines.append(f"no test over folds: {diff.folds_problem}")
    yield Section(lines=lines)


def _render_difference(name: str, found: Difference) -> tuple[Styled, ...]:
    texts = (
        name,
        render_number(found.a),
        render_number(found.b),
        render_number(found.delta, signed=True),
        render_range(found.low, found.high, signed=True),
        f"{found.p:.3g}",
        render_number(found.smallest),
    )
    return tuple(map(Styled, texts))


def _render_mcnemar(diff: RunDiff, paired: Paired) -> str:
    test = paired.mcnemar
    drawn = "" if paired.units == paired.samples else f", people drawn whole ({paired.units:,})"
    return (
        f"right in {diff.b} only: {test.only_b:,}, in {diff.a} only: {test.only_a:,} (McNemar p ="
        f" {test.p:.3g}); {paired.resamples:,} resamples{drawn}"
    )


def _render_predictions(diff: RunDiff) -> str:
    found = diff.predictions
    if found is None:
        return "predictions: not both runs have them"
    if found["equal_share"] is None:
        return f"predictions: {found['problem']}"
    if not found["changed"]:
        return f"predictions: all {found['total']} equal"
    return (
        f"predictions: {found['changed']} of {found['total']} differ"
        f" ({found['equal_share'] * 100:.2f} % equal)"
    )


def _list_differing_prints(diff: RunDiff) -> Iterator[str]:
    for name, part in (("data", diff.data), ("code", diff.code)):
        if not part["equal"]:
            a, b = ((part[side] or "").replace("sha256:", "")[:19] for side in ("a", "b"))
            unknown = [run for run, known in ((diff.a, a), (diff.b, b)) if not known]
            yield f"{name}: unknown of {unknown[0]}" if unknown else f"{name}: differs ({a} -> {b})"


def _list_moves(diff: RunDiff) -> Iterator[Section]:
    """Which validation images are right or wrong now, true class by true class, and where
    predictions went."""
    validation, evaluation = diff.moves["validation"], diff.moves["evaluation"]
    if validation:
        columns = (
            Column("true class"),
            Column(f"right in {diff.b} only", leaves=2, right=True, group="sides"),
            Column(f"right in {diff.a} only", leaves=2, right=True, group="sides"),
            Column("wrong in both, differently", leaves=4, right=True),
            Column("most", leaves=3),
        )
        yield Section(columns=columns, rows=_count_by_class(validation))
    if evaluation:
        moves = [f"{move.a} -> {move.b} {move.images}" for move in evaluation[:MOVES]]
        rest = [f"and {len(evaluation) - MOVES} other changes"] if len(evaluation) > MOVES else []
        yield Section(lines=[f"predictions moved: {', '.join(moves + rest)}"])
    for kind, title in (("validation", "validation image"), ("evaluation", "image to predict")):
        if diff.images[kind]:
            sides = [Column(name, leaves=2, group="sides") for name in (diff.a, diff.b)]
            heads = (Column(title), Column("truth", leaves=3), *sides, Column("now", leaves=4))
            yield Section(columns=heads, rows=[_render_image(image) for image in diff.images[kind]])


def _count_by_class(moves: Sequence[Move]) -> list[tuple[Styled, ...]]:
    """A row for each true class that has changed, the most changed first."""
    counts: dict[str, Counter[str]] = {}
    most: dict[str, Move] = {}
    for move in moves:
        name = move.truth or "-"
        most.setdefault(name, move)
        counts.setdefault(name, Counter())[_name_change(move)] += move.images
    order = sorted(counts, key=lambda name: -counts[name].total())
    rows = []
    for name in order:
        changes = [str(counts[name][change]) for change in ("right", "wrong", "wrong as before")]
        commonest = f"{most[name].a} -> {most[name].b} {most[name].images}"
        rows.append(tuple(map(Styled, (name, *changes, commonest))))
    return rows


def _name_change(changed: Move | ChangedImage) -> str:
    if changed.truth is None:
        return "-"
    return (
        "right"
        if changed.b == changed.truth
        else "wrong"
        if changed.a == changed.truth
        else "wrong as before"
    )


def _render_image(image: ChangedImage) -> tuple[Styled, ...]:
    return tuple(map(Styled, (image.id, image.truth or "-", image.a, image.b, _name_change(image))))


def _draw_curves(diff: RunDiff, width: int) -> list[str]:
    scores = [name for name in diff.curves if name.startswith("val/") and name not in LOSSES]
    lines = []
    for name in (*scores[:1], *LOSSES):
        pairs = zip((diff.a, diff.b), diff.curves.get(name, ([], [])), diff.best_epoch, strict=True)
        panels = [Panel(name=run, curve=curve, best=best) for run, curve, best in pairs]
        if any(len(panel.curve) > 1 for panel in panels):
            lines += render_curves(name, panels, width=width)
    return lines


def _list_advice(diff: RunDiff) -> list[str]:
    """What the curves say of a side that went wrong."""
    return [
        f"{name}: {sentence}"
        for name, advice in zip((diff.a, diff.b), diff.advice, strict=True)
        if advice and advice.state in WARNED
        for sentence in advice.sentences
    ]


def open_picture(diff: RunDiff, folder: Path) -> Path:
    """Draw the curves of both runs into `folder` and show them; raises StorageError."""
    import webbrowser

    path = draw_diff(diff, folder)
    webbrowser.open(path.as_uri())
    return path


def draw_diff(diff: RunDiff, folder: Path) -> Path:
    """The curves of both runs as a PNG in `folder`; raises StorageError."""
    from tracker.training.files import translate_os_errors
    from tracker.training.pictures.figures import draw_two_runs

    with translate_os_errors(folder, "create"):
        folder.mkdir(parents=True, exist_ok=True)
    curves = [{name: pair[side] for name, pair in diff.curves.items()} for side in (0, 1)]
    return draw_two_runs(
        (diff.a, diff.b), curves, diff.best_epoch, folder / f"diff-{diff.a}-{diff.b}.png"
    )


def _list_remarks(diff: RunDiff) -> Iterator[str]:
    for name, notes in diff.notes.items():
        for note in notes:
            yield f"noted on {name}, {note.time[:10]}, {note.author}: {note}"
