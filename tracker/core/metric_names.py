"""Names of metrics, parameters and tags: what may be logged, and how a name is written in MLflow."""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Mapping
from typing import Any

from tracker.training.errors import ConfigError

LIMIT_BYTES = 250  # of a name that is logged
MLFLOW_LIMIT = 250  # MLflow counts characters
EMPTY = "_empty_"

# MLflow takes a name for a path; its \w has the letters and digits of every script
_REFUSED = re.compile(r"[^\w.\- :/]|^/|(?<=/)/|/\Z|^\.(?=\.)|(?:^|(?<=/))\.(?=\.?(?:/|\Z))")
# MLflow's run page has a section for each prefix, in alphabetical order, and what has none at its
# end. What is looked at less loses its prefix there, so that the page begins with train/f1,
# train/loss, train/lr, val/f1, val/loss. A metric that is new in the registry keeps its prefix:
# nothing to do here.
_LATER = {
    f"{part}/{what}": f"{part} {what}"
    for part in ("train", "val")
    for what in ("accuracy", "batch_loss", "batch_lr", "data_wait", "images_per_s")
}
_EARLIER = {there: name for name, there in _LATER.items()}
_LIKE_OURS = re.compile(
    r"_(?=x(?:[0-9A-F]{4,6}|sha[0-9a-f]{16})[_\0])"
)  # looks as if it were escaped


def check_name(name: Any) -> None:
    """Raise ConfigError for what cannot be the name of a metric: the message says which name and
    why."""
    if not isinstance(name, str):
        raise ConfigError(
            f"a metric's name must be a text, not {type(name).__name__} {name!r}",
            hint=f'"{name}" is a text',
        )
    if not name:
        raise ConfigError("a metric's name is empty", hint='give it one, as in {"loss": 0.5}')
    if bad := next(
        (sign for sign in name if unicodedata.category(sign) in ("Cc", "Cs", "Zl", "Zp")), ""
    ):
        raise ConfigError(
            f"the metric name {name!r} has the control character {bad!r}", hint="leave it out"
        )
    if (size := len(name.encode())) > LIMIT_BYTES:
        raise ConfigError(
            f"the metric name {name[:40]!r}... has {size} bytes, {LIMIT_BYTES} are allowed",
            hint="shorten it",
        )


def check_values(values: Mapping[Any, Any]) -> dict[str, float]:
    """The values of a point as floats; raises ConfigError for a wrong name, or a value that is no
    number."""
    checked: dict[str, float] = {}
    for name, value in values.items():
        check_name(name)
        try:
            if isinstance(value, str | bytes):
                raise TypeError
            checked[name] = float(value)
        except (TypeError, ValueError, OverflowError, RuntimeError) as error:
            shown = repr(value)[:60]
            raise ConfigError(
                f"{name} must be a number, not {type(value).__name__} {shown}"
            ) from error
    return checked


def check_integer(what: str, number: Any) -> int:
    """A step or an epoch as an int; raises ConfigError for what is no whole number of 64 bits."""
    try:
        whole = int(number)
        if whole == number and -(2**63) <= whole < 2**63 and not isinstance(number, str | bytes):
            return whole
    except (TypeError, ValueError, OverflowError, RuntimeError):
        pass
    raise ConfigError(
        f"{what} must be a whole number, not {type(number).__name__} {repr(number)[:60]}"
    )


def to_mlflow_name(name: str) -> str:
    """How a name is written in MLflow: as it is where MLflow takes it, else so that different names
    stay different.

    A character that MLflow refuses becomes `_xHHHH_`, its number in hex: `F1↑` is `F1_x2191_`. A
    name that is too long ends in a hash of the whole.
    """
    if name in ("", EMPTY):
        return EMPTY if not name else f"_x005F_{EMPTY[1:]}"
    text = _REFUSED.sub(lambda found: f"\0{ord(found[0]):04X}\0", name)
    text = _LIKE_OURS.sub("\x00005F\x00", text)
    text = re.sub(r"\0(\w+)\0", r"_x\1_", text)
    if len(text) <= MLFLOW_LIMIT:
        return text
    end = _hash_end(name)
    return text[: MLFLOW_LIMIT - len(end)] + end


def to_chart_name(name: str) -> str:
    """The name, as `to_mlflow_name` gives it, that decides where MLflow's run page draws the curve."""
    return name.replace(" ", "_x0020_") if name in _EARLIER else _LATER.get(name, name)


def from_chart_name(name: str) -> str:
    """The name that `to_chart_name` was given."""
    escaped = name.replace("_x0020_", " ")
    return escaped if escaped != name and escaped in _EARLIER else _EARLIER.get(name, name)


def sanitize_name(name: str) -> str:
    """A name from elsewhere as one that may be logged: as it is, or written as in MLflow."""
    try:
        check_name(name)
    except ConfigError:
        text = to_mlflow_name(name).encode()
        end = _hash_end(name)
        short = text[: LIMIT_BYTES - len(end)].decode(errors="ignore") + end
        return text.decode() if len(text) <= LIMIT_BYTES else short
    return name


def _hash_end(name: str) -> str:
    return f"_xsha{hashlib.sha256(name.encode(errors='surrogatepass')).hexdigest()[:16]}_"
