"""The addresses with passwords of a team's workspace: .tracker/secrets.toml, for its user alone.

`tracker init --team` and `tracker join` write it. A setting in the environment wins over it.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from tracker.training.files import atomic_path, translate_os_errors
from tracker.training.tables import read_toml

SECRETS = ".tracker/secrets.toml"
KEYS = ("ledger_url", "mlflow_uri", "sweep_url")
HEAD = "# Addresses with passwords; tracker.toml has them without.\n"


def read_secrets(root: Path) -> dict[str, str]:
    """The addresses of the workspace at `root`, by KEYS; empty without the file.

    Raises ConfigError for a file that is no TOML.
    """
    path = root / SECRETS
    if not path.is_file():
        return {}
    table = read_toml(path)
    return {key: str(table[key]) for key in KEYS if table.get(key)}


def write_secrets(root: Path, values: Mapping[str, str]) -> None:
    """Write the addresses, readable by this user alone; raises StorageError."""
    import tomli_w

    path = root / SECRETS
    with translate_os_errors(path, "write"):
        path.parent.mkdir(exist_ok=True)
    write_private(path, HEAD + tomli_w.dumps({key: values[key] for key in KEYS if key in values}))


def write_private(path: Path, text: str) -> None:
    """Write a file that nobody else can read at any moment; raises StorageError."""
    with atomic_path(path) as temporary:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
        with open(os.open(temporary, flags, 0o600), "w", encoding="utf-8") as file:  # noqa: PTH123
            file.write(text)
