"""Names of metrics, parameters and tags: which may be logged, and how MLflow writes them."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping
from typing import Any

from tracker.training.errors import ConfigError

LIMIT_BYTES = 250  # of a name that is logged
MLFLOW_LIMIT = 250  # MLflow counts characters
EMPTY = "_empty_"

SYSTEM_PREFIX = "system/"  # metrics of the machine, not of the model
OF_BATCHES = ("train/batch_loss", "train/batch_lr")  # their steps are batches also where equal

# MLflow treats a name as a path; its \w has the letters and digits of every script
_REFUSED = r"[^\w.\- :/]|^/|(?<=/)/|/\Z|^\.(?=\.)|(?:^|(?<=/))\.(?=\.?(?:/|\Z))"
# MLflow's run page has a section for each prefix, in alphabetical order, and names without a prefix
# at its end. Metrics that people look at less lose their prefix there, so that the page begins with
# train/f1, train/loss, train/lr, val/f1, val/loss. A metric that is new in the registry keeps its
# prefix and needs no line here.
_LATER = {
    f"{part}/{what}": f"{part} {what}"
    for part in ("train", "val")
    for what in ("accuracy", "batch_loss", "batch_lr", "data_wait", "images_per_s")
}
_EARLIER = {there: name for name, there in _LATER.items()}
# a name that looks as if it were escaped already
_LIKE_OURS = r"_(?=x(?:[0-9A-F]{4,6}|sha[0-9a-f]{16})[_\0])"
_CONTROL_CATEGORIES = ("Cc", "Cs", "Zl", "Zp")  # controls, surrogates, line and paragraph ends


def check_name(name: Any) -> None:
    """Raise ConfigError for an invalid metric name; the message has the name and the reason."""
    if not isinstance(name, str):
        raise ConfigError(
            f"a metric's name must be a text, not {type(name).__name__} {name!r}",
            hint=f'"{name}" is a text',
        )
    if not name:
        raise ConfigError("a metric's name is empty", hint='give it one, as in {"loss": 0.5}')
    controls = [char for char in name if unicodedata.category(char) in _CONTROL_CATEGORIES]
    if controls:
        raise ConfigError(
            f"the metric name {name!r} has the control character {controls[0]!r}",
            hint="leave it out",
        )
    size = len(name.encode())
    if size > LIMIT_BYTES:
        raise ConfigError(
            f"the metric name {name[:40]!r}... has {size} bytes, {LIMIT_BYTES} are allowed",
            hint="shorten it",
        )


def check_values(values: Mapping[Any, Any]) -> dict[str, float]:
    """The values of a point as floats; raises ConfigError for a wrong name or a non-number."""
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
    """A step or an epoch as an int; raises ConfigError unless it is a 64-bit integer."""
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
    """The name in MLflow: unchanged if MLflow accepts it, else escaped; names stay different.

    A character that MLflow refuses becomes `_xHHHH_`, its code point in hex: `F1↑` is `F1_x2191_`.
    A name that is too long is cut and ends in a hash of the whole name.
    """
    if name in ("", EMPTY):
        return EMPTY if not name else f"_x005F_{EMPTY[1:]}"
    text = re.sub(_REFUSED, lambda match: f"\0{ord(match[0]):04X}\0", name)
    text = re.sub(_LIKE_OURS, "\x00005F\x00", text)
    text = re.sub(r"\0(\w+)\0", r"_x\1_", text)
    if len(text) <= MLFLOW_LIMIT:
        return text
    end = _hash_end(name)
    return text[: MLFLOW_LIMIT - len(end)] + end


def to_chart_name(name: str) -> str:
    """The name under which MLflow draws a curve, from the result of `to_mlflow_name`."""
    return name.replace(" ", "_x0020_") if name in _EARLIER else _LATER.get(name, name)


def from_chart_name(name: str) -> str:
    """The inverse of `to_chart_name`."""
    escaped = name.replace("_x0020_", " ")
    return escaped if escaped != name and escaped in _EARLIER else _EARLIER.get(name, name)


def sanitize_name(name: str) -> str:
    """A name from another program as one that may be logged: unchanged, or escaped as in MLflow."""
    try:
        check_name(name)
    except ConfigError:
        text = to_mlflow_name(name).encode()
        end = _hash_end(name)
        short = text[: LIMIT_BYTES - len(end)].decode(errors="ignore") + end
        return text.decode() if len(text) <= LIMIT_BYTES else short
    return name


def _hash_end(name: str) -> str:
    import hashlib  # 3 ms, and lists of runs need none of it

    return f"_xsha{hashlib.sha256(name.encode(errors='surrogatepass')).hexdigest()[:16]}_"
