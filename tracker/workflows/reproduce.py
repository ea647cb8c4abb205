"""Training a run again from its record alone, to see whether the same comes out."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tracker.core.settings import extend_environment
from tracker.runs.environment import run_git
from tracker.runs.read import load_run, load_trained_config
from tracker.runs.record import RunRecord
from tracker.training.config import config_from_dict
from tracker.training.errors import ConfigError, TrackerError
from tracker.training.libraries import TRAINING, require
from tracker.training.tables import parse_json
from tracker.workspace.competition import Workspace
from tracker.workspace.data import prepare_data

GIT_LIMIT_S = 120  # a checkout of a large repository
COMPARED_PACKAGES = (
    "torch",
    "torchvision",
    "timm",
    "numpy",
    "albumentations",
    "opencv-python-headless",
    "lightning-fabric",
)


@dataclass(frozen=True)
class Reproduction:
    """What came of it, in sentences; `agrees` when the predictions do."""

    agrees: bool
    lines: tuple[str, ...]


def reproduce(workspace: Workspace, name: str, *, quiet: bool = False) -> Reproduction:
    """Train `name` anew, on its commit where the workspace is in a git repository, and compare.

    Nothing is trained when the data have changed: the answer is no. Raises ConfigError for a run
    without weights.
    """
    require(*TRAINING)
    record = load_run(workspace.runs_dir, name)
    if record.kind != "train" or record.status != "finished":
        raise ConfigError(f"{name} is no finished training run", hint="tracker runs lists them")
    config = config_from_dict(
        load_trained_config(workspace.runs_dir, record), source=f"{name}/config.toml"
    )
    _, data = prepare_data(workspace, config)
    if data.fingerprint != record.fingerprints.get("data"):
        return Reproduction(
            False,
            (
                (
                    f"{name} cannot be reproduced: images, labels or label fixes have changed since"
                    " it was trained"
                ),
            ),
        )
    environment = _load_environment(workspace, name)
    with _check_out(workspace, environment) as (code, remark):
        again = _train(workspace, name, code, quiet=quiet)
    lines = [remark, *_compare_packages(workspace, environment, again), *_compare(record, again)]
    agrees = record.fingerprints.get("predictions") == again.fingerprints.get("predictions")
    if record.fingerprints.get("predictions") is None:
        agrees = record.fingerprints.get("weights") == again.fingerprints.get("weights")
    return Reproduction(agrees, tuple(line for line in lines if line))


def _compare(record: RunRecord, again: RunRecord) -> Iterator[str]:
    for part in ("predictions", "weights"):
        before, after = record.fingerprints.get(part), again.fingerprints.get(part)
        if before is None or after is None:
            yield f"{part}: not there to compare"
        elif before == after:
            yield f"{part}: equal to {record.name}'s"
        else:
            yield (
                f"{part}: differ from {record.name}'s, see tracker diff {record.name} {again.name}"
            )


def _compare_packages(
    workspace: Workspace, before: Mapping[str, Any], again: RunRecord
) -> list[str]:
    after = _load_environment(workspace, again.name)
    old, new = (dict(environment.get("packages", {})) for environment in (before, after))
    moved = [
        f"{name} {old.get(name)} is now {new.get(name)}"
        for name in COMPARED_PACKAGES
        if old.get(name) != new.get(name)
    ]
    return [f"other packages: {', '.join(moved)}"] if moved else []


def _load_environment(workspace: Workspace, name: str) -> dict[str, Any]:
    try:
        found: dict[str, Any] = parse_json(
            (workspace.runs_dir / name / "env.json").read_text(encoding="utf-8")
        )
    except (OSError, ValueError):
        return {}
    return found if _is_environment(found) else {}


def _is_environment(found: Any) -> bool:
    """Whether env.json still has the form that it was written in."""
    if not isinstance(found, dict) or not isinstance(found.get("packages", {}), dict):
        return False
    git = found.get("git") or {"commit": "", "diff": ""}
    return isinstance(git, dict) and all(
        isinstance(git.get(key), str) for key in ("commit", "diff")
    )


@contextmanager
def _check_out(
    workspace: Workspace, environment: Mapping[str, Any]
) -> Iterator[tuple[Path | None, str]]:
    """The run's commit with its uncommitted changes in a work tree of its own, where it has this
    program's code."""
    git = environment.get("git")
    if not git:
        yield None, "code: the workspace was in no git repository, the installed program was used"
        return
    with tempfile.TemporaryDirectory(prefix="tracker-reproduce-") as folder:
        tree = Path(folder) / "code"
        if not _git(workspace.root, "worktree", "add", "--detach", str(tree), git["commit"]):
            yield (
                None,
                (
                    f"code: commit {git['commit'][:10]} is not in this repository any more, the"
                    " present one was used"
                ),
            )
            return
        try:
            changed = bool(git["diff"])
            if changed and not _git(tree, "apply", "--whitespace=nowarn", "-", given=git["diff"]):
                raise TrackerError(
                    f"the uncommitted changes of commit {git['commit'][:10]} do not apply"
                )
            words = (
                f"commit {git['commit'][:10]}{' with its uncommitted changes' if changed else ''}"
            )
            if (tree / "tracker" / "train.py").is_file():
                yield tree, f"code: {words}"
            else:
                yield None, f"code: {words} has no tracker in it, the installed program was used"
        finally:
            _git(workspace.root, "worktree", "remove", "--force", str(tree))


def _git(folder: Path, *words: str, given: str | None = None) -> bool:
    """Whether a git command worked."""
    return run_git(folder, *words, given=given, limit_s=GIT_LIMIT_S) is not None


def _train(workspace: Workspace, name: str, code: Path | None, *, quiet: bool) -> RunRecord:
    """`tracker run train --from NAME --force` in a process of its own, with the code of `code`; the
    new run."""
    words = ["run", "train", "--from", name, "--force", "--note", f"reproduces {name}", "--quiet"]
    environment = extend_environment({"PYTHONPATH": str(code)} if code else {})
    module = (
        "cli" if code and not (code / "tracker" / "cli.py").exists() else "tracker.cli"
    )  # commits of before 0.2
    done = subprocess.run(
        [sys.executable, "-P", "-m", module, *words],  # -P: not the code in the current folder
        cwd=workspace.root,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE if quiet else None,
        text=True,
        check=False,
    )
    if done.returncode:
        raise TrackerError(
            f"training {name} again failed", hint=(done.stderr or "its message is above").strip()
        )
    return load_run(workspace.runs_dir, done.stdout.split()[0])
