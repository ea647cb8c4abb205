"""A RunDiff for people: one screen on the terminal, everything with --full, or Markdown."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tracker.comparison.advice import Advice
from tracker.comparison.diff import RunDiff
from tracker.comparison.evidence import ChangedImage, Move
from tracker.comparison.statistics.paired import ALPHA, Difference, PairedComparison
from tracker.comparison.verdict import MAX_KEYS, WHY_ALPHA, render_range
from tracker.console.textplot import PLAIN, Panel, render_curves
from tracker.core.config_diff import ENSEMBLE, list_changes, list_implied_keys, render_unknown_keys
from tracker.core.markdown import escape, render_table
from tracker.core.table import MIN_WIDTH, Column, Styled, wrap
from tracker.core.terminal import find_width, print_table, print_text
from tracker.core.text import clean_text, render_answer, render_number, render_values
from tracker.training.metrics import METRICS
from tracker.training.numbers import render_count

SCREEN_LINES = 30  # of the short view: a terminal of 32 lines, less the command and the prompt
LEAST_ROWS = 3  # of a table of the short view, however long its sentences are
BRIEF_MOVES = 3  # kinds of change to predictions in the short view
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
    full: bool = False,
    everything: bool = False,
    markdown: bool = False,
    wide: bool | None = None,
) -> None:
    """Print one screen that begins with the verdict; `full` has every section.

    `everything` has them, too, and each class beside; Markdown is always full.
    """
    if markdown:  # its texts are cleaned where they are escaped
        print(_fit_output(render_markdown(diff, everything=everything)))
        return
    width = find_width() or PIPED_WIDTH
    if full or everything:
        sections = [*list_sections(diff, everything=everything, width=width)]
    else:
        sections = list_brief_sections(diff, width=width)
    _print_sections(sections, wide=wide)


def _print_sections(sections: Sequence[Section], *, wide: bool | None) -> None:
    """Print the sections with one empty line around each table and drawing."""
    # a section has a table, lines, or both: one part for each, so that neighbors are known
    parts = []
    for section in sections:
        if section.rows:
            parts.append(Section(columns=section.columns, rows=section.rows))
        if section.lines:
            parts.append(Section(lines=section.lines, drawing=section.drawing))
    for position, part in enumerate(parts):
        following = parts[position + 1] if position + 1 < len(parts) else None
        if part.rows:  # a table brings the empty line above it
            blank_below = following is None or not following.rows
            print_table(part.columns, part.rows, wide=wide, blank_below=blank_below)
            continue
        for line in part.lines:
            if part.drawing:
                print(_fit_output(clean_text(line)))
            else:
                print_text(line, style="bold" if position == 0 else "")
        if following is not None and not following.rows and following.drawing != part.drawing:
            print()


def render_markdown(diff: RunDiff, *, everything: bool = False) -> str:
    """The same as Markdown."""
    parts = []
    sections = list_sections(diff, everything=everything, width=PIPED_WIDTH)
    for position, section in enumerate(sections):
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
            bold = "**" if position == 0 else ""
            parts.append("\n".join(f"- {bold}{escape(line)}{bold}" for line in section.lines))
    return "\n\n".join(parts)


def _fit_output(line: str) -> str:
    """Block characters where the output can have them."""
    try:
        line.encode(sys.stdout.encoding or "ascii")
    except UnicodeEncodeError:
        return line.translate(PLAIN)
    return line


def list_brief_sections(diff: RunDiff, *, width: int) -> list[Section]:
    """The verdict and what it rests on, in SCREEN_LINES lines of `width` columns.

    The tables share the lines that the sentences leave, and the last line names what --full adds.
    """
    below = [*_list_brief_facts(diff), *_name_others(diff)]
    # the verdict names up to MAX_KEYS changes: a table of them would say the same again
    several = len(list_changes(diff.config)) > MAX_KEYS
    keys = _list_config_rows(diff, width) if several else []
    metrics = _list_metric_rows(diff, _choose_brief_metrics(diff))
    # empty lines, titles and rules: three for each table, and one below the last
    room = SCREEN_LINES - sum(len(wrap(line, width)) for line in [*diff.verdict, *below])
    room -= sum(3 for rows in (keys, metrics) if rows) + 1
    keys = _shorten(keys, max(LEAST_ROWS, room - len(metrics)), "keys")
    metrics = _shorten(metrics, max(LEAST_ROWS, room - len(keys)), "metrics")
    sections = [Section(lines=diff.verdict)]
    if keys:
        sections.append(Section(columns=_build_config_columns(diff), rows=keys))
    if metrics:
        sections.append(Section(columns=_build_metric_columns(diff), rows=metrics))
    return [*sections, Section(lines=below), *_list_changed_images(diff)]


def _choose_brief_metrics(diff: RunDiff) -> list[str]:
    """Leaderboard scores and validation metrics; --full has training, classes and gaps, too."""
    by_class = _find_by_class(diff)
    left_out = ("train/", "overall_")  # overall follows from public and private
    names = [name for name in diff.metrics if name not in by_class]
    return [name for name in names if not name.startswith(left_out)]


def _shorten(rows: list[tuple[Styled, ...]], room: int, what: str) -> list[tuple[Styled, ...]]:
    """The rows, or as many as there is room for and one that counts the others."""
    if len(rows) <= room:
        return rows
    shown = rows[: room - 1]
    rest = Styled(f"({len(rows) - len(shown)} more {what})")
    empty = [Styled("") for _ in rows[0][1:]]
    return [*shown, (rest, *empty)]


def _list_brief_facts(diff: RunDiff) -> Iterator[str]:
    """The sentences below the tables, the most important first."""
    if not _choose_brief_metrics(diff):
        yield "metrics: no difference"
    yield from _list_members(diff)
    yield from _render_best_epochs(diff)
    yield _render_predictions(diff)
    yield from _render_moves(diff, BRIEF_MOVES)
    yield from _list_differing_prints(diff)
    yield from _explain_incomparable(diff)
    for name, advice in _list_warnings(diff):
        yield f"{name}: {advice.sentences[0]}"


def _name_others(diff: RunDiff) -> Iterator[str]:
    """One line on what --full has and the short view does not."""
    notes = sum(len(notes) for notes in diff.notes.values())
    parts = {
        "config details": diff.ignored or diff.not_known,
        "training metrics": any(name.startswith("train/") for name in diff.metrics),
        "classes": _find_by_class(diff) or diff.moves["validation"],
        "statistics": diff.statistics is not None,
        "curves": any(len(curve) > 1 for pair in diff.curves.values() for curve in pair),
        render_count(notes, "note"): notes,
    }
    names = [name for name, there in parts.items() if there]
    if names:
        yield f"--full also shows: {', '.join(names)}"


def list_sections(diff: RunDiff, *, everything: bool, width: int) -> Iterator[Section]:
    """Every section, in order."""
    yield Section(lines=diff.verdict)
    yield from _list_config(diff, width)
    yield from _list_metrics(diff, everything=everything)
    yield from _list_statistics(diff)
    yield Section(lines=[_render_predictions(diff), *_list_differing_prints(diff)])
    yield from _list_moves(diff)
    yield Section(lines=_draw_curves(diff, width), drawing=True)
    yield Section(lines=[*_list_advice(diff), *_list_remarks(diff)])


def _build_config_columns(diff: RunDiff) -> list[Column]:
    return [Column("config"), *[Column(name, text=True) for name in (diff.a, diff.b)]]


def _list_config_rows(diff: RunDiff, width: int) -> list[tuple[Styled, ...]]:
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


def _list_config(diff: RunDiff, width: int) -> Iterator[Section]:
    if diff.config:
        rows = _list_config_rows(diff, width)
        yield Section(columns=_build_config_columns(diff), rows=rows)
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


def _find_by_class(diff: RunDiff) -> dict[str, Mapping[str, Any]]:
    """The metrics of single classes: up to hundreds, so most views count them only."""
    beginnings = _list_class_beginnings()
    return {name: item for name, item in diff.metrics.items() if name.startswith(beginnings)}


def _list_class_beginnings() -> tuple[str, ...]:
    return tuple(f"val/{metric.name}/" for metric in METRICS.values() if metric.by_class)


def _build_metric_columns(diff: RunDiff) -> list[Column]:
    sides = [Column(name, leaves=2, right=True, group="sides") for name in (diff.a, diff.b)]
    return [Column("metric"), *sides, Column("delta", right=True), Column("ahead", leaves=3)]


def _list_metric_rows(diff: RunDiff, names: Sequence[str]) -> list[tuple[Styled, ...]]:
    """A row for each metric; only a difference that is known to be real has a color."""
    rows = []
    for name in names:
        item = diff.metrics[name]
        better = {"a": diff.a, "b": diff.b, None: "-"}[item["better"]]
        winner = item["better"] if _is_shown(name, diff) else None
        style = {"a": "red", "b": "green", None: ""}[winner]
        delta = Styled(render_number(item["delta"], signed=True), style)
        figures = [Styled(render_number(item[side])) for side in ("a", "b")]
        rows.append((Styled(name), *figures, delta, Styled(better, style)))
    return rows


def _list_metrics(diff: RunDiff, *, everything: bool) -> Iterator[Section]:
    by_class = _find_by_class(diff)
    names = [name for name in diff.metrics if everything or name not in by_class]
    rows = _list_metric_rows(diff, names)
    if rows:
        rows += _list_gaps(diff)
        yield Section(columns=_build_metric_columns(diff), rows=rows)
    else:
        yield Section(lines=["metrics: no difference"])
    if by_class and not everything:
        yield Section(lines=[*_list_by_class(by_class, _list_class_beginnings(), diff)])
    yield Section(lines=[*_explain_incomparable(diff)])
    yield Section(lines=[*_render_best_epochs(diff)])


def _render_best_epochs(diff: RunDiff) -> Iterator[str]:
    a, b = diff.best_epoch
    if a != b:
        yield f"best epoch: {render_number(a)} -> {render_number(b)}"


def _is_shown(name: str, diff: RunDiff) -> bool:
    """Whether the difference is known to be no chance, and so has the color of better or worse.

    A leaderboard's score counts as it is.
    """
    if not name.startswith(("val/", "train/")):
        return True
    result = diff.statistics.metrics.get(name.removeprefix("val/")) if diff.statistics else None
    return result is not None and result.better == diff.metrics[name]["better"]


def _explain_incomparable(diff: RunDiff) -> Iterator[str]:
    """Metrics that cannot be compared, a line for each reason; without F1 by class."""
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
    rows = [_render_difference(item) for item in paired.metrics.values()]
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
            f" has p <= {ALPHA:g}, {WHY_ALPHA}"
        ),
        *_render_mcnemar(diff, paired),
        *_render_resamples(paired),
    ]
    if diff.folds_problem:
        lines.append(f"no test over folds: {diff.folds_problem}")
    yield Section(lines=lines)


def _render_difference(result: Difference) -> tuple[Styled, ...]:
    texts = (
        result.title if result.higher_is_better else f"{result.title} (lower is better)",
        render_number(result.a),
        render_number(result.b),
        render_number(result.delta, signed=True),
        render_range(result.low, result.high, signed=True),
        f"{result.p:.3g}",
        render_number(result.smallest),
    )
    return tuple(map(Styled, texts))


def _render_mcnemar(diff: RunDiff, paired: PairedComparison) -> Iterator[str]:
    """How many images only one run has right; nothing where they have no class."""
    test = paired.mcnemar
    if test is not None:
        yield (
            f"right in {diff.b} only: {test.only_b:,}, in {diff.a} only: {test.only_a:,} (McNemar p"
            f" = {test.p:.3g}); {paired.resamples:,} resamples{_name_units(paired)}"
        )


def _render_resamples(paired: PairedComparison) -> Iterator[str]:
    """The numbers of resamples that are not yet named, and the metrics without any."""
    named = None if paired.mcnemar is None else paired.resamples
    counts: dict[int, list[str]] = {}
    for item in paired.metrics.values():
        counts.setdefault(item.resamples, []).append(item.title)
    for number, titles in counts.items():
        if number != named:
            units = "" if named is not None else _name_units(paired)
            yield f"{', '.join(titles)}: {number:,} resamples{units}"
    if paired.undefined:
        yield f"not defined for these validation images: {', '.join(paired.undefined)}"


def _name_units(paired: PairedComparison) -> str:
    """What was resampled, where it is not single images."""
    return f", by {paired.unit} ({render_count(paired.units, 'group')})" if paired.unit else ""


def _render_predictions(diff: RunDiff) -> str:
    result = diff.predictions
    if result is None:
        return "predictions: not both runs have them"
    if result["equal_share"] is None:
        return f"predictions: {result['problem']}"
    if not result["changed"]:
        return f"predictions: all {result['total']} equal"
    if "greatest_difference" in result:
        correlation = render_number(result["rank_correlation"])
        return (
            f"predictions: {result['changed']} of {result['total']} differ, by at most"
            f" {render_number(result['greatest_difference'])}; rank correlation {correlation}"
        )
    return (
        f"predictions: {result['changed']} of {result['total']} differ"
        f" ({result['equal_share'] * 100:.2f} % equal)"
    )


def _list_differing_prints(diff: RunDiff) -> Iterator[str]:
    for name, part in (("data", diff.data), ("code", diff.code)):
        if not part["equal"]:
            a, b = ((part[side] or "").replace("sha256:", "")[:19] for side in ("a", "b"))
            unknown = [run for run, known in ((diff.a, a), (diff.b, b)) if not known]
            yield f"{name}: unknown of {unknown[0]}" if unknown else f"{name}: differs ({a} -> {b})"


def _list_moves(diff: RunDiff) -> Iterator[Section]:
    """Which validation images are right or wrong now, by true class, and where predictions went."""
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
        yield Section(lines=[*_render_moves(diff, MOVES)])
    yield from _list_changed_images(diff)


def _render_moves(diff: RunDiff, most: int) -> Iterator[str]:
    """Where the predictions went, the `most` common changes by name."""
    changes = diff.moves["evaluation"]
    moves = [
        f"{render_answer(move.a)} -> {render_answer(move.b)} {move.images}"
        for move in changes[:most]
    ]
    if len(changes) > most:
        moves.append(f"and {len(changes) - most} other changes")
    if moves:
        yield f"predictions moved: {', '.join(moves)}"


def _list_changed_images(diff: RunDiff) -> Iterator[Section]:
    """The images that --images asks for."""
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
    answers = (image.truth or "-", render_answer(image.a), render_answer(image.b))
    return tuple(map(Styled, (image.id, *answers, _name_change(image))))


def _draw_curves(diff: RunDiff, width: int) -> list[str]:
    scores = [name for name in diff.curves if name.startswith("val/") and name not in LOSSES]
    lines = []
    for name in (*scores[:1], *LOSSES):
        pairs = zip((diff.a, diff.b), diff.curves.get(name, ([], [])), diff.best_epoch, strict=True)
        item = diff.metrics.get(name, {})
        figures = (item.get("a"), item.get("b"))
        panels = [
            Panel(name=run, curve=curve, best=best, figure=figure)
            for (run, curve, best), figure in zip(pairs, figures, strict=True)
        ]
        if any(len(panel.curve) > 1 for panel in panels):
            lines += render_curves(name, panels, width=width)
    return lines


def _list_warnings(diff: RunDiff) -> Iterator[tuple[str, Advice]]:
    """The runs that went wrong, and what their curves advise."""
    for name, advice in zip((diff.a, diff.b), diff.advice, strict=True):
        if advice and advice.state in WARNED:
            yield name, advice


def _list_advice(diff: RunDiff) -> list[str]:
    """What the curves advise on a run that went wrong."""
    return [
        f"{name}: {sentence}"
        for name, advice in _list_warnings(diff)
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
