"""A competition folder is read as it was downloaded, and nothing is written there."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support.competitions import (
    BREEDS,
    CATHETERS,
    DISEASES,
    FOURTEEN,
    OTHERS,
    SPECIES,
    TEST,
    TRAIN,
    Draft,
    build_competition,
    list_state,
    make_read_only,
    one_of,
)
from tracker.setup.folder import CompetitionFolder, Given, read_competition_folder
from tracker.setup.init import init_workspace
from tracker.training.config import DataConfig
from tracker.training.data.data import inspect_data, list_eval_ids, load_data
from tracker.training.errors import ConfigError, DataError
from tracker.training.formats.samples import Task
from tracker.training.tables import read_table

FLOWERS = ("healthy", "multiple_diseases", "rust", "scab")
ANIMALS = ("antelope_duiker", "bird", "blank", "leopard")
# What each miniature must be read as: id column, ending, target, answer, classes, answers.
READINGS: dict[str, dict[str, Any]] = {
    "aerial-cactus-identification": {
        "ids": ("id", ""),
        "answer": ("binary", "probability", "index"),
        "classes": ("0", "1"),
    },
    "aptos2019-blindness-detection": {
        "ids": ("id_code", ".png"),
        "answer": ("ordered", "class", "index"),
        "classes": ("0", "1", "2", "3", "4"),
    },
    "cassava-leaf-disease-classification": {
        "ids": ("image_id", ""),
        "answer": ("class", "class", "index"),
        "classes": tuple(DISEASES.values()),
    },
    "dog-breed-identification": {
        "ids": ("id", ".jpg"),
        "answer": ("class", "columns", "name"),
        "classes": BREEDS,
        "sum_to_one": True,
    },
    "dogs-vs-cats-redux": {
        "ids": ("id", ".jpg"),
        "answer": ("binary", "probability", "name"),
        "classes": ("cat", "dog"),
        "format": "file_names",
    },
    "histopathologic-cancer-detection": {
        "ids": ("id", ".tif"),
        "answer": ("binary", "probability", "index"),
        "classes": ("0", "1"),
    },
    "hotel-id-2021-fgvc8": {
        "ids": ("image", ""),
        "answer": ("class", "ranked", "name"),
        "classes": ("204", "18807", "36363", "53586", "60181", "64314"),
    },
    "imet-2020-fgvc7": {
        "ids": ("id", ".png"),
        "answer": ("labels", "labels", "name"),
        "classes": ("147", "448", "616", "813", "1092", "2429", "2931", "3311"),
    },
    "iwildcam-2019-fgvc6": {
        "ids": ("Id", ""),
        "answer": ("class", "class", "name"),
        "classes": ("0", "1", "8", "11", "19"),
        "names": "file_name",
        "group": "location",
    },
    "leaf-classification": {
        "ids": ("id", ".jpg"),
        "answer": ("class", "columns", "name"),
        "classes": SPECIES,
        "sum_to_one": True,
    },
    "paddy-disease-classification": {
        "ids": ("image_id", ""),
        "answer": ("class", "class", "name"),
        "classes": ("bacterial_leaf_blight", "blast", "hispa", "normal"),
    },
    "petfinder-pawpularity-score": {
        "ids": ("Id", ".jpg"),
        "answer": ("number", "number", "index"),
        "classes": (),
    },
    "plant-pathology-2020-fgvc7": {
        "ids": ("image_id", ".jpg"),
        "answer": ("class", "columns", "name"),
        "classes": FLOWERS,
    },
    "ranzcr-clip-catheter-line-classification": {
        "ids": ("StudyInstanceUID", ".jpg"),
        "answer": ("labels", "columns", "name"),
        "classes": CATHETERS,
        "group": "PatientID",
    },
    "ai-stages": {
        "ids": ("id", ".jpg"),
        "answer": ("class", "class", "index"),
        "classes": ("0", "1", "2"),
    },
    "dacon": {
        "ids": ("id", ".jpg"),
        "answer": ("class", "class", "name"),
        "classes": ("Brachycera", "Formicidae", "Vespidae"),
    },
    "driven-data": {
        "ids": ("id", ".jpg"),
        "answer": ("class", "columns", "name"),
        "classes": ANIMALS,
        "sum_to_one": True,
    },
}


def read_images(found: CompetitionFolder, *, check: bool = False) -> Any:
    """The loaded data of a reading and the ids to predict; with `check` the report."""
    answer = found.answer
    words = tuple(map(str, range(len(answer.classes))))
    task = Task(
        classes=answer.classes,
        id_column=found.id_column,
        label_column=found.label_column,
        answer_words=answer.classes if answer.answers == "name" else words,
        target=answer.target,
    )
    config = DataConfig(
        format=found.data_format,
        split="by_image",
        train_dir=str(found.train_dir),
        eval_dir=str(found.eval_dir or ""),
        labels=str(found.labels or ""),
        sample=str(found.sample or ""),
        eval_table=str(found.eval_table or ""),
        label_id=found.label_id,
        label_columns=found.label_columns,
        name_column=found.name_column,
        image_table=str(found.image_table or ""),
        image_id=found.image_id,
        ending=found.ending,
        group=found.group,
    )
    root = found.folder
    if check:
        return inspect_data(config, task, root=root)
    return load_data(config, task, root=root), list_eval_ids(config, task, root=root)


@pytest.mark.parametrize("name", [*FOURTEEN, *OTHERS])
def test_a_competition_is_read_as_it_is_meant(tmp_path: Path, name: str) -> None:
    built = build_competition(name, tmp_path, read_only=True)
    before, wanted = list_state(built.folder), READINGS[name]
    found = read_competition_folder(built.folder, Given(metrics=[built.metric]))
    answer = found.answer
    assert (found.id_column, found.ending) == wanted["ids"]
    assert (answer.target, answer.answer, answer.answers) == wanted["answer"]
    assert answer.classes == wanted["classes"]
    assert answer.sum_to_one == wanted.get("sum_to_one", False)
    assert found.group == wanted.get("group", "")
    assert found.data_format == wanted.get("format", "csv")
    assert found.name_column == wanted.get("names", "")
    counts = (found.labeled, found.train_images, found.ids, found.eval_images)
    assert counts == (TRAIN, TRAIN, TEST, TEST)
    assert found.problems == ()
    assert list_state(built.folder) == before


@pytest.mark.parametrize("name", [*FOURTEEN, *OTHERS])
def test_training_finds_every_image_and_the_ids_of_the_sample(tmp_path: Path, name: str) -> None:
    built = build_competition(name, tmp_path, read_only=True)
    before = list_state(built.folder)
    data, ids = read_images(read_competition_folder(built.folder, Given(metrics=[built.metric])))
    column = READINGS[name]["ids"][0]
    judged = [row[0] for row in read_table(built.answers, (column,))]
    assert [image.id for image in data.eval] == ids == judged
    assert len(data.train) + len(data.val) == TRAIN
    assert list_state(built.folder) == before


def test_labels_are_read_as_the_table_has_them(tmp_path: Path) -> None:
    built = build_competition("imet-2020-fgvc7", tmp_path)
    found = read_competition_folder(built.folder)
    data, _ = read_images(found)
    truth = dict(read_table(built.folder / "train.csv", ("id", "attribute_ids")))
    for sample in (*data.train, *data.val):
        pairs = zip(found.answer.classes, sample.values, strict=True)
        assert " ".join(word for word, value in pairs if value) == truth[sample.id]


def test_numbers_and_groups_are_read_as_the_table_has_them(tmp_path: Path) -> None:
    pets = build_competition("petfinder-pawpularity-score", tmp_path)
    data, _ = read_images(read_competition_folder(pets.folder))
    truth = dict(read_table(pets.folder / "train.csv", ("Id", "Pawpularity")))
    assert {s.id: s.values for s in (*data.train, *data.val)} == {
        name: (float(score),) for name, score in truth.items()
    }
    lines = build_competition("ranzcr-clip-catheter-line-classification", tmp_path)
    data, _ = read_images(read_competition_folder(lines.folder))
    patients = dict(read_table(lines.folder / "train.csv", ("StudyInstanceUID", "PatientID")))
    assert {s.id: s.group for s in (*data.train, *data.val)} == patients


def test_a_metric_of_classes_and_one_of_probabilities_ask_for_other_answers(tmp_path: Path) -> None:
    folder = build_competition("histopathologic-cancer-detection", tmp_path).folder
    unsaid = read_competition_folder(folder)
    assert (unsaid.answer.target, unsaid.answer.answer) == ("class", "class")
    assert any("--answer probability" in note for note in unsaid.notes)
    area = read_competition_folder(folder, Given(metrics=["roc_auc"]))
    assert (area.answer.target, area.answer.answer) == ("binary", "probability")
    accuracy = read_competition_folder(folder, Given(metrics=["accuracy"]))
    assert (accuracy.answer.answer, accuracy.notes) == ("class", ())


def test_each_reading_can_be_overridden(tmp_path: Path) -> None:
    folder = build_competition("iwildcam-2019-fgvc6", tmp_path).folder
    given = Given(
        group="seq_id",
        target="ordered",
        label_column="frame_num",
        train_dir="train_images",
        eval_table="test.csv",
        name_column="file_name",
        id_column="Id",
        sample="sample_submission.csv",
        ending=".jpeg",
    )
    found = read_competition_folder(folder, given)
    assert found.group == "seq_id"
    assert found.label_columns == ("frame_num",)
    assert (found.answer.target, found.answer.classes) == ("ordered", ("1", "2"))
    assert found.ending == ".jpeg"
    assert found.why["data.group"] == found.why["data.sample"] == "as given"
    assert read_competition_folder(folder, Given(group="")).group == ""


# The forms of files that real competitions have.


@pytest.fixture
def draft(tmp_path: Path) -> Draft:
    """A folder with ten images of two classes, whose tables a test writes."""
    made = Draft(tmp_path / "data", tmp_path / "answers.csv")
    for number in range(10):
        made.image(f"train/{number:03}.png", one_of(number % 2, 2))
    for number in range(10, 14):
        made.image(f"test/{number:03}.png", one_of(number % 2, 2))
    made.table("sample_submission.csv", ("id", "label"), [(f"{n:03}", "a") for n in range(10, 14)])
    return made


def label(number: int) -> str:
    return "ab"[number % 2]


def write_labels(draft: Draft, lines: list[str]) -> CompetitionFolder:
    draft.folder.joinpath("train.csv").write_text("\n".join(["id,label", *lines]) + "\n")
    return read_competition_folder(draft.folder)


LINES = [f"{number:03},{label(number)}" for number in range(10)]


@pytest.mark.parametrize(
    "encode",
    [
        lambda text: text.encode("utf-8-sig"),
        lambda text: text.replace("\n", "\r\n").encode(),
        lambda text: text.replace(",", ";").encode(),
    ],
    ids=["BOM", "CRLF", "semicolons"],
)
def test_ids_with_zeros_stay_texts_however_the_table_is_written(
    draft: Draft, encode: Callable[[str], bytes]
) -> None:
    (draft.folder / "train.csv").write_bytes(encode("\n".join(["id,label", *LINES]) + "\n"))
    found = read_competition_folder(draft.folder)
    data, ids = read_images(found)
    assert ids == ["010", "011", "012", "013"]
    assert sorted(s.id for s in (*data.train, *data.val)) == [f"{n:03}" for n in range(10)]
    assert found.ending == ".png"


def test_an_id_that_looks_like_a_float_stays_a_text(draft: Draft) -> None:
    draft.image("train/1e5.png", [1, 0])
    draft.image("test/2e5.png", [1, 0])
    draft.table("sample_submission.csv", ("id", "label"), [("2e5", "a"), ("010", "a")])
    data, ids = read_images(write_labels(draft, [*LINES, "1e5,a"]))
    assert "1e5" in {s.id for s in (*data.train, *data.val)}
    assert ids == ["2e5", "010"]


def test_labels_as_floats_are_class_numbers(draft: Draft) -> None:
    found = write_labels(draft, [f"{n:03},{n % 2 + 0.0}" for n in range(10)])
    assert found.answer.classes == ("0", "1")
    data, _ = read_images(found)
    assert {s.id: s.label for s in (*data.train, *data.val)} == {
        f"{n:03}": n % 2 for n in range(10)
    }


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        ([*LINES[:4], "004,", *LINES[5:]], "1 row without a label (train.csv, line 6)"),
        (
            [*LINES, "003,b"],
            "1 row with an id that an earlier row has, too (train.csv, line 12)",
        ),
        (
            [*LINES, "003,b", "004,a", "005,b"],
            "3 rows with an id that an earlier row has, too (train.csv, lines 12, 13, 14)",
        ),
        ([*LINES, "x9,a"], "1 row whose image is not there (train.csv, line 12)"),
        (LINES[:9], "1 image of train without a row in the label table (train/009.png)"),
    ],
    ids=["empty label", "doubled image", "many doubled", "no image", "no label"],
)
def test_rows_that_cannot_be_used_are_counted_with_their_lines(
    draft: Draft, lines: list[str], words: str
) -> None:
    assert write_labels(draft, lines).problems == (words,)


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        ([*LINES[:4], "004,", *LINES[5:]], "train.csv:6: no label"),
        ([*LINES, "003,b"], "train.csv:12: 003 is listed twice, first in line 5"),
        ([*LINES[:4], "004,,", *LINES[5:], "005,b"], "train.csv:12: 005 is listed twice"),
    ],
)
def test_training_reports_the_same_rows_by_line(draft: Draft, lines: list[str], words: str) -> None:
    found = write_labels(draft, lines)
    with pytest.raises(DataError) as error:
        read_images(found)
    assert any(words in problem for problem in error.value.problems)


def test_images_without_a_label_and_labels_without_an_image_are_counted_by_a_check(
    draft: Draft,
) -> None:
    for place in ("train/more/x1.png", "train/x2.png"):
        draft.image(place, [1, 0])
    found = write_labels(draft, [*LINES[:7], "007,", *LINES[8:], "y1,a", "y2,b"])
    report = read_images(found, check=True)
    assert report.notes == (
        f"2 images of {draft.folder / 'train'} have no row in the table of labels"
        " (x2.png, more/x1.png)",
        "2 labels have no image (y1, y2)",
    )
    assert [problem.split("/")[-1] for problem in report.problems] == [
        "train.csv:9: no label",
        "y1.png: missing",
        "y2.png: missing",
    ]


def test_images_to_predict_in_the_folder_of_training_are_not_unlabeled(tmp_path: Path) -> None:
    for name in ("leaf-classification", "plant-pathology-2020-fgvc7"):
        built = build_competition(name, tmp_path)
        data, _ = read_images(read_competition_folder(built.folder, Given(metrics=[built.metric])))
        assert data.notes == ()


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("\n".join(["id,label", *LINES]).encode("utf-16"), "it is no UTF-8 text"),
        ("\n".join(["id,label", "0,a", "1,b"]).encode(), "train.csv:2: no image is called '0'"),
        (b"id,label\n000.0,a\n", "train.csv:2: no image is called '000.0' (column id)"),
    ],
    ids=["UTF-16", "lost zeros", "ids as floats"],
)
def test_why_a_table_is_not_that_of_the_labels_is_said_with_its_line(
    draft: Draft, content: bytes, words: str
) -> None:
    (draft.folder / "train.csv").write_bytes(content)
    with pytest.raises(DataError, match="has no table that names its images") as error:
        read_competition_folder(draft.folder)
    assert any(words in problem for problem in error.value.problems)


def test_a_folder_whose_images_all_have_one_label_is_no_competition(
    draft: Draft, tmp_path: Path
) -> None:
    with pytest.raises(DataError) as error:
        write_labels(draft, [f"{number:03},0" for number in range(10)])
    message = "is no competition to train for: all 10 labels in train.csv (column label) are '0'"
    assert str(error.value).startswith(f"{draft.folder.resolve()} {message}")
    # what is typed may be as wrong; a file that is not there is not to blame for it
    with pytest.raises(ConfigError, match="1 problem in what was to be written to") as wrong:
        init_workspace(tmp_path / "ws", data={}, competition={"classes": ["a"]})
    assert not (tmp_path / "ws" / "tracker.toml").exists()
    assert "at least two different names" in str(wrong.value)


def test_where_all_labels_are_equal_class_folders_are_suggested(tmp_path: Path) -> None:
    made = Draft(tmp_path / "photos", tmp_path / "answers.csv")
    for number in range(4):
        made.image(f"train/{'c' if number % 2 else 'a b'}/t{number}.png", one_of(number % 2, 2))
        made.image(f"eval/images/e{number}.png", one_of(number % 2, 2))
    for name in ("info.csv", "solution.csv"):
        made.table(f"eval/{name}", ("ImageID", "ans"), [(f"e{n}.png", "0") for n in range(4)])
    with pytest.raises(DataError, match="are '0'") as error:
        read_competition_folder(made.folder)
    folder = made.folder.resolve()
    assert error.value.hint == (
        f"without --data: --train-dir {folder}/train --eval-dir {folder}/eval, where the folders"
        " (a b, c) are the classes"
    )
    assert error.value.problems == (
        "labels are read from eval/info.csv, not eval/solution.csv (--labels FILE takes another)",
    )


def test_a_class_of_one_image_is_named(draft: Draft) -> None:
    found = write_labels(draft, [*LINES[:9], "009,rare"])
    assert found.answer.classes == ("a", "b", "rare")
    assert any("1 class has a single image (rare)" in note for note in found.notes)


def test_an_id_to_predict_without_an_image_is_named_by_line(draft: Draft) -> None:
    rows = [(f"{n:03}", "a") for n in (10, 11, 12, 13, 99)]
    draft.table("sample_submission.csv", ("id", "label"), rows)
    found = write_labels(draft, LINES)
    assert found.problems == ("1 row to predict without an image (sample_submission.csv, line 6)",)
    with pytest.raises(DataError, match=r"sample_submission.csv:6: no image 099"):
        read_images(found)


def test_images_with_several_endings_are_found(draft: Draft) -> None:
    draft.image("train/010x.jpg", [1, 0])
    found = write_labels(draft, [*LINES, "010x,a"])
    assert found.ending == ".*"
    data, _ = read_images(found)
    assert len(data.train) + len(data.val) == 11


def test_names_of_several_words_are_one_label_each(draft: Draft) -> None:
    names = ("black rot", "leaf spot", "healthy")
    found = write_labels(draft, [f"{n:03},{names[n % 3]}" for n in range(10)])
    assert found.answer.classes == ("black rot", "healthy", "leaf spot")
    assert found.answer.target == "class"


def test_the_same_ids_in_both_sets_are_two_images_each(tmp_path: Path) -> None:
    made = Draft(tmp_path / "data", tmp_path / "answers.csv")
    for number in range(6):
        made.image(f"test/{number}.png", one_of(number % 2, 2))
        made.image(f"train/{number}.png", one_of(number % 2, 2))
    made.table("train.csv", ("id", "label"), [(n, label(n)) for n in range(6)])
    made.table("sample_submission.csv", ("id", "label"), [(n, "a") for n in range(6)])
    data, ids = read_images(read_competition_folder(made.folder))
    assert ids == list("012345")
    assert {image.path.parent.name for image in data.eval} == {"test"}
    assert {sample.path.parent.name for sample in data.train} == {"train"}


def test_a_folder_for_each_class_needs_no_table(tmp_path: Path) -> None:
    made = Draft(tmp_path / "data", tmp_path / "answers.csv")
    for number in range(8):
        made.image(f"train/{('rose', 'tulip')[number % 2]}/{number}.png", one_of(number % 2, 2))
        made.image(f"test/t{number}.png", one_of(number % 2, 2))
    sample = [(f"t{n}.png", "rose") for n in range(8)]
    made.table("sample_submission.csv", ("file", "flower"), sample)
    make_read_only(made.folder)
    found = read_competition_folder(made.folder)
    assert (found.data_format, found.train_dir.name) == ("image_folder", "train")
    assert (found.id_column, found.label_column) == ("file", "flower")
    assert (found.answer.classes, found.answer.answers) == (("rose", "tulip"), "name")
    data, ids = read_images(found)
    assert ids == [f"t{n}.png" for n in range(8)]
    assert len(data.train) + len(data.val) == 8


def test_fifteen_thousand_classes_and_a_hundred_thousand_names_are_read(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    for number in range(100):
        (folder / "train" / f"{number:02}").mkdir(parents=True)
    for number in range(30_000):  # names are enough: no file is opened
        place = folder / "train" / f"{number % 100:02}" / f"{number:06}.jpg"
        os.close(os.open(place, os.O_CREAT))
    rows = [f"{number:06}.jpg,{number % 15_000 * 3 + 7}" for number in range(30_000)]
    (folder / "train.csv").write_text("\n".join(["image,hotel", *rows]))
    found = read_competition_folder(folder)
    assert len(found.answer.classes) == 15_000
    assert found.answer.classes[:2] == ("7", "10")
    assert (found.train_images, found.eval_dir) == (30_000, None)


def test_a_folder_without_images_says_what_to_unpack(tmp_path: Path) -> None:
    (tmp_path / "train.zip").write_bytes(b"PK")
    with pytest.raises(DataError, match=r"has no image, but train\.zip"):
        read_competition_folder(tmp_path)
    with pytest.raises(DataError, match="no such folder"):
        read_competition_folder(tmp_path / "absent")


def test_a_table_without_a_clear_label_names_its_columns(draft: Draft) -> None:
    (draft.folder / "sample_submission.csv").unlink()
    rows = [(f"{n:03}", n % 3, f"w{n % 4}") for n in range(10)]
    draft.table("train.csv", ("id", "one", "other"), rows)
    with pytest.raises(DataError, match="no column that is clearly the label") as error:
        read_competition_folder(draft.folder, Given(labels="train.csv"))
    assert "one of id, one, other" in error.value.hint
    found = read_competition_folder(draft.folder, Given(label_column="other"))
    assert found.answer.classes == ("w0", "w1", "w2", "w3")


def test_a_sample_without_rows_is_told_and_training_is_read(draft: Draft) -> None:
    draft.table("sample_submission.csv", ("id", "label"), [])
    found = write_labels(draft, LINES)
    assert (found.labeled, found.ids, found.eval_dir) == (10, 0, None)
    assert any("no image has an id of sample_submission.csv" in note for note in found.notes)


def test_a_name_column_without_images_is_refused(draft: Draft) -> None:
    write_labels(draft, LINES)
    with pytest.raises(DataError, match="no image is named in column label"):
        read_competition_folder(draft.folder, Given(name_column="label"))


# Labels in one table and file names in another.


def write_joined(draft: Draft, *, key: str = "id", images: int = 14) -> None:
    """Labels of ten slides, and a table of the images of both sets with names of their own."""
    draft.image("train/scan-x.png", [1, 0])
    names = {n: f"scan-{n * 7}.png" for n in range(14)}
    for number, name in names.items():
        folder = draft.folder / ("train" if number < 10 else "test")
        (folder / f"{number:03}.png").rename(folder / name)
    (draft.folder / "train" / "scan-x.png").unlink()
    rows = [(f"s{n:03}", names[n], f"L{n % 3}") for n in range(images)]
    draft.table("images.csv", (key, "file_name", "lab"), rows)
    draft.table("train_labels.csv", ("id", "label"), [(f"s{n:03}", label(n)) for n in range(10)])
    sample = [(f"s{n:03}", "a") for n in range(10, 14)]
    draft.table("sample_submission.csv", ("id", "label"), sample)


@pytest.mark.parametrize("key", ["id", "slide"])
def test_labels_and_file_names_in_two_tables_are_joined_by_their_ids(
    draft: Draft, key: str
) -> None:
    write_joined(draft, key=key)
    before = list_state(draft.folder)
    found = read_competition_folder(draft.folder)
    assert (found.labels, found.image_table) == (
        draft.folder / "train_labels.csv",
        draft.folder / "images.csv",
    )
    assert (found.name_column, found.image_id, found.label_id) == ("file_name", key, "id")
    assert (found.labeled, found.train_images, found.ids, found.eval_images) == (10, 10, 4, 4)
    assert found.problems == ()
    data, ids = read_images(found)
    labels = {s.id: (s.label, s.path.name) for s in (*data.train, *data.val)}
    assert labels == {f"s{n:03}": (n % 2, f"scan-{n * 7}.png") for n in range(10)}
    assert [image.path.name for image in data.eval] == [f"scan-{n * 7}.png" for n in range(10, 14)]
    assert ids == [f"s{n:03}" for n in range(10, 14)]
    assert list_state(draft.folder) == before


def test_the_table_of_images_to_predict_may_call_the_ids_otherwise(draft: Draft) -> None:
    write_joined(draft)
    (draft.folder / "train_labels.csv").unlink()
    rows = [(f"scan-{n * 7}.png", label(n)) for n in range(10)]
    draft.table("train.csv", ("file_name", "label"), rows)
    rows = [(f"s{n:03}", f"scan-{n * 7}.png") for n in range(10, 14)]
    (draft.folder / "images.csv").unlink()
    draft.table("test.csv", ("slide", "file_name"), rows)
    found = read_competition_folder(draft.folder)
    assert (found.image_id, found.image_table) == ("slide", None)
    data, _ = read_images(found)
    assert [image.path.name for image in data.eval] == [row[1] for row in rows]


def test_a_table_of_images_alone_is_not_read_as_labels(draft: Draft) -> None:
    write_joined(draft)
    for name in ("images.csv", "train_labels.csv"):  # without the third column, id is the only one
        rows = read_table(draft.folder / name, ("id", "file_name" if name[0] == "i" else "label"))
        draft.table(name, ("id", "file_name" if name[0] == "i" else "label"), rows)
    (draft.folder / "sample_submission.csv").unlink()
    found = read_competition_folder(draft.folder)
    assert found.labels == draft.folder / "train_labels.csv"
    assert found.answer.classes == ("a", "b")


def test_rows_of_labels_without_a_file_name_are_named_by_line(draft: Draft) -> None:
    write_joined(draft, images=9)
    draft.table("sample_submission.csv", ("id", "label"), [])
    found = read_competition_folder(draft.folder)
    assert found.problems[0] == (
        "1 row without a file name in images.csv (train_labels.csv, line 11)"
    )
    with pytest.raises(DataError) as error:
        read_images(found)
    wanted = "train_labels.csv:11: "
    assert any(wanted in problem and "no row with the id s009" in problem
               for problem in error.value.problems)  # fmt: skip


def test_an_id_with_several_images_is_a_group(draft: Draft) -> None:
    write_joined(draft)
    names = [f"scan-{n * 7}.png" for n in range(10)]
    rows = [(f"p{n // 2}", name, "L") for n, name in enumerate(names)]
    draft.table("images.csv", ("patient", "file_name", "lab"), rows)
    draft.table("train_labels.csv", ("patient", "label"), [(f"p{n}", label(n)) for n in range(5)])
    (draft.folder / "sample_submission.csv").unlink()
    found = read_competition_folder(draft.folder)
    assert (found.group, found.labeled, found.train_images) == ("patient", 5, 10)
    data, _ = read_images(found)
    read = {s.id: (s.label, s.group) for s in (*data.train, *data.val)}
    assert read == {name: (n // 2 % 2, f"p{n // 2}") for n, name in enumerate(names)}


def test_tracker_toml_says_why_two_tables_are_joined(draft: Draft, tmp_path: Path) -> None:
    write_joined(draft)
    found = read_competition_folder(draft.folder)
    text = init_workspace(tmp_path / "ws", data={}, competition={}, found=found).root.joinpath(
        "tracker.toml"
    ).read_text()  # fmt: skip
    assert 'image_table = "../data/images.csv"' in text
    assert "file_name there has the file names of the ids (id)" in text.replace("\n# ", " ")


def test_a_table_of_images_can_be_given_and_must_fit(draft: Draft) -> None:
    write_joined(draft)
    given = Given(labels="train_labels.csv", image_table="images.csv", name_column="file_name")
    assert read_competition_folder(draft.folder, given).train_images == 10
    draft.table("other.csv", ("id", "note"), [("x", "y")])
    with pytest.raises(DataError, match=r"other\.csv does not name the images of train_labels"):
        read_competition_folder(
            draft.folder, Given(labels="train_labels.csv", image_table="other.csv")
        )
