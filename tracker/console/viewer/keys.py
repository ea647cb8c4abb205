"""Keys from the bytes that a terminal sends for them."""

from __future__ import annotations

import codecs

# with cursor keys in both of their modes; Windows has two characters for each
SEQUENCES = {
    "\x1b[A": "up",
    "\x1bOA": "up",
    "\x1b[B": "down",
    "\x1bOB": "down",
    "\xe0H": "up",
    "\xe0P": "down",
    "\x00H": "up",
    "\x00P": "down",
}
SINGLE = {"\r": "enter", "\n": "enter", "\x7f": "backspace", "\b": "backspace"}


class KeyReader:
    """Turns what arrives into keys; a sequence or a letter may arrive in parts, as over SSH."""

    def __init__(self) -> None:
        self._decode = codecs.getincrementaldecoder("utf-8")("replace")
        self._rest = ""

    @property
    def is_waiting(self) -> bool:
        """Whether a sequence has begun: the next bytes say which key it is."""
        return bool(self._rest)

    def feed(self, data: bytes) -> list[str]:
        """The keys that are complete now."""
        self._rest += self._decode.decode(data)
        keys = []
        while self._rest:
            size = _find_end(self._rest)
            if not size:
                break
            text, self._rest = self._rest[:size], self._rest[size:]
            if len(text) == 1:
                keys.append(SINGLE.get(text, text))
            elif text in SEQUENCES:
                keys.append(SEQUENCES[text])
        return keys

    def flush(self) -> list[str]:
        """What was waited for did not come: an Escape alone is the key Escape."""
        rest, self._rest = self._rest, ""
        return ["escape"] if rest == "\x1b" else []


def _find_end(text: str) -> int:
    """How many characters the first key takes; 0 while it is not complete."""
    if not text.startswith("\x1b"):
        return 1
    if len(text) == 1:
        return 0
    if text[1] not in "[O":
        return 2  # Alt and a letter
    for place in range(2, len(text)):
        if "\x40" <= text[place] <= "\x7e":
            return place + 1
    return 0
