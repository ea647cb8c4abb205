"""What the viewer shows, and what each key changes."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from tracker.console.viewer.filters import Filter, parse_filter
from tracker.run_folder.running import LOSSES, SPEED, RunningRun
from tracker.training.errors import ConfigError, first_line

NO_FILTER = Filter()
RUNNING = ("running", "silent")
KEYS = "j/k select  / filter  p pin  o plot  l log  m metric  s system  t team  q leave"


@dataclass(frozen=True, kw_only=True)
class Scene:
    """What is known at a moment.

    `own` are the running runs of this workspace and those that were pinned, `team` those of
    teammates; `team_note` says when they were asked for, or why they are not known. `values` has
    what a condition can ask for by a run's key, `names` the names that it may have, None for all.
    """

    own: Sequence[RunningRun] = ()
    team: Sequence[RunningRun] = ()
    team_note: str = ""
    problem: str = ""
    values: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    names: Collection[str] | None = None


@dataclass(frozen=True, kw_only=True)
class State:
    """What is shown; `selected` and `pinned` are keys of runs.

    `metric` is the one that is plotted, empty for the one that each run watches itself. `typing` is
    the filter that is being typed, None while there is none; `message` is what the last key did
    not do, and why.
    """

    selected: str = ""
    pinned: tuple[str, ...] = ()
    filter: Filter = NO_FILTER
    typing: str | None = None
    plot: bool = True
    log: bool = False
    metric: str = ""
    system: bool = False
    team: bool = False
    help: bool = False
    message: str = ""
    left: bool = False


def list_shown(state: State, scene: Scene) -> list[RunningRun]:
    """The rows: pinned runs first, in the order in which they were pinned, then what runs."""
    known = {run.key: run for run in (*scene.own, *scene.team)}
    pinned = [known[key] for key in state.pinned if key in known]
    others = [*scene.own, *(scene.team if state.team else ())]
    return pinned + [
        run
        for run in others
        if run.key not in state.pinned
        and run.status in RUNNING
        and state.filter.matches(run, scene.values.get(run.key))
    ]


def explain_none(state: State) -> str:
    """What is said where no run is shown."""
    return "no running run matches the filter" if state.filter.text else "no run is running"


def find_selected(state: State, shown: Sequence[RunningRun]) -> RunningRun | None:
    """The selected run; the first one where that is not shown any more."""
    chosen = [run for run in shown if run.key == state.selected]
    return next(iter(chosen or shown), None)


def list_plotted(state: State, shown: Sequence[RunningRun]) -> list[RunningRun]:
    """The runs whose curves are drawn: the pinned ones, which keep their colors, and the selected
    one."""
    selected = find_selected(state, shown)
    return [run for run in shown if run.key in state.pinned or run is selected]


def list_metrics(shown: Sequence[RunningRun]) -> list[str]:
    """The metrics that the shown runs have: those that are watched first, losses, then others."""
    names = [run.metric for run in shown if run.metric in run.curves]
    for run in shown:
        names += [name for name in (*reversed(LOSSES), SPEED) if name in run.curves]
    others = {name for run in shown for name in run.curves}
    return list(dict.fromkeys([*names, *sorted(others)]))


def press(state: State, key: str, scene: Scene) -> State:
    """The state after a key: one character, or `up`, `down`, `enter`, `escape`, `backspace`."""
    if state.typing is not None:
        return _type(replace(state, message=""), key, scene)
    action = _ACTIONS.get(key)
    return state if action is None else action(replace(state, message=""), scene)


def _type(state: State, key: str, scene: Scene) -> State:
    text = state.typing or ""
    if key == "escape":
        return replace(state, typing=None)
    if key == "enter":
        try:
            return replace(state, typing=None, filter=parse_filter(text, scene.names))
        except ConfigError as error:
            hint = f"; {error.hint}" if error.hint else ""
            return replace(state, message=f"{first_line(error)}{hint}")
    if key == "backspace":
        return replace(state, typing=text[:-1])
    if key == "\x15":  # Ctrl-U, as in a shell
        return replace(state, typing="")
    return replace(state, typing=text + key) if len(key) == 1 and key.isprintable() else state


def _move(step: int) -> Callable[[State, Scene], State]:
    def move(state: State, scene: Scene) -> State:
        shown = list_shown(state, scene)
        selected = find_selected(state, shown)
        if selected is None:
            return state
        place = shown.index(selected) + step
        return replace(state, selected=shown[min(max(place, 0), len(shown) - 1)].key)

    return move


def _pin(state: State, scene: Scene) -> State:
    selected = find_selected(state, list_shown(state, scene))
    if selected is None:
        return replace(state, message="no run to pin")
    key = selected.key
    if key in state.pinned:
        return replace(state, pinned=tuple(one for one in state.pinned if one != key))
    return replace(state, pinned=(*state.pinned, key), selected=key)


def _change_metric(state: State, scene: Scene) -> State:
    shown = list_shown(state, scene)
    names = list_metrics(shown)
    if len(names) < 2:
        return replace(state, message="there is no other metric yet")
    selected = find_selected(state, shown)
    now = state.metric or (selected.metric if selected else "")
    place = names.index(now) + 1 if now in names else 0
    return replace(state, metric=names[place % len(names)], plot=True)


_ACTIONS: Mapping[str, Callable[[State, Scene], State]] = {
    "j": _move(1),
    "down": _move(1),
    "k": _move(-1),
    "up": _move(-1),
    "/": lambda state, _: replace(state, typing=state.filter.text),
    "p": _pin,
    "o": lambda state, _: replace(state, plot=not state.plot),
    "l": lambda state, _: replace(state, log=not state.log),
    "m": _change_metric,
    "s": lambda state, _: replace(state, system=not state.system),
    "t": lambda state, _: replace(state, team=not state.team),
    "?": lambda state, _: replace(state, help=not state.help),
    "q": lambda state, _: replace(state, left=True),
}
