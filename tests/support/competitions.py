"""Miniatures of real competitions: their columns, names, endings and types, with 40 drawn images.

Each builder writes what competitors download into a folder, and the judge's answers into a CSV
apart, which has the columns of the sample submission.
"""

from __future__ import annotations

import colorsys
import csv
import json
import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

TRAIN, TEST = 28, 12  # images
SIDE = 32  # pixels
CATHETERS = (
    "ETT - Abnormal",
    "ETT - Borderline",
    "ETT - Normal",
    "NGT - Abnormal",
    "NGT - Borderline",
    "NGT - Incompletely Imaged",
    "NGT - Normal",
    "CVC - Abnormal",
    "CVC - Borderline",
    "CVC - Normal",
    "Swan Ganz Catheter Present",
)
BREEDS = ("affenpinscher", "beagle", "chow", "dhole", "pug", "whippet")
SPECIES = ("Acer_Opalus", "Alnus_Rubra", "Cornus_Chinensis", "Ilex_Cornuta", "Tilia_Oliveri")
DISEASES = {
    "0": "Cassava Bacterial Blight (CBB)",
    "1": "Cassava Brown Streak Disease (CBSD)",
    "2": "Cassava Green Mottle (CGM)",
    "3": "Cassava Mosaic Disease (CMD)",
    "4": "Healthy",
}
PET_COLUMNS = (
    "Subject Focus",
    "Eyes",
    "Face",
    "Near",
    "Action",
    "Accessory",
    "Group",
    "Collage",
    "Human",
    "Occlusion",
    "Info",
    "Blur",
)


@dataclass(frozen=True)
class Miniature:
    """A competition folder, the judge's answers, and the metric as `--metric` takes it."""

    name: str
    folder: Path
    answers: Path
    metric: str


