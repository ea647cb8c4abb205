"""Checks of what a training loop of one's own passes in: probabilities, labels, figures, files."""

from __future__ import annotations

import re
import shutil
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tracker.training.errors import ConfigError, DataError, first_line
from tracker.training.files import atomic_path, translate_os_errors
from tracker.training.numbers import render_count

if TYPE_CHECKING:
    from tracker.training.formats.samples import Task
    from tracker.training.predict.probabilities import Predictions

SUM_TOLERANCE = 0.01  # bfloat16 probabilities may miss a sum of 1 by this much
PICTURES = (".png", ".jpg", ".jpeg")
NAME_LIMIT = 200  # characters in all
PART_LIMIT = 250  # bytes between slashes: a file system takes 255, with the suffix of a picture
SHOWN = 3  # ids or numbers in a message
# A part of the name of a figure or file, between slashes.
_PART = re.compile(r"[^\W_][\w .,()=+-]*|_[\w .,()=+-]+")


def check_evaluation(
    ids: Sequence[Any], probabilities: Any, task: Task, *, known: Sequence[str] | None
) -> Predictions:
    """Probabilities [images, classes] of the evaluation set, in the order of `known`, its ids.

    Where the target is a number, these are numbers [images] or [images, 1]. Raises DataError for
    probabilities of another shape, that are not finite or whose rows do not sum to 1 (where an
    image has several classes: that are not from 0 to 1); and for ids that are duplicate, missing or
    unknown.
    """
    from tracker.training.predict.probabilities import Predictions, select

    names = _check_ids(ids)
    kept = Predictions(
        names, _check_values(names, probabilities, task), classes=tuple(task.classes)
    )
    if known is None:
        return kept
    row_of = {name: row for row, name in enumerate(names)}
    if missing := [name for name in known if name not in row_of]:
        raise DataError(
            f"{_count(missing, 'evaluation image')} without probabilities",
            hint="predict every image",
        )
    if unknown := sorted(set(names).difference(known)):
        raise DataError(
            f"{_count(unknown, 'id')} not in the evaluation set", hint=f"ids are like {known[0]!r}"
        )
    return select(kept, [row_of[name] for name in known])


def check_validation(
    ids: Sequence[Any],
    labels: Any,
    probabilities: Any,
    task: Task,
    *,
    groups: Sequence[Any] | None = None,
    group_name: str = "",
) -> Predictions:
    """Probabilities [images, classes] of validation images with their true labels, sorted by id.

    Raises DataError like `check_evaluation`, and for labels that are neither class numbers nor
    class names; 0 and 1 [images, classes] or numbers [images] where the target is "labels" or
    "number". `groups` has the group of each image, called `group_name`; DataError without one for
    each id.
    """
    import numpy as np

    from tracker.training.predict.probabilities import Predictions, select

    names = _check_ids(ids)
    if held_out := [name for name in names if name in task.held_out]:
        raise DataError(
            f"{_count(held_out, 'image')} of the held-out ones among the validation images",
            hint="validate on other images: holdout/images.csv lists what is held out",
        )
    rows = _check_values(names, probabilities, task)
    if task.target in ("labels", "number"):
        numbers: Any = _check_shape(names, labels, task).astype(np.float32)
        if task.target == "labels" and _leave_unit(numbers):
            raise DataError(
                "labels must be from 0 to 1", hint="1 for each class that the image has, else 0"
            )
    else:
        numbers = np.array(_check_labels(labels, task.classes), dtype=np.int64)
    if len(numbers) != len(names):
        raise DataError(
            f"{render_count(len(numbers), 'label')} for {render_count(len(names), 'id')}",
            hint="pass one true label for each id",
        )
    kept = Predictions(
        names,
        rows,
        classes=tuple(task.classes),
        labels=numbers,
        groups=_check_groups(names, groups),
        group_name=group_name if groups is not None else "",
    )
    return select(kept, sorted(range(len(names)), key=names.__getitem__))


def _check_ids(ids: Sequence[Any]) -> tuple[str, ...]:
    if isinstance(ids, str | bytes):
        raise DataError(f"ids must be a list of texts, not {ids[:20]!r}")
    # of a tensor each id is a tensor of its own
    names = tuple(str(name.item() if hasattr(name, "detach") else name) for name in ids)
    if not names:
        raise DataError("there are no ids", hint="pass one id for each row of probabilities")
    if twice := [name for name, count in Counter(names).items() if count > 1]:
        raise DataError(f"{_count(twice, 'id')} given twice", hint="pass one row for each image")
    return names


