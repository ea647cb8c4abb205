"""Every file that we read, damaged in thousands of ways: an error of ours in one line, or it is
read, never a bug.

The suite tries the same variants on every machine; `make fuzz` goes on for ten seconds over each
format. What a workspace remembers is in test_damaged_state.py.
"""

from __future__ import annotations

import contextlib
import io
import json
import shutil
import struct
import warnings
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from torch.utils.tensorboard import SummaryWriter

from tests.conftest import run_tracker
from tests.support.damage import FEW, check_damaged
from tests.support.workspaces import make_run, make_workspace
from tracker.console.runs import print_runs, runs_to_json
from tracker.core.clock import utc_now
from tracker.core.errors import LedgerError, TrackerError
from tracker.jobs.queue import _Queue, read_queue
from tracker.jobs.sweep_file import read_sweep
from tracker.ledger.append import open_ledger
from tracker.ledger.chain import verify_ledger
from tracker.ledger.heads import list_file_heads, load_memory, parse_head
from tracker.ledger.read import list_submissions
from tracker.ledger.submission_table import export_table, read_submission_table
from tracker.ledger.transfer import copy_ledger
from tracker.mirror.pull import _read_manifest
from tracker.mirror.targets import read_state
from tracker.run_folder.event_log import read_event_log
from tracker.run_folder.points import read_curves, read_new_points
from tracker.run_folder.read import list_runs, load_config
from tracker.run_folder.record import read_marks
from tracker.setup.folder import read_competition_folder as read_folder
from tracker.setup.folder.tables import load_table
from tracker.setup.unpack import unpack_all
from tracker.submission.submit import submit
from tracker.training.config import AugmentConfig, DataConfig
from tracker.training.config_reading import config_from_dict
from tracker.training.data.exclude import Exclude
from tracker.training.data.fold_file import FoldFile
from tracker.training.errors import ConfigError, DataError, StorageError
from tracker.training.formats.images import _check, decode_image
from tracker.training.formats.images import read_header as read_picture_header
from tracker.training.formats.label_fixes import LabelFixes
from tracker.training.formats.samples import Task
from tracker.training.model.weights import read_state_dict
from tracker.training.predict.decide import load_decision
from tracker.training.predict.probabilities import load_probabilities
from tracker.training.run.checkpoint import load_checkpoint, save_checkpoint
from tracker.training.tables import parse_toml_value, read_table
from tracker.workflows.adopt.adopt import _load_config
from tracker.workflows.adopt.logs import read_series, read_times
from tracker.workflows.reproduce import _load_environment
from tracker.workspace.moved_paths import read_location
from tracker.workspace.predictions import load_answers
from tracker.workspace.secrets_file import SECRETS, read_secrets
from tracker.workspace.tracker_toml import Workspace, load_workspace


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """One with a run that was submitted."""
    workspace = make_workspace(tmp_path_factory.mktemp("damaged") / "ws")
    make_run(workspace, "0000011110", config={"optim.lr": 0.5}, note="a note")
    submit(workspace, "exp1", "first")
    return workspace


def test_metrics_jsonl(workspace: Workspace) -> None:
    def read(path: Path) -> None:
        read_curves(path)
        for _, point in read_new_points(path, 0):
            if point is not None:
                assert {"time", "step", "epoch", "values"} <= set(point)
                round(point["time"] * 1000)

    path = workspace.runs_dir / "exp1" / "metrics.jsonl"
    path.write_text(path.read_text() * 3)
    check_damaged("metrics.jsonl", path, read)


