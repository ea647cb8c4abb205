"""Copy a run folder and its rows of the ledger to every target of tracker/mirror/targets/.

Each target has its own state. Points are known by (metric, step), files by size and time, scores by
submission. Copying twice changes nothing, and what could not be copied is copied the next time.
When one target fails, the others still get their copy.
"""

from __future__ import annotations

import hashlib
import json
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from tracker.core.errors import TrackerError
from tracker.core.locks import FileLock
from tracker.mirror import MANIFEST, WEIGHTS
from tracker.mirror import targets as mirror_targets
from tracker.mirror.mirror import clear_secrets
from tracker.mirror.targets import (
    Point,
    RunInfo,
    Target,
    TargetError,
    TargetUnreachableError,
    list_targets,
)
from tracker.run_folder.points import read_new_points
from tracker.run_folder.read import load_config, load_run
from tracker.run_folder.record import OPEN, RunRecord
from tracker.training.files import TEMPORARY
from tracker.training.tables import flatten
from tracker.workspace.tracker_toml import Workspace

SAVE_S = 1.0  # how often the state is saved while many points are sent
RETRY_AFTER_S = (0.5, 1.0)  # short: somebody waits for the command
FILES = (
    WEIGHTS,
    "config.toml",
    "confusion.png",
    "curves.png",
    "decision.json",
    "env.json",
    "explain.png",
    "images.png",
    "metrics.jsonl",
    "predictions.csv",
    "probabilities.npz",
    "validation.npz",
)
# The record, and the size and hash of each file: a teammate's pull checks the files with it.
FOLDERS = ("figures", "files")  # all files in them; start_run and the callbacks write them


class Connections:
    """A workspace's connections to the targets, shared by several runs.

    With `remember_outages` an unreachable server is waited for once, not for each run.
    """

    def __init__(
        self, known: Mapping[str, Any] | None = None, *, remember_outages: bool = False
    ) -> None:
        self._known = dict(known or {})  # by the target's title
        self._away: dict[str, TargetUnreachableError] = {}
        self._remember_away = remember_outages

    def open(
        self, target: type[Target], workspace: Workspace, on_answer: Callable[[], None]
    ) -> Any:
        """The connection to a target, opened if needed.

        `on_answer` is called before its library is loaded, which takes seconds.

        Raises TargetError, TargetUnreachableError or MissingLibraryError.
        """
        if away := self._away.get(target.title):
            raise away
        if target.title not in self._known:
            try:
                target.check_reachable(workspace)
                on_answer()
                self._known[target.title] = target.connect(workspace)
            except TargetUnreachableError as error:
                self.drop(target, error)
                raise
        return self._known[target.title]

    def drop(self, target: type[Target], error: TrackerError) -> None:
        """Forget a failed connection: the next run asks the server again."""
        self._known.pop(target.title, None)
        if self._remember_away and isinstance(error, TargetUnreachableError):
            self._away[target.title] = error


class RunCopy:
    """The copies of one run in all targets. One process at a time works on them."""

    def __init__(
        self, workspace: Workspace, name: str, connections: Connections | None = None
    ) -> None:
        self._workspace = workspace
        self._name = name
        self._connections = connections or Connections()
        self._copies: dict[type[Target], _TargetCopy] = {}

    @property
    def is_open(self) -> bool:
        """Whether every target was reached."""
        return all(target in self._copies for target in list_targets())

    def push(self, on_answer: Callable[[], None] = lambda: None) -> RunRecord:
        """Copy what is new to each target; raises the first error after all targets were tried."""
        problems = self._open(on_answer)
        with FileLock(self._workspace.state_dir / f"{self._name}.copy.lock"):
            record = load_run(self._workspace.runs_dir, self._name)
            info = RunInfo(self._workspace, record)
            for target, copy in self._copies.items():
                try:
                    copy.push(info)
                except TrackerError as error:  # of the target, or of the ledger
                    self._connections.drop(target, error)
                    problems.append(error)
        if problems:
            raise problems[0]
        return record

    def verify(self, *, weights: bool) -> list[str]:
        """The files that are not whole in a target; call it after `push`.

        The next `push` copies them again. Raises TargetError.
        """
        damaged: list[str] = []
        with FileLock(self._workspace.state_dir / f"{self._name}.copy.lock"):
            for copy in self._copies.values():
                damaged += copy.verify(weights=weights)
        return damaged

    def check_reachable(self) -> None:
        """Ask quickly whether the targets answer; raises TargetUnreachableError."""
        for target in list_targets():
            try:
                target.check_reachable(self._workspace)
            except TargetUnreachableError as error:
                self._connections.drop(target, error)
                raise

    def _open(self, on_answer: Callable[[], None]) -> list[TrackerError]:
        """Connect to the targets that were not reached yet; returns the errors."""
        problems: list[TrackerError] = []
        for target in list_targets():
            if target in self._copies:
                continue
            try:
                connection = self._connections.open(target, self._workspace, on_answer)
            except TrackerError as error:
                problems.append(error)
                continue
            folder = self._workspace.runs_dir / self._name
            self._copies[target] = _TargetCopy(target(self._workspace, folder, connection))
        return problems