@dataclass
class Draft:
    """A folder that is being filled; images are drawn one by one, each with a seed of its own."""

    folder: Path
    answers: Path
    drawn: int = field(default=0)

    def image(self, place: str, strength: Sequence[float]) -> None:
        """Draw an image with one vertical bar for each number; 0 is dark, 1 a full color."""
        noise = np.random.default_rng(self.drawn).uniform(0, 0.2, (SIDE, SIDE, 3))
        columns = np.array_split(np.arange(SIDE), len(strength))
        for position, (value, pixels) in enumerate(zip(strength, columns, strict=True)):
            color = np.array(colorsys.hsv_to_rgb(position / len(strength), 0.7, 0.8))
            noise[:, pixels] += value * color
        path = self.folder / place
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray((noise * 255).clip(0, 255).astype(np.uint8)).save(path)
        self.drawn += 1

    def table(self, name: str, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
        """Write a CSV of the competition."""
        _write(self.folder / name, columns, rows)

    def judge(self, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
        """Write the judge's answers."""
        _write(self.answers, columns, rows)


def _write(path: Path, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows(rows)


def one_of(index: int, count: int) -> list[float]:
    """The bars of an image of one class."""
    return [float(position == index) for position in range(count)]


def hashed(number: int) -> str:
    """An id as judges draw them: a few hexadecimal digits that say nothing."""
    return f"{(number * 2654435761 + 97) % 2**40:010x}"


def _cactus(draft: Draft) -> str:
    columns = ("id", "has_cactus")
    train = [(f"{hashed(n)}.jpg", n % 2) for n in range(TRAIN)]
    test = [(f"{hashed(n)}.jpg", n % 2) for n in range(TRAIN, TRAIN + TEST)]
    for folder, rows in (("train", train), ("test", test)):
        for name, label in rows:
            draft.image(f"{folder}/{name}", [label, 1 - label])
    draft.table("train.csv", columns, train)
    draft.table("sample_submission.csv", columns, [(name, 0.5) for name, _ in test])
    draft.judge(columns, test)
    return "roc_auc"


def _blindness(draft: Draft) -> str:
    columns = ("id_code", "diagnosis")
    train = [(hashed(n), n % 5) for n in range(TRAIN)]
    test = [(hashed(n), n % 5) for n in range(TRAIN, TRAIN + TEST)]
    for folder, rows in (("train_images", train), ("test_images", test)):
        for name, label in rows:
            draft.image(f"{folder}/{name}.png", [label / 4])
    draft.table("train.csv", columns, train)
    draft.table("test.csv", columns[:1], [(name,) for name, _ in test])
    draft.table("sample_submission.csv", columns, [(name, 0) for name, _ in test])
    draft.judge(columns, test)
    return "kappa_quadratic"


def _cassava(draft: Draft) -> str:
    columns = ("image_id", "label")
    train = [(f"{1000015157 + n * 97}.jpg", n % 5) for n in range(TRAIN)]
    test = [(f"{2216849948 + n * 97}.jpg", n % 5) for n in range(TEST)]
    for folder, rows in (("train_images", train), ("test_images", test)):
        for name, label in rows:
            draft.image(f"{folder}/{name}", one_of(label, 5))
    draft.table("train.csv", columns, train)
    names = json.dumps(DISEASES)
    (draft.folder / "label_num_to_disease_map.json").write_text(names, encoding="utf-8")
    draft.table("sample_submission.csv", columns, [(name, 4) for name, _ in test])
    draft.judge(columns, test)
    return "accuracy"


def _dog_breed(draft: Draft) -> str:
    count = len(BREEDS)
    train = [(hashed(n), n % count) for n in range(TRAIN)]
    test = [(hashed(n), n % count) for n in range(TRAIN, TRAIN + TEST)]
    for folder, rows in (("train", train), ("test", test)):
        for name, label in rows:
            draft.image(f"{folder}/{name}.jpg", one_of(label, count))
    draft.table("labels.csv", ("id", "breed"), [(name, BREEDS[label]) for name, label in train])
    columns = ("id", *BREEDS)
    even = [round(1 / count, 18)] * count
    draft.table("sample_submission.csv", columns, [(name, *even) for name, _ in test])
    draft.judge(columns, [(name, *map(int, one_of(label, count))) for name, label in test])
    return "log_loss"


def _dogs_vs_cats(draft: Draft) -> str:
    for number in range(TRAIN):
        word = ("cat", "dog")[number % 2]
        draft.image(f"train/{word}.{number // 2}.jpg", one_of(number % 2, 2))
    columns = ("id", "label")
    test = [(number, number % 2) for number in range(1, TEST + 1)]
    for name, label in test:
        draft.image(f"test/{name}.jpg", one_of(label, 2))
    draft.table("sample_submission.csv", columns, [(name, 0.5) for name, _ in test])
    draft.judge(columns, test)
    return "log_loss"


def _histopathologic(draft: Draft) -> str:
    columns = ("id", "label")
    train = [(hashed(n), n % 2) for n in range(TRAIN)]
    test = [(hashed(n), n % 2) for n in range(TRAIN, TRAIN + TEST)]
    for folder, rows in (("train", train), ("test", test)):
        for name, label in rows:
            draft.image(f"{folder}/{name}.tif", [label])
    draft.table("train_labels.csv", columns, train)
    draft.table("sample_submission.csv", columns, [(name, 0) for name, _ in test])
    draft.judge(columns, test)
    return "roc_auc"


def _hotel(draft: Draft) -> str:
    hotels = ("36363", "53586", "18807", "64314", "60181", "204")
    count = len(hotels)
    train = []
    for number in range(TRAIN):
        name, hotel, chain = f"{hashed(number)}.jpg", number % count, str(number % 3 * 4)
        draft.image(f"train_images/{chain}/{name}", one_of(hotel, count))
        stamp = f"2018-0{number % 9 + 1}-22 18:10:{number:02}"
        train.append((name, chain, hotels[hotel], stamp))
    draft.table("train.csv", ("image", "chain", "hotel_id", "timestamp"), train)
    test = [(f"{hashed(n)}.jpg", n % count) for n in range(TRAIN, TRAIN + TEST)]
    for name, hotel in test:
        draft.image(f"test_images/{name}", one_of(hotel, count))
    columns = ("image", "hotel_id")
    draft.table(
        "sample_submission.csv", columns, [(name, " ".join(hotels[:5])) for name, _ in test]
    )
    draft.judge(columns, [(name, hotels[hotel]) for name, hotel in test])
    return "map@5"


def _imet(draft: Draft) -> str:
    attributes = ("147", "448", "616", "813", "1092", "2429", "2931", "3311")
    names = [
        (word, f"culture::{word}" if n < 3 else f"tag::{word}") for n, word in enumerate(attributes)
    ]

    def pick(number: int) -> list[int]:
        chosen = {number % 8, (number * 3 + 1) % 8}
        return sorted(chosen | {(number + 5) % 8} if number % 4 == 0 else chosen)

    def words(number: int) -> str:
        return " ".join(attributes[index] for index in pick(number))

    for number in range(TRAIN + TEST):
        folder = "train" if number < TRAIN else "test"
        bars = [float(index in pick(number)) for index in range(8)]
        draft.image(f"{folder}/{hashed(number)}.png", bars)
    columns = ("id", "attribute_ids")
    draft.table("train.csv", columns, [(hashed(n), words(n)) for n in range(TRAIN)])
    draft.table("labels.csv", ("attribute_id", "attribute_name"), names)
    test = range(TRAIN, TRAIN + TEST)
    draft.table("sample_submission.csv", columns, [(hashed(n), "147 448 616") for n in test])
    draft.judge(columns, [(hashed(n), words(n)) for n in test])
    return "f1_micro"


def _iwildcam(draft: Draft) -> str:
    categories = (0, 1, 8, 11, 19)
    columns = (
        "category_id",
        "date_captured",
        "file_name",
        "frame_num",
        "id",
        "location",
        "rights_holder",
        "seq_id",
        "seq_num_frames",
        "width",
        "height",
    )

    def row(number: int) -> tuple[Any, ...]:
        sequence, frame = divmod(number, 2)
        return (
            categories[number * 3 % 5],
            f"2011-05-{number % 28 + 1:02} 23:43:18",
            f"img_{number:05}.jpg",
            frame + 1,
            f"{hashed(number)}-23d2-11e8",
            sequence % 7 + (0 if number < TRAIN else 50),
            "Justin Brown",
            f"{hashed(sequence + 500)}-seq",
            2,
            SIDE,
            SIDE,
        )

    train, test = [row(n) for n in range(TRAIN)], [row(n) for n in range(TRAIN, TRAIN + TEST)]
    for folder, rows in (("train_images", train), ("test_images", test)):
        for cells in rows:
            draft.image(f"{folder}/{cells[2]}", one_of(categories.index(cells[0]), 5))
    draft.table("train.csv", columns, train)
    draft.table("test.csv", columns[1:], [cells[1:] for cells in test])
    # its first column has no name: the judge wrote the numbers of the rows, too
    sample = [(line, cells[4], 0) for line, cells in enumerate(test)]
    draft.table("sample_submission.csv", ("", "Id", "Category"), sample)
    draft.judge(("Id", "Category"), [(cells[4], cells[0]) for cells in test])
    return "f1_macro"


def _leaf(draft: Draft) -> str:
    count = len(SPECIES)
    features = [f"{kind}{n}" for kind in ("margin", "shape", "texture") for n in range(1, 65)]
    numbers = np.random.default_rng(7).uniform(0, 0.05, (TRAIN + TEST, len(features))).round(6)
    order = np.random.default_rng(8).permutation(TRAIN + TEST) + 1  # ids of both sets are mixed
    ids, labels = [int(number) for number in order], [n % count for n in range(TRAIN + TEST)]
    for name, label in zip(ids, labels, strict=True):
        draft.image(f"images/{name}.jpg", one_of(label, count))
    rows = [
        (name, SPECIES[label], *map(float, cells))
        for name, label, cells in zip(ids, labels, numbers, strict=True)
    ]
    draft.table("train.csv", ("id", "species", *features), rows[:TRAIN])
    test = rows[TRAIN:]
    draft.table("test.csv", ("id", *features), [(cells[0], *cells[2:]) for cells in test])
    even = [round(1 / count, 18)] * count
    columns = ("id", *SPECIES)
    draft.table("sample_submission.csv", columns, [(cells[0], *even) for cells in test])
    truth = zip(ids[TRAIN:], labels[TRAIN:], strict=True)
    draft.judge(columns, [(name, *map(int, one_of(label, count))) for name, label in truth])
    return "log_loss"


def _paddy(draft: Draft) -> str:
    words = ("bacterial_leaf_blight", "blast", "hispa", "normal")
    train = []
    for number in range(TRAIN):
        word = words[number % 4]
        draft.image(f"train_images/{word}/{100330 + number}.jpg", one_of(number % 4, 4))
        train.append((f"{100330 + number}.jpg", word, "ADT45", 45 + number % 3 * 5))
    draft.table("train.csv", ("image_id", "label", "variety", "age"), train)
    test = [(f"{200001 + n}.jpg", n % 4) for n in range(TEST)]
    for name, label in test:
        draft.image(f"test_images/{name}", one_of(label, 4))
    columns = ("image_id", "label")
    draft.table("sample_submission.csv", columns, [(name, "") for name, _ in test])
    draft.judge(columns, [(name, words[label]) for name, label in test])
    return "accuracy"


def _pawpularity(draft: Draft) -> str:
    scores = np.random.default_rng(5).integers(1, 101, TRAIN + TEST)
    rows = []
    for number, score in enumerate(map(int, scores)):
        folder = "train" if number < TRAIN else "test"
        draft.image(f"{folder}/{hashed(number)}.jpg", [score / 100])
        flags = [(number >> position) % 2 for position in range(len(PET_COLUMNS))]
        rows.append((hashed(number), *flags, score))
    columns = ("Id", *PET_COLUMNS, "Pawpularity")
    train, test = rows[:TRAIN], rows[TRAIN:]
    draft.table("train.csv", columns, train)
    draft.table("test.csv", columns[:-1], [cells[:-1] for cells in test])
    drawn = np.random.default_rng(0).uniform(1, 100, TEST).round(2)
    sample = [(cells[0], float(score)) for cells, score in zip(test, drawn, strict=True)]
    draft.table("sample_submission.csv", ("Id", "Pawpularity"), sample)
    draft.judge(("Id", "Pawpularity"), [(cells[0], cells[-1]) for cells in test])
    return "rmse"


def _plant_pathology(draft: Draft) -> str:
    columns = ("image_id", "healthy", "multiple_diseases", "rust", "scab")
    train = [(f"Train_{n}", *map(int, one_of(n % 4, 4))) for n in range(TRAIN)]
    test = [(f"Test_{n}", *map(int, one_of(n % 4, 4))) for n in range(TEST)]
    for name, *bars in (*train, *test):
        draft.image(f"images/{name}.jpg", bars)
    draft.table("train.csv", columns, train)
    draft.table("test.csv", columns[:1], [cells[:1] for cells in test])
    draft.table("sample_submission.csv", columns, [(cells[0], *[0.25] * 4) for cells in test])
    draft.judge(columns, test)
    return "roc_auc"


def _catheters(draft: Draft) -> str:
    count = len(CATHETERS)

    def row(number: int) -> tuple[Any, ...]:
        found = {number % count, (number * 4 + 2) % count}
        flags = [int(index in found) for index in range(count)]
        return (f"1.2.826.0.1.3680043.8.498.{10**9 + number * 7}", *flags)

    train, test = [row(n) for n in range(TRAIN)], [row(n) for n in range(TRAIN, TRAIN + TEST)]
    for folder, rows in (("train", train), ("test", test)):
        for name, *bars in rows:
            draft.image(f"{folder}/{name}.jpg", bars)
    columns = ("StudyInstanceUID", *CATHETERS)
    patients = [(*cells, f"{hashed(number % 9)}") for number, cells in enumerate(train)]
    draft.table("train.csv", (*columns, "PatientID"), patients)
    lines = [(cells[0], CATHETERS[0], "[[12, 30], [14, 31]]") for cells in train for _ in range(2)]
    draft.table("train_annotations.csv", ("StudyInstanceUID", "label", "data"), lines)
    draft.table("sample_submission.csv", columns, [(cells[0], *[0] * count) for cells in test])
    draft.judge(columns, test)
    return "roc_auc"


def _dacon(draft: Draft) -> str:
    words = ("Brachycera", "Formicidae", "Vespidae")
    train, test = [], []
    for number in range(TRAIN + TEST):
        kind, rows = ("train", train) if number < TRAIN else ("test", test)
        name = f"{kind.upper()}_{len(rows):05}"
        draft.image(f"{kind}/{name}.jpg", one_of(number % 3, 3))
        rows.append((name, f"./{kind}/{name}.jpg", words[number % 3]))
    draft.table("train.csv", ("id", "img_path", "label"), train)
    draft.table("test.csv", ("id", "img_path"), [cells[:2] for cells in test])
    columns = ("id", "label")
    draft.table("sample_submission.csv", columns, [(cells[0], words[0]) for cells in test])
    draft.judge(columns, [(cells[0], cells[2]) for cells in test])
    return "f1_macro"


def _ai_stages(draft: Draft) -> str:
    train = [(f"./train/{n:05}.jpg", n % 3) for n in range(TRAIN)]
    test = [(f"{n:05}", n % 3) for n in range(TEST)]
    for place, label in train:
        draft.image(place, one_of(label, 3))
    for name, label in test:
        draft.image(f"test/{name}.jpg", one_of(label, 3))
    draft.table("train.csv", ("img_path", "label"), train)
    columns = ("id", "label")
    draft.table("sample_submission.csv", columns, [(name, 0) for name, _ in test])
    draft.judge(columns, test)
    return "f1_macro"


def _driven_data(draft: Draft) -> str:
    animals = ("antelope_duiker", "bird", "blank", "leopard")
    features = []
    for number in range(TRAIN + TEST):
        kind = "train" if number < TRAIN else "test"
        name = f"ZJ{number:06}"
        place = f"{kind}_features/{name}.jpg"
        draft.image(place, one_of(number % 4, 4))
        features.append((name, place, f"S{number % 6:04}"))
    truth = [(cells[0], *one_of(number % 4, 4)) for number, cells in enumerate(features)]
    columns = ("id", *animals)
    draft.table("train_features.csv", ("id", "filepath", "site"), features[:TRAIN])
    draft.table("train_labels.csv", columns, truth[:TRAIN])
    draft.table("test_features.csv", ("id", "filepath", "site"), features[TRAIN:])
    sample = [(cells[0], *[0.25] * 4) for cells in truth[TRAIN:]]
    draft.table("submission_format.csv", columns, sample)
    draft.judge(columns, truth[TRAIN:])
    return "log_loss"


FOURTEEN: dict[str, Callable[[Draft], str]] = {
    "aerial-cactus-identification": _cactus,
    "aptos2019-blindness-detection": _blindness,
    "cassava-leaf-disease-classification": _cassava,
    "dog-breed-identification": _dog_breed,
    "dogs-vs-cats-redux": _dogs_vs_cats,
    "histopathologic-cancer-detection": _histopathologic,
    "hotel-id-2021-fgvc8": _hotel,
    "imet-2020-fgvc7": _imet,
    "iwildcam-2019-fgvc6": _iwildcam,
    "leaf-classification": _leaf,
    "paddy-disease-classification": _paddy,
    "petfinder-pawpularity-score": _pawpularity,
    "plant-pathology-2020-fgvc7": _plant_pathology,
    "ranzcr-clip-catheter-line-classification": _catheters,
}
OTHERS: dict[str, Callable[[Draft], str]] = {
    "ai-stages": _ai_stages,
    "dacon": _dacon,
    "driven-data": _driven_data,
}


def build_competition(name: str, root: Path, *, read_only: bool = False) -> Miniature:
    """Write the miniature `name` to root/NAME and its answers to root/NAME-answers.csv.

    With `read_only`, nobody but root can write into the folder afterwards.
    """
    draft = Draft(root / name, root / f"{name}-answers.csv")
    metric = {**FOURTEEN, **OTHERS}[name](draft)
    assert draft.drawn == TRAIN + TEST
    if read_only:
        make_read_only(draft.folder)
    return Miniature(name, draft.folder, draft.answers, metric)


def make_read_only(folder: Path) -> None:
    """Take away every right to write in a folder and below it."""
    for path, _, files in os.walk(folder, topdown=False):
        for name in files:
            Path(path, name).chmod(0o444)
        Path(path).chmod(0o555)


def list_state(folder: Path) -> dict[str, tuple[int, int]]:
    """The size and the time of the last change of every file and folder below a folder."""
    state = {}
    for path in (folder, *folder.rglob("*")):
        stat = path.stat()
        state[path.relative_to(folder).as_posix()] = (stat.st_size, stat.st_mtime_ns)
    return state
