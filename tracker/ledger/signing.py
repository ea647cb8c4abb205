"""A head signed with the user's SSH key, as `ssh-keygen -Y` does it; no key is read here."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

from tracker.core.errors import ConfigError, LedgerError
from tracker.ledger.heads import SeenHead, name_ledger, parse_head
from tracker.training.files import check_regular, translate_os_errors
from tracker.workspace.tracker_toml import Workspace

NAMESPACE = "tracker-ledger"  # a signature for something else is none for a head
TITLE = "head of a tracker ledger"
BEGIN = "-----BEGIN SSH SIGNATURE-----"
KEYS = ("id_ed25519", "id_ecdsa", "id_rsa", "id_ed25519_sk", "id_ecdsa_sk")  # in ~/.ssh
SIGNERS = "allowed_signers"  # beside tracker.toml, or in ~/.ssh
SIGNERS_LINE = 'echo "mina $(cat ~/.ssh/id_ed25519.pub)" >> allowed_signers'


def sign_head(workspace: Workspace, head: SeenHead, key: Path | None) -> str:
    """The text that `read_signed` reads: ledger, head and signature.

    ssh-keygen asks for the passphrase of the key itself. Raises ConfigError without a key or
    ssh-keygen, LedgerError when it does not sign.
    """
    program = _find_program()
    if key is not None and not key.exists():
        raise ConfigError(f"no such file: {key} (--key)")
    message = f"{TITLE}\n{name_ledger(workspace)}\n{head.render()}\n"
    command = [program, "-Y", "sign", "-n", NAMESPACE, "-f", str(key or _find_key())]
    done = _run(command, message)
    if done.returncode != 0 or BEGIN not in done.stdout:
        raise LedgerError(
            f"ssh-keygen did not sign: {_last_line(done.stderr)}",
            hint="name another key with --key; one with a passphrase needs a terminal or an agent",
        )
    return message + done.stdout


def read_signed(workspace: Workspace, path: Path, signers: Path | None) -> SeenHead:
    """The head of a signed file; `where` says who signed it.

    `signers` is a file of allowed signers, a line `NAME KEY` each. Raises ConfigError when a file
    is missing or damaged, LedgerError when nobody of them signed this text.
    """
    program, allowed = _find_program(), signers or _find_signers(workspace)
    text = _read(path)
    _read(allowed)
    message, begin, rest = text.partition(BEGIN)
    lines = message.splitlines()
    head = parse_head(lines[2], "") if len(lines) == 3 and lines[0] == TITLE else None
    if head is None or not begin:
        raise ConfigError(
            f"{path} is not a signed head",
            hint="tracker ledger head --sign prints one; keep it in a file",
        )
    with tempfile.NamedTemporaryFile("w", suffix=".sig", encoding="utf-8") as signature:
        signature.write(begin + rest)
        signature.flush()
        by = ["-s", signature.name, "-f", str(allowed)]
        found = _run([program, "-Y", "find-principals", *by], "")
        name = found.stdout.strip().partition("\n")[0].strip()
        command = [program, "-Y", "verify", "-n", NAMESPACE, "-I", name, *by]
        done = _run(command, message) if name else found
    if done.returncode != 0 or not name:
        raise LedgerError(
            f"{path} is signed by nobody in {allowed}, or was changed after it was signed:"
            f" {_last_line(done.stderr or done.stdout)}",
            hint=f"ask for the signer's public key: {SIGNERS_LINE}",
        )
    return head._replace(where=f"{name} (signed in {path.name})")


def _find_program() -> str:
    program = shutil.which("ssh-keygen")
    if program is None:
        raise ConfigError(
            "ssh-keygen is not installed", hint="install OpenSSH 8.2 or newer (openssh-client)"
        )
    return program


def _find_key() -> Path:
    folder = Path("~/.ssh").expanduser()
    for name in KEYS:
        if (folder / name).is_file():
            return folder / name
    raise ConfigError(
        f"no SSH key in {folder}", hint="name one with --key FILE, or make one: ssh-keygen"
    )


def _find_signers(workspace: Workspace) -> Path:
    for folder in (workspace.root, Path("~/.ssh").expanduser()):
        if (folder / SIGNERS).is_file():
            return folder / SIGNERS
    raise ConfigError(
        f"no {SIGNERS} beside tracker.toml or in ~/.ssh: whose signature counts?",
        hint=f"--signers FILE, or {SIGNERS_LINE}",
    )


def _read(path: Path) -> str:
    with translate_os_errors(path, "read"):
        check_regular(path)
        try:
            return path.read_text(encoding="utf-8")
        except UnicodeDecodeError as error:
            raise ConfigError(f"{path} is not a text file: {error}") from error


def _run(command: Sequence[str], message: str) -> subprocess.CompletedProcess[str]:
    """ssh-keygen with the message on standard input; it asks for a passphrase on the terminal."""
    return subprocess.run(command, input=message, capture_output=True, text=True, check=False)


def _last_line(text: str) -> str:
    lines = text.strip().splitlines()
    return lines[-1] if lines else "no reason was given"
