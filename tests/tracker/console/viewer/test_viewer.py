"""The screen of `tracker watch`: what keys change, what is drawn, and the terminal around it."""

from __future__ import annotations

import errno
import fcntl
import os
import pty
import re
import signal
import struct
import sys
import termios
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace

import pytest

from tests.support.workspaces import begin_run, make_run, workspace
from tracker.console.viewer.draw import clip, draw_screen
from tracker.console.viewer.feed import OwnFeed, Poller
from tracker.console.viewer.filters import parse_filter
from tracker.console.viewer.keys import KeyReader
from tracker.console.viewer.plot import Series, Style, draw_plot
from tracker.console.viewer.program import watch_screen
from tracker.console.viewer.state import KEYS, Scene, State, list_plotted, list_shown, press
from tracker.console.viewer.terminal import ENTER, LEAVE, read_windows_key, render_changes
from tracker.core.errors import TrackerError
from tracker.core.table import measure
from tracker.run_folder.running import RunningRun
from tracker.training.errors import ConfigError
from tracker.workspace.tracker_toml import Workspace

__all__ = ["workspace"]
COLOR, PLAIN, ASCII = Style(), Style(color=False), Style(color=False, unicode=False)
CODE = re.compile(r"\x1b\[[0-9;]*m")
LIMIT_S = 60.0


def make(name: str, *values: float, status: str = "running", **changes: object) -> RunningRun:
    """A run with a curve of val/f1 and one of train/loss that falls by a tenth each epoch."""
    curve = tuple(enumerate(values, start=1))
    losses = tuple((epoch, 10.0**-epoch) for epoch, _ in curve)
    run = RunningRun(
        name=name,
        uid=f"u-{name}",
        epoch=len(values),
        epochs=30,
        loss=losses[-1][1],
        metric="val/f1",
        value=values[-1],
        best=max(values),
        images_per_s=123.4,
        gpu_percent=97.0,
        left_s=750.0,
        curve=values,
        status=status,
        host="gpu1",
        curves={"val/f1": curve, "train/loss": losses},
        samples={
            "system/cpu_percent": (310.0, 312.0),
            "system/machine_cpu_percent": (80.0,),
            "system/memory_mb": (4096.0,),
            "system/gpu_0_percent": (95.0, 97.0),
            "system/gpu_0_memory_mb": (10240.0,),
            "system/disk_free_gb": (120.0,),
            "train/images_per_s": (123.0,),
        },
    )
    return replace(run, **changes)  # type: ignore[arg-type]


RUNS = [make("exp12", 0.1, 0.5, 0.9), make("exp11", 0.3, 0.4, 0.2), make("exp10", 0.2, 0.2, 0.2)]
SCENE = Scene(own=RUNS, team=[make("mina/exp4", 0.6, 0.7)], team_note="team: as of 21:04")


def type_keys(state: State, *keys: str, scene: Scene = SCENE) -> State:
    for key in keys:
        state = press(state, key, scene)
    return state


def names(state: State, scene: Scene = SCENE) -> list[str]:
    return [run.name for run in list_shown(state, scene)]


def draw(state: State, scene: Scene = SCENE, *, style: Style = PLAIN, size: str = "80x24") -> str:
    width, height = map(int, size.split("x"))
    lines = draw_screen(state, scene, width=width, height=height, style=style)
    assert len(lines) == height
    assert max(measure(CODE.sub("", line)) for line in lines) <= width
    return "\n".join(lines)


def test_keys_select_a_run_and_stay_within_the_list() -> None:
    assert "> exp12" in draw(State())
    for keys, selected in ((("j",), "exp11"), (("down", "j", "j"), "exp10"), (("j", "k"), "exp12")):
        assert f"> {selected}" in draw(type_keys(State(), *keys))
    gone = replace(SCENE, own=RUNS[:1])
    assert "> exp12" in draw(type_keys(State(), "j"), gone)  # the selected run has ended
    assert type_keys(State(), "j", "p", scene=Scene()).message == "no run to pin"


