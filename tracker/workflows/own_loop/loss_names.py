"""What the loss of another library says about itself, so that losses of runs can be compared."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

# Options of torch's, fastai's and Keras's losses that change what its number means, by the names
# that the config has.
OPTIONS = {
    "reduction": "reduction",
    "label_smoothing": "smoothing",
    "eps": "eps",
    "gamma": "gamma",
    "alpha": "alpha",
    "delta": "delta",
    "from_logits": "from_logits",
}
WEIGHTS = {"weight": "class_weights", "pos_weight": "pos_weight"}  # tensors
USUAL = ("mean", "sum_over_batch_size", 0.0, False)  # of reduction, smoothing, from_logits


def describe_loss(loss: Any) -> dict[str, Any]:
    """The `loss` section of a config: name, options and class weights of a loss.

    `loss` is a name, a function or an object of torch, fastai or Keras. A partial is named by its
    function. Several losses (a list, or a mapping by output) are named together. Empty where there
    is none.
    """
    if loss is None or isinstance(loss, str):
        return {"name": loss} if loss else {}
    if isinstance(loss, Mapping):
        return describe_loss([f"{key}: {_name(each)}" for key, each in loss.items()])
    if isinstance(loss, list | tuple):
        return describe_loss(", ".join(_name(each) for each in loss))
    inner = getattr(loss, "func", loss)  # of a partial, of fastai's flattened losses
    options = {**_read_options(inner), **_read_options(loss)}
    return {"name": _name(loss), **options}


def _name(loss: Any) -> str:
    """The name of a function or class, never one with an address in memory."""
    if isinstance(loss, str):
        return loss
    loss = getattr(loss, "func", loss)
    own = getattr(loss, "name", None)  # of Keras's losses
    if isinstance(own, str) and own:
        return own
    return str(getattr(loss, "__name__", type(loss).__name__))


def _read_options(loss: Any) -> dict[str, Any]:
    """The options of a loss object, or those that a partial has bound."""
    if inspect.isroutine(loss):
        return {}
    values = {**_read_keras_options(loss), **getattr(loss, "keywords", {})}
    found: dict[str, Any] = {}
    for name, key in OPTIONS.items():
        value = values.get(name, getattr(loss, name, None))
        if isinstance(value, bool | int | float | str) and value not in USUAL:
            found[key] = value
    for name, key in WEIGHTS.items():
        value = values.get(name, getattr(loss, name, None))
        to_list = getattr(value, "tolist", None)
        if to_list is not None:
            found[key] = to_list()
    return found


def _read_keras_options(loss: Any) -> Mapping[str, Any]:
    """Keras's losses give their options only in a dictionary."""
    get_config = getattr(loss, "get_config", None)
    try:
        values = get_config() if get_config else {}
    except (NotImplementedError, TypeError, ValueError):
        return {}  # a loss of one's own that cannot be saved
    return values if isinstance(values, Mapping) else {}
