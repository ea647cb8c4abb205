"""What may stop a run or a submission tonight: versions, devices, disk, stores, runs, permissions.

Each check is a function of the workspace that yields findings; `CHECKS` lists them in order.
"""

from __future__ import annotations

import datetime as dt
import importlib.metadata
import os
import re
import shlex
import shutil
import stat
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

from tracker.core.errors import TrackerError
from tracker.core.hints import find_hint
from tracker.ledger.chain import verify_ledger
from tracker.ledger.connection import read_rows
from tracker.ledger.heads import load_memory
from tracker.ledger.read import find_run, list_sent
from tracker.ledger.records import SentFile, was_sent_here
from tracker.ledger.roles import owns_ledger
from tracker.ledger.shared_settings import explain_team_limit, read_shared
from tracker.ledger.team_runs import is_at_home, list_places, read_pulled
from tracker.mirror.targets import list_targets, read_state
from tracker.run_folder.environment import describe_versions
from tracker.run_folder.look import remember
from tracker.run_folder.read import list_runs, look_once
from tracker.run_folder.record import OPEN, RunRecord, run_folder
from tracker.run_folder.resumes import explain_resume
from tracker.run_folder.system_metrics import list_gpus
from tracker.setup.team import DOTENV, PASSWORDS
from tracker.training.errors import mask_secrets
from tracker.training.files import TEMPORARY, write_bytes
from tracker.training.libraries import is_installed
from tracker.training.machine import host_name
from tracker.training.numbers import render_count
from tracker.workspace.member_file import read_member
from tracker.workspace.predictions import load_answers
from tracker.workspace.secrets_file import SECRETS
from tracker.workspace.shared_part import render_shared
from tracker.workspace.tracker_toml import Workspace

State = Literal["ok", "warning", "problem"]

PACKAGE = "submission-ledger"
GIB = 2**30
# A training writes best.pth and last.pth, a large model's last.pth has 2.4 GiB.
LOW_DISK_GIB, LEAST_DISK_GIB = 10, 1
WRITTEN_BYTES = 16 * 2**20
# Below it, writing a checkpoint of 1 GiB takes longer than most epochs.
SLOW_MIB_PER_S = 20
# Loader processes pass batches through it; Docker gives 64 MiB, less than one batch of 384 pixels.
SHARED_MEMORY, LEAST_SHARED_MIB = Path("/dev/shm"), 512  # noqa: S108 (not a temporary file)
# Times of a submission are the local clock's; a judge's day may end while they differ.
CLOCK_S = 5.0


@dataclass(frozen=True)
class Finding:
    """What a check found, and what to do about it; `fix` is empty where nothing is to be done."""

    check: str
    state: State
    text: str
    fix: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Plain values for --json."""
        return asdict(self)


def examine_machine(workspace: Workspace | None) -> list[Finding]:
    """The findings of every check; without a workspace, those about the machine alone.

    An error of a check is a finding of it: nothing is raised but what is a bug.
    """
    findings: list[Finding] = []
    for name, check in MACHINE_CHECKS.items():
        findings += _run(name, check)
    if workspace is None:
        fix = "tracker init makes one here"
        return [*findings, Finding("workspace", "warning", "no workspace around this folder", fix)]
    with look_once(workspace.runs_dir):
        for name, look in WORKSPACE_CHECKS.items():
            findings += _run(name, partial(look, workspace))
    return findings


def _run(name: str, check: Callable[[], Iterator[Finding]]) -> list[Finding]:
    found: list[Finding] = []
    try:
        found.extend(check())
    except TrackerError as error:
        found.append(Finding(name, "problem", str(error), find_hint(error) or ""))
    except OSError as error:
        found.append(Finding(name, "problem", str(error), "see whether you may read and write it"))
    return found


def _check_versions() -> Iterator[Finding]:
    """The installed libraries, and those that are missing, too old or too new."""
    from packaging.requirements import Requirement

    yield Finding("versions", "ok", ", ".join(describe_versions()))
    try:
        texts = importlib.metadata.requires(PACKAGE) or []
    except importlib.metadata.PackageNotFoundError:
        return  # a checkout that was not installed
    extra = "train" if is_installed("torch") else ""
    if not extra:
        text = "no torch: a base install, which does all but training and image work"
        yield Finding("versions", "ok", text)
    for needed in map(Requirement, texts):
        if needed.marker is not None and not needed.marker.evaluate({"extra": extra}):
            continue
        try:
            version = importlib.metadata.version(needed.name)
        except importlib.metadata.PackageNotFoundError:
            text = f"{needed.name} is not installed"
        else:
            if needed.specifier.contains(version, prereleases=True):
                continue
            text = f"{needed.name} {version} is installed, {needed.specifier} is needed"
        name = f"{needed.name}{needed.specifier}"
        yield Finding("versions", "problem", text, f"pip install '{name}'")


def _check_devices() -> Iterator[Finding]:
    """The GPUs by NVIDIA's library, and whether torch can use them."""
    gpus = list_gpus()
    if not gpus:
        yield Finding("devices", "ok", f"no NVIDIA GPU, {os.cpu_count()} processor cores")
        return
    import pynvml

    names = [str(pynvml.nvmlDeviceGetName(gpu)) for gpu in gpus]
    yield Finding("devices", "ok", ", ".join(names))
    if not is_installed("torch"):
        return
    from tracker.training.run.gpu import explain_no_gpu

    if lack := explain_no_gpu():
        yield Finding("devices", "problem", *lack)


