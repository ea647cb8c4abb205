"""What lies where in a competition folder, with a sentence why for each finding."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from tracker.setup.folder.answers import Answer, Evidence, decide_answer
from tracker.setup.folder.class_names import find_class_folders, find_class_names
from tracker.setup.folder.columns import (
    Ids,
    find_groups,
    find_ids,
    find_label_table,
    find_sample,
    match_label_columns,
    read_names,
    split_sample,
)
from tracker.setup.folder.prediction import Prediction, find_prediction
from tracker.setup.folder.reading import Given, Reading, find_given_folder, has_image
from tracker.setup.folder.rows import check_rows, note_unlabeled
from tracker.setup.folder.tables import Table, choose_folder, find_ending, list_tables, load_table
from tracker.setup.unpack import is_archive
from tracker.training.errors import DataError
from tracker.training.formats.image_index import ANY, ImageIndex

FEWEST_CLASSES = 2


@dataclass(frozen=True, kw_only=True)
class CompetitionFolder:
    """Where everything lies (paths absolute) and what it means; None and "" for what is not there.

    `train_images` and `eval_images` are those that were found, `labeled` the rows of the label
    table, `ids` those to predict. `groups` are columns that may be data.group. `why` has a sentence
    by key of tracker.toml, `problems` a line for each kind of row that cannot be used, with line
    numbers, `notes` tell of other readings.
    """

    folder: Path
    data_format: str
    train_dir: Path
    eval_dir: Path | None = None
    labels: Path | None = None
    sample: Path | None = None
    eval_table: Path | None = None
    id_column: str = "id"
    label_column: str = "label"
    label_id: str = ""
    name_column: str = ""
    ending: str = ""
    image_table: Path | None = None
    image_id: str = ""
    label_columns: tuple[str, ...] = ()
    group: str = ""
    groups: tuple[str, ...] = ()
    answer: Answer
    labeled: int = 0
    train_images: int = 0
    ids: int = 0
    eval_images: int = 0
    why: Mapping[str, str] = field(default_factory=dict)
    problems: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


def read_competition_folder(folder: Path, given: Given | None = None) -> CompetitionFolder:
    """Read a folder as it was downloaded; raises DataError where no reading fits.

    The reading that explains all rows wins; `notes` say which other was possible.
    """
    folder, given = folder.expanduser().resolve(), given or Given()
    if not folder.is_dir():
        raise DataError(f"no such folder: {folder} (--data)")
    images = ImageIndex.read(folder)
    reading = Reading(folder, given, images, [])
    if not images.by_stem:
        raise _explain_no_images(folder)
    for path in list_tables(folder):
        try:
            reading.tables.append(load_table(path))
        except DataError as error:
            reading.notes.append(f"not read: {error}")
    sample = find_sample(reading)
    labels = find_label_table(reading, sample)
    if labels is None:
        found = _read_without_labels(reading, sample)
    else:
        found = _read_with_labels(reading, sample, labels)
    _refuse_one_class(reading, found)
    return found


def _refuse_one_class(reading: Reading, found: CompetitionFolder) -> None:
    """Raise DataError where every image has the same label, as in a table to be filled in."""
    classes = found.answer.classes
    if len(classes) != 1 or reading.given.classes:
        return
    place = reading.show(found.labels or found.train_dir)
    column = f" (column {', '.join(found.label_columns)})" if found.label_columns else ""
    raise DataError(
        f"{reading.folder} is no competition to train for: all {found.labeled} labels in"
        f" {place}{column} are {classes[0]!r}",
        problems=reading.notes,
        hint=_suggest_class_folders(reading)
        or "give another folder with --data, or say where the labels are with --labels and"
        " --label-column",
    )


def _suggest_class_folders(reading: Reading) -> str:
    """The options for a folder train/ with a folder for each class, or ""."""
    train = reading.folder / "train"
    inside = [name.split("/")[1] for name in reading.images.folders if name.startswith("train/")]
    classes = sorted(set(inside))
    if len(classes) < FEWEST_CLASSES:
        return ""
    others = reading.folder / "eval"
    has_eval = (others / "info.csv").is_file() and (others / "images").is_dir()
    also = f" --eval-dir {shlex.quote(str(others))}" if has_eval else ""
    shown = ", ".join([*classes[:FEWEST_CLASSES], *(["..."] if classes[FEWEST_CLASSES:] else ())])
    return (
        f"without --data: --train-dir {shlex.quote(str(train))}{also}, where the folders ({shown})"
        " are the classes"
    )


def _explain_no_images(folder: Path) -> DataError:
    archives = sorted(path.name for path in folder.iterdir() if is_archive(path))
    if archives:
        shown = ", ".join(archives[:3])
        return DataError(
            f"{folder} has no image, but {shown}",
            hint="unpack them first, or let --kaggle NAME --download do it",
        )
    return DataError(
        f"{folder} has no image that can be read", hint="give another folder with --data"
    )


def _read_with_labels(reading: Reading, sample: Table | None, table: Table) -> CompetitionFolder:
    given = reading.given
    id_column, asked = split_sample(reading, sample)
    ids = find_ids(reading, table, id_column, sample)
    table = ids.join.table if ids.join else table
    id_column = id_column if sample else (given.id_column or ids.label_id)
    train, rivals = choose_folder(reading.images, ids.match, training=True)
    train = find_given_folder(reading, given.train_dir) if given.train_dir else train
    if rivals and not given.train_dir:
        shown = ", ".join(reading.show(name) for name in rivals)
        reading.notes.append(
            f"images are read from {reading.show(train)}; {shown} would do as well (--train-dir DIR"
            " takes another)"
        )
    _, columns = match_label_columns(reading, table, asked, ids.join)
    if not columns:
        raise DataError(
            f"{reading.show(table.path)} has no column that is clearly the label",
            hint=f"name it with --label-column: one of {', '.join(list(table.columns)[:12])}",
        )
    prediction = find_prediction(reading, sample, id_column, ids)
    cells = table.columns[ids.name_column or ids.label_id]
    endings = find_ending(reading.images, train, cells) + prediction.endings
    answer = decide_answer(_gather_evidence(reading, table, columns, sample, asked))
    check_rows(reading, table, ids, columns=columns, folder=train, target=answer.target)
    note_unlabeled(reading, train, prediction, cells)
    groups = find_groups(table, {ids.label_id, ids.name_column, *columns, id_column})
    if ids.join and ids.join.several:
        groups = (ids.label_id, *groups)
    group = given.group if given.group is not None else next(iter(groups), "")
    found = len({cell for cell in cells if has_image(reading.images, cell, train)})
    reading.why.update(_explain_columns(reading, ids, columns, endings, groups))
    reading.why.setdefault("data.train_dir", f"it has the images of {table.name}")
    return CompetitionFolder(
        folder=reading.folder,
        data_format="csv",
        train_dir=reading.folder / train,
        eval_dir=prediction.folder,
        labels=table.path,
        sample=sample.path if sample else None,
        eval_table=prediction.table,
        id_column=id_column,
        label_column=_name_answer(asked, columns),
        label_id=ids.label_id,
        name_column=ids.name_column or prediction.name_column,
        image_table=ids.join.images.path if ids.join else None,
        image_id=ids.join.image_id if ids.join else _name_ids(prediction, id_column, ids.label_id),
        ending=given.ending or _choose_ending(endings),
        label_columns=columns,
        group=group,
        groups=groups,
        answer=answer,
        labeled=len(set(table.lines)),
        train_images=found,
        ids=prediction.ids,
        eval_images=prediction.found,
        why=reading.why,
        problems=tuple(reading.problems),
        notes=(*reading.notes, *answer.notes),
    )


def _name_answer(asked: Sequence[str], columns: Sequence[str]) -> str:
    """The answer column of the sample; with several there is none."""
    if len(asked) == 1:
        return asked[0]
    return columns[0] if len(columns) == 1 else "label"


def _name_ids(prediction: Prediction, *known: str) -> str:
    """The id column of the table of images to predict, where it is called as in no other table."""
    return "" if prediction.id_column in known else prediction.id_column


def _gather_evidence(
    reading: Reading,
    table: Table,
    columns: Sequence[str],
    sample: Table | None,
    asked: Sequence[str],
) -> Evidence:
    given = reading.given
    return Evidence(
        labels={name: table.columns[name] for name in columns},
        sample={name: sample.columns[name] for name in asked} if sample else {},
        names=read_names(reading, {table.path, *([sample.path] if sample else [])}),
        metrics=given.metrics,
        target=given.target,
        answer=given.answer,
        classes=given.classes,
    )


def _choose_ending(endings: Counter[str]) -> str:
    if len(endings) > 1:
        return ANY
    return next(iter(endings), "")


def _explain_columns(
    reading: Reading,
    ids: Ids,
    columns: Sequence[str],
    endings: Counter[str],
    groups: Sequence[str],
) -> dict[str, str]:
    """Sentences about the columns of the label table."""
    given = reading.given
    counted = ", ".join(f"{ending} {count:,}" for ending, count in endings.most_common())
    found = {
        "data.label_id": "as given" if given.label_id else "it names an image in each row",
        "data.label_columns": "as given" if given.label_column else "the sample asks for it",
    }
    if ids.name_column:
        found["data.label_id"] = "it has the ids of the sample's kind"
        found["data.name_column"] = f"it has the file names, which {ids.label_id} has not"
    if ids.join:
        found["data.label_id"] = "the table of images has these ids, too"
        found["data.image_table"] = ids.join.explain()
    if endings:
        found["data.ending"] = f"images have it and ids do not ({counted})"
    if groups:
        others = f"; {', '.join(groups[1:])} would do as well" if len(groups) > 1 else ""
        found["data.group"] = f"its name says that rows belong together{others}"
    if ids.join and ids.join.several:
        found["data.group"] = "its images have one label and belong together"
    if given.group is not None:
        found["data.group"] = "as given"
    return found


def _explain_tables(reading: Reading, sample: Table | None) -> list[str]:
    """Why no table has the labels: a cell of each that should name an image and does not."""
    problems = []
    for table in reading.tables:
        if table is sample or reading.match(table) or not (table.lines and table.columns):
            continue
        column, cells = next(iter(table.columns.items()))
        row = next((n for n, cell in enumerate(cells) if not reading.images.find(cell)), None)
        if row is not None:
            place = reading.show(table.path)
            problems.append(
                f"{place}:{table.lines[row]}: no image is called {cells[row]!r} (column {column})"
            )
    return problems


def _read_without_labels(reading: Reading, sample: Table | None) -> CompetitionFolder:
    given = reading.given
    id_column, asked = split_sample(reading, sample)
    prediction = find_prediction(reading, sample, id_column, None)
    apart = prediction.folder
    found = None
    if given.data_format in ("", "image_folder"):
        found = find_class_folders(reading, apart)
    if found is None and given.data_format in ("", "file_names"):
        found = find_class_names(reading, apart)
    if found is None and not reading.with_doubled:
        reading.look_for_doubled()
        table = find_label_table(reading, sample)
        if table is not None:
            return _read_with_labels(reading, sample, table)
    if found is None:
        raise DataError(
            f"{reading.folder} has no table that names its images and their labels, no folder for"
            " each class, and no class in the file names",
            problems=[*reading.notes, *_explain_tables(reading, sample)],
            hint="say where they are: --labels with --label-id and --label-column, or --train-dir",
        )
    data_format, train, labels = found
    evidence = Evidence(
        labels={"class": labels},
        sample={name: sample.columns[name] for name in asked} if sample else {},
        metrics=given.metrics,
        target=given.target,
        answer=given.answer,
        classes=given.classes,
    )
    answer = decide_answer(evidence)
    # classes of folders and file names are names; only answers may be their numbers
    words = {cell for cells in evidence.sample.values() for cell in cells if cell}
    numbers = bool(words) and all(word.isdecimal() for word in words)
    if answer.answer == "class" and numbers and not words & set(answer.classes):
        answer = replace(answer, answers="index")
        reading.notes.append(
            "the sample has numbers: they are read as places in the list of classes"
        )
    reading.why.setdefault("data.train_dir", "its images tell their class")
    return CompetitionFolder(
        folder=reading.folder,
        data_format=data_format,
        train_dir=reading.folder / train,
        eval_dir=prediction.folder,
        sample=sample.path if sample else None,
        eval_table=prediction.table,
        id_column=id_column,
        label_column=given.label_column or (asked[0] if len(asked) == 1 else "label"),
        name_column=prediction.name_column,
        image_id=_name_ids(prediction, id_column),
        ending=given.ending or _choose_ending(prediction.endings),
        answer=answer,
        labeled=len(labels),
        train_images=len(labels),
        ids=prediction.ids,
        eval_images=prediction.found,
        why=reading.why,
        problems=tuple(reading.problems),
        notes=(*reading.notes, *answer.notes),
    )