def test_a_point_without_step_epoch_or_time_is_left_out(tmp_path: Path) -> None:
    whole = {"time": 1.0, "step": 1, "epoch": 1, "values": {"a": 1.0}}
    lacking = [{key: value for key, value in whole.items() if key != name} for name in whole]
    wrong = [
        {**whole, name: value}
        for name in ("time", "step", "epoch")
        for value in ("x", None, True, 10**400, [])
    ]
    huge = {**whole, "values": {"a": 10**400}}
    lines = [json.dumps(point) for point in (*lacking, *wrong, huge, {**whole, "step": 2})]
    (tmp_path / "metrics.jsonl").write_text("\n".join([*lines, "[" * 100_000, ""]))
    assert read_curves(tmp_path / "metrics.jsonl") == {"a": {2: (1, 1.0)}}


def test_run_json(workspace: Workspace) -> None:
    def read(path: Path) -> None:
        records = list_runs(path.parent.parent)
        with contextlib.redirect_stdout(io.StringIO()):
            print_runs(records, {}, {}, workspace.competition)
        json.dumps(list(runs_to_json(records, lambda name: None, {}, {})))

    check_damaged("run.json", workspace.runs_dir / "exp1" / "run.json", read)


def test_config_toml_of_a_run(workspace: Workspace) -> None:
    def read(path: Path) -> None:
        config_from_dict(load_config(path.parent.parent, path.parent.name))

    path = workspace.runs_dir / "exp1" / "config.toml"
    whole = path.read_text()
    path.write_text(whole.replace('name = "adamw"', 'name = "x"'))
    with pytest.raises(ConfigError):  # it imports torch and timm, which is no part of the reading
        read(path)
    path.write_text(whole)
    check_damaged("config.toml", path, read)


def test_tracker_toml(workspace: Workspace) -> None:
    check_damaged(
        "tracker.toml", workspace.root / "tracker.toml", lambda path: load_workspace(path.parent)
    )


def test_predictions_csv(workspace: Workspace) -> None:
    path = workspace.runs_dir / "exp1" / "predictions.csv"
    check_damaged("predictions.csv", path, lambda path: load_answers(path, workspace.competition))


def test_a_solution(workspace: Workspace) -> None:
    columns = ("ImageID", "ans", "Usage")
    check_damaged(
        "solution.csv", workspace.root / "solution.csv", lambda path: read_table(path, columns)
    )


def test_label_fixes(tmp_path: Path) -> None:
    path = tmp_path / "fixes.csv"
    path.write_text(
        "id,field,value,accept\n1498-1,gender,female,yes\n1498-1,age,45,no\ncat/7.png,label,dog,yes\n"
    )
    check_damaged("label fixes", path, lambda path: LabelFixes.read(path, []).fix_age("1498-1", 30))


@pytest.mark.parametrize("suffix", [".csv", ".json"])
def test_hand_kept_tables(tmp_path: Path, workspace: Workspace, suffix: str) -> None:
    path = tmp_path / f"kept{suffix}"
    rows = [
        {
            "number": 1,
            "memo": "m",
            "public_f1": "0.75",
            "val_acc": "76.5",
            "optim.lr": "0.1",
            "who": "kim",
        }
    ]
    text = ",".join(rows[0]) + "\n" + ",".join(map(str, rows[0].values())) + "\n"
    path.write_text(text if suffix == ".csv" else json.dumps(rows))
    check_damaged(
        f"hand-kept {suffix}", path, lambda path: read_submission_table(path, workspace.competition)
    )


@pytest.mark.parametrize("suffix", [".csv", ".json"])
def test_an_exported_ledger(tmp_path: Path, workspace: Workspace, suffix: str) -> None:
    path = tmp_path / f"export{suffix}"
    export_table(workspace, path)
    check_damaged(
        f"export {suffix}", path, lambda path: read_submission_table(path, workspace.competition)
    )


def test_a_queue(tmp_path: Path) -> None:
    path = tmp_path / "night.toml"
    path.write_text(
        '[[run]]\nconfig = "base.toml"\nnote = "b"\nepochs = 3\n[[run]]\nfrom = "latest"\nforce ='
        ' true\nset = { loss.name = "f1", augment.noise = 0.05 }\n'
    )
    check_damaged("queue", path, read_queue)


