"""What a training loop of one's own hands over, checked: probabilities of images, figures, files."""

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
    from tracker.training.predict.probabilities import Predictions

TOLERANCE = 0.01  # of the sum of a row: what bfloat16 leaves of 1
PICTURES = (".png", ".jpg", ".jpeg")
SHOWN = 3
_PART = re.compile(
    r"[^\W_][\w .,()=+-]*|_[\w .,()=+-]+"
)  # of the name of a figure or file, between slashes


def check_evaluation(
    ids: Sequence[Any], probabilities: Any, classes: Sequence[str], *, known: Sequence[str] | None
) -> Predictions:
    """Probabilities [images, classes] of the evaluation set, in the order of `known`, the ids that
    must be there.

    Raises DataError for what no classifier says: another shape, not finite, rows that do not sum to
    1; and for ids that come twice, are missing or are not known.
    """
    from tracker.training.predict.probabilities import Predictions, select

    names = _check_ids(ids)
    kept = Predictions(
        names, _check_probabilities(names, probabilities, classes), classes=tuple(classes)
    )
    if known is None:
        return kept
    place = {name: row for row, name in enumerate(names)}
    if missing := [name for name in known if name not in place]:
        raise DataError(
            f"{_count(missing, 'evaluation image')} without probabilities",
            hint="predict every image",
        )
    if foreign := sorted(set(names).difference(known)):
        raise DataError(
            f"{_count(foreign, 'id')} not in the evaluation set", hint=f"ids are like {known[0]!r}"
        )
    return select(kept, [place[name] for name in known])


def check_validation(
    ids: Sequence[Any], labels: Any, probabilities: Any, classes: Sequence[str]
) -> Predictions:
    """Probabilities [images, classes] of validation images with their true labels, sorted by id.

    Raises DataError as `check_evaluation`, and for labels that are neither class numbers nor class
    names.
    """
    import numpy as np

    from tracker.training.predict.probabilities import Predictions, select

    names = _check_ids(ids)
    rows = _check_probabilities(names, probabilities, classes)
    numbers = _check_labels(labels, classes)
    if len(numbers) != len(names):
        raise DataError(
            f"{render_count(len(numbers), 'label')} for {render_count(len(names), 'id')}",
            hint="one true label for each id",
        )
    kept = Predictions(
        names, rows, classes=tuple(classes), labels=np.array(numbers, dtype=np.int64)
    )
    return select(kept, sorted(range(len(names)), key=names.__getitem__))


def _check_ids(ids: Sequence[Any]) -> tuple[str, ...]:
    if isinstance(ids, str | bytes):
        raise DataError(f"ids must be a list of texts, not {ids[:20]!r}")
    names = tuple(str(name) for name in ids)
    if not names:
        raise DataError("there are no ids", hint="one for each row of probabilities")
    if twice := [name for name, count in Counter(names).items() if count > 1]:
        raise DataError(f"{_count(twice, 'id')} given twice", hint="one row for each image")
    return names


def _check_probabilities(names: Sequence[str], probabilities: Any, classes: Sequence[str]) -> Any:
    """Probabilities as float32 [images, classes], each row divided by its sum."""
    import numpy as np

    table = to_array(probabilities)
    if table.ndim != 2 or table.dtype.kind not in "fiu":
        hint = (
            "of two classes with one sigmoid: np.stack([1 - p, p], axis=1)"
            if len(classes) == 2
            else ""
        )
        raise DataError(
            f"probabilities must be numbers [images, classes], not {_describe(table)}", hint=hint
        )
    if table.shape != (len(names), len(classes)):
        wanted = (
            f"{render_count(len(names), 'id')} and {render_count(len(classes), 'class', 'classes')}"
        )
        raise DataError(
            f"probabilities are {_describe(table)} for {wanted}",
            hint=(
                "a row for each id, a column for each class in the order of competition.classes in"
                " tracker.toml"
            ),
        )
    table = table.astype(np.float64)
    if not np.isfinite(table).all():
        row = int(np.flatnonzero(~np.isfinite(table).all(axis=1))[0])
        raise DataError(
            f"probabilities of {names[row]} are not finite: {table[row][:SHOWN].tolist()}"
        )
    sums = table.sum(axis=1)
    wrong = np.flatnonzero(
        (table < 0).any(axis=1) | (table > 1 + TOLERANCE).any(axis=1) | (abs(sums - 1) > TOLERANCE)
    )
    if len(wrong):
        row = int(wrong[0])
        raise DataError(
            f"{len(wrong)} rows are no probabilities, the first is of {names[row]}, its sum is"
            f" {sums[row]:.4g}",
            hint="logits become probabilities by torch.softmax(logits, dim=1)",
        )
    return (table / sums[:, None]).astype(np.float32)


