"""The environment of a run: packages, hardware, command, git commit and uncommitted changes."""

from __future__ import annotations

import hashlib
import importlib.metadata
import os
import platform
import re
import socket
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

from tracker.core.version import __version__
from tracker.training.machine import count_cores

GIT_TIMEOUT_S = 30  # a diff of a big repository on a slow network disk takes seconds
# every bug report needs their versions
REPORTED_LIBRARIES = ("torch", "timm", "lightning-fabric", "mlflow")
METADATA_FILES = (
    "METADATA",
    "PKG-INFO",
    "",
)  # of wheels, of older installations, and of oldest ones
NAME_OR_VERSION = re.compile(r"^(Name|Version):[ \t]*(.*?)[ \t\r]*$", re.MULTILINE)


def collect_environment(folder: Path) -> dict[str, Any]:
    """Everything about this process that may explain a result, as plain values."""
    git = _describe_git(folder)
    return {
        "code": code_fingerprint(git),
        "command": sys.argv,
        "cwd": str(Path.cwd()),
        "git": git,
        "hardware": _describe_hardware(),
        "packages": _list_packages(),
        "python": sys.version,
    }


def describe_versions() -> list[str]:
    """Lines for a bug report: the versions of this program, Python and `REPORTED_LIBRARIES`."""
    lines = [
        f"tracker {__version__}",
        f"Python {platform.python_version()} on {platform.system()} {platform.machine()}",
    ]
    for name in REPORTED_LIBRARIES:
        with suppress(importlib.metadata.PackageNotFoundError):
            lines.append(f"{name} {importlib.metadata.version(name)}")
    return lines


def collect_code(folder: Path) -> str:
    """The code fingerprint at this moment."""
    return code_fingerprint(_describe_git(folder))


def code_fingerprint(git: dict[str, Any] | None) -> str:
    """`git:<commit>`, plus a hash of the uncommitted diff if any; outside git the version."""
    if git is None:
        return f"tracker:{__version__}"
    if not git["diff"]:
        return f"git:{git['commit']}"
    return f"git:{git['commit']}+sha256:{hashlib.sha256(git['diff'].encode()).hexdigest()}"


def _describe_git(folder: Path) -> dict[str, Any] | None:
    commit = run_git(folder, "rev-parse", "HEAD")
    if commit is None:
        return None
    untracked = run_git(folder, "ls-files", "--others", "--exclude-standard", "--directory")
    return {
        "commit": commit.strip(),
        "branch": (run_git(folder, "rev-parse", "--abbrev-ref", "HEAD") or "").strip(),
        "diff": run_git(folder, "diff", "HEAD", "--no-color", "--no-ext-diff") or "",
        "untracked": (untracked or "").splitlines(),
    }


def run_git(
    folder: Path, *arguments: str, given: str | None = None, limit_s: float = GIT_TIMEOUT_S
) -> str | None:
    """The output of a git command; None when it fails, or when git or the repository is missing.

    `given` is what the command reads from stdin.
    """
    try:
        done = subprocess.run(
            ["git", "-C", str(folder), *arguments],
            input=given.encode() if given is not None else None,
            capture_output=True,
            check=True,
            timeout=limit_s,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.decode("utf-8", "replace")


def _describe_hardware() -> dict[str, Any]:
    return {
        "host": socket.gethostname(),
        "platform": platform.platform(),
        "cpu": _cpu_name(),
        "cores": count_cores(),
        "memory_mb": _count_memory() // 2**20,
    }


def _count_memory() -> int:
    """The machine's memory, in bytes."""
    if hasattr(os, "sysconf"):
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    import psutil  # Windows

    return int(psutil.virtual_memory().total)


def _cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return platform.processor()
    for line in lines:
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return ""


def _list_packages() -> dict[str, str]:
    """Names and versions; their READMEs are not parsed, which would take a third of a second."""
    versions = {}
    for distribution in importlib.metadata.distributions():
        text = next(filter(None, map(distribution.read_text, METADATA_FILES)), "")
        fields = dict(NAME_OR_VERSION.findall(text.partition("\n\n")[0]))
        if name := fields.get("Name"):  # a damaged installation has no name
            versions[name] = fields.get("Version", "")
    return dict(sorted(versions.items(), key=lambda item: item[0].lower()))