def _check_shared_memory() -> Iterator[Finding]:
    """The memory through which loader processes pass batches, on Linux."""
    if not SHARED_MEMORY.is_dir():
        return
    size = shutil.disk_usage(SHARED_MEMORY).total // 2**20
    if size < LEAST_SHARED_MIB:
        text = f"{SHARED_MEMORY} has {size} MiB: loader processes may die of it"
        fix = "docker run --shm-size=2g, or --set data.workers=0"
        yield Finding("shared memory", "warning", text, fix)
    else:
        yield Finding("shared memory", "ok", f"{size} MiB for loader processes")


def _check_disk(workspace: Workspace) -> Iterator[Finding]:
    """Free space, and how quickly a file reaches the disk."""
    free = shutil.disk_usage(workspace.root).free / GIB
    text = f"{free:.1f} GiB free"
    if free < LOW_DISK_GIB:
        state: State = "problem" if free < LEAST_DISK_GIB else "warning"
        yield Finding("disk", state, text, "tracker clean shows what can be freed")
    else:
        yield Finding("disk", "ok", text)
    workspace.state_dir.mkdir(exist_ok=True)
    path = workspace.state_dir / "doctor.tmp"
    began = time.monotonic()
    write_bytes(path, bytes(WRITTEN_BYTES))  # forced to the disk, as a checkpoint is
    seconds = time.monotonic() - began
    path.unlink()
    speed = WRITTEN_BYTES / 2**20 / max(seconds, 1e-6)
    text = f"writes {speed:.0f} MiB/s"
    if speed < SLOW_MIB_PER_S:
        fix = "keep the workspace on a local disk, not a network folder"
        yield Finding("disk", "warning", f"{text}: checkpoints take long", fix)
    else:
        yield Finding("disk", "ok", text)


def _check_data(workspace: Workspace) -> Iterator[Finding]:
    """Whether the folders of images can be read."""
    for key in ("train_dir", "eval_dir"):
        name = workspace.data.get(key)
        if not name:
            continue
        path = workspace.resolve(str(name))
        if path.is_dir() and os.access(path, os.R_OK | os.X_OK):
            yield Finding("data", "ok", f"data.{key} is {path}")
            continue
        what = "cannot be read" if path.exists() else "is not there"
        fix = f"correct data.{key} in tracker.toml, or tracker data check"
        yield Finding("data", "problem", f"data.{key}: {path} {what}", fix)


def _check_ledger(workspace: Workspace) -> Iterator[Finding]:
    """Whether the ledger opens and has this program's schema, and the clock of its server."""
    url = workspace.ledger_url
    found = verify_ledger(url, set_aside=load_memory(workspace).set_aside)
    rows = f"{mask_secrets(url)}: {render_count(found.rows, 'row')}"
    if found.problem:
        fix = "tracker ledger verify says more; tracker ledger restore brings a backup back"
        yield Finding("ledger", "problem", f"{rows}; {found.problem}", fix)
    else:
        yield Finding("ledger", "ok", rows)
    if url.startswith("sqlite:"):
        return
    (row,) = read_rows(url, "SELECT clock_timestamp() AT TIME ZONE 'UTC' AS now")
    yield _compare_clocks("ledger", row["now"].replace(tzinfo=dt.UTC))


