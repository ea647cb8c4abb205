"""Train a run again from its record alone, to see whether the result is the same."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tracker.core.errors import TrackerError
from tracker.core.settings import extend_environment
from tracker.run_folder.environment import run_git
from tracker.run_folder.read import load_run, load_trained_config
from tracker.run_folder.record import RunRecord, read_cpu_precision, read_threads, run_folder
from tracker.training.config_reading import config_from_dict
from tracker.training.errors import ConfigError
from tracker.training.libraries import TRAINING, require
from tracker.training.tables import parse_json
from tracker.workflows.precision import SETTING
from tracker.workflows.resolve import refuse_ensemble
from tracker.workspace.data import prepare_data
from tracker.workspace.tracker_toml import Workspace

GIT_LIMIT_S = 120  # enough for a checkout of a large repository
# Another version of these may change the result.
COMPARED_PACKAGES = (
    "torch",
    "torchvision",
    "timm",
    "numpy",
    "albumentations",
    "opencv-python-headless",
    "lightning-fabric",
)
# Where the code of a commit has the training workflow: now, and in earlier versions.
TRAIN_MODULES = ("workflows/train.py", "train.py")


@dataclass(frozen=True)
class Reproduction:
    """The comparison in sentences; `agrees` when the predictions are equal."""

    agrees: bool
    lines: tuple[str, ...]


def reproduce(workspace: Workspace, name: str, *, quiet: bool = False) -> Reproduction:
    """Train `name` again and compare; on its commit if the workspace is in a git repository.

    When the data have changed nothing is trained: the answer is no. Raises ConfigError for a run
    that is no finished training.
    """
    require(*TRAINING)
    record = load_run(workspace.runs_dir, name)
    refuse_ensemble(workspace, record, use="tracker run reproduce")
    if record.kind != "train" or record.status != "finished":
        raise ConfigError(
            f"{name} is not a finished training run", hint="tracker runs lists the runs"
        )
    config = config_from_dict(
        load_trained_config(workspace.runs_dir, record), source=f"{name}/config.toml"
    )
    _, data = prepare_data(workspace, config)
    if data.fingerprint != record.fingerprints.get("data"):
        reason = (
            f"{name} cannot be reproduced: images, labels or label fixes have changed since it was"
            " trained"
        )
        return Reproduction(False, (reason,))
    # Train with the code of the run, then compare.
    environment = _load_environment(workspace, name)
    with _check_out(workspace, environment) as (code, remark):
        again = _train(workspace, record, code, quiet=quiet)
    lines = [
        remark,
        *_compare_threads(record, again),
        *_compare_precision(record, again),
        *_compare_packages(workspace, environment, again),
    ]
    lines += _compare_fingerprints(record, again)
    # A run without an evaluation set has no predictions: then the weights decide.
    agrees = record.fingerprints.get("predictions") == again.fingerprints.get("predictions")
    if record.fingerprints.get("predictions") is None:
        agrees = record.fingerprints.get("weights") == again.fingerprints.get("weights")
    return Reproduction(agrees, tuple(line for line in lines if line))


def _compare_fingerprints(record: RunRecord, again: RunRecord) -> Iterator[str]:
    for part in ("predictions", "weights"):
        before, after = record.fingerprints.get(part), again.fingerprints.get(part)
        if before is None or after is None:
            yield f"{part}: missing, cannot be compared"
        elif before == after:
            yield f"{part}: equal to {record.name}'s"
        else:
            diff = f"tracker diff {record.name} {again.name}"
            yield f"{part}: different from {record.name}'s, see {diff}"


def _compare_packages(
    workspace: Workspace, before: Mapping[str, Any], again: RunRecord
) -> list[str]:
    after = _load_environment(workspace, again.name)
    old, new = dict(before.get("packages", {})), dict(after.get("packages", {}))
    changed = [
        f"{name} {old.get(name)} is now {new.get(name)}"
        for name in COMPARED_PACKAGES
        if old.get(name) != new.get(name)
    ]
    return [f"other packages: {', '.join(changed)}"] if changed else []


def _compare_threads(record: RunRecord, again: RunRecord) -> list[str]:
    before, after = read_threads(record), read_threads(again)
    if before is None or after is None or before == after:
        return []
    return [f"threads: {before} are now {after}, which may change the last bits of weights"]


def _compare_precision(record: RunRecord, again: RunRecord) -> list[str]:
    before, after = record.facts.get("precision"), again.facts.get("precision")
    if before is None or after is None or before == after:
        return []
    return [f"precision: {before} is now {after}, which changes weights and predictions"]


def _load_environment(workspace: Workspace, name: str) -> dict[str, Any]:
    try:
        text = (run_folder(workspace.runs_dir, name) / "env.json").read_text(encoding="utf-8")
        environment: dict[str, Any] = parse_json(text)
    except (OSError, ValueError):
        return {}
    return environment if _is_environment(environment) else {}


def _is_environment(values: Any) -> bool:
    """Whether the content of env.json still has the form that it was written in."""
    if not isinstance(values, dict) or not isinstance(values.get("packages", {}), dict):
        return False
    git = values.get("git") or {"commit": "", "diff": ""}
    return isinstance(git, dict) and all(
        isinstance(git.get(key), str) for key in ("commit", "diff")
    )


@contextmanager
def _check_out(
    workspace: Workspace, environment: Mapping[str, Any]
) -> Iterator[tuple[Path | None, str]]:
    """The run's code in a temporary work tree, and a remark; None for the installed program.

    It is the run's commit with its uncommitted changes, if that commit contains this program.
    """
    git = environment.get("git")
    if not git:
        yield (
            None,
            "code: the workspace was not in a git repository, the installed program was used",
        )
        return
    with tempfile.TemporaryDirectory(prefix="tracker-reproduce-") as folder:
        tree = Path(folder) / "code"
        if not _git(workspace.root, "worktree", "add", "--detach", str(tree), git["commit"]):
            remark = (
                f"code: commit {git['commit'][:10]} is no longer in this repository, the installed"
                " program was used"
            )
            yield None, remark
            return
        try:
            # Apply the uncommitted changes, then look whether the program is in there.
            changed = bool(git["diff"])
            if changed and not _git(tree, "apply", "--whitespace=nowarn", "-", given=git["diff"]):
                raise TrackerError(
                    f"the uncommitted changes cannot be applied to commit {git['commit'][:10]}"
                )
            code = f"commit {git['commit'][:10]}"
            if changed:
                code += " with its uncommitted changes"
            if any((tree / "tracker" / module).is_file() for module in TRAIN_MODULES):
                yield tree, f"code: {code}"
            else:
                yield None, f"code: {code} does not contain tracker, the installed program was used"
        finally:
            _git(workspace.root, "worktree", "remove", "--force", str(tree))


def _git(folder: Path, *arguments: str, given: str | None = None) -> bool:
    """Run a git command; returns whether it succeeded."""
    return run_git(folder, *arguments, given=given, limit_s=GIT_LIMIT_S) is not None


def _train(workspace: Workspace, record: RunRecord, code: Path | None, *, quiet: bool) -> RunRecord:
    """The run that `tracker run train --from NAME --force` makes with the code in `code`, with as
    many threads and in the same precision."""
    name = record.name
    arguments = [
        "run",
        "train",
        "--from",
        name,
        "--force",
        "--note",
        f"reproduces {name}",
        "--quiet",
    ]
    threads, precision = read_threads(record), read_cpu_precision(record)
    environment = extend_environment(
        {
            **({"PYTHONPATH": str(code)} if code else {}),
            # Every version of the program takes it from there.
            **({"OMP_NUM_THREADS": str(threads)} if threads else {}),
            # Versions that do not know it train in float32 anyway.
            **({SETTING: precision} if precision else {}),
        }
    )
    # Before version 0.2 the module was called cli.
    is_old = code is not None and not (code / "tracker" / "cli.py").exists()
    module = "cli" if is_old else "tracker.cli"
    completed = subprocess.run(
        # -P: do not import from the current folder
        [sys.executable, "-P", "-m", module, *arguments],
        cwd=workspace.root,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE if quiet else None,
        text=True,
        check=False,
    )
    if completed.returncode:
        message = (completed.stderr or "its message is above").strip()
        raise TrackerError(f"training {name} again failed", hint=message)
    return load_run(workspace.runs_dir, completed.stdout.split()[0])