def test_a_sweep(tmp_path: Path) -> None:
    path = tmp_path / "lr.toml"
    path.write_text(
        'trials = 4\npruner = "median"\nmonitor = "val/f1"\nseed = 0\n[base]\nepochs = 3\n[space]\n'
        "optim.lr = { low = 1e-5, high = 1e-2, log = true }\n"
        'train.batch_size = { low = 16, high = 64, step = 16 }\nloss.name = ["focal", "f1"]\n'
        "[[first]]\noptim.lr = 1e-3\n"
    )
    check_damaged("sweep", path, read_sweep)


def test_probabilities(tmp_path: Path) -> None:
    path = tmp_path / "probabilities.npz"
    np.savez(
        path,
        ids=np.array(["a", "b"]),
        probabilities=np.eye(2, dtype=np.float32),
        classes=np.array(["c", "d"]),
    )
    check_damaged("probabilities.npz", path, load_probabilities)


@pytest.mark.parametrize("suffix", [".yaml", ".json"])
def test_a_pipeline(tmp_path: Path, suffix: str) -> None:
    import albumentations as albu

    from tracker.training.input.augment import build_pipeline

    path = tmp_path / f"own{suffix}"
    steps = albu.Compose([albu.Resize(32, 32), albu.HorizontalFlip(p=0.5), albu.Normalize()])
    albu.save(steps, path, data_format=suffix[1:])

    def read(path: Path) -> None:
        augment = AugmentConfig(name=path.name)
        build_pipeline(augment, DataConfig(image_size=(32, 32)), train=True, root=tmp_path)

    check_damaged(f"pipeline {suffix}", path, read, variants=80)  # each tries its steps on pictures


def test_a_pipeline_with_two_means_for_three_channels_is_a_config_error(tmp_path: Path) -> None:
    import albumentations as albu

    from tracker.training.input.augment import build_pipeline

    path = tmp_path / "own.yaml"
    albu.save(albu.Compose([albu.Normalize(mean=(0.1, 0.2))]), path, data_format="yaml")
    with pytest.raises(TrackerError, match=r"own\.yaml is not an albumentations pipeline"):
        build_pipeline(
            AugmentConfig(name="own.yaml"),
            DataConfig(image_size=(32, 32)),
            train=True,
            root=tmp_path,
        )


def test_a_pipeline_that_divides_by_zero_is_a_config_error(tmp_path: Path) -> None:
    import albumentations as albu

    from tracker.training.input.augment import build_pipeline

    albu.save(
        albu.Compose([albu.Normalize(std=(0.5, 0.5, 0.5))]),
        tmp_path / "own.yaml",
        data_format="yaml",
    )
    (tmp_path / "own.yaml").write_text((tmp_path / "own.yaml").read_text().replace("- 0.5", "- 0"))
    with pytest.raises(TrackerError, match="divide by zero"):
        build_pipeline(
            AugmentConfig(name="own.yaml"),
            DataConfig(image_size=(32, 32)),
            train=True,
            root=tmp_path,
        )