def test_a_pinned_run_stays_on_top_and_in_the_plot_after_it_ended() -> None:
    state = type_keys(State(), "j", "p", "j")
    ended = [RUNS[0], replace(RUNS[1], status="finished"), replace(RUNS[2], status="killed")]
    scene = replace(SCENE, own=ended)
    assert names(state, scene) == ["exp11", "exp12"]  # exp10 was not pinned
    assert [run.name for run in list_plotted(state, list_shown(state, scene))] == ["exp11", "exp12"]
    shown = draw(state, scene)
    assert "exp11 (finished) 0.2000" in shown
    assert " *exp11" in shown
    assert names(replace(state, filter=parse_filter("exp12")), scene) == ["exp11", "exp12"]
    assert names(type_keys(state, "k", "p", scene=scene), scene) == ["exp12"]  # not pinned any more


def test_a_filter_is_a_text_or_a_condition_and_a_wrong_one_stays_to_be_mended() -> None:
    state = type_keys(State(), "/", *"XP11?", "backspace")
    assert draw(state).endswith("\n/XP11_")
    assert names(type_keys(state, "enter")) == ["exp11"]
    assert names(type_keys(state, "escape")) == ["exp12", "exp11", "exp10"]
    values = {run.key: {"name": run.name, "val/f1": run.best} for run in RUNS}
    scene = replace(SCENE, values=values, names={"name", "val/f1"})
    asked = type_keys(State(), "/", *"val/f1 > 0.3", "enter", scene=scene)
    assert names(asked, scene) == ["exp12", "exp11"]
    assert names(asked) == ["exp12", "exp11", "exp10"]  # while the values are not read yet
    assert "filter: val/f1 > 0.3" in draw(asked, scene)
    wrong = type_keys(asked, "/", "\x15", *"val/f2 > 1", "enter", scene=scene)
    assert wrong.typing == "val/f2 > 1"
    last = draw(wrong, scene).splitlines()[-2:]
    assert last == ["filter, character 1: no run has 'val/f2'; nearest: val/f1", "/val/f2 > 1_"]
    mended = type_keys(wrong, "\x15", *"name > 3", "enter", scene=scene)  # a text, no number
    assert names(mended, scene) == []
    assert "no running run matches the filter" in draw(mended, scene)
    assert names(type_keys(mended, "/", "\x15", "enter", scene=scene), scene) == names(State())
    with pytest.raises(ConfigError, match="filter, character"):
        parse_filter("val/f1 >")


def test_the_team_comes_and_goes_with_a_key() -> None:
    both = type_keys(State(), "t")
    assert names(both)[-1] == "mina/exp4"
    assert "running here and of the team: 4  |  team: as of 21:04" in draw(both)
    assert "mina" not in draw(type_keys(both, "t"))
    pinned = type_keys(both, "j", "j", "j", "p", "t")
    assert names(pinned)[0] == "mina/exp4"


