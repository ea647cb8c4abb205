"""Processes that torchrun starts: a script in two of them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.conftest import COMMAND_LIMIT_S

# -P: what lies beside the script is not imported by its name
TORCHRUN = (sys.executable, "-P", "-m", "torch.distributed.run")


def run_two_processes(script: Path, *, cwd: Path) -> int:
    """Run a script under torchrun as two processes of this machine; the exit code."""
    return subprocess.run(
        [*TORCHRUN, "--standalone", "--nproc-per-node", "2", str(script)],
        cwd=cwd,
        capture_output=True,
        timeout=COMMAND_LIMIT_S,
        check=False,
    ).returncode