class _TargetCopy:
    """One run's copy in one target; its state file says how much was copied."""

    def __init__(self, target: Target) -> None:
        self._target = target
        self._state = target.state
        self._folder = target.folder
        self._saved_at = 0.0
        self._seen: set[tuple[str, int]] = set()  # (name, step) up to `_offset`
        self._offset = 0  # bytes of metrics.jsonl that this process has read

    def push(self, info: RunInfo) -> None:
        """Copy what is new; raises TargetError."""
        self._target.load_state()
        try:
            self._push(info)
        except BaseException as error:
            self._target.fail()
            self._seen, self._offset = set(), 0  # read everything again
            if self._state.values:
                self._state.save()  # some of the points may have arrived
            translated = self._target.translate(error)
            if translated is not None and not isinstance(error, TrackerError):
                raise translated from error
            raise

    def _push(self, info: RunInfo) -> None:
        if not self._target.start(info.record):
            return
        # This or another process started again from nothing, in another place.
        if self._state.get("offset", 0) < self._offset:
            self._seen, self._offset = set(), 0
        self._push_params(info.record)
        self._push_points()
        if info.record.status not in OPEN:
            self._push_files(info.record)
        # After a description was sent, a second run of the same uid may have come up.
        if self._push_description(info) and not self._target.is_settled(info.record):
            self._push(info)
        if info.record.archived_at:
            self._target.archive(info.record)

    def _push_params(self, record: RunRecord) -> None:
        stat = (self._folder / "config.toml").stat()
        version = [stat.st_size, stat.st_mtime_ns]
        # True is from an earlier version of this program.
        if self._state.get("params") not in (True, version):
            self._target.params(flatten(load_config(self._folder.parent, record.name)))
            self._state.save(params=version)

    def _push_points(self) -> None:
        """Copy new complete lines of metrics.jsonl; a step that is logged again is copied once."""
        points: list[Point] = []
        count = 0
        for offset, line in read_new_points(self._folder / "metrics.jsonl", self._offset):
            if point := self._read_point(offset, line):
                points.append(point)
                count += len(point.values)
            if count >= self._target.batch:
                self._send(points, offset)
                points, count = [], 0
            self._offset = offset
        if self._offset > self._state.get("offset", 0):
            self._send(points, self._offset)
            self._state.save()

    def _read_point(self, offset: int, line: Mapping[str, Any] | None) -> Point | None:
        """A line of metrics.jsonl without the values that were seen before.

        None when no value is left, or when the line is damaged.
        """
        if line is None or line["time"] < 0:
            self._target.log_once(
                "incomplete lines, and points with an impossible step or time, are not copied"
            )
            return None
        step, time_ms = int(line["step"]), round(line["time"] * 1000)
        values = {
            key: value for key, value in line["values"].items() if (key, step) not in self._seen
        }
        self._seen.update((key, step) for key in values)
        return Point(offset, time_ms, step, values) if values else None

    def _send(self, points: list[Point], offset: int) -> None:
        """Send the points up to byte `offset` of metrics.jsonl that the target does not have."""
        sent = self._state.get("offset", 0)
        if new := [point for point in points if point.offset > sent]:
            self._target.points(new)
        self._state.values["offset"] = max(offset, sent)
        if time.monotonic() - self._saved_at > SAVE_S:
            self._state.save()
            self._saved_at = time.monotonic()

    def verify(self, *, weights: bool) -> list[str]:
        """The files of an ended run that are not whole in the target; the next push copies them.

        The content is compared, too, that of best.pth only with `weights`. Raises TargetError.
        """
        self._target.load_state()
        here = {*list_files(self._folder), MANIFEST}  # what was freed here cannot be sent again
        known = self._state.get("hashes", {})
        hashes = {name: values[-1] for name, values in known.items() if name in here}
        try:
            damaged = self._target.find_changed(hashes, skip=() if weights else (WEIGHTS,))
        except Exception as error:
            translated = self._target.translate(error)
            if translated is None or isinstance(error, TrackerError):
                raise
            raise translated from error
        if damaged:
            copied = self._state.get("files", {})
            files = {name: value for name, value in copied.items() if name not in damaged}
            # the tags, too: one of them has the hash of the manifest
            self._state.save(files=files, whole=False, described=[])
        return damaged

    def _push_files(self, record: RunRecord) -> None:
        """Copy the files that are new or have changed; raises TargetError for incomplete ones."""
        done = dict(self._state.get("files", {}))
        hashes = dict(self._state.get("hashes", {}))
        sizes: dict[str, int] = {}
        for name in list_files(self._folder):
            stat = (self._folder / name).stat()
            signature = [stat.st_size, stat.st_mtime_ns]
            sizes[name] = stat.st_size
            if self._target.remote and hashes.get(name, ())[:2] != signature:
                hashes[name] = [*signature, hash_file(self._folder / name)]
            if done.get(name) != signature:
                self._target.artifact(self._folder / name, name)
                done[name] = signature
                self._state.save(files=done, whole=False)
        if self._target.remote:
            sizes[MANIFEST] = self._push_manifest(record, hashes, done)
        if self._state.get("whole", True):
            return
        incomplete = self._target.find_incomplete(sizes)
        complete = {name: signature for name, signature in done.items() if name not in incomplete}
        self._state.save(files=complete, whole=not incomplete)
        if incomplete:  # the next push copies them again
            names = ", ".join(incomplete)
            raise TargetError(f"{self._target.title}: {names} did not arrive completely")

    def _push_manifest(
        self, record: RunRecord, hashes: dict[str, list[Any]], done: dict[str, Any]
    ) -> int:
        """Copy the manifest after the files that it describes; its size in bytes.

        A file that was freed here (tracker clean) is in it: its copy stays.
        """
        files = {}
        for name, (size, _, sha) in hashes.items():
            if name != MANIFEST:
                files[name] = {"size": size, "sha256": sha}
        described = {"format": 1, "record": record.to_file(), "files": files}
        content = json.dumps(described, indent=1, sort_keys=True, ensure_ascii=False).encode()
        signature = [len(content), hashlib.sha256(content).hexdigest()]
        if done.get(MANIFEST) != signature:
            with tempfile.TemporaryDirectory() as folder:
                path = Path(folder, MANIFEST)
                path.write_bytes(content)
                self._target.artifact(path, MANIFEST)
            done[MANIFEST] = signature
            known = {**hashes, MANIFEST: [len(content), 0, signature[1]]}
            self._state.save(files=done, hashes=known, record=signature[1], whole=False)
        return len(content)

    def _push_description(self, info: RunInfo) -> bool:
        """Send status, description and scores; returns whether there was anything new."""
        summary: list[Any] = json.loads(json.dumps(self._target.summarize(info)))
        if self._state.get("described", []) == summary:
            return False
        self._target.describe(info, summary)
        self._state.save(described=summary)
        return True


