"""How large are other trackers, how long do their commands take to start, what does a logged step
cost, and what is left of a run after kill -9? Each peer has an environment of its own, which is
kept below build/peers, and writes to this machine alone.

A peer that cannot be installed here is named with pip's reason, and the others are measured. The
environment variable BENCH_PEERS names another folder for the environments, for several checkouts.
tracker itself is installed again when its commit is another.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import distributions
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from figures import Point, Row, record, weigh
from peer_programs import PEERS
from timing import QUIET, measure_process, print_table

ROOT = Path(__file__).resolve().parent.parent
PLACE = Path(os.environ.get("BENCH_PEERS") or ROOT / "build" / "peers").resolve()
LIMIT_S = 900
SETTLE_S = 5.0  # at most: the helper processes of a killed one may still write what they have
VALUES = {"train/loss": 0.5, "train/lr": 0.001, "val/f1": 0.7, "val/loss": 0.6}
PAUSE_S = 0.002  # between steps, as a quick training has
OURS = "tracker"
WHY_LARGER = "half of it is numpy, scipy and scikit-learn, for the statistics"
WHY_MORE = "MLflow's client, TensorBoard's writer, SQLAlchemy and the page's server bring theirs"
BARE = """
import json, time
lines = open("bare.jsonl", "w")
def log(step):
    lines.write(json.dumps({"time": time.time(), "step": step, "values": VALUES}) + "\\n")
    lines.flush()
"""
TIMED = """
import json, os, sys, time
VALUES = json.loads(sys.argv[1])
started = time.perf_counter()
{begin}
ready = time.perf_counter() - started
times = []
for step in range(1, int(sys.argv[2]) + 1):
    before = time.perf_counter()
    log(step)
    times.append(time.perf_counter() - before)
    time.sleep({pause})
