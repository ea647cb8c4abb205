"""How long does `data check` take, and how much memory, where no image has changed?

Tiny files with one content in 100 classes, as folders and as a table of labels, and the table of
checks as a first check leaves it. The limit is what cannot be saved: a process that imports numpy,
lists the folders and asks for the size and time of every file.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

from figures import Row, record
from PIL import Image
from timing import QUIET, print_table

from tracker.setup.init import init_workspace
from tracker.training.formats.check_table import CheckTable, ImageCheck

CLASSES = 100
GOALS = {100_000: (1.5, 150.0), 1_000_000: (15.0, None)}  # images: seconds, MB
REASON = (
    "with a table of labels, a third of the time goes to its rows and to listing the images;"
    " asking for sizes and times takes a fifth, the table of checks, the fingerprint, the split and"
    " the start of Python and numpy about a tenth each"
)
LIMIT = """
import os, sys, numpy
for folder, _, names in os.walk(sys.argv[1]):
    for name in names:
        os.stat(f"{folder}/{name}")
"""
# A process that is born of a large one has its peak: this one is small. Seconds, CPU and MB.
LAUNCH = """
import resource, subprocess, sys, time
started = time.perf_counter()
done = subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL)
seconds = time.perf_counter() - started
used = resource.getrusage(resource.RUSAGE_CHILDREN)
print(seconds, used.ru_utime + used.ru_stime, used.ru_maxrss / 1e3)
sys.exit(done.returncode)
"""
CHECK = [str(Path(sys.executable).with_name("tracker")), "data", "check"]


@dataclass(frozen=True)
class Cost:
    """What a process took: seconds of the clock and of the processor, and MB at most."""

    seconds: float
    cpu: float
    mb: float


def make_images(folder: Path, count: int) -> list[str]:
    """Files of one small JPEG, a folder for each class; where they are."""
    content = BytesIO()
    Image.new("RGB", (4, 4), (200, 30, 10)).save(content, "JPEG")
    files = []
    for number in range(CLASSES):
        below = folder / "train" / f"class{number:02d}"
        below.mkdir(parents=True)
        for index in range(number, count, CLASSES):
            files.append(f"{below}/image_{index:07d}.jpg")
            Path(files[-1]).write_bytes(content.getvalue())
    digest = hashlib.sha256(content.getvalue()).hexdigest()
    stats = ((name, Path(name).stat()) for name in files)
    table = {name: ImageCheck(s.st_size, s.st_mtime_ns, digest, "") for name, s in stats}
    for kind in ("folders", "table"):
        CheckTable().extend(table).save(folder / kind / ".tracker" / "images.npz")
    return files


def make_workspaces(folder: Path, files: Sequence[str]) -> dict[str, Path]:
    """A workspace that reads the classes from the folders, and one that has a table of labels."""
    labels = folder / "labels.csv"
    rows = (name.rsplit("/", 2)[1:] for name in files)
    lines = [f"{name.removesuffix('.jpg')},{label}" for label, name in rows]
    labels.write_text("\n".join(["id,label", *lines, ""]))
    train = str(folder / "train")
    names = sorted({name.rsplit("/", 2)[1] for name in files})
    competition = {"classes": names, "id_column": "id", "label_column": "label", "answers": "name"}
    table = {"train_dir": train, "format": "csv", "labels": str(labels), "ending": ".jpg"}
    init_workspace(folder / "folders", data={"train_dir": train}, competition={"classes": names})
    init_workspace(folder / "table", data=table, competition=competition)
    return {"class folders": folder / "folders", "a table of labels": folder / "table"}


def take(words: Sequence[str], cwd: Path) -> Cost:
    """The cost of one process; it has to end well."""
    done = subprocess.run(
        [sys.executable, "-c", LAUNCH, *words],
        cwd=cwd,
        env={**os.environ, **QUIET},
        capture_output=True,
        text=True,
        check=True,
    )
    return Cost(*map(float, done.stdout.split()))


def measure(folder: Path, count: int, rounds: int) -> None:
    """Print the median cost of each command, in turn."""
    spaces = make_workspaces(folder, make_images(folder, count))
    commands = {f"data check, {name}": (CHECK, cwd) for name, cwd in spaces.items()}
    limit = "the limit: listing and asking alone"
    commands[limit] = ([sys.executable, "-c", LIMIT, str(folder / "train")], folder)
    costs: dict[str, list[Cost]] = {name: [] for name in commands}
    for number in range(rounds + 1):
        for name, (words, cwd) in commands.items():
            cost = take(words, cwd)
            if number:
                costs[name].append(cost)
    rows = []
    for name, found in costs.items():
        seconds, cpu, mb = (
            statistics.median(getattr(one, key) for one in found)
            for key in ("seconds", "cpu", "mb")
        )
        verdict = "-" if name == limit else judge(count, seconds, mb)
        rows.append((name, f"{seconds:.2f}", f"{cpu:.2f}", f"{mb:.0f}", verdict))
        if name != limit:
            record([build_row(name, count, seconds, mb, costs[limit])])
    print_table(
        f"{count:,} images, unchanged, {rounds} rounds, load {os.getloadavg()[0]:.1f}",
        ("what", "seconds", "CPU", "MB", "goal"),
        rows,
    )


def build_row(name: str, count: int, seconds: float, mb: float, limit: Sequence[Cost]) -> Row:
    """The row of BENCHMARKS.md."""
    verdict = judge(count, seconds, mb)
    goal, _, word = verdict.partition(": ")
    least = statistics.median(one.seconds for one in limit)
    return Row(
        f"`{name}`, {count:,} unchanged images",
        f"{seconds:.2f} s, {mb:.0f} MB",
        limit=f"{least:.2f} s (listing and stat)",
        goal="" if goal == "-" else goal,
        reached=word == "reached" if word else None,
        reason=REASON,
    )


def judge(count: int, seconds: float, mb: float) -> str:
    """The goal for so many images, and whether it is reached."""
    if count not in GOALS:
        return "-"
    most_s, most_mb = GOALS[count]
    reached = seconds <= most_s and (most_mb is None or mb <= most_mb)
    memory = f", {most_mb:.0f} MB" if most_mb else ""
    return f"{most_s:g} s{memory}: {'reached' if reached else 'missed'}"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, nargs="+", default=list(GOALS))
    parser.add_argument("--rounds", type=int, default=5, help="of a million images, one")
    parser.add_argument("--quick", action="store_true", help="10,000 images, 2 rounds")
    options = parser.parse_args()
    if options.quick:
        options.images, options.rounds = [10_000], 2
    for count in options.images:
        with tempfile.TemporaryDirectory() as name:
            measure(Path(name), count, 1 if count >= max(GOALS) else options.rounds)


if __name__ == "__main__":
    main()