def hash_file(path: Path) -> str:
    """SHA-256 of a file's bytes, as hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def list_files(folder: Path) -> list[str]:
    """The files of a run folder that are copied, as paths in it."""
    paths = [folder / name for name in FILES]
    for inner in FOLDERS:
        paths += sorted((folder / inner).rglob("*"))
    files = [path for path in paths if path.is_file() and not TEMPORARY.fullmatch(path.name)]
    return [path.relative_to(folder).as_posix() for path in files]


def sync_run(workspace: Workspace, name: str, connections: Connections | None = None) -> RunRecord:
    """Copy one run, with retries after a lost answer; raises TargetError, MissingLibraryError."""
    clear_secrets(workspace.runs_dir / name)
    copy = RunCopy(workspace, name, connections)
    for pause_s in RETRY_AFTER_S:
        started = time.monotonic()
        try:
            return copy.push()
        except TargetError:
            if not copy.is_open or time.monotonic() - started > mirror_targets.ANSWER_S:
                raise  # it is unreachable or hangs: another try would take as long
            time.sleep(pause_s)
            copy.check_reachable()
    return copy.push()


def repair_run(
    workspace: Workspace, name: str, connections: Connections | None = None, *, weights: bool
) -> list[str]:
    """Copy one run, and what of its copies is missing or damaged; the names of those files.

    Raises TargetError, MissingLibraryError.
    """
    sync_run(workspace, name, connections)
    copy = RunCopy(workspace, name, connections)
    copy.push()  # nothing is new, but it opens the targets
    damaged = copy.verify(weights=weights)
    if damaged:
        copy.push()
    return damaged
