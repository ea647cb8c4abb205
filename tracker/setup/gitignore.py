"""Keeps what a workspace makes out of the git repository around it; no git program is needed."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from tracker.training.files import translate_os_errors, write_bytes

GITIGNORE = ".gitignore"
HEADING = "# tracker: runs and their copies, submitted files, databases, passwords"
OUTPUTS = {  # a line of .gitignore: what it must keep out
    "runs/": ("runs/exp1/run.json", "runs/exp1/best.pth"),
    "mlartifacts/": ("mlartifacts/1/artifacts/best.pth",),
    ".tracker/": (".tracker/images.npz", ".tracker/mlflow.lock"),
    "submissions/": ("submissions/exp1-0123456789ab.csv",),
    ".env": (".env",),
    "*.db*": ("ledger.db", "ledger.db-wal", "ledger.db-shm", "mlflow.db", "mlflow.db-journal"),
}


def ignore_outputs(root: Path) -> list[str]:
    """Add to the workspace's .gitignore what git would not ignore yet; returns the lines added.

    None outside of a git work tree. What the file has stays as it is. Raises StorageError.
    """
    root = root.resolve()
    top = _find_work_tree(root)
    if top is None:
        return []
    path = (root / GITIGNORE).resolve()
    with translate_os_errors(path, "read"):
        lines = [
            line
            for line, names in OUTPUTS.items()
            if not all(_is_ignored(root, name, top) for name in names)
        ]
        before = path.read_bytes() if path.exists() else b""
    if lines:
        end = b"\r\n" if b"\r\n" in before else b"\n"
        gap = end if before and not before.endswith(b"\n") else b""
        write_bytes(
            path, before + gap + b"".join(line.encode() + end for line in (HEADING, *lines))
        )
    return lines


def _find_work_tree(folder: Path) -> Path | None:
    """The top of the git work tree of `folder`; in a worktree or a submodule .git is a file."""
    for directory in (folder, *folder.parents):
        git = directory / ".git"
        if git.is_file() or (git / "HEAD").is_file():
            return directory
    return None


def _is_ignored(root: Path, name: str, top: Path) -> bool:
    """Whether git ignores the file `name` in `root`, itself or with a folder around it."""
    parts = (root / name).relative_to(top).parts
    directories = [top.joinpath(*parts[:depth]) for depth in range(1, len(parts) + 1)]
    return any(
        _decide(directory, top, folder=directory != directories[-1]) for directory in directories
    )


def _decide(path: Path, top: Path, *, folder: bool) -> bool:
    """What the patterns say about this very path: the last match, the nearest file's last."""
    ignored = False
    above = [directory for directory in reversed(path.parents) if directory.is_relative_to(top)]
    for base, source in (
        (top, top / ".git" / "info" / "exclude"),
        *((directory, directory / GITIGNORE) for directory in above),
    ):
        relative = path.relative_to(base).as_posix()
        for pattern, keeps, only_folders in _read_patterns(source):
            if pattern.fullmatch(relative) and (folder or not only_folders):
                ignored = not keeps
    return ignored


def _read_patterns(source: Path) -> Iterator[tuple[re.Pattern[str], bool, bool]]:
    """The patterns of a file, whether each keeps what matches (`!`), and if for folders only."""
    if not source.is_file():
        return
    for line in source.read_text(encoding="utf-8", errors="surrogateescape").splitlines():
        text = re.sub(r"(?<!\\) +$", "", line)
        if not text or text.startswith("#"):
            continue
        keeps = text.startswith("!")
        text = text.removeprefix("!")
        only_folders = text.endswith("/")
        text = text.rstrip("/")
        anchored = "/" in text
        text = text.removeprefix("/")
        yield (
            re.compile(("" if anchored else "(?:.*/)?") + _to_expression(text)),
            keeps,
            only_folders,
        )


def _to_expression(text: str) -> str:
    """A pattern of git's as a regular expression; one with a broken [set] matches nothing."""
    words = {"**/": "(?:.*/)?", "/**": "/.*", "*": "[^/]*", "?": "[^/]"}
    result = []
    for token in re.findall(r"\*\*/|/\*\*(?=$)|\*+|\?|\[[!^]?\]?[^]]*\]|\\.|.", text, re.DOTALL):
        if token.startswith("[") and len(token) > 1:
            inner = re.sub(r"([\\\[&~|])", r"\\\1", token[1:-1])
            inner = "^" + inner[1:] if inner[0] in "!^" else inner
            result.append(f"(?!/)[{inner}]")
        elif token.startswith("\\") and len(token) == 2:
            result.append(re.escape(token[1]))
        else:
            result.append(words.get("*" if set(token) == {"*"} else token) or re.escape(token))
    expression = "".join(result)
    try:
        re.compile(expression)
    except re.error:
        return r"(?!)"
    return expression
