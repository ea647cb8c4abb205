"""Find suspects in the data: likely wrong labels, and nearly equal images in several parts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tracker.comparison.members import list_trained
from tracker.run_folder.members import list_member_names
from tracker.run_folder.read import load_config
from tracker.run_folder.record import run_folder
from tracker.training.config import Config
from tracker.training.config_reading import config_from_dict
from tracker.training.errors import ConfigError, DataError
from tracker.training.files import translate_os_errors
from tracker.training.formats.table_rows import list_set
from tracker.training.inspect.suspects import measure_agreement
from tracker.training.libraries import PICTURES, require
from tracker.training.numbers import render_decimals
from tracker.training.tables import read_table, write_table
from tracker.workspace.data import prepare_data
from tracker.workspace.tracker_toml import Workspace

if TYPE_CHECKING:
    from tracker.training.formats.samples import LoadedData, Sample, Task
    from tracker.training.inspect.duplicates import Image, Pair
    from tracker.training.inspect.suspects import Agreement, Suspect

LABELS, PAIRS = "labels", "pairs"  # files are labels.csv, labels-1.png and so on
LABEL_COLUMNS = (
    "number",
    "id",
    "field",
    "value",
    "accept",
    "given",
    "suggested",
    "score",
    "confident",
    "images",
)
PAIR_COLUMNS = ("number", "a", "b", "split_a", "split_b", "label_a", "label_b", "distance")
COLUMNS, ROWS = 6, 5  # of a page of pictures
PHOTOS = 3  # of a person on a page
# Colors of the frames by the number of the suspect: they show where the next one begins.
ODD, EVEN = "tab:blue", "tab:orange"


@dataclass(frozen=True, kw_only=True)
class SuspectReport:
    """The suspects; `covered` of the `images` training images have out-of-fold probabilities.

    `source` is the run whose config has the paths of the images. Paths are relative to the
    workspace. `folds` is the number of folds that an ensemble of folds has, else 0.
    """

    run: str
    source: str
    covered: int
    images: int
    suspects: tuple[Suspect, ...]
    threshold: int
    pairs: tuple[Pair, ...]
    files: tuple[str, ...]
    model: tuple[Agreement, ...] = ()
    folds: int = 0

    def find_strength(self, suspect: Suspect) -> Agreement | None:
        """How often the model is right about the field of this suspect; None for numbers."""
        field = "label" if suspect.field == "swap" else suspect.field
        return next((strength for strength in self.model if strength.field == field), None)

    def to_dict(self) -> dict[str, Any]:
        """The documented object of `tracker data suspects --json`."""
        return {
            "run": self.run,
            "covered": self.covered,
            "images": self.images,
            "model": [
                {**asdict(strength), "accuracy": strength.accuracy, "weak": strength.weak}
                for strength in self.model
            ],
            "suspects": [
                {**asdict(suspect), "images": list(suspect.images)} for suspect in self.suspects
            ],
            "threshold": self.threshold,
            "pairs": [_pair_to_dict(pair) for pair in self.pairs],
            "files": list(self.files),
        }


def _pair_to_dict(pair: Pair) -> dict[str, Any]:
    return {
        "images": [pair.a.id, pair.b.id],
        "splits": [pair.a.split, pair.b.split],
        "labels": [pair.a.label, pair.b.label],
        "labels_differ": pair.labels_differ,
        "distance": pair.distance,
    }


def find_suspects(
    workspace: Workspace, name: str, *, out: str, threshold: int, count: int
) -> SuspectReport:
    """Find suspects in the data of a run, and write them to the folder `out`.

    The first `count` get pictures, 0 means all. Raises ConfigError when labels.csv in `out` was
    already reviewed, DataError when the run has no validation.npz.
    """
    from tracker.training.inspect.duplicates import find_duplicates
    from tracker.training.inspect.suspects import find_suspects as find_label_suspects
    from tracker.training.inspect.suspects import sort_suspects
    from tracker.training.predict.probabilities import load_probabilities

    require(*PICTURES, "cleanlab", "imagehash")
    # Refuse to replace a review before anything is computed.
    folder = workspace.resolve(out)
    _refuse_reviewed(folder / f"{LABELS}.csv")
    source, config = _load_data_config(workspace, name)
    predictions = load_probabilities(run_folder(workspace.runs_dir, name) / "validation.npz")
    task, data = prepare_data(workspace, config)
    # Labels: those of the images that the run was not trained on.
    samples = {sample.id: sample for sample in (*data.train, *data.val)}
    rows = [row for row, image in enumerate(predictions.ids) if image in samples]
    if not rows and samples:
        raise DataError(
            f"none of the {len(predictions.ids)} validation images of {name} is a training image of"
            f" the workspace ({predictions.ids[0]}, ...)",
            hint=f"run.save_validation needs ids like this one: {next(iter(samples))}",
        )
    judged = [samples[predictions.ids[row]] for row in rows]
    suspects: list[Suspect] = []
    bands, outputs = config.data.age_bands, predictions.probabilities[rows]
    if judged:
        suspects = find_label_suspects(judged, outputs, task.classes, bands, task.target)
    model = measure_agreement(judged, outputs, task.classes, bands, task.target)
    # sorted again: the order is explained by the confidence that is told
    suspects = sort_suspects([_lower_confidence(suspect, model) for suspect in suspects])
    # Pairs: among all images.
    images = _list_images(config, task, data, folds=source != name)
    pairs = find_duplicates(images, limit=threshold)
    with translate_os_errors(folder, "create"):
        folder.mkdir(parents=True, exist_ok=True)
    files = [
        *_write_suspects(folder, suspects, samples, count or len(suspects)),
        *_write_pairs(folder, pairs, count or len(pairs)),
    ]
    return SuspectReport(
        run=name,
        source=source,
        folds=_count_folds(workspace, name),
        covered=len(judged),
        images=len(samples),
        suspects=tuple(suspects),
        threshold=threshold,
        pairs=tuple(pairs),
        files=tuple(workspace.relative(path) for path in files),
        model=tuple(model),
    )


def _lower_confidence(suspect: Suspect, model: Sequence[Agreement]) -> Suspect:
    """The suspect, not confident if the model is weak in its field."""
    field = "label" if suspect.field == "swap" else suspect.field
    weak = any(strength.weak for strength in model if strength.field == field)
    return replace(suspect, confident=suspect.confident and not weak)


def _refuse_reviewed(path: Path) -> None:
    """Raise ConfigError instead of replacing a table that somebody has reviewed."""
    if path.is_file() and any(accept for (accept,) in read_table(path, ("accept",))):
        raise ConfigError(
            f"{path} was reviewed and would be replaced",
            hint="move it, or give another --out FOLDER",
        )


def _load_data_config(workspace: Workspace, name: str) -> tuple[str, Config]:
    """The run, for an ensemble its first member, and the config of its images.

    That config excludes nobody by undersampling.
    """
    tables = load_config(workspace.runs_dir, name)
    if list_member_names(tables):
        name = next(iter(list_trained(workspace, tables)), name)
    tables, source = load_config(workspace.runs_dir, name), f"{name}/config.toml"
    # The config of one's own training loop may not have the paths.
    if not tables.get("data", {}).get("train_dir"):
        tables, source = {"data": dict(workspace.data)}, "tracker.toml"
    config = config_from_dict(tables, source=source)
    return name, replace(config, data=replace(config.data, undersample=()))


def _count_folds(workspace: Workspace, name: str) -> int:
    """The folds of an ensemble that has one run of each fold; 0 for any other run."""
    members = load_config(workspace.runs_dir, name).get("ensemble", {}).get("members", [])
    tables = [load_config(workspace.runs_dir, member).get("data", {}) for member in members]
    counts = {table.get("folds", 0) for table in tables}
    folds = sorted(table.get("fold", 0) for table in tables)
    if len(counts) != 1 or folds != list(range(len(folds))):
        return 0
    count = int(counts.pop())
    return count if count == len(folds) else 0


def _list_images(config: Config, task: Task, data: LoadedData, *, folds: bool) -> list[Image]:
    """Every image with its part of the data; for an ensemble of folds with its fold."""
    from tracker.training.data.split import assign_folds
    from tracker.training.inspect.duplicates import Image

    splits = {sample.id: "train" for sample in data.train} | {
        sample.id: "validation" for sample in data.val
    }
    samples = [*data.train, *data.val]
    if folds and config.data.folds:
        fold_of = assign_folds(samples, config.data)
        splits = {name: f"fold {fold}" for name, fold in fold_of.items()}
    known = [
        Image(sample.id, sample.path, splits[sample.id], _name_label(sample, task))
        for sample in samples
    ]
    return known + [Image(image.id, image.path, "evaluation", None) for image in data.eval]


def _name_label(sample: Sample, task: Task) -> str:
    """The class of an image, its classes, or its number."""
    if task.target == "number":
        return f"{sample.values[0]:.6g}"
    if task.target == "labels":
        return " ".join(task.classes[index] for index in list_set(sample.values)) or "none"
    return task.classes[sample.label]


def _write_suspects(
    folder: Path, suspects: Sequence[Suspect], samples: Mapping[str, Sample], count: int
) -> list[Path]:
    """Write labels.csv, for data.label_fixes after a review, and its pages of pictures."""
    from tracker.training.pictures.sheets import Legend, Tile, draw_pages

    table = folder / f"{LABELS}.csv"
    lines = [
        (
            number,
            *(suspect.id, suspect.field, suspect.value, "", suspect.given, suspect.suggested),
            *(
                render_decimals(suspect.score, 4),
                "yes" if suspect.confident else "no",
                len(suspect.images),
            ),
        )
        for number, suspect in enumerate(suspects, start=1)
    ]
    write_table(table, LABEL_COLUMNS, lines)
    # Pictures of the first suspects.
    tiles = []
    for number, suspect in enumerate(suspects[:count], start=1):
        frame = ODD if number % 2 else EVEN
        # In reverse order of the file names: the photograph without a mask comes first.
        shown = sorted(suspect.images, key=lambda image: image.rpartition("/")[2], reverse=True)
        for image in shown[:PHOTOS]:
            change = f"{suspect.given} -> {suspect.suggested}"
            if suspect.field == "swap":
                change = suspect.value
            title = f"#{number} {suspect.field}  p(given) {suspect.score:.2f}\n{change}"
            tiles.append(Tile(samples[image].path, title, image, frame))
    legend = Legend(
        {
            ODD: "suspects of odd number",
            EVEN: "suspects of even number: where the color changes, the next one begins",
        },
        "Given label -> suggested label. p(given) is the probability that the model gives to the"
        " given label; of a number, that of so large an error.",
    )
    return [table, *draw_pages(tiles, folder, LABELS, legend=legend, columns=COLUMNS, rows=ROWS)]


def _write_pairs(folder: Path, pairs: Sequence[Pair], count: int) -> list[Path]:
    """Write pairs.csv and its pages of pictures, with a red frame where the labels differ."""
    from tracker.training.pictures.sheets import NEUTRAL, WRONG, Legend, Tile, draw_pages

    table = folder / f"{PAIRS}.csv"
    lines = [
        (
            number,
            *(pair.a.id, pair.b.id, pair.a.split, pair.b.split),
            *(pair.a.label or "", pair.b.label or "", pair.distance),
        )
        for number, pair in enumerate(pairs, start=1)
    ]
    write_table(table, PAIR_COLUMNS, lines)
    tiles = [
        Tile(
            image.path,
            f"#{number} {image.split}  {pair.distance} bits\n{image.label or 'label unknown'}",
            image.id,
            WRONG if pair.labels_differ else NEUTRAL,
        )
        for number, pair in enumerate(pairs[:count], start=1)
        for image in (pair.a, pair.b)
    ]
    legend = Legend(
        {
            WRONG: "the labels of the pair differ",
            NEUTRAL: "the labels are equal, or one is unknown",
        },
        "Two images with the same number are nearly equal: so many of the 256 bits that describe"
        " them differ.",
    )
    return [table, *draw_pages(tiles, folder, PAIRS, legend=legend, columns=COLUMNS, rows=ROWS)]
