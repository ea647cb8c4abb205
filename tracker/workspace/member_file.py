"""Who of the team works in this workspace: .tracker/member.toml, which `tracker join` writes."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path

from tracker.core.settings import get_author
from tracker.training.errors import ConfigError
from tracker.training.files import translate_os_errors, write_text
from tracker.training.tables import read_toml

MEMBER = ".tracker/member.toml"
HEAD = """\
# The member of the team who works here, and the version of its settings that tracker.toml has.
"""


@dataclass(frozen=True)
class Member:
    """A member's name, and the version of the shared settings in tracker.toml."""

    name: str
    settings: int


def read_member(root: Path) -> Member | None:
    """The member who joined with the workspace at `root`, None for one that joined no team.

    Raises ConfigError for a file that is damaged.
    """
    path = root / MEMBER
    if not path.is_file():
        return None
    table = read_toml(path)
    name, settings = table.get("name"), table.get("settings")
    if not isinstance(name, str) or not isinstance(settings, int):
        raise ConfigError(
            f"{path} has no name or no settings", hint='as in: name = "mina", settings = 1'
        )
    return Member(name, settings)


def write_member(root: Path, member: Member) -> None:
    """Write it; raises StorageError."""
    import tomli_w

    path = root / MEMBER
    with translate_os_errors(path, "write"):
        path.parent.mkdir(exist_ok=True)
    write_text(path, HEAD + tomli_w.dumps(asdict(member)))


def find_author(root: Path) -> str:
    """Who signs runs and submissions here: TRACKER_AUTHOR, the member, or the login name."""
    member = read_member(root)
    return get_author(member.name if member else "")