times.sort()
print("MEASURED", json.dumps([ready, times[len(times) // 2]]), flush=True)
os.kill(os.getpid(), 9)
"""


@dataclass(frozen=True)
class Measured:
    """What was measured of a tracker; `problem` where it could not be.

    `help_ms` is the processor time of its help page; `kept` are the steps found after the kill, -1
    for a program that logs none.
    """

    name: str
    version: str = ""
    megabytes: float = 0.0
    packages: int = 0
    help_ms: float = 0.0
    ready_s: float = 0.0
    call_us: float = 0.0
    kept: int = -1
    problem: str = ""


def install(name: str, *extra: str) -> Path:
    """The interpreter of the peer's environment, an own one where it has `extra` packages; raises
    RuntimeError with pip's reason."""
    folder = PLACE / "-".join((name, *extra))
    python, done = folder / "bin" / "python", folder / "installed"
    pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    source = describe_commit() if name == OURS else ""
    if not done.exists():
        run([sys.executable, "-m", "venv", str(folder)])
        run([*pip, *PEERS[name].packages, *extra])
    elif done.read_text() == source and not source.endswith("+"):
        return python
    elif name == OURS:
        with tempfile.TemporaryDirectory() as wheels:
            build = ["wheel", "--quiet", "--no-deps", "--no-build-isolation", "-w", wheels, "."]
            run([sys.executable, "-m", "pip", *build])
            (wheel,) = Path(wheels).iterdir()
            run([*pip, "--no-deps", "--force-reinstall", str(wheel)])
    done.write_text(source)
    return python


def describe_commit() -> str:
    """The commit of this checkout, with a + where files differ from it."""
    command = ["git", "describe", "--always", "--dirty=+", "--exclude", "*"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    return done.stdout.strip() or "+"  # no repository: nobody knows what has changed


def make_env(place: Path) -> dict[str, str]:
    """What keeps each peer on this machine and quiet."""
    quiet = {"WANDB_SILENT": "true", "AIM_TELEMETRY": "0", "DVC_NO_ANALYTICS": "1"}
    nobody = {"KAGGLE_USERNAME": "nobody", "KAGGLE_KEY": "none"}  # it helps nobody without a login
    return {**os.environ, **QUIET, **quiet, **nobody, "TRACKIO_DIR": str(place / "trackio")}


def run(command: Sequence[str], *, cwd: Path = ROOT, killed: bool = False) -> str:
    """What a command prints; raises RuntimeError with its last line, or where it did not end as it
    should: by a signal for `killed`."""
    with subprocess.Popen(
        command,
        cwd=cwd,
        env=make_env(cwd),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as child:
        try:
            if killed:  # its helpers hold the pipes and may live on: only its own end counts
                child.wait(LIMIT_S)
                settled = time.monotonic() + SETTLE_S
                while has_group(child.pid) and time.monotonic() < settled:
                    time.sleep(0.1)
                end_group(child.pid)
            printed, errors = child.communicate(timeout=LIMIT_S)
        except subprocess.TimeoutExpired as error:
            end_group(child.pid)
            raise RuntimeError(f"more than {LIMIT_S} s") from error
    if child.returncode != (-signal.SIGKILL if killed else 0):
        lines = (errors or printed).strip().splitlines()
        raise RuntimeError(lines[-1] if lines else f"exit {child.returncode}")
    return printed


def has_group(leader: int) -> bool:
    """Whether a killed program has left processes behind."""
    try:
        os.killpg(leader, 0)
    except ProcessLookupError:
        return False
    return True


def end_group(leader: int) -> None:
    """End what a killed program has left behind."""
    with suppress(ProcessLookupError):
        os.killpg(leader, signal.SIGKILL)


def measure_logging(name: str, python: Path, *, calls: int) -> tuple[float, float, int]:
    """Seconds until a run is begun, microseconds of a call, and the steps kept after kill -9."""
    peer = PEERS[name]
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        place = Path(folder)
        if name == OURS:
            words = ["init", ".", "--classes", "a,b", "--no-pretrained"]
            run([str(python), "-m", "tracker.cli", *words], cwd=place)
        program = TIMED.format(begin=peer.begin, pause=PAUSE_S)
        command = [str(python), "-c", program, json.dumps(VALUES), str(calls)]
        printed = run(command, cwd=place, killed=True)
        kept = run([str(python), "-c", peer.read], cwd=place).split()[-1]
    (line,) = [one for one in printed.splitlines() if one.startswith("MEASURED ")]
    ready, call = json.loads(line.removeprefix("MEASURED "))
    return ready, call * 1e6, int(kept)


def measure_limits(*, calls: int, rounds: int) -> Measured:
    """What a bare interpreter takes to start, to open a file, and to write and flush a line of
    JSON."""
    program = TIMED.format(begin=BARE, pause=PAUSE_S)
    command = [sys.executable, "-c", program, json.dumps(VALUES), str(calls)]
    with tempfile.TemporaryDirectory() as folder:
        printed = run(command, cwd=Path(folder), killed=True)
    ready, call = json.loads(printed.rpartition("MEASURED ")[2])
    start_ms = measure_start([sys.executable, "-I", "-c", "pass"], rounds=rounds)
    return Measured("a bare interpreter", help_ms=start_ms, ready_s=ready, call_us=call * 1e6)


def measure_help(name: str, python: Path, *, rounds: int) -> float:
    """Median milliseconds of processor time of the help page."""
    return measure_start([str(python.with_name(PEERS[name].command)), "--help"], rounds=rounds)


def measure_start(words: Sequence[str], *, rounds: int) -> float:
    """Median milliseconds of processor time of a command, after a start that does not count."""
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        costs = [measure_process(words, place, make_env(place)).cpu for _ in range(rounds + 1)]
    return statistics.median(costs[1:]) * 1e3


def measure(name: str, *, calls: int, rounds: int) -> Measured:
    """Install a tracker, and measure it in an empty folder."""
    try:
        python = install(name)
        help_ms = measure_help(name, python, rounds=rounds)
        ready, call, kept = 0.0, 0.0, -1
        if PEERS[name].begin:
            ready, call, kept = measure_logging(name, python, calls=calls)
        versions = list_versions(python)
    except (RuntimeError, OSError, ValueError, subprocess.CalledProcessError) as error:
        return Measured(name, problem=str(error))
    project = "submission-ledger" if name == OURS else name
    size = measure_size(PLACE / name)
    version = versions.get(project, "")
    return Measured(name, version, size, len(versions), help_ms, ready, call, kept)


def list_versions(python: Path) -> dict[str, str]:
    """The installed packages of an environment but its installer, with their versions."""
    (libraries,) = python.parent.parent.glob("lib/python*/site-packages")
    found = {one.name.lower(): one.version for one in distributions(path=[str(libraries)])}
    return {name: version for name, version in found.items() if name not in ("pip", "setuptools")}


def measure_size(folder: Path) -> float:
    """Megabytes of the files below a folder; links are not followed."""
    sizes = (
        Path(place, name).lstat().st_size for place, _, names in os.walk(folder) for name in names
    )
    return sum(sizes) / 1e6


def list_cells(one: Measured, calls: int) -> tuple[str, ...]:
    """A line of the table."""
    if one.problem:
        return (one.name, "", "", "", "", "", "", one.problem[:60])
    logs = one.kept >= 0
    return (
        f"{one.name} {one.version}",
        f"{one.megabytes:,.0f}",
        str(one.packages),
        f"{one.help_ms:,.0f}",
        f"{one.ready_s:.2f}" if logs else "",
        f"{one.call_us:,.0f}" if logs else "",
        f"{calls - one.kept:,}" if logs else "",
        "",
    )


def record_figures(measured: Sequence[Measured], calls: int, limits: Measured) -> None:
    """The rows and points of BENCHMARKS.md: tracker against the others."""
    known = {one.name: one for one in measured if not one.problem}
    others = [one for one in known.values() if one.name != OURS]
    if OURS not in known or not others:
        return
    ours = known[OURS]
    logging = [one for one in others if one.kept >= 0]
    starts = {one.name: one.help_ms for one in others}
    begins = {one.name: one.ready_s for one in logging}
    costs = {one.name: one.call_us for one in logging}
    losses = {one.name: max(0, calls - one.kept) for one in logging}
    sizes = {one.name: one.megabytes for one in others}
    counts = {one.name: one.packages for one in others}
    lost = max(0, calls - ours.kept)
    bare_start = f"{limits.help_ms:,.0f} ms (a bare interpreter)"
    bare_file = f"{limits.ready_s * 1e3:.1f} ms (opening a file)"
    bare_line = f"{limits.call_us:,.0f} us (a line of JSON, flushed)"
    versions = ", ".join(f"{one.name} {one.version}" for one in others)
    if failed := [one.name for one in measured if one.problem]:
        versions += f"; not measured: {', '.join(failed)}"
    record(
        [
            Row("versions that were compared", ours.version, versions),
            judge("`--help`, processor time", ours.help_ms, starts, "{:,.0f} ms", limit=bare_start),
            judge(
                "from the import to a run that logs",
                ours.ready_s,
                begins,
                "{:.2f} s",
                limit=bare_file,
            ),
            judge(
                "log four values, each 2 ms after the last",
                ours.call_us,
                costs,
                "{:,.0f} us",
                limit=bare_line,
                lost=losses,
            ),
            Row(
                f"steps lost of {calls:,} after kill -9",
                str(lost),
                render(losses, "{:,}"),
                "0",
                "0",
                lost == 0,
                "a step that has returned must be in the file",
            ),
            Row(
                "installed, without torch",
                f"{ours.megabytes:,.0f} MB",
                render(sizes, "{:,.0f} MB"),
                verdict=weigh(ours.megabytes, sizes, WHY_LARGER),
            ),
            Row(
                "packages installed",
                str(ours.packages),
                render(counts, "{}"),
                verdict=weigh(ours.packages, counts, WHY_MORE),
            ),
        ]
    )
    for one in (ours, *logging):
        record(
            [
                Point("logging-cost", one.name, 0, one.call_us),
                Point("logging-loss", one.name, 0, max(0, calls - one.kept)),
            ]
        )


def judge(
    what: str,
    ours: float,
    others: Mapping[str, float],
    form: str,
    *,
    limit: str,
    lost: Mapping[str, int] | None = None,
) -> Row:
    """A row whose goal is to take less than every peer, with the steps that those ahead lost."""
    ahead = [name for name, figure in others.items() if figure < ours]
    reason = f"{', '.join(ahead)}: less is imported, and less can be done then"
    if lost is not None:
        kept = "a call of ours returns when the step is in the file"
        reason = "; ".join((kept, *(f"{name} lost {lost[name]} after kill -9" for name in ahead)))
    peers = render(others, form)
    return Row(what, form.format(ours), peers, limit, "less than every peer", not ahead, reason)


def render(figures: Mapping[str, float], form: str) -> str:
    """Each peer with its figure."""
    return ", ".join(f"{name} {form.format(figure)}" for name, figure in figures.items())


def main() -> None:
    """Print a row for each tracker."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", nargs="+", choices=list(PEERS), default=list(PEERS))
    parser.add_argument("--calls", type=int, default=2000)
    parser.add_argument("--rounds", type=int, default=7, help="starts of each help page")
    parser.add_argument("--quick", action="store_true", help="200 calls, two starts")
    arguments = parser.parse_args()
    PLACE.mkdir(parents=True, exist_ok=True)
    calls, rounds = (200, 2) if arguments.quick else (arguments.calls, arguments.rounds)
    started = time.monotonic()
    measured = [measure(name, calls=calls, rounds=rounds) for name in arguments.only]
    columns = ("tracker", "MB", "packages", "--help, CPU ms", "s to a run", "us a step", "lost", "")
    title = f"On this machine alone: {calls} steps of four values, medians; lost after kill -9"
    print_table(title, columns, [list_cells(one, calls) for one in measured])
    limits = measure_limits(calls=calls, rounds=rounds)
    print(
        f"limits: a bare interpreter {limits.help_ms:.0f} ms, a file opened"
        f" {limits.ready_s * 1e3:.1f} ms, a flushed line of JSON {limits.call_us:.1f} us"
    )
    print(f"{time.monotonic() - started:.0f} s, installing what was not there")
    record_figures(measured, calls, limits)
    everything = measure_size(Path(sys.prefix))  # the environment of this program
    print(f"installed by make, with PyTorch and all that develops it: {everything / 1e3:.1f} GB")
    what = "installed by `make`, with PyTorch and all that develops it"
    record([Row(what, f"{everything / 1e3:.1f} GB")])


if __name__ == "__main__":
    main()
