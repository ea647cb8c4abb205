"""The lines of the screen from its state and what is known."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from tracker.console.textplot import PLAIN
from tracker.console.viewer.plot import Series, Style, draw_plot
from tracker.console.viewer.state import (
    KEYS,
    RUNNING,
    Scene,
    State,
    explain_none,
    find_selected,
    list_plotted,
    list_shown,
)
from tracker.console.watch import COLUMNS, build_row, draw_sparkline
from tracker.core.table import Column, cut, draw_table, measure, split_clusters
from tracker.core.terminal import PLAIN_SIGNS
from tracker.core.text import clean_text
from tracker.run_folder.running import SPEED, RunningRun

WATCH_COLUMNS = (*COLUMNS, Column("machine", leaves=8))
TABLE_ROWS, MIN_TABLE_ROWS = 12, 3  # of runs, where a plot is below them
MIN_PLOT = 8  # lines
LABEL, SPARK = 12, 24  # columns of the system pane
GB = 1024.0
FINAL = "? keys   q leaves; the runs go on"
_CODE = re.compile(r"\x1b\[[0-9;]*m")


def draw_screen(state: State, scene: Scene, *, width: int, height: int, style: Style) -> list[str]:
    """Exactly `height` lines of at most `width` columns.

    A screen of less than 80 columns and 24 rows has the table, and the rest as far as it fits.
    """
    shown = list_shown(state, scene)
    selected = find_selected(state, shown)
    system = draw_system(selected, width) if state.system and selected else []
    room = height - 4  # title, head and rule of the table, and the last line
    wants_plot = state.plot and selected is not None
    rows = _share_rows(len(shown), room, len(system), wants_plot=wants_plot)
    lines = [
        _draw_title(state, scene, shown, width),
        *_draw_table(state, shown, rows, width, style),
    ]
    lines += system[: max(0, height - 1 - len(lines))]
    left = height - 1 - len(lines)
    if wants_plot and left >= MIN_PLOT:
        lines += _draw_curves(state, shown, width, left, style)
    last = _draw_last(state, width)[-height:]
    lines = lines[: height - len(last)]
    lines += [""] * (height - len(last) - len(lines)) + last
    if not style.unicode:
        lines = [line.translate(PLAIN).translate(PLAIN_SIGNS) for line in lines]
        lines = [line.encode("ascii", "replace").decode() for line in lines]
    return [clip(line, width) for line in lines]


def _share_rows(runs: int, room: int, system: int, *, wants_plot: bool) -> int:
    """How many runs the table shows: all that fit, or fewer so that a plot fits below them."""
    if not wants_plot and not system:
        return max(1, min(runs, room))
    rest = room - system - (MIN_PLOT if wants_plot else 0)
    return max(1, min(runs, max(MIN_TABLE_ROWS, min(rest, TABLE_ROWS)), room))


def _draw_title(state: State, scene: Scene, shown: Sequence[RunningRun], width: int) -> str:
    running = sum(run.status in RUNNING for run in shown)
    where = "here and of the team" if state.team else "here"
    parts = [f"running {where}: {running}"]
    if state.filter.text:
        parts.append(f"filter: {state.filter.text}")
    if state.team and scene.team_note:
        parts.append(scene.team_note)
    if scene.problem:
        parts.append(scene.problem)
    return cut(clean_text("  |  ".join(parts)), width)


def _draw_table(
    state: State, shown: Sequence[RunningRun], rows: int, width: int, style: Style
) -> list[str]:
    if not shown:
        return ["", explain_none(state)]
    selected = find_selected(state, shown)
    place = shown.index(selected) if selected else 0
    start = max(0, min(place - rows + 1, len(shown) - rows)) if place >= rows else 0
    part = shown[start : start + rows]
    cells = [
        _build_row(run, selected=run is selected, pinned=run.key in state.pinned) for run in part
    ]
    lines = draw_table(WATCH_COLUMNS, cells, width=width, color=style.color)[: 2 + len(part)]
    if style.color and selected in part:
        chosen = 2 + part.index(selected)
        lines[chosen] = f"\x1b[7m{lines[chosen]}\x1b[0m"
    return lines


def _build_row(run: RunningRun, *, selected: bool, pinned: bool) -> list[str]:
    """The row; in front of the name `>` for the selected run and `*` for a pinned one."""
    name, *cells = build_row(run)
    signs = (">" if selected else " ") + ("*" if pinned else " ")
    return [f"{signs}{clean_text(name)}", *map(clean_text, cells), clean_text(run.host)]


def _draw_curves(
    state: State, shown: Sequence[RunningRun], width: int, height: int, style: Style
) -> list[str]:
    runs = list_plotted(state, shown)
    selected = find_selected(state, shown)
    metric = state.metric or (selected.metric if selected else "")
    series = []
    for run in runs:
        name = run.name if run.status == "running" else f"{run.name} ({run.status})"
        series.append(Series(clean_text(name), run.curves.get(metric, ())))
    plot = draw_plot(
        clean_text(metric), series, width=width, height=height - 1, log=state.log, style=style
    )
    return ["", *plot] if plot else []


def draw_system(run: RunningRun, width: int) -> list[str]:
    """The machine of a run: processor, memory, each GPU, disk and images a second."""
    samples = run.samples
    lines = [f"machine of {run.name}" + (f": {run.host}" if run.host else "")]
    panes = [
        ("CPU", "system/cpu_percent", _describe_cpu(samples)),
        ("memory", "system/memory_mb", _describe_memory(samples)),
        *_list_gpus(samples),
        ("disk", "system/disk_free_gb", _say(samples, "system/disk_free_gb", "GB free")),
        ("images/s", SPEED, _say(samples, SPEED, "")),
    ]
    for label, name, text in panes:
        if text:
            curve = draw_sparkline(samples.get(name, ()), SPARK)
            lines.append(f"  {label:{LABEL}}{curve:{SPARK}}  {text}".rstrip())
    if len(lines) == 1:
        lines.append("  nothing of it is known")
    return ["", *(cut(clean_text(line), width) for line in lines)]


def _list_gpus(samples: Mapping[str, Sequence[float]]) -> list[tuple[str, str, str]]:
    panes = []
    found = sorted(
        int(match[1]) for name in samples if (match := re.match(r"system/gpu_(\d+)_percent$", name))
    )
    for index in found:
        start = f"system/gpu_{index}_"
        texts = [
            _say(samples, f"{start}percent", "%"),
            _say(samples, f"{start}memory_mb", "GB", GB),
            _say(samples, f"{start}power_w", "W"),
            _say(samples, f"{start}temperature_c", "C"),
        ]
        panes.append((f"GPU {index}", f"{start}percent", ", ".join(filter(None, texts))))
    return panes


def _describe_cpu(samples: Mapping[str, Sequence[float]]) -> str:
    own = _say(samples, "system/cpu_percent", "% of one core")
    machine = _say(samples, "system/machine_cpu_percent", "%")
    return f"{own}; whole machine {machine}" if own and machine else own or machine


def _describe_memory(samples: Mapping[str, Sequence[float]]) -> str:
    own = _say(samples, "system/memory_mb", "GB", GB)
    free = _say(samples, "system/memory_available_mb", "GB free", GB)
    return "; ".join(filter(None, (own, free)))


def _say(samples: Mapping[str, Sequence[float]], name: str, unit: str, divisor: float = 1.0) -> str:
    """The newest value with its unit; empty where there is none."""
    values = samples.get(name)
    if not values:
        return ""
    value = values[-1] / divisor
    return f"{value:,.0f} {unit}".rstrip() if value >= 100 else f"{value:.3g} {unit}".rstrip()


def _draw_last(state: State, width: int) -> list[str]:
    """The last lines: what went wrong, and what is being typed, the keys, or how to leave."""
    lines = [state.message] if state.message else []
    if state.typing is not None:
        lines.append(f"/{state.typing}_")
    elif not lines:
        lines.append(KEYS if state.help else FINAL)
    return [cut(clean_text(line), width) for line in lines]


def clip(line: str, width: int) -> str:
    """The first `width` columns of a line that may have color codes, with every code kept."""
    if measure(_CODE.sub("", line)) <= width:
        return line
    shown, used, end = "", 0, 0
    for match in [*_CODE.finditer(line), None]:
        text = line[end : match.start() if match else len(line)]
        for cluster in split_clusters(text):
            own = measure(cluster)
            if used + own > width:
                used = width
                break
            shown, used = shown + cluster, used + own
        if match:
            shown, end = shown + match[0], match.end()
    return shown