def test_the_plot_has_a_metric_a_log_axis_and_can_be_closed() -> None:
    state = type_keys(State(), "m")
    assert state.metric == "train/loss"
    shown = draw(type_keys(state, "l"), size="80x25")
    assert "train/loss (log axis)" in shown
    rows = [line for line in shown.splitlines() if "|" in line]
    # each epoch is a tenth of the one before: on a log axis the middle one is in the middle
    assert rows[len(rows) // 2].split("|")[0].strip() == "0.01000"
    assert type_keys(state, "m").metric == "val/f1"
    assert "epoch 1" not in draw(type_keys(state, "o"))
    one = Scene(own=[replace(RUNS[0], curves={})])
    assert "there is no other metric yet" in draw(type_keys(State(), "m", scene=one), one)


def test_curves_differ_by_color_or_by_mark() -> None:
    two = [Series("a", ((1, 0.0), (2, 1.0))), Series("b", ((1, 1.0), (2, 0.0)))]
    size = {"width": 60, "height": 14}
    colored = "\n".join(draw_plot("f1", two, log=False, style=COLOR, **size))  # type: ignore[arg-type]
    assert "\x1b[36m* a 1.0000\x1b[0m   \x1b[33m+ b 0.0000\x1b[0m" in colored
    assert re.search("\x1b\\[33m[\u2801-\u28ff]", colored)
    plain = draw_plot("f1", two, log=False, style=PLAIN, **size)  # type: ignore[arg-type]
    assert "\x1b" not in "".join(plain)
    assert plain[2].endswith("*")
    assert plain[2].partition("|")[2].startswith("+")
    lost = draw_plot("f1", two, log=True, style=PLAIN, **size)  # type: ignore[arg-type]
    assert lost[0] == "f1 (log axis); 2 not above 0 left out"
    none = draw_plot("f1", [Series("a", ())], log=False, style=PLAIN, **size)  # type: ignore[arg-type]
    assert none == ["f1: no value yet"]
    flat = draw_plot("f1", [Series("a", ((1, 0.5),))], log=False, style=PLAIN, **size)  # type: ignore[arg-type]
    assert sum(letter > "\u2800" for line in flat for letter in line) == 1


def test_the_system_pane_has_processor_memory_gpu_disk_and_speed() -> None:
    shown = draw(type_keys(State(), "s"))
    for label, text in (
        ("CPU", "312 % of one core; whole machine 80 %"),
        ("memory", "4 GB"),
        ("GPU 0", "97 %, 10 GB"),
        ("disk", "120 GB free"),
        ("images/s", "123"),
    ):
        assert re.search(rf"(?m)^  {label} .*  {text}$", shown), label
    unknown = Scene(own=[replace(RUNS[0], samples={})])
    assert "nothing of it is known" in draw(type_keys(State(), "s", scene=unknown), unknown)


def test_every_size_has_its_lines_and_ascii_is_enough() -> None:
    many = Scene(own=[make(f"exp{n}", 0.1, 0.2, note="\u3131" * 9) for n in range(40, 0, -1)])
    state = type_keys(State(), *["j"] * 30, "p", "s", "?", scene=many)
    for size in ("80x24", "200x60", "80x10", "30x6", "12x3", "1x1"):
        for style in (COLOR, PLAIN):
            draw(state, many, style=style, size=size)
    assert "exp10" in draw(state, many)  # the list follows the selection
    assert draw(state, many, style=ASCII).isascii()
    assert draw(State(help=True)).endswith(f"\n{KEYS}")
    steering = Scene(own=[make("exp1\x1b[2J", 0.5)], problem="\x07")
    assert "\x1b[2J" not in draw(State(), steering)
    assert clip("\x1b[7mabc\ud55c\uae00\x1b[0m", 5) == "\x1b[7mabc\ud55c\x1b[0m"


def test_only_changed_lines_are_drawn_again() -> None:
    assert render_changes(["a", "b", "c"], ["a", "x", "c"]) == "\x1b[2;1H\x1b[0mx\x1b[0m\x1b[K"
    assert render_changes(["a"], ["a"]) == ""
    assert render_changes([], ["a"]).startswith("\x1b[2J\x1b[1;1H")


def test_keys_arrive_whole_or_in_parts() -> None:
    reader = KeyReader()
    assert reader.feed(b"j\x1b[A\x1bOB\x7f\r\x1b[5~q") == [
        "j",
        "up",
        "down",
        "backspace",
        "enter",
        "q",
    ]
    assert reader.feed(b"\x1b") == []
    assert reader.is_waiting
    assert reader.feed(b"[") == []
    assert reader.feed(b"B") == ["down"]
    assert reader.feed(b"\x1b") + reader.flush() == ["escape"]
    korean = "\ud55c".encode()
    assert reader.feed(korean[:2]) + reader.feed(korean[2:]) == ["\ud55c"]
    windows = ("\xe0H", "\x00P", "\xe0G", "\r", "\b", "\x1b", "q")
    keys = [key for text in windows for key in read_windows_key(text)]
    assert keys == ["up", "down", "enter", "backspace", "escape", "q"]


def test_the_feed_has_pinned_runs_that_ended_and_values_where_they_are_wanted(
    workspace: Workspace,
) -> None:
    ended = make_run(workspace)
    recorder = begin_run(workspace, config={"train": {"epochs": 4, "monitor": "val/f1"}}, note="a")
    recorder.metrics({"val/f1": 0.25, "system/cpu_percent": 90.0}, step=1, epoch=1)
    feed = OwnFeed(workspace)
    found = feed.read()
    assert [run.name for run in found.runs] == ["exp2"]
    assert (found.values, found.names) == ({}, None)
    assert found.runs[0].samples == {"system/cpu_percent": (90.0,)}
    assert set(found.runs[0].curves) == {"val/f1"}
    feed.pinned, feed.with_values = (ended.uid,), True
    found = feed.read()
    assert [run.status for run in found.runs] == ["running", "finished"]
    assert found.values[found.runs[0].key]["val/f1"] == 0.25
    assert found.values[found.runs[0].key]["train.epochs"] == 4
    assert found.names is not None
    assert {"val/f1", "train.epochs", "note"} <= set(found.names)
    recorder.finish("finished")


def test_a_thread_that_fails_says_so() -> None:
    def wait_for(condition: Callable[[], bool]) -> None:
        end = time.monotonic() + LIMIT_S
        while not condition():
            assert time.monotonic() < end
            time.sleep(0.005)

    answers: Iterator[Exception] = iter([TrackerError("no server"), ZeroDivisionError("bug")])

    def read() -> int:
        raise next(answers)

    poller = Poller(read, 7, every_s=LIMIT_S, wake=lambda: None)
    poller.start()
    wait_for(lambda: bool(poller.problem))
    assert (poller.latest, poller.problem, poller.crash) == (7, "no server", None)
    poller.hurry()
    wait_for(lambda: poller.crash is not None)
    assert isinstance(poller.crash, ZeroDivisionError)


# --- a real terminal


class Watched:
    """`watch_screen` in a child of its own, on a terminal."""

    def __init__(self, pid: int, terminal: int) -> None:
        self.pid, self.terminal = pid, terminal
        self.shown = ""

    def type(self, text: str) -> None:
        os.write(self.terminal, text.encode())

    def resize(self, columns: int, rows: int) -> None:
        size = struct.pack("HHHH", rows, columns, 0, 0)
        fcntl.ioctl(self.terminal, termios.TIOCSWINSZ, size)

    def read_until(self, text: str) -> str:
        """What was shown from the last call to the text."""
        end = time.monotonic() + LIMIT_S
        while text not in self.shown:
            assert time.monotonic() < end, self.shown
            try:
                self.shown += os.read(self.terminal, 65536).decode(errors="replace")
            except OSError as error:
                assert error.errno == errno.EIO
                pytest.fail(f"it ended: {self.shown}")
        before, _, self.shown = self.shown.partition(text)
        return before + text

    def wait(self) -> int:
        _, status = os.waitpid(self.pid, 0)
        return os.waitstatus_to_exitcode(status)


@contextmanager
def watching(workspace: Workspace) -> Iterator[Watched]:
    pid, terminal = pty.fork()
    if pid == 0:
        _be_child(workspace)
    watched = Watched(pid, terminal)
    try:
        watched.resize(80, 24)
        yield watched
    finally:
        with suppress(ProcessLookupError, ChildProcessError):
            if os.waitpid(pid, os.WNOHANG) == (0, 0):
                os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, 0)
        os.close(terminal)