def _check_groups(names: Sequence[str], groups: Sequence[Any] | None) -> tuple[str, ...]:
    """The group of each image as a text; an image without one (None, "") is a group of its own."""
    if groups is None:
        return ()
    values = to_array(groups).tolist() if hasattr(groups, "shape") else list(groups)
    if len(values) != len(names):
        raise DataError(
            f"{render_count(len(values), 'group')} for {render_count(len(names), 'id')}",
            hint="pass the group of each image, such as its patient",
        )
    return tuple(
        name if value is None or value == "" else str(value)
        for name, value in zip(names, values, strict=True)
    )


def _check_values(names: Sequence[str], values: Any, task: Task) -> Any:
    """What a model says of each image, as float32 [images, classes], or [images, 1] numbers."""
    import numpy as np

    if task.target not in ("labels", "number"):
        return _check_probabilities(names, values, task.classes)
    table = _check_shape(names, values, task)
    if task.target == "labels" and _leave_unit(table):
        raise DataError(
            "probabilities must be from 0 to 1", hint="torch.sigmoid(logits) makes them from logits"
        )
    return table.astype(np.float32)


def _leave_unit(table: Any) -> bool:
    """Whether a number is below 0 or above 1."""
    return bool(((table < 0) | (table > 1)).any())


def _check_shape(names: Sequence[str], values: Any, task: Task) -> Any:
    """Finite numbers [images, classes], or [images, 1] where the target is a number."""
    import numpy as np

    table = to_array(values)
    if task.target == "number" and table.ndim == 1:
        table = table[:, None]
    wanted = (len(names), 1 if task.target == "number" else len(task.classes))
    if table.shape != wanted or table.dtype.kind not in "fiub":
        raise DataError(f"expected numbers {list(wanted)}, not {_describe(table)}")
    if not np.isfinite(table.astype(np.float64)).all():
        raise DataError("numbers must be finite")
    return table


def _check_probabilities(names: Sequence[str], probabilities: Any, classes: Sequence[str]) -> Any:
    """Probabilities as float32 [images, classes], each row divided by its sum."""
    import numpy as np

    # The shape.
    table = to_array(probabilities)
    if table.ndim != 2 or table.dtype.kind not in "fiu":
        sigmoid = "for two classes with one sigmoid: np.stack([1 - p, p], axis=1)"
        hint = sigmoid if len(classes) == 2 else ""
        raise DataError(
            f"probabilities must be numbers [images, classes], not {_describe(table)}", hint=hint
        )
    if table.shape != (len(names), len(classes)):
        ids = render_count(len(names), "id")
        columns = render_count(len(classes), "class", "classes")
        raise DataError(
            f"probabilities are {_describe(table)} for {ids} and {columns}",
            hint=(
                "pass a row for each id and a column for each class, in the order of"
                " competition.classes in tracker.toml"
            ),
        )
    # The values.
    table = table.astype(np.float64)
    if not np.isfinite(table).all():
        row = int(np.flatnonzero(~np.isfinite(table).all(axis=1))[0])
        raise DataError(
            f"probabilities of {names[row]} are not finite: {table[row][:SHOWN].tolist()}"
        )
    sums = table.sum(axis=1)
    out_of_range = (table < 0).any(axis=1) | (table > 1 + SUM_TOLERANCE).any(axis=1)
    wrong = np.flatnonzero(out_of_range | (abs(sums - 1) > SUM_TOLERANCE))
    if len(wrong):
        row = int(wrong[0])
        raise DataError(
            f"{len(wrong)} rows are not probabilities; the first is {names[row]}, its sum is"
            f" {sums[row]:.4g}",
            hint="torch.softmax(logits, dim=1) makes probabilities from logits",
        )
    # A row of bfloat16 may miss 1 by a little.
    return (table / sums[:, None]).astype(np.float32)


