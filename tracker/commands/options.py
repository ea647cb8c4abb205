"""Options that contradict each other are refused, with exit code 2, before anything is read or written."""

from __future__ import annotations

from collections.abc import Mapping


def refuse_together(given: Mapping[str, bool]) -> None:
    """Raise ConfigError when more than one of the options was given; each would undo the others."""
    from tracker.errors import ConfigError

    names = [name for name, is_given in given.items() if is_given]
    if len(names) > 1:
        listed = f"{', '.join(names[:-1])} and {names[-1]}"
        raise ConfigError(f"{listed} contradict each other", hint="give one of them")


def refuse_beside(option: str, given: Mapping[str, bool], *, why: str) -> None:
    """Raise ConfigError when one of the options was given, which `option`, that was given too, leaves nothing to do."""
    from tracker.errors import ConfigError

    names = [name for name, is_given in given.items() if is_given]
    if names:
        verb = "do" if len(names) > 1 else "does"
        raise ConfigError(f"{' and '.join(names)} {verb} nothing beside {option}: {why}", hint="leave one of them away")