def _be_child(workspace: Workspace) -> None:
    """What the forked process does; it never comes back. Its exit code is 5 after an interrupt."""
    code = 9
    try:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        sys.stdin = os.fdopen(os.dup(0))
        sys.stdout, sys.stderr = os.fdopen(os.dup(1), "w"), os.fdopen(os.dup(2), "w")
        before = termios.tcgetattr(0)
        try:
            watch_screen(workspace, State(), every_s=0.2)
            code = 0
        except KeyboardInterrupt:
            code = 5
        code = code if termios.tcgetattr(0) == before else 6
    finally:
        os._exit(code)


def test_on_a_terminal_keys_work_sizes_change_and_all_is_restored(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.chdir(workspace.root)
    recorder = begin_run(workspace, config={"train": {"epochs": 4, "monitor": "val/f1"}}, note="a")
    recorder.metrics({"train/loss": 1.0, "val/f1": 0.25}, step=1, epoch=1)
    with watching(workspace) as watched:
        watched.read_until(ENTER)
        watched.read_until("exp1 0.2500")
        watched.type("?")
        assert "exp1" not in watched.read_until("j/k select")  # only the last line was drawn
        watched.resize(100, 30)
        watched.read_until("\x1b[30;1H")
        watched.type("/zzz\r")
        watched.read_until("no running run matches the filter")
        watched.type("/\x15\x1b[B\rs")
        watched.read_until("machine of exp1")
        watched.type("\x1a")  # Ctrl-Z; nobody could continue this child, so it goes on at once
        watched.read_until(LEAVE)
        watched.read_until(ENTER)
        watched.read_until("machine of exp1")
        watched.type("q")
        watched.read_until(LEAVE)
        assert watched.wait() == 0
    for number in (signal.SIGINT, signal.SIGTERM):
        with watching(workspace) as watched:
            watched.read_until("exp1")
            os.kill(watched.pid, number)
            watched.read_until(LEAVE)
            assert watched.wait() == 5
    recorder.finish("finished")