def _check_labels(labels: Any, classes: Sequence[str]) -> list[int]:
    """Labels as class numbers; they may be numbers, or names of `classes`."""
    number_of = {name: number for number, name in enumerate(classes)}
    values = to_array(labels).tolist() if hasattr(labels, "shape") else list(labels)
    numbers: list[int] = []
    for value in values:
        if isinstance(value, str) and value in number_of:
            numbers.append(number_of[value])
        elif value in range(len(classes)):
            numbers.append(int(value))
        else:
            known = f"numbers from 0 to {len(classes) - 1}, or names such as {classes[0]!r}"
            raise DataError(
                f"{value!r} is not a label of this competition", hint=f"labels are {known}"
            )
    return numbers


def to_array(values: Any) -> Any:
    """A numpy array from a tensor, an array or a list; raises DataError when it cannot be one."""
    import numpy as np

    if hasattr(values, "detach"):  # a tensor of torch; numpy has no bfloat16
        values = values.detach().cpu()
        values = values.float() if values.is_floating_point() else values
    try:
        return np.asarray(values)
    except (ValueError, TypeError) as error:  # rows of different length
        raise DataError(f"this is not an array: {first_line(error)}") from error


def _describe(table: Any) -> str:
    return f"{list(table.shape)} of {table.dtype}"


def _count(names: Sequence[str], word: str) -> str:
    rest = ", ..." if len(names) > SHOWN else ""
    return f"{render_count(len(names), word)} ({', '.join(names[:SHOWN])}{rest})"


def check_path(name: str) -> str:
    """Return the name of a figure or file, which may have folders in it.

    Raises ConfigError for one that leads out of its folder.
    """
    fits = isinstance(name, str) and len(name) <= NAME_LIMIT
    parts = name.split("/") if fits else []
    if not fits or not all(_PART.fullmatch(part) and _is_short(part) for part in parts):
        raise ConfigError(
            f"{name!r} cannot be the name of a figure or file",
            hint='use letters, digits and / . - _, as in "val/confusion"',
        )
    return name


def _is_short(part: str) -> bool:
    return len(part.encode()) <= PART_LIMIT


def write_figure(figure: Any, target: Path) -> Path:
    """Write a matplotlib figure, a PIL image, an array or a picture file; returns the new file.

    `target` has no suffix: it gets .png, or that of the picture file. An array is [height, width],
    [height, width, channels] or [channels, height, width], bytes or floats between 0 and 1. Raises
    DataError for anything else.
    """
    if isinstance(figure, str | Path):
        path = Path(figure)
        if path.suffix.lower() not in PICTURES:
            raise DataError(
                f"{path} is not a PNG or JPEG", hint="run.log_file saves files of any kind"
            )
        target = target.with_name(target.name + path.suffix.lower())
        copy_file(path, target)
        return target
    target = target.with_name(target.name + ".png")
    with translate_os_errors(target, "write"):
        target.parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(target) as temporary:
        if hasattr(figure, "savefig"):
            figure.savefig(temporary, format="png")
        elif hasattr(figure, "save"):
            figure.save(temporary, format="PNG")
        else:
            _to_image(figure).save(temporary, format="PNG")
    return target


def _to_image(values: Any) -> Any:
    import numpy as np
    from PIL import Image

    table = to_array(values)
    # Channels first, as torch has them, become channels last.
    if table.ndim == 3 and table.shape[0] in (1, 3, 4) and table.shape[2] not in (1, 3, 4):
        table = table.transpose(1, 2, 0)
    if table.ndim == 3 and table.shape[2] == 1:
        table = table[:, :, 0]
    fits = table.ndim == 2 or (table.ndim == 3 and table.shape[2] in (3, 4))
    if not fits or table.size == 0 or table.dtype.kind not in "fiub":
        raise DataError(
            f"cannot make a figure from {type(values).__name__} {_describe(table)}",
            hint="pass a matplotlib figure, the path of a PNG, or an array [height, width, 3]",
        )
    if table.dtype.kind in "fb":
        table = np.nan_to_num(table.astype(np.float64)).clip(0, 1) * 255
    return Image.fromarray(table.clip(0, 255).round().astype(np.uint8))


def copy_file(path: Path, target: Path) -> None:
    """Copy a file, whole or not at all; raises DataError when it does not exist, StorageError."""
    if not path.is_file():
        raise DataError(
            f"no such file: {path}",
            hint="pack a folder into one file first" if path.is_dir() else "",
        )
    with translate_os_errors(target, "write"):
        target.parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(target) as temporary:
        shutil.copyfile(path, temporary)