def _check_labels(labels: Any, classes: Sequence[str]) -> list[int]:
    """Labels as class numbers; they may be numbers, or names of `classes`."""
    place = {name: number for number, name in enumerate(classes)}
    values = to_array(labels).tolist() if hasattr(labels, "shape") else list(labels)
    numbers: list[int] = []
    for value in values:
        if isinstance(value, str) and value in place:
            numbers.append(place[value])
        elif value in range(len(classes)):
            numbers.append(int(value))
        else:
            known = f"numbers from 0 to {len(classes) - 1}, or names as {classes[0]!r}"
            raise DataError(
                f"{value!r} is no label of this competition", hint=f"labels are {known}"
            )
    return numbers


def to_array(values: Any) -> Any:
    """A numpy array of what numpy, torch or a list has; DataError where there is none."""
    import numpy as np

    if hasattr(values, "detach"):  # a tensor of torch; numpy has no bfloat16
        values = values.detach().cpu()
        values = values.float() if values.is_floating_point() else values
    try:
        return np.asarray(values)
    except (ValueError, TypeError) as error:  # rows of different length
        raise DataError(f"this is no array: {first_line(error)}") from error


def _describe(table: Any) -> str:
    return f"{list(table.shape)} of {table.dtype}"


def _count(names: Sequence[str], word: str) -> str:
    rest = ", ..." if len(names) > SHOWN else ""
    return f"{render_count(len(names), word)} ({', '.join(names[:SHOWN])}{rest})"


def check_path(name: str) -> str:
    """The name of a figure or file, which may have folders in it; raises ConfigError for one that
    leads elsewhere."""
    if (
        not isinstance(name, str)
        or not all(_PART.fullmatch(part) for part in name.split("/"))
        or len(name) > 200
    ):
        raise ConfigError(
            f"{name!r} cannot be the name of a figure or file",
            hint='letters, digits and / . - _: "val/confusion"',
        )
    return name


def write_figure(figure: Any, target: Path) -> Path:
    """Write a figure of matplotlib, an image of PIL, an array or the file of a picture; returns
    what was written.

    `target` has no ending: it gets .png, or that of the file. Arrays are [height, width] or
    [height, width, channels],
    or as torch has them [channels, height, width], of bytes or of floats between 0 and 1. Raises
    DataError for anything else.
    """
    if isinstance(figure, str | Path):
        path = Path(figure)
        if path.suffix.lower() not in PICTURES:
            raise DataError(
                f"{path} is no PNG or JPEG", hint="run.log_file keeps files of any kind"
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
    if table.ndim == 3 and table.shape[0] in (1, 3, 4) and table.shape[2] not in (1, 3, 4):
        table = table.transpose(1, 2, 0)
    if table.ndim == 3 and table.shape[2] == 1:
        table = table[:, :, 0]
    fits = table.ndim == 2 or (table.ndim == 3 and table.shape[2] in (3, 4))
    if not fits or table.size == 0 or table.dtype.kind not in "fiub":
        raise DataError(
            f"a figure cannot be made of {type(values).__name__} {_describe(table)}",
            hint="give a matplotlib figure, the path of a PNG, or an array [height, width, 3]",
        )
    if table.dtype.kind in "fb":
        table = np.nan_to_num(table.astype(np.float64)).clip(0, 1) * 255
    return Image.fromarray(table.clip(0, 255).round().astype(np.uint8))


def copy_file(path: Path, target: Path) -> None:
    """Copy a file, whole or not at all; raises DataError when there is none, StorageError."""
    if not path.is_file():
        raise DataError(
            f"no such file: {path}", hint="a folder must be packed first" if path.is_dir() else ""
        )
    with translate_os_errors(target, "write"):
        target.parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(target) as temporary:
        shutil.copyfile(path, temporary)
