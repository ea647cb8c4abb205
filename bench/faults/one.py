"""One fault from its plan to its verdict."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from bench.faults.disk import find_lack, keeping
from bench.faults.invariants import Before, find_problems
from bench.faults.plan import Fault
from bench.faults.scenarios import TEMPLATES, Template, change_toml
from bench.faults.site import Ended, Site
from tests.conftest import ROOT
from tests.support.forks import Child, Forks
from tests.support.kaggle_server import kaggle_server
from tests.support.proxy import Proxy, proxy_before
from tests.support.servers import mlflow_with_sqlite

BLOCKED_S = 1.5  # the other writer waits for a lock of the one that waits for it
LOOKS = (("runs",), ("leaderboard",), ("show", "latest"), ("ledger", "verify"), ("doctor",))
POLL_S = 0.005
SLOW_S = 0.3  # an answer of a slow server


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What came of a fault: `where` it struck, empty if it did not; `problems` by kind."""

    seed: int
    scenario: str
    fault: str
    where: str
    code: int | None = None
    problems: Mapping[str, list[str]] = field(default_factory=dict)
    skipped: str = ""
    seconds: float = 0.0
    commit: str = ""

    @property
    def text(self) -> str:
        """holds, skipped or what does not hold, in one line."""
        if self.skipped:
            return f"skipped: {self.skipped}"
        if self.problems:
            parts = [f"{kind}: {'; '.join(texts)}" for kind, texts in self.problems.items()]
            return " | ".join(parts).replace("\n", " ")
        return "holds"


@cache
def read_commit() -> str:
    """The commit of this checkout, with a + where files have changed since; empty without git."""
    command = ["git", "describe", "--always", "--dirty=+", "--exclude", "*"]
    try:
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    except OSError:
        return ""
    return done.stdout.strip()


class Lab:
    """What the faults share: the process that forks, the templates, and MLflow's server."""

    def __init__(self, folder: Path, forks: Forks) -> None:
        self._folder = folder
        self._forks = forks
        self._stack = ExitStack()
        self._address = ""

    def __enter__(self) -> Lab:
        return self

    def __exit__(self, *exception: object) -> None:
        self._stack.close()

    def template(self, name: str) -> Path:
        """The folder of a template, made when it is first needed, always at the same place."""
        folder = self._folder / "templates" / name
        if not folder.exists():
            folder.parent.mkdir(exist_ok=True)
            template = TEMPLATES[name]
            site = self.site()
            self._set_server(site, template)
            site.clear()
            if template.base:
                site.copy_from(self.template(template.base))
            else:
                site.folder.mkdir()
            template.make(site)
            if site.problems:
                raise RuntimeError(f"the template {name}: {site.problems}")
            site.wait_for_processes()  # what a killed training has left in the background
            shutil.rmtree(site.notes, ignore_errors=True)
            site.copy_to(folder)
        return folder

    def site(self) -> Site:
        """The place where all faults come: paths in the files are true there."""
        return Site(self._folder / "site", self._forks)

    def _set_server(self, site: Site, template: Template) -> None:
        if template.server:
            site.env["TRACKER_MLFLOW_URI"] = self.mlflow

    @property
    def mlflow(self) -> str:
        """The address of a server that the faults share."""
        if not self._address:
            place = self._folder / "server"
            self._address = self._stack.enter_context(mlflow_with_sqlite(place))
        return self._address

    def strike(self, fault: Fault) -> Verdict:
        """Do the scenario with its fault, bring it to its end, and look."""
        about = {
            "seed": fault.seed,
            "scenario": fault.scenario.name,
            "fault": fault.title,
            "commit": read_commit(),
        }
        if fault.kind in ("full", "readonly") and (lack := find_lack()):
            return Verdict(**about, where="", skipped=lack)
        started = time.monotonic()
        site = self.site()
        site.copy_from(self.template(fault.scenario.template))
        self._set_server(site, TEMPLATES[fault.scenario.template])
        before = Before.of(site)
        with ExitStack() as stack:
            if fault.scenario.kaggle:
                site.kaggle = stack.enter_context(kaggle_server())
            ended = self._do(site, fault, stack)
            site.wait_for_processes()
            site.problems += find_end_problems(site, fault, ended)
            put_back(site)
            fault.scenario.recover(site)
            site.wait_for_processes()
            found = find_problems(site, before, self._find_store(site))
        if site.problems:
            found = {"commands": site.problems, **found}
        spent = round(time.monotonic() - started, 1)
        where = read_place(site)
        return Verdict(**about, where=where, code=ended.code, problems=found, seconds=spent)

    def _do(self, site: Site, fault: Fault, stack: ExitStack) -> Ended:
        """The command, struck; what comes from outside is done here while it waits."""
        words = fault.scenario.words
        plan = {"role": fault.role, "at": fault.at, "act": fault.kind, "amount": fault.amount}
        if fault.kind == "damage":
            damage(site, fault)
            ended = site.finish(words, site.start(words))
            for look in LOOKS:
                site.run(*look)
            return ended
        if fault.kind in ("full", "readonly"):
            with keeping(site.root, small=fault.kind == "full") as keeper:
                plan |= {"keeper": keeper.pid, "filler": keeper.filler}
                ended = site.finish(words, site.start(words, plan=plan))
                site.wait_for_processes()
            return ended
        if fault.kind in ("kill", "term", "clock"):
            return site.finish(words, site.start(words, plan=plan))
        proxy = self._put_proxy(site, fault, stack) if fault.kind == "server" else None
        child = site.start(words, plan={**plan, "act": "pause"})
        wait_for(site.notes / "struck", child)
        if proxy is None:
            return let_other_write(site, fault, child)
        proxy.set_mode(fault.mode)
        (site.notes / "go").touch()
        ended = site.finish(words, child)
        proxy.set_mode("")
        return ended

    def _find_store(self, site: Site) -> tuple[Path, Path]:
        """MLflow's database, and the folder of its artifacts."""
        if "TRACKER_MLFLOW_URI" in site.env:
            return self._folder / "server" / "m.db", self._folder / "server" / "artifacts"
        return Path(site.workspace.mlflow_uri.removeprefix("sqlite:///")), site.root

    def _put_proxy(self, site: Site, fault: Fault, stack: ExitStack) -> Proxy:
        """Have the workspace's MLflow be a server behind a proxy, with an experiment of its own."""
        proxy = stack.enter_context(proxy_before(self.mlflow, seed=fault.seed, delay_s=SLOW_S))
        site.env["TRACKER_MLFLOW_URI"] = proxy.address
        site.env["MLFLOW_HTTP_REQUEST_TIMEOUT"] = "2"
        site.env["TRACKER_MLFLOW_WAIT_S"] = "3"  # the copy goes on in the background
        if not TEMPLATES[fault.scenario.template].server:
            name = f"fault {fault.seed} {os.urandom(3).hex()}"
            change_toml(site.root, 'name = "ws"', f'name = "{name}"')
        return proxy