@pytest.mark.parametrize("suffix", [".yaml", ".json", ".toml"])
def test_the_config_of_an_adopted_run(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"config{suffix}"
    texts = {
        ".yaml": (
            "lr: 2e-5\nmodel: &m {name: x, at: 2021-08-23}\nlist: [1, two, *m]\nmore:\n  <<: *m\n"
        ),
        ".json": '{"lr": 2e-5, "model": {"name": "x"}, "list": [1, "two"]}',
        ".toml": 'lr = 2e-5\n[model]\nname = "x"\n',
    }
    path.write_text(texts[suffix])
    check_damaged(f"adopted {suffix}", path, _load_config)


def test_what_is_only_a_help_is_done_without(workspace: Workspace, tmp_path: Path) -> None:
    (tmp_path / "location.json").write_text(json.dumps({"root": "/a", "earlier": ["/b"]}))
    check_damaged("location.json", tmp_path / "location.json", read_location)
    environment = workspace.runs_dir / "exp1" / "env.json"
    check_damaged(
        "env.json",
        environment,
        lambda path: dict(_load_environment(workspace, "exp1").get("packages", {})),
    )


def test_values_of_set(tmp_path: Path) -> None:
    check_file = tmp_path / "value"
    check_file.write_bytes(b'[1, 2.5, "x", true]')
    check_damaged(
        "--set",
        check_file,
        lambda path: parse_toml_value(path.read_bytes().decode(errors="replace")),
    )


# --- What runs leave, and what people bring: weights, pictures, logs, archives, a ledger ---

TASK = Task(classes=("cat", "dog"), id_column="id", label_column="label", answer_words=("0", "1"))


def test_marks_json(workspace: Workspace) -> None:
    folder = workspace.runs_dir / "exp1"
    marks = {"tags": ["best"], "archived_at": utc_now(), "freed": {"last.pth": utc_now()}}
    (folder / "marks.json").write_text(json.dumps(marks))
    try:
        check_damaged("marks.json", folder / "marks.json", lambda _: read_marks(folder))
    finally:
        (folder / "marks.json").unlink()


def test_events_jsonl(workspace: Workspace) -> None:
    folder = workspace.runs_dir / "exp1"
    check_damaged("events.jsonl", folder / "events.jsonl", lambda _: list(read_event_log(folder)))


def test_states_of_copies_and_queues(workspace: Workspace, tmp_path: Path) -> None:
    state = {"run_id": "a", "offset": 5, "files": {"best.pth": [1, 2]}, "stamps": {"f1": [1, 2]}}
    (tmp_path / "mlflow.json").write_text(json.dumps(state))
    check_damaged("mlflow.json", tmp_path / "mlflow.json", read_state)
    entry = {"run": "exp1", "status": "finished", "pid": 1, "started": utc_now()}
    (tmp_path / "state.json").write_text(json.dumps({"0123456789ab-1": entry}))
    queue = Path("night.toml")
    check_damaged(
        "state.json", tmp_path / "state.json", lambda path: _Queue(workspace, queue, path)
    )


def test_heads_that_were_seen(workspace: Workspace) -> None:
    check_damaged("heads", workspace.state_dir / "heads", lambda _: load_memory(workspace))
    (head,) = workspace.submissions_dir.glob("*.head")
    check_damaged("a head beside a file", head, lambda _: list_file_heads(workspace))


def test_the_manifest_of_a_teammates_run(tmp_path: Path) -> None:
    path = tmp_path / "record.json"
    files = {"config.toml": {"size": 5, "sha256": "ab"}}
    path.write_text(json.dumps({"format": 1, "record": {"name": "exp1"}, "files": files}))
    run = SimpleNamespace(name="mina/exp1", run="exp1", host="gpu1", author="mina")
    check_damaged("record.json", path, lambda path: _read_manifest(run, path))  # type: ignore[arg-type]


def test_secrets_and_decisions(tmp_path: Path) -> None:
    (tmp_path / ".tracker").mkdir()
    secrets = tmp_path / SECRETS
    secrets.write_text(
        'mlflow_uri = "http://kim:x@127.0.0.1:5000"\nledger_url = "sqlite:///l.db"\n'
    )
    check_damaged("secrets.toml", secrets, lambda _: read_secrets(tmp_path))
    (tmp_path / "decision.json").write_text(
        json.dumps({"rule": "threshold", "values": [0.4], "note": "n"})
    )
    check_damaged(
        "decision.json", tmp_path / "decision.json", lambda _: load_decision(tmp_path, TASK)
    )


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")  # of torch, before its error
@pytest.mark.filterwarnings("ignore:TypedStorage is deprecated")
def test_weights(tmp_path: Path) -> None:
    state = {"layer.weight": torch.arange(6.0).reshape(2, 3), "layer.bias": torch.zeros(2)}
    save_checkpoint(tmp_path / "best.pth", {"model": state, "epoch": 1, "classes": ["a", "b"]})
    check_damaged("best.pth", tmp_path / "best.pth", load_checkpoint, FEW)
    check_damaged("foreign .pth", tmp_path / "best.pth", read_state_dict, FEW)
    save_file(state, tmp_path / "model.safetensors")
    check_damaged("safetensors", tmp_path / "model.safetensors", read_state_dict, FEW)
    torch.save(state, tmp_path / "old.pth", _use_new_zipfile_serialization=False)
    check_damaged("old .pth", tmp_path / "old.pth", read_state_dict, FEW)


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".tif", ".gif", ".bmp"])
def test_photographs(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a{suffix}"
    noise = np.random.default_rng(0).integers(0, 255, (20, 24, 3), dtype=np.uint8)
    Image.fromarray(noise).save(path)

    def read(path: Path) -> None:
        _check(path)
        with contextlib.suppress(DataError):
            read_picture_header(path)
        decode_image(path)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of Pillow, about tags and large pictures
        check_damaged(f"picture {suffix}", path, read, FEW)


def test_a_png_that_claims_more_than_it_has_takes_no_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.png"
    Image.new("RGB", (8, 8)).save(path)
    whole = np.fromfile(path, dtype=np.uint8)
    assert decode_image(path, whole).shape == (8, 8, 3)
    asked: list[int] = []
    monkeypatch.setattr("cv2.imdecode", lambda *_: asked.append(1))
    content = path.read_bytes()
    place = content.index(b"IDAT") - 4
    path.write_bytes(content[:place] + b"\x7f\xff\xff\x00" + content[place + 4 :])
    assert decode_image(path).shape == (8, 8, 3)  # by Pillow, which reads what is there
    assert not asked


def test_a_tiff_of_more_rows_than_it_has_is_corrupt(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    Image.new("RGB", (8, 8)).save(path)
    assert not _check(path).problem
    assert decode_image(path).shape == (8, 8, 3)
    content = path.read_bytes()
    rows = struct.pack("<HHIHH", 257, 4, 1, 8, 0)
    if rows not in content:
        rows = struct.pack("<HHIHH", 257, 3, 1, 8, 0)
    assert content.count(rows) == 1
    path.write_bytes(content.replace(rows, struct.pack("<HHII", 257, 4, 1, 9_000_000)))
    assert _check(path).problem == "corrupt (8 of 9000000 rows)"
    with pytest.raises(DataError):
        decode_image(path)


def test_a_file_without_a_name_in_an_archive_is_damage(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("x", "1")
    content = (tmp_path / "a.zip").read_bytes()
    entry = content.rindex(b"PK\x01\x02")
    (tmp_path / "a.zip").write_bytes(
        content[: entry + 28] + b"\0\0" + content[entry + 30 : entry + 46] + content[entry + 47 :]
    )
    with pytest.raises(StorageError, match="cannot be unpacked"):
        unpack_all(tmp_path / "a.zip", tmp_path / "out")


@pytest.mark.parametrize("digits", [5000, 20])
def test_a_head_with_more_digits_than_a_row_has_is_damage(digits: int) -> None:
    assert parse_head(f"{'9' * digits}:{'0' * 64}@{utc_now()}@{utc_now()}", "here") is None


def test_logs_of_other_programs(tmp_path: Path) -> None:
    with SummaryWriter(str(tmp_path)) as writer:
        for step in range(3):
            writer.add_scalar("val/f1", step / 3, step)
    (events,) = tmp_path.glob("events.out*")
    check_damaged("events.out", events, lambda path: read_series([path], tmp_path), FEW)
    check_damaged("times", events, lambda path: read_times([path]), FEW)
    state = {"log_history": [{"loss": 0.5, "epoch": 1.0, "step": 3}, {"eval_f1": 0.7, "step": 3}]}
    (tmp_path / "trainer_state.json").write_text(json.dumps(state))
    path = tmp_path / "trainer_state.json"
    check_damaged("trainer_state", path, lambda path: read_series([path], tmp_path))
    (tmp_path / "metrics.csv").write_text("epoch,step,val_f1\n1,3,0.5\n2,6,0.6\n")
    check_damaged(
        "metrics.csv", tmp_path / "metrics.csv", lambda path: read_series([path], tmp_path)
    )


def test_tables_of_a_competition_folder(tmp_path: Path) -> None:
    path = tmp_path / "train.csv"
    path.write_text("id,label,fold\na,cat,0\nb,dog,1\nc,cat,val\n")
    check_damaged("train.csv", path, load_table)
    folds = DataConfig(fold_file="train.csv")
    check_damaged("fold file", path, lambda _: FoldFile.read(folds, TASK, tmp_path))
    path.write_text("path,reason\ncat/1.png,blurred\ndog/*,all\n")

    def exclude(_: Path) -> None:
        Exclude.read("train.csv", tmp_path, [], folders=["train"], id_column="id").covers("cat/1")

    check_damaged("exclude", path, exclude)


@pytest.mark.parametrize("name", ["train.csv", "sample_submission.csv", "classes.json"])
def test_a_competition_folder(tmp_path: Path, name: str) -> None:
    for part in ("train", "test"):
        (tmp_path / part).mkdir()
        for number in range(4):
            Image.new("RGB", (2, 2)).save(tmp_path / part / f"{number}.png")
    (tmp_path / "train.csv").write_text("id,label\n0,0\n1,1\n2,0\n3,1\n")
    (tmp_path / "sample_submission.csv").write_text("id,label\n0,0\n1,0\n2,0\n3,0\n")
    (tmp_path / "classes.json").write_text('{"0": "cat", "1": "dog"}')
    check_damaged(f"folder with {name}", tmp_path / name, lambda _: read_folder(tmp_path), FEW)


@pytest.mark.parametrize("suffix", [".zip", ".tar", ".tar.gz", ".tar.xz", ".tar.bz2"])
def test_archives(tmp_path: Path, suffix: str) -> None:
    content = tmp_path / "content"
    content.mkdir()
    (content / "a.csv").write_text("id,label\n" * 20)
    kinds = {".zip": "zip", ".tar": "tar"}
    kind = kinds.get(suffix, f"{suffix.removeprefix('.tar.').removesuffix('2')}tar")
    path = Path(shutil.make_archive(str(tmp_path / "data"), kind, content))

    def read(path: Path) -> None:
        shutil.rmtree(tmp_path / "out", ignore_errors=True)
        (tmp_path / "out").mkdir()
        unpack_all(path, tmp_path / "out")
        assert {one.name for one in tmp_path.iterdir() if one.is_dir()} == {"content", "out"}

    check_damaged(f"archive {suffix}", path, read, FEW)


def test_a_ledger(workspace: Workspace, tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    shutil.copy(workspace.root / "ledger.db", path)
    own = replace(workspace, ledger_url=f"sqlite:///{path}")

    def read(_: Path) -> None:
        list_submissions(own)
        verify_ledger(own.ledger_url)
        copy = tmp_path / "copy.db"
        copy.unlink(missing_ok=True)
        copy_ledger(own.ledger_url, copy)

    check_damaged("ledger.db", path, read, FEW)


def test_a_ledger_whose_damage_is_in_the_text_of_the_error_is_named(
    workspace: Workspace, tmp_path: Path
) -> None:
    path = tmp_path / "ledger.db"
    content = (workspace.root / "ledger.db").read_bytes()
    path.write_bytes(content.replace(b"CREATE TABLE submissions", b"CREATE TABLX \xe3ubmissions"))
    own = replace(workspace, ledger_url=f"sqlite:///{path}")
    readers: tuple[Callable[[], object], ...] = (
        lambda: list_submissions(own),
        lambda: copy_ledger(own.ledger_url, tmp_path / "copy.db"),
        lambda: open_ledger(own).__enter__(),
    )
    for read in readers:
        with pytest.raises(LedgerError, match="not a readable ledger"):
            read()


def test_a_row_with_damaged_json_is_an_error_that_says_where_to_look(
    workspace: Workspace, tmp_path: Path
) -> None:
    path = tmp_path / "ledger.db"
    content = (workspace.root / "ledger.db").read_bytes()
    assert content.count(b'{"augment"') == 1
    path.write_bytes(content.replace(b'{"augment"', b'{"augment:'))
    with pytest.raises(LedgerError, match="a row of the ledger is damaged") as caught:
        list_submissions(replace(workspace, ledger_url=f"sqlite:///{path}"))
    assert "tracker ledger verify" in caught.value.hint


# --- Nested without end ---

DEEP_JSON = "[" * 100_000 + "]" * 100_000
DEEP_TOML = f"a = {DEEP_JSON}\n"
DOTTED_TOML = "a." * 100_000 + "a = 1\n"
LAUGHS = "a0: &a0 [x, x]\n" + "".join(
    f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 30)
)
MERGES = "a0: &a0 {x: 1}\n" + "".join(
    f"a{n}: &a{n}\n  <<: [{', '.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 30)
)
ITSELF = "a: &a [*a]\n"
YAMLS = (DEEP_JSON, LAUGHS, MERGES, ITSELF)


@pytest.mark.slow
def test_nested_files_end_commands_in_one_line(workspace: Workspace, tmp_path: Path) -> None:
    (tmp_path / "deep.toml").write_text(DEEP_TOML)
    (tmp_path / "dotted.toml").write_text(DOTTED_TOML)
    (tmp_path / "deep.json").write_text(DEEP_JSON)
    (tmp_path / "laughs.yaml").write_text(LAUGHS)
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.yaml").write_text(LAUGHS)
    commands: list[tuple[str, ...]] = [
        ("run", "train", str(tmp_path / "deep.toml")),
        ("run", "train", str(tmp_path / "dotted.toml")),
        ("run", "train", "--set", f"augment.name={tmp_path / 'laughs.yaml'}"),
        ("run", "train", "--set", f"data.image_size={'[' * 50_000}"),
        ("run", "queue", str(tmp_path / "deep.toml")),
        ("run", "sweep", str(tmp_path / "dotted.toml")),
        ("ledger", "import", str(tmp_path / "deep.json")),
        ("adopt", str(tmp_path / "run")),
    ]
    for words in commands:
        done = run_tracker(*words, cwd=workspace.root, ok=False)
        assert done.returncode == 2, (words[:2], done.stderr)
        assert "this is a bug" not in done.stderr
        assert len(done.stderr.splitlines()) <= 3, done.stderr[:500]


@pytest.mark.parametrize("text", YAMLS)
def test_a_yaml_without_end_is_a_config_error(tmp_path: Path, text: str) -> None:
    (tmp_path / "config.yaml").write_text(text)
    with pytest.raises(TrackerError) as caught:
        _load_config(tmp_path / "config.yaml")
    assert caught.value.exit_code == 2
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", [DEEP_TOML, DOTTED_TOML])
def test_a_nested_tracker_toml_is_a_config_error(workspace: Workspace, text: str) -> None:
    path = workspace.root / "tracker.toml"
    whole = path.read_text()
    path.write_text(text)
    try:
        with pytest.raises(TrackerError, match="nested") as caught:
            load_workspace(workspace.root)
        assert caught.value.exit_code == 2
    finally:
        path.write_text(whole)


def test_patterns_of_where_print_no_warnings(workspace: Workspace) -> None:
    for pattern in ("[[a]]", "a{1", r"[a--b]", r"\\d[a&&b]"):
        done = run_tracker(
            "compare", "--where", f'model.name ~ "{pattern}"', cwd=workspace.root, ok=False
        )
        assert "Warning" not in done.stderr, done.stderr