def _compare_clocks(check: str, there: dt.datetime) -> Finding:
    """Whether a server's clock agrees with this machine's."""
    seconds = (dt.datetime.now(dt.UTC) - there).total_seconds()
    if abs(seconds) <= CLOCK_S:
        return Finding(check, "ok", "its clock agrees with this machine's")
    word = "ahead of" if seconds > 0 else "behind"
    text = f"this machine's clock is {abs(seconds):.0f} s {word} the server's"
    return Finding(check, "warning", text, "timedatectl set-ntp true sets it by the network")


def _check_dotenv(workspace: Workspace) -> Iterator[Finding]:
    """Whether the .env of a server, which may be of an earlier version, has what compose needs."""
    try:
        text = (workspace.root / DOTENV).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return
    found = set(re.findall(r"^(\w+)=.", text, re.MULTILINE))
    if PASSWORDS[0] not in found:
        return  # not one of a team's server
    if lacking := [name for name in PASSWORDS if name not in found]:
        fix = "add a line for each, as .env.example explains; openssl rand -hex 32 makes a value"
        yield Finding("server", "warning", f".env lacks {', '.join(lacking)}", fix)


def _check_team(workspace: Workspace) -> Iterator[Finding]:
    """Whether tracker.toml and the team's settings have gone apart."""
    if workspace.ledger_url.startswith("sqlite:"):
        return
    shared = read_shared(workspace.ledger_url)
    has = f"the team's settings have version {shared.version}"
    if looser := explain_team_limit(shared, workspace.competition):
        yield Finding("team", "warning", looser, "set daily_limit in tracker.toml to the team's")
    if member := read_member(workspace.root):
        if member.settings == shared.version:
            yield Finding("team", "ok", f"{has}, as tracker.toml here")
        else:
            text = f"{has}, tracker.toml here {member.settings}"
            yield Finding("team", "warning", text, "tracker join --update")
    elif shared.version and owns_ledger(workspace.ledger_url):
        if shared.text == render_shared(workspace):
            yield Finding("team", "ok", f"{has}, as tracker.toml here")
        else:
            text = f"{has}; tracker.toml has changed since"
            yield Finding("team", "warning", text, "tracker ledger share")


def _check_targets(workspace: Workspace) -> Iterator[Finding]:
    """Whether the trackers that get copies of runs answer, and which runs they lack."""
    for target in list_targets():
        if not target.remote:
            continue
        target.check_reachable(workspace)
        target.check_login(workspace)
        behind = _list_behind(workspace, target.state_name)
        if not behind:
            yield Finding(target.title, "ok", "answers, and has every point of every run")
            continue
        text = f"lacks points of {', '.join(behind[:5])}"
        more = len(behind) - 5
        text += f" and {more} more" if more > 0 else ""
        yield Finding(target.title, "warning", text, "tracker sync copies them")


def _list_behind(workspace: Workspace, state_name: str) -> list[str]:
    """The ended runs of which not every byte of metrics.jsonl was copied."""
    behind, files = [], _look_into_folders(workspace)
    for record in _list_runs(workspace):
        if record.archived_at or record.status in (*OPEN, "broken"):
            continue
        folder = f"{workspace.runs_dir}/{record.name}"  # a Path for each of very many takes long
        try:
            status = os.stat(f"{folder}/metrics.jsonl")  # noqa: PTH116
        except (FileNotFoundError, NotADirectoryError):
            continue
        if not stat.S_ISREG(status.st_mode):
            continue
        is_there = state_name in files.get(record.name, ())
        copied = read_state(Path(folder, state_name)).get("offset", 0) if is_there else 0
        if copied < status.st_size:
            behind.append(record.name)
    return behind


