"""The root of the error tree, and the errors of training.

TrainingError                 exit 1   the root, TrackerError in tracker
  ConfigError                 exit 2   a wrong value in a config, a setting or an argument
    DataError                 exit 2   images, labels or ids that cannot be used
  WeightsError                exit 1   weights or a checkpoint that cannot be read or do not fit
  NonFiniteLossError          exit 1   the loss became NaN or infinite
  StorageError                exit 1   a file or folder that cannot be read or written
  MissingLibraryError         exit 2   a library is not installed; raised before anything is written

Errors of runs, of the ledger and of leaderboards are drawn in tracker/core/errors.py. Two more
never reach a user as they are: `NotAFileError` (an OSError) and `DrawsError` (of an augmentation),
translated where they are caught.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

# A login in an address, also with an @ in its password, and the other places where libraries repeat
# a secret: libpq's settings, a header, a signed address. PASSWORD is the word of our own hints.
_LOGIN = r"""(//[^\s/:@"'<>[]*):(?!PASSWORD@|\d+/)[^\s"'<>]*@"""  # compiled when it is used
_SETTING = (
    r"""(?i)\b((?:pg)?password=|x-amz-(?:signature|security-token|credential)="""
    r"""|authorization["']?[:=] *["']?(?:basic|bearer) )(?!PASSWORD\b)[^\s"'&,;<>]+"""
)


class TrainingError(Exception):
    """What went wrong in one line, and in `hint` what to do next.

    Where the caller knows better what to do, `hint` is empty: `reason` says in a few fixed words
    what kind of problem it is, and `facts` has the values that the caller's hint needs.
    """

    exit_code = 1

    def __init__(
        self, message: str, *, hint: str = "", reason: str = "", **facts: str | int
    ) -> None:
        super().__init__(mask_secrets(message))
        self.hint = hint = mask_secrets(hint)
        self.reason = reason
        self.facts = facts
        if hint:
            self.add_note(f"try: {hint}")  # in the traceback of a script


class ConfigError(TrainingError):
    """One or more wrong values; `problems` has one line for each."""

    exit_code = 2

    def __init__(
        self,
        message: str,
        *,
        problems: Sequence[str] = (),
        hint: str = "",
        reason: str = "",
        **facts: str | int,
    ) -> None:
        self.problems = tuple(mask_secrets(problem) for problem in problems)
        super().__init__("\n  ".join([message, *self.problems]), hint=hint, reason=reason, **facts)


class DataError(ConfigError):
    """A data set that cannot be used; `problems` names every offending file."""


class WeightsError(TrainingError):
    """Weights that cannot be loaded, or do not fit the model."""


class NonFiniteLossError(TrainingError):
    """The loss of a batch is NaN or infinite; raised before the optimizer step."""


class StorageError(TrainingError):
    """A file or a folder that cannot be read or written."""


class MissingLibraryError(TrainingError):
    """A library is not installed or cannot be loaded; `hint` says what to install."""

    exit_code = 2


def mask_secrets(text: str) -> str:
    """The text of a library without passwords: `//mina:***@gpu1`.

    Every message passes here, and so does what a library's error brings into a file.
    """
    if "//" in text:
        text = re.sub(_LOGIN, r"\1:***@", text)
    return re.sub(_SETTING, r"\1***", text) if "=" in text or ":" in text else text


def first_line(error: BaseException) -> str:
    """The first line of an error's message without passwords, or its class where it is empty."""
    return mask_secrets(str(error).strip() or type(error).__name__).splitlines()[0]


def find_nearest(word: str, known: Iterable[str], *, cutoff: float | None = None) -> str:
    """The known word that was most likely meant; empty when none is near.

    First the words that end with this one (`optim.lr` for `lr`), then those that are spelled
    alike, then those with a part that begins with it (`accuracy` for `acc`). `cutoff` is difflib's,
    from 0 to 1: by default 0.6, and 0.5 for a word so short that one wrong letter is that much. At
    0.5 `host` is near `note`.
    """
    import difflib  # 3 ms that only a wrong word needs

    words = list(known)
    parts = {each: re.split(r"[./_]", each) for each in words}
    whole = [each for each in words if parts[each][-1] == word]
    begun = [
        each for each in words if len(word) > 2 and any(p.startswith(word) for p in parts[each])
    ]
    usual = 0.5 if len(word) <= 3 else 0.6
    for among, least in ((whole, 0.0), (words, usual if cutoff is None else cutoff), (begun, 0.0)):
        if matches := difflib.get_close_matches(word, among, n=1, cutoff=least):
            return matches[0]
    return ""