def wait_for(path: Path, child: Child) -> None:
    """Wait until a file is there, or the process has ended."""
    while not path.exists() and child.poll() is None:
        time.sleep(POLL_S)


def let_other_write(site: Site, fault: Fault, child: Child) -> Ended:
    """A second command while the first waits, to its end or until it waits for the first."""
    other = site.start(fault.scenario.other)
    deadline = time.monotonic() + BLOCKED_S
    while other.poll() is None and time.monotonic() < deadline:
        time.sleep(POLL_S)
    (site.notes / "go").touch()
    ended = site.finish(fault.scenario.words, child)
    site.finish(fault.scenario.other, other)
    return ended


# --- Damaged files ---


def list_damageable(root: Path) -> list[Path]:
    """What may be damaged: files that this program reads, and one photograph. MLflow's own files
    are another program's."""
    found = []
    for path in sorted(root.rglob("*")):
        name = path.relative_to(root).as_posix()
        photograph = name.endswith(".png") and not name.endswith(("cat00.png", "i0.png"))
        foreign = name.startswith(("mlflow", "mlruns", "mlartifacts")) or "/events.out" in name
        empty = not path.is_file() or path.is_symlink() or not path.stat().st_size
        if not (photograph or foreign or empty):
            found.append(path)
    return found


def damage(site: Site, fault: Fault) -> None:
    """Damage a file, and keep it as it was, and as it is now."""
    files = list_damageable(site.root)
    path = files[int(fault.place * len(files))]
    content = path.read_bytes()
    rng = random.Random(fault.seed)  # noqa: S311
    place = rng.randrange(len(content))
    flipped = (
        content[:place] + bytes([content[place] ^ 1 << rng.randrange(8)]) + content[place + 1 :]
    )
    changed = {"torn": content[:place], "emptied": b"", "flipped": flipped}[fault.mode]
    path.write_bytes(changed)
    site.notes.mkdir(exist_ok=True)
    name = path.relative_to(site.root).as_posix()
    (site.notes / "struck").write_text(f"{name}, byte {place} of {len(content)}")
    (site.notes / "damaged").write_bytes(changed)
    (site.notes / "whole").write_bytes(content)


def put_back(site: Site) -> None:
    """Restore a damaged file, as from a backup, unless the command has written a new one."""
    if not (site.notes / "damaged").is_file():
        return
    path = site.root / read_place(site).partition(", ")[0]
    if path.is_file() and path.read_bytes() == (site.notes / "damaged").read_bytes():
        path.write_bytes((site.notes / "whole").read_bytes())


def read_place(site: Site) -> str:
    """Where the fault came; empty if it did not."""
    struck = site.notes / "struck"
    return struck.read_text() if struck.is_file() else ""


# --- How the struck command ended ---


def find_end_problems(site: Site, fault: Fault, ended: Ended) -> Iterator[str]:
    """Exit codes and statuses that do not say what happened."""
    struck = bool(read_place(site))
    own = fault.role not in ("mirror", "loader")
    allowed: set[int] | None = None
    if not struck or fault.kind in ("clock", "writers"):
        allowed = None if fault.kind == "writers" else {0}
    elif fault.kind == "kill" and own:
        allowed = {-signal.SIGKILL} if fault.role != "trainer" or site_is_alone(fault) else None
    elif fault.kind == "term" and own:
        allowed = {130, 0, -signal.SIGTERM}
    if allowed is not None and ended.code not in allowed:
        yield f"the command ended with {ended.code}: {ended.err[-300:]}"
    for run in site.runs:
        if run.status == "running":
            yield f"{run.name} is running, but its process has ended"
    newest = site.runs[0] if site.runs else None
    if ended.words[:2] == ("run", "train") and newest is not None:
        finished = newest.status == "finished"
        if finished != (ended.code == 0) and ended.code > 0:
            yield f"{newest.name} is {newest.status}, the command ended with {ended.code}"


def site_is_alone(fault: Fault) -> bool:
    """Whether the struck process is the command itself, not a training that a queue started."""
    return fault.scenario.name != "queue"