def _list_runs(workspace: Workspace) -> list[RunRecord]:
    """The records of all runs, which two checks ask for."""
    return remember(workspace.runs_dir, "records", lambda: list_runs(workspace.runs_dir))


def _check_runs(workspace: Workspace) -> Iterator[Finding]:
    """Runs that cannot be read or were killed, and files that killed processes left."""
    known = _list_runs(workspace)
    records = [record for record in known if not record.archived_at]
    running = [record.name for record in records if record.status == "running"]
    text = f"{render_count(len(known), 'run')}, {len(running)} of them running"
    if archived := len(known) - len(records):
        text += f", {archived} archived"
    yield Finding("runs", "ok", text)
    for record in records:
        if record.status == "broken":
            fix = f"look into runs/{record.name}, or move it out of runs/"
            yield Finding("runs", "problem", f"{record.name}: {record.error}", fix)
    killed = [record for record in records if record.status == "killed"]
    if killed:
        names = ", ".join(record.name for record in killed[:5])
        go_on = explain_resume(killed[0])
        archive = f"tracker archive {killed[0].name}"
        fix = f"{go_on}, or {archive}" if go_on else archive
        text = f"{render_count(len(killed), 'run')} ended without a word: {names}"
        yield Finding("runs", "warning", text, fix)
    left = list(_list_temporary(workspace))
    old = [path for path in left if time.time() - path.lstat().st_mtime > 24 * 3600]
    if old:
        size = sum(path.lstat().st_size for path in old) / GIB
        text = f"{render_count(len(old), 'temporary file')} of killed processes, {size:.1f} GiB"
        yield Finding("runs", "warning", text, f"rm {old[0]}" if len(old) == 1 else "remove them")


def _list_temporary(workspace: Workspace) -> Iterator[Path]:
    """The temporary files in run folders."""
    for folder, names in _look_into_folders(workspace).items():
        yield from (workspace.runs_dir / folder / name for name in names if _is_temporary(name))


def _look_into_folders(workspace: Workspace) -> Mapping[str, Sequence[str]]:
    """{run folder: its files of two kinds: temporary ones, and what was copied of the run}.

    Two checks ask for them, and to open a file that is not there takes longer than this look.
    """
    return remember(workspace.runs_dir, "files", lambda: _list_files(workspace.runs_dir))


def _list_files(runs_dir: Path) -> dict[str, list[str]]:
    states = {target.state_name for target in list_targets()}
    found = {}
    for folder in sorted(os.listdir(runs_dir)) if runs_dir.is_dir() else ():  # noqa: PTH208
        with suppress(OSError), os.scandir(f"{runs_dir}/{folder}") as entries:
            names = (entry.name for entry in entries)
            found[folder] = sorted(n for n in names if n in states or _is_temporary(n))
    return found


def _is_temporary(name: str) -> bool:
    return TEMPORARY.fullmatch(name) is not None


def _check_missing_runs(workspace: Workspace) -> Iterator[Finding]:
    """Runs of this workspace that the ledger knows, and whose folder is gone."""
    pulled, gone = read_pulled(workspace), []
    for uid, name in _list_known_runs(workspace).items():
        if uid not in pulled and not is_at_home(workspace, name, uid):
            gone.append(name)
    if gone:
        gone.sort(key=lambda name: (len(name), name))
        names = ", ".join(gone[:5]) + (f" and {len(gone) - 5} more" if len(gone) > 5 else "")
        text = f"{render_count(len(gone), 'run')} of the ledger without a folder: {names}"
        fix = f"bring runs/{gone[0]} back from a backup; its rows in the ledger stay as they are"
        yield Finding("runs", "warning", text, fix)


def _list_known_runs(workspace: Workspace) -> dict[str, str]:
    """{uid: name} of the runs that the ledger has of this workspace on this machine."""
    own_ledger, host, known = _has_own_ledger(workspace), host_name(), {}
    try:
        runs, rows = list_places(workspace), list_sent(workspace)
    except TrackerError:
        return {}  # the check of the ledger says so
    for run in runs:
        if run.host != host:
            continue
        if own_ledger or Path(run.path) == workspace.runs_dir / run.name:
            known[run.uid] = run.name
    for row in rows:  # a run is in the index of runs once it has ended
        if row.run and row.run_uid and row.host == host and own_ledger:
            known.setdefault(row.run_uid, row.run)
    return known


