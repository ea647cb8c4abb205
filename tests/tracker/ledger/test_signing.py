"""A head signed with an SSH key proves the rows to whoever has the signer's public key."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
from typer.testing import CliRunner

from tests.conftest import NO_MLFLOW
from tests.support.ledger_rows import add, rewrite
from tests.support.servers import require_or_skip
from tracker.commands.table import app
from tracker.core.errors import ConfigError, LedgerError, TrackerError
from tracker.ledger.chain import read_head
from tracker.workspace.tracker_toml import Workspace


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home with an SSH key of mina's and one of eve's."""
    if shutil.which("ssh-keygen") is None:
        require_or_skip("ssh-keygen", "OpenSSH is not installed")
    folder = tmp_path / "home" / ".ssh"
    folder.mkdir(parents=True)
    for name in ("id_ed25519", "eve"):
        command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / name)]
        subprocess.run(command, check=True, timeout=60)
    monkeypatch.setenv("HOME", str(folder.parent))
    for name, value in NO_MLFLOW.items():
        monkeypatch.setenv(name, value)
    return folder


def run(workspace: Workspace, *words: str | Path) -> str:
    """What `tracker ledger` prints; raises the error that ends it."""
    env = {"TRACKER_WORKSPACE": str(workspace.root)}
    done = CliRunner().invoke(app, ["ledger", *map(str, words)], env=env)
    if isinstance(done.exception, TrackerError):
        raise done.exception
    assert done.exit_code == 0, done.output
    return done.stdout


def test_a_signed_head_proves_the_rows_that_its_signer_saw(
    workspace: Workspace, home: Path, tmp_path: Path
) -> None:
    add(workspace, "0", 0.5)
    assert run(workspace, "head").strip() == read_head(workspace.ledger_url)
    signed = tmp_path / "head.txt"
    signed.write_text(run(workspace, "head", "--sign"))
    with pytest.raises(ConfigError, match="no allowed_signers"):
        run(workspace, "verify", "--signed", signed)
    signers = workspace.root / "allowed_signers"
    signers.write_text(f"mina {(home / 'id_ed25519.pub').read_text()}")
    add(workspace, "1", 0.6)
    shown = run(workspace, "verify", "--signed", signed)
    assert "it has row 2, which mina (signed in head.txt) saw" in shown
    rewrite(workspace.ledger_url, "UPDATE scores SET value = 0.99 WHERE seq = 2")
    (workspace.state_dir / "heads").unlink()
    assert run(workspace, "verify")
    (workspace.state_dir / "heads").unlink()
    with pytest.raises(LedgerError, match=r"is not what mina \(signed in head.txt\) saw on 20"):
        run(workspace, "verify", "--signed", signed, "--signers", signers)


def test_a_signature_of_somebody_else_or_of_another_text_proves_nothing(
    workspace: Workspace, home: Path, tmp_path: Path
) -> None:
    add(workspace, "0")
    signers = tmp_path / "signers"
    signers.write_text(f"mina {(home / 'id_ed25519.pub').read_text()}")
    signed = tmp_path / "head.txt"
    verify = ("verify", "--signed", signed, "--signers", signers)
    text = run(workspace, "head", "--sign")
    for wrong in (
        text.replace("\n1:", "\n2:"),
        run(workspace, "head", "--sign", "--key", home / "eve"),
    ):
        signed.write_text(wrong)
        with pytest.raises(LedgerError, match="signed by nobody in"):
            run(workspace, *verify)
    for damaged in ("", "hello\n", text.partition("-----")[0]):
        signed.write_text(damaged)
        with pytest.raises(ConfigError, match="is not a signed head"):
            run(workspace, *verify)


def test_without_ssh_keygen_a_key_or_rows_it_says_what_is_missing(
    workspace: Workspace, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(LedgerError, match="the ledger is empty"):
        run(workspace, "head", "--sign")
    add(workspace, "0")
    with pytest.raises(ConfigError, match=r"no such file: .*nowhere \(--key\)"):
        run(workspace, "head", "--sign", "--key", home / "nowhere")
    with pytest.raises(ConfigError, match="--key is for --sign"):
        run(workspace, "head", "--key", home / "eve")
    with pytest.raises(ConfigError, match="--signers is for --signed"):
        run(workspace, "verify", "--signers", home / "eve")
    (home / "id_ed25519").unlink()
    with pytest.raises(ConfigError, match="no SSH key in"):
        run(workspace, "head", "--sign")
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(ConfigError, match="ssh-keygen is not installed"):
        run(workspace, "head", "--sign")
