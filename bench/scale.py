"""Does every command that reads answer with 100,000 runs and a ledger of 1,000,000 rows?

Prints CPU and wall seconds and peak memory of each, beside the limit: what the bare SQL query, or
the bare listing or reading of the same files takes in Python. `--quick`: 1,000 runs and 10,000
rows. The data commands read images, not runs: input.py and `data check` have their figures.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from figures import Point, Row, record

# Little is imported here: the peak memory of a child counts that of the process that starts it.

LIMIT_S = float(os.environ.get("SCALE_LIMIT_S", "120"))
GOAL_S = 2.0
WRITTEN = ("out.csv", "copy.db")  # by export and backup, which refuse a file that is there
SETTLED_S = 4.0  # younger files are read each time: YOUNG_S of the index is 3
QUIET = {"MLFLOW_DISABLE_TELEMETRY": "true", "DO_NOT_TRACK": "true", "COLUMNS": "120"}
READ_ALL = "every run or row is in its answer"
MAKE_INDEX = "reads every run folder, once: it makes the index"
ALL_SCORES = (
    "all rows are hashed again (a third), and every submission is read, grouped by how its run"
    " validated, and given its expected score"
)
HASHED = (
    "every row is hashed again while SQLite looks at every page, each about half; MLflow is asked"
    " for the heads that it has seen: of a short ledger its start is the most of it"
)
EXPORTED = (
    "each submission is a row of more than a hundred cells, and how it validated is asked of its"
    " run; row by row, in 500 at a time"
)
COPIED = "every page of the file is copied and forced to the disk"
EACH_RELATED = (
    "every submission is read, grouped by how its run validated, and a point of the lines"
)
EACH_AUDITED = "every submission is read, and the files of each run are looked for (a quarter)"
MATCHING = "three files of each run are looked at, and the runs that match are read and compared"
EACH_LINE = (
    "a line for each run and submission: reading them is half of it, measuring and drawing the rest"
)
EACH_CHECKED = (
    "all rows are hashed again while SQLite looks at every page, and every run folder is looked"
    " into, once, for points that were not copied and files that a killed process left"
)
SEARCHED = (
    "three files of each run are looked at, and the scores of all submissions are searched for"
    " SOTA and the best; of more than 20,000 submissions 2,100 are read and drawn"
)
WITH_MLFLOW = f"all rows are hashed again, and MLflow is started for a copy; {SEARCHED}"
STAT_RUNS = "three files of each run are looked at, and its row of the index is read and checked"
NAMED = "all runs are looked at, for names that no other run has (two fifths)"
FRAME = "import tracker; print(len(tracker.{}))"


@dataclass(frozen=True)
class Question:
    """A command that reads, its limit (a key of `LIMITS`), and why it may take over 2 s."""

    words: Sequence[str]
    limit: str
    reason: str = ""
    python: bool = False

    @property
    def name(self) -> str:
        return self.words[-1] if self.python else f"tracker {' '.join(self.words)}"


def list_questions() -> list[Question]:
    """Every command of tracker/commands/table.py that reads runs or ledger, and the interface."""
    where = "val/f1 > 0.8 and optim.lr < 0.003"
    return [
        Question(["runs"], "list folders"),
        Question(["runs", "--sort", "created_at"], "read files", MAKE_INDEX),
        Question(["runs", "--where", where], "stat files", STAT_RUNS),
        Question(["runs", "--sort", "val/f1"], "stat files", STAT_RUNS),
        Question(
            ["runs", "--where", "public_f1 > 0.9", "--sort", "public_f1"], "scores", STAT_RUNS
        ),
        Question(["runs", "--limit", "0", "--json"], "read files", READ_ALL),
        Question(["show", "latest"], "list folders"),
        Question(["show", "exp1"], "best score"),
        Question(["diff", "exp1", "exp2"], "list folders"),
        Question(["compare"], "list folders"),
        Question(["compare", "exp101..exp200"], "list folders"),
        Question(["compare", "--where", where], "list folders"),
        Question(["compare", "--limit", "0", "--where", where], "read files", MATCHING),
        Question(["tree"], "read files", EACH_LINE),
        Question(["logs", "exp1"], "list folders"),
        Question(["events"], "stat files", STAT_RUNS),
        Question(["watch", "--once"], "stat files", STAT_RUNS),
        Question(["check", "exp2"], "best score"),
        Question(["sota"], "best score"),
        Question(["leaderboard"], "newest submissions"),
        Question(["leaderboard", "--sort", "public_f1"], "scores"),
        Question(["leaderboard", "--sort", "val_f1"], "submissions"),
        Question(["leaderboard", "--limit", "0", "--json"], "submissions", READ_ALL),
        Question(["leaderboard", "cv-lb"], "submissions", EACH_RELATED),
        Question(["select"], "submissions", ALL_SCORES),
        Question(["audit"], "submissions", EACH_AUDITED),
        Question(["report"], "submissions", WITH_MLFLOW),
        Question(["board"], "submissions", SEARCHED),
        Question(["ledger", "head"], "best score"),
        Question(["ledger", "history", "1"], "best score"),
        Question(["ledger", "verify"], "chain", HASHED),
        Question(["ledger", "export", "out.csv"], "submissions", EXPORTED),
        Question(["ledger", "backup", "copy.db"], "chain", COPIED),
        Question(["doctor"], "list folders", EACH_CHECKED),
        Question([FRAME.format("runs(limit=1000)")], "list folders", STAT_RUNS, python=True),
        Question([FRAME.format("runs()")], "read files", READ_ALL, python=True),
        Question([FRAME.format("submissions(limit=1000)")], "submissions", NAMED, python=True),
        Question([FRAME.format("submissions()")], "submissions", READ_ALL, python=True),
    ]


@dataclass(frozen=True)
class Size:
    """Run folders, and rows of the ledger."""

    runs: int
    rows: int

    @property
    def title(self) -> str:
        return f"{self.runs:,} runs, a ledger of {self.rows:,} rows"


PLOTTED = {
    "scale-ledger": (["leaderboard"], ["check", "exp2"], ["ledger", "verify"]),
    "scale-runs": (["runs"], ["compare"], ["runs", "--sort", "val/f1"]),
}


@dataclass(frozen=True)
class Cost:
    """What a process took; `end` is "" where it ended well."""

    cpu_s: float
    wall_s: float
    memory_mb: float
    end: str = ""


def run_command(words: Sequence[str], root: Path) -> Cost:
    """Run to its end, or for LIMIT_S."""
    settings = {**os.environ, **QUIET}
    settings.pop("PYTHONDONTWRITEBYTECODE", None)  # installed programs have their bytecode
    with (root / "output.txt").open("wb") as output:
        started = time.perf_counter()
        child = subprocess.Popen(words, cwd=root, env=settings, stdout=output, stderr=output)
        pid, status, usage = wait_for(child.pid, started + LIMIT_S)
    wall = time.perf_counter() - started
    child.returncode = os.waitstatus_to_exitcode(status)
    end = "" if child.returncode in (0, 1) else f"exit code {child.returncode}"
    if pid == 0:
        end = f"ended after {LIMIT_S:.0f} s"
    return Cost(usage.ru_utime + usage.ru_stime, wall, usage.ru_maxrss / 1024, end)


def wait_for(pid: int, deadline: float) -> tuple[int, int, os.struct_rusage]:  # type: ignore[name-defined]
    """os.wait4 with a deadline; the first value is 0 where the process had to be killed."""
    while time.perf_counter() < deadline:
        ended, status, usage = os.wait4(pid, os.WNOHANG)
        if ended:
            return ended, status, usage
        time.sleep(0.005)
    os.kill(pid, 9)
    _, status, usage = os.wait4(pid, 0)
    return 0, status, usage


def ask_board(root: Path) -> Cost:
    """The first page of a board that has just been started, and what its process took for it."""
    port = find_port()
    words = [*TRACKER, "board", "--port", str(port)]
    started = time.perf_counter()
    with (root / "output.txt").open("wb") as output:
        child = subprocess.Popen(words, cwd=root, stdout=output, stderr=output)
        try:
            end = wait_for_page(f"http://127.0.0.1:{port}/", started + LIMIT_S)
            wall = time.perf_counter() - started
            fields = Path(f"/proc/{child.pid}/stat").read_text().rpartition(")")[2].split()
            status = Path(f"/proc/{child.pid}/status").read_text()
        finally:
            child.kill()
            child.wait()
    cpu = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    peak = int(status.partition("VmHWM:")[2].split()[0]) / 1024
    return Cost(cpu, wall, peak, end)


def wait_for_page(url: str, deadline: float) -> str:
    """Ask until the page comes; why it did not, empty where it did."""
    while time.perf_counter() < deadline:
        try:
            with urllib.request.urlopen(url, timeout=LIMIT_S) as answer:  # noqa: S310 our own address
                answer.read()
            return ""
        except ConnectionRefusedError:
            time.sleep(0.02)
        except OSError as error:
            if "refused" not in str(error):
                return str(error)
            time.sleep(0.02)
    return f"no page in {LIMIT_S:.0f} s"


def find_port() -> int:
    """A free port."""
    import socket

    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


TRACKER = [sys.executable, "-P", "-m", "tracker.cli"]


def list_folders(root: Path) -> Iterator[str]:
    with os.scandir(root / "runs") as entries:
        yield from (entry.path for entry in entries if entry.name.startswith("exp"))


def stat_files(root: Path) -> None:
    for path in list_folders(root):
        os.stat(f"{path}/run.json")  # noqa: PTH116 the bare call
        os.stat(f"{path}/config.toml")  # noqa: PTH116


def read_files(root: Path) -> None:
    for path in list_folders(root):
        for name in ("run.json", "config.toml"):
            with open(f"{path}/{name}", "rb") as file:  # noqa: PTH123 the bare call
                file.read()


def ask(sql: str) -> Callable[[Path], None]:
    def run(root: Path) -> None:
        with sqlite3.connect(root / "ledger.db") as ledger:
            ledger.execute(sql).fetchall()

    return run


LIMITS: dict[str, Callable[[Path], object]] = {
    "list folders": lambda root: len(list(list_folders(root))),
    "stat files": stat_files,
    "read files": read_files,
    "best score": ask(
        "SELECT submission, max(value) FROM scores WHERE split = 'public' AND metric = 'f1'"
    ),
    "newest submissions": ask("SELECT * FROM submissions ORDER BY number DESC LIMIT 50"),
    "scores": ask("SELECT submission, value FROM scores WHERE split = 'public'"),
    "submissions": ask("SELECT * FROM submissions"),
    "chain": ask("SELECT count(hash) FROM chain"),
}


def measure_limits(root: Path) -> dict[str, float]:
    """Seconds of each limit, the second of two times, in a process of its own: for its memory."""
    code = f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r}); import scale; "
    code += f"from pathlib import Path; scale.print_limits(Path({str(root)!r}))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    known: dict[str, float] = json.loads(done.stdout)
    return known


def print_limits(root: Path) -> None:
    seconds = {}
    for name, work in LIMITS.items():
        for _ in range(2):
            started = time.perf_counter()
            work(root)
            seconds[name] = time.perf_counter() - started
    print(json.dumps(seconds))


def settle(root: Path) -> None:
    """Let the files become old enough for the index of runs, and the ledger's rows be checked,
    which the first command after a change does."""
    time.sleep(SETTLED_S)
    subprocess.run([*TRACKER, "runs"], cwd=root, stdout=subprocess.DEVNULL, check=True)


def measure(root: Path, questions: Sequence[Question], size: Size, *, is_last: bool) -> None:
    """Print a line for each question; the rows of BENCHMARKS.md are of the last size."""
    limits = measure_limits(root)
    print(f"\n{size.title}, load {os.getloadavg()[0]:.1f}")
    print("| what | CPU s | wall s | MB | limit, s | |")
    print("|---|---|---|---|---|---|")
    for one in questions:
        cost = ask_board(root) if list(one.words) == ["board"] else run_command(line(one), root)
        verdict = cost.end or ("" if cost.wall_s < GOAL_S else one.reason or "**missed**")
        limit = f"{one.limit} {limits[one.limit]:.2f}"
        figures = f"{cost.cpu_s:.2f} | {cost.wall_s:.2f} | {cost.memory_mb:.0f}"
        print(f"| `{one.name}` | {figures} | {limit} | {verdict} |", flush=True)
        ended = not cost.end
        if is_last:
            ours = f"{cost.wall_s:.2f} s, {cost.memory_mb:.0f} MB" if ended else cost.end
            reached = ended and cost.wall_s < GOAL_S
            goal = f"{GOAL_S:g} s, or why not"
            what = f"`{one.name}`, {size.title}"
            record([Row(what, ours, "", f"{limits[one.limit]:.2f} s", goal, reached, one.reason)])
        for plot, count in (("scale-ledger", size.rows), ("scale-runs", size.runs)):
            if ended and one.words in PLOTTED[plot]:
                record([Point(plot, one.name, count, cost.wall_s)])


def line(one: Question) -> list[str]:
    if one.python:
        return [sys.executable, "-P", "-c", *one.words]
    return [*TRACKER, *one.words]


def build(root: Path, runs: int, rows: int) -> None:
    """Make the workspace in a process of its own."""
    words = [str(Path(__file__).with_name("scale_workspace.py")), str(root), str(runs), str(rows)]
    subprocess.run([sys.executable, *words], check=True)


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="1,000 runs and 10,000 rows at most")
    parser.add_argument("--runs", type=int)
    parser.add_argument("--rows", type=int)
    parser.add_argument("--only", default="", help="questions with this in their name")
    parser.add_argument(
        "--workspace",
        type=Path,
        help="one to measure, made where it is missing, and kept; SCALE_WORKSPACE is the large one",
    )
    arguments = parser.parse_args()
    runs = arguments.runs or (1_000 if arguments.quick else 100_000)
    rows = arguments.rows or (10_000 if arguments.quick else 1_000_000)
    large = None if arguments.quick else os.environ.get("SCALE_WORKSPACE")
    kept = arguments.workspace or (Path(large) if large else None)
    chosen = [one for one in list_questions() if arguments.only in one.name]
    plotted = [one for one in chosen if any(one.words in words for words in PLOTTED.values())]
    with tempfile.TemporaryDirectory() as folder:
        for size in list_smaller(Size(runs, rows)) if plotted else ():  # of the plot
            ask_all(Path(folder) / "small", plotted, size, is_last=False)
        root = kept or Path(folder) / "ws"
        ask_all(root, chosen, Size(runs, rows), is_last=True)
        if kept is None:
            shutil.rmtree(root)


def list_smaller(size: Size) -> list[Size]:
    """A tenth, a hundredth and so on of the runs and rows, the smallest with 100 rows or more."""
    smaller = []
    while size.rows >= 1000:
        size = Size(max(2, size.runs // 10), size.rows // 10)
        smaller.append(size)
    return smaller[::-1]


def ask_all(root: Path, questions: Sequence[Question], size: Size, *, is_last: bool) -> None:
    """Make the workspace unless it is there, and measure; one of the plot is removed."""
    if not root.exists():
        started = time.perf_counter()
        build(root, size.runs, size.rows)
        print(f"workspace made in {time.perf_counter() - started:.0f} s")
    settle(root)
    measure(root, questions, size, is_last=is_last)
    for name in WRITTEN:
        (root / name).unlink(missing_ok=True)
    if not is_last:
        shutil.rmtree(root)


if __name__ == "__main__":
    main()