def _has_own_ledger(workspace: Workspace) -> bool:
    """Whether the ledger is a file in this workspace, so that its rows of this host are its own."""
    path = Path(workspace.ledger_url.removeprefix("sqlite:///"))
    return workspace.ledger_url.startswith("sqlite:///") and path.is_relative_to(workspace.root)


def _check_sent_files(workspace: Workspace) -> Iterator[Finding]:
    """Whether the kept copies of what was sent are what the ledger says was sent."""
    checked = 0
    try:
        rows = list_sent(workspace)
    except TrackerError:
        return  # the check of the ledger says so
    for row in rows:
        if not row.file or not row.predictions_fingerprint:
            continue  # imported
        path = workspace.root / row.file
        if not path.is_file():
            if was_sent_here(row):
                text = f"{row.file}, the copy of submission {row.number}, is not there"
                yield Finding("sent files", "warning", text, _restore(workspace, row))
            continue
        checked += 1
        if _fingerprint(workspace, path) != row.predictions_fingerprint:
            text = f"{row.file} is not what submission {row.number} sent: it was changed since"
            yield Finding("sent files", "problem", text, _restore(workspace, row))
    yield Finding("sent files", "ok", f"compared {render_count(checked, 'file')} with the ledger")


def _fingerprint(workspace: Workspace, path: Path) -> str:
    """The fingerprint of a prediction file; empty where it cannot be read as one."""
    try:
        return load_answers(path, workspace.competition).fingerprint
    except TrackerError:
        return ""


def _restore(workspace: Workspace, row: SentFile) -> str:
    """The command that writes a sent file again, where its run still has the same predictions."""
    run = find_run(workspace, row)
    if run is not None and row.file:
        own = run_folder(workspace.runs_dir, run) / "predictions.csv"
        if own.is_file() and _fingerprint(workspace, own) == row.predictions_fingerprint:
            source = workspace.relative(own)
            return f"cp {shlex.quote(source)} {shlex.quote(row.file)}  (in {workspace.root})"
    return "bring it back from a backup; the row in the ledger is whole and stays as it is"


def _check_permissions(workspace: Workspace) -> Iterator[Finding]:
    """What must be writable is, and what is secret is not readable by others."""
    ledger = workspace.ledger_url
    places = [workspace.root, workspace.runs_dir, workspace.state_dir]
    if ledger.startswith("sqlite:///"):
        places.append(Path(ledger.removeprefix("sqlite:///")))
    closed = [path for path in places if path.exists() and not os.access(path, os.W_OK)]
    for path in closed:
        yield Finding("permissions", "problem", f"{path} is read-only", f"chmod u+w {path}")
    own = [workspace.root / ".env", workspace.root / SECRETS]
    secrets = [*own, Path("~/.kaggle/kaggle.json").expanduser()]
    open_to_all = [path for path in secrets if _is_readable_by_others(path)]
    for path in open_to_all:
        text = f"{path} can be read by others on this machine"
        yield Finding("permissions", "warning", text, f"chmod 600 {path}")
    if not closed and not open_to_all:
        yield Finding("permissions", "ok", "the workspace is writable, secrets are private")


def _is_readable_by_others(path: Path) -> bool:
    if os.name == "nt":  # its modes say nothing about others
        return False
    try:
        return bool(path.stat().st_mode & (stat.S_IRGRP | stat.S_IROTH))
    except OSError:
        return False


MACHINE_CHECKS: Mapping[str, Callable[[], Iterator[Finding]]] = {
    "versions": _check_versions,
    "devices": _check_devices,
    "shared memory": _check_shared_memory,
}
WORKSPACE_CHECKS: Mapping[str, Callable[[Workspace], Iterator[Finding]]] = {
    "disk": _check_disk,
    "permissions": _check_permissions,
    "data": _check_data,
    "ledger": _check_ledger,
    "server": _check_dotenv,
    "team": _check_team,
    "copies": _check_targets,
    "runs": _check_runs,
    "missing runs": _check_missing_runs,
    "sent files": _check_sent_files,
}
