"""What a workspace remembers beside its runs, and what others left in it, damaged: it is done
without, or an error says where."""

from __future__ import annotations

import json
import shutil
import zlib
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.support.damage import FEW, check_damaged
from tests.support.workspaces import make_run, make_workspace
from tracker.comparison.compared_pairs import name_pair_file, read_pair, write_pair
from tracker.core.clock import utc_now
from tracker.ledger.integrity import CHECKED_FILE, _load, _note, _read_state, check_integrity
from tracker.ledger.shared_settings import SharedSettings, read_daily_limit
from tracker.ledger.signing import _read as read_signers
from tracker.ledger.team_runs import RUNNING, TEAM, _read_running
from tracker.mirror.targets.mlflow_view import pack_view, unpack_view
from tracker.mirror.team import _read_cache
from tracker.notifications.queue import NAME, collect, count_waiting, send_queued
from tracker.notifications.webhook import Webhook
from tracker.run_folder import index, look
from tracker.run_folder.killed import KILLED_CACHE, _describe_sources, _read_cached
from tracker.run_folder.members import _read_record
from tracker.run_folder.read import list_runs, load_run
from tracker.run_folder.stop_note import STOP_NAME, is_stopped, take_stop_note
from tracker.setup.fetch import _read_done
from tracker.setup.folder.columns import read_names
from tracker.setup.folder.reading import Given, Reading
from tracker.setup.team import read_shared_tables
from tracker.submission.submit import submit
from tracker.training.config import ModelConfig
from tracker.training.formats.image_index import ImageIndex
from tracker.training.formats.images import _check, check_images
from tracker.training.formats.labels_table import LABELS_TABLE
from tracker.training.inspect.cutout import MANIFEST, CutoutResult, _load_manifest, _to_line
from tracker.training.model.hub import describe_input
from tracker.training.model.model import build_model
from tracker.workflows.adopt.recorded import _read_uid
from tracker.workflows.precision import _read_measured
from tracker.workspace.holdout import FOLDER, IMAGES, SEAL, hash_file, read_held_out
from tracker.workspace.mlflow_paths import _move_json
from tracker.workspace.number_tables import Numbers
from tracker.workspace.predictions import Answers, load_answers, unpack
from tracker.workspace.tracker_toml import Workspace


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """One with a run that was submitted."""
    workspace = make_workspace(tmp_path_factory.mktemp("damaged") / "ws")
    make_run(workspace, "0000011110", config={"optim.lr": 0.5}, note="a note")
    submit(workspace, "exp1", "first")
    return workspace


def write_json(path: Path, value: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value))
    return path


# --- .tracker ---


def test_messages_that_wait(workspace: Workspace) -> None:
    webhook = Webhook("json", "127.0.0.1", "http://127.0.0.1:9/")  # nobody listens there
    notice = {"id": "a", "time": utc_now(), "kind": "run", "text": "exp1 finished"}
    state = {
        "since": utc_now(),
        "seen": {"a": utc_now()},
        "queue": [{"to": webhook.key, "notice": notice}],
    }
    path = write_json(workspace.state_dir / NAME, state)
    content = path.read_bytes()

    def read(path: Path) -> None:
        given = path.read_bytes()
        count_waiting(workspace, [webhook])
        send_queued(workspace, [webhook], attempts=1)
        path.write_bytes(given)
        collect(workspace, [webhook])

    check_damaged(NAME, path, read, FEW)
    assert path.read_bytes() == content


def test_checked_rows_of_the_ledger(workspace: Workspace) -> None:
    state = _read_state(workspace.ledger_url)
    _note(workspace, state, check_integrity(workspace, anew=True))

    def read(_: Path) -> None:
        found = _load(workspace, state)
        assert found is None or isinstance(found.guard, str)

    check_damaged(CHECKED_FILE, workspace.state_dir / CHECKED_FILE, read)


def test_figures_of_a_pair(tmp_path: Path) -> None:
    path = name_pair_file(tmp_path, "exp1", "mina/exp2")
    figures = {"score": 0.5, "images": 10}
    write_pair(path, [1, None], figures)
    check_damaged("compared pair", path, lambda path: read_pair(path, [1, None]))


def test_runs_that_mlflow_called_running(workspace: Workspace) -> None:
    run = {"run": "exp1", "uid": "u", "author": "mina", "host": "gpu1", "created_at": utc_now()}
    state = {"asked_at": utc_now(), "uri": workspace.shown_mlflow_uri, "runs": [run]}

    def read(_: Path) -> None:
        _read_running(workspace, known=())
        _read_cache(workspace)

    check_damaged(RUNNING, write_json(workspace.root / TEAM / RUNNING, state), read)


def test_measured_precisions(tmp_path: Path) -> None:
    measured = [{"step": ["resnet18", 224], "images_per_s": {"float32": 1.0, "bfloat16": 2.0}}]
    check_damaged("precision", write_json(tmp_path / "precision.json", measured), _read_measured)


@pytest.mark.parametrize("suffix", [".npz", ".json"])
def test_checked_images(tmp_path: Path, suffix: str) -> None:
    images = [str(tmp_path / name) for name in ("a.png", "b.png")]
    Image.new("RGB", (4, 4)).save(images[0])
    Path(images[1]).write_bytes(b"no image")
    cache = tmp_path / "checks.npz"
    expected = check_images(images, cache=cache)
    path = cache.with_suffix(suffix)
    if suffix == ".json":  # of earlier versions
        cache.unlink()
        write_json(path, {name: asdict(_check(Path(name))) for name in images})

    def read(_: Path) -> None:
        found = check_images(images, cache=cache)
        if suffix == ".npz":  # its parts have checksums
            assert found == expected
        else:
            cache.unlink(missing_ok=True)

    check_damaged(f"checked images {suffix}", path, read, FEW)


def test_checked_images_that_are_said_to_be_encrypted_are_checked_anew(tmp_path: Path) -> None:
    image, cache = tmp_path / "a.png", tmp_path / "checks.npz"
    Image.new("RGB", (4, 4)).save(image)
    expected = check_images([str(image)], cache=cache)
    content = bytearray(cache.read_bytes())
    content[content.index(b"PK\x01\x02") + 8] |= 1
    cache.write_bytes(content)
    assert check_images([str(image)], cache=cache) == expected


def test_an_index_of_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(look, "FEWEST", 1)
    monkeypatch.setattr(index, "YOUNG_S", 0.0)
    workspace = make_workspace(tmp_path / "ws")
    for number in range(3):
        make_run(workspace, config={"optim.lr": 0.1 * number})
    before = list_runs(workspace.runs_dir)

    def read(_: Path) -> None:
        assert list_runs(workspace.runs_dir) == before

    check_damaged("runs.db", workspace.state_dir / "runs.db", read, FEW)


# --- A run folder ---


def test_notes_of_stop(tmp_path: Path) -> None:
    note = {"elsewhere": True, "reason": "tracker stop", "facts": {"stopped_by": "kim"}}

    def read(path: Path) -> None:
        is_stopped(path.parent)
        take_stop_note(path.parent)

    check_damaged(STOP_NAME, write_json(tmp_path / STOP_NAME, note), read)


def test_a_completed_record(workspace: Workspace) -> None:
    folder = workspace.runs_dir / "exp1"
    record = load_run(workspace.runs_dir, "exp1")
    plain = record.to_dict()
    fields = {name: plain[name] for name in ("summary", "epoch", "best_epoch", "best_at")}
    sources = _describe_sources(folder)
    path = write_json(folder / KILLED_CACHE, {"sources": sources, "record": fields})
    check_damaged(KILLED_CACHE, path, lambda _: _read_cached(folder, record, sources))
    path.unlink()


def test_the_record_of_a_member(workspace: Workspace, tmp_path: Path) -> None:
    shutil.copy(workspace.runs_dir / "exp1" / "run.json", tmp_path)
    check_damaged("run.json of a member", tmp_path / "run.json", lambda _: _read_record(tmp_path))


def test_the_run_that_a_checkpoint_names(tmp_path: Path) -> None:
    state = {"global_step": 3, "stateful_callbacks": {"tracker_run": {"name": "exp1", "uid": "u"}}}
    path = write_json(tmp_path / "trainer_state.json", state)
    check_damaged("trainer_state's run", path, lambda path: _read_uid([path]))


# --- What others left, or wrote into a server ---


def test_images_that_are_held_out(workspace: Workspace) -> None:
    folder = workspace.root / FOLDER
    folder.mkdir()
    (folder / IMAGES).write_text("id,sha256\na.png,00\n")
    seal = write_json(folder / SEAL, {"sha256": {IMAGES: hash_file(folder / IMAGES)}, "images": 1})
    check_damaged("seal of a holdout", seal, lambda _: read_held_out(workspace))
    check_damaged("held-out images", folder / IMAGES, lambda _: read_held_out(workspace))
    shutil.rmtree(folder)


def test_settings_of_a_team(tmp_path: Path) -> None:
    path = tmp_path / "shared.toml"
    path.write_text('[competition]\nname = "c"\ndaily_limit = 5\n[data]\ntrain_dir = "/a"\n')

    def read(path: Path) -> None:
        text = path.read_bytes().decode(errors="replace")
        read_daily_limit(text)
        read_shared_tables(SharedSettings(1, text))

    check_damaged("settings of a team", path, read)


def test_allowed_signers(tmp_path: Path) -> None:
    path = tmp_path / "allowed_signers"
    path.write_text("kim ssh-ed25519 AAAA\n")
    check_damaged("allowed signers", path, read_signers, FEW)


def test_a_download_that_is_done(tmp_path: Path) -> None:
    path = write_json(tmp_path / ".tracker-download.json", {"competition": "titanic"})
    check_damaged("download", path, _read_done)


def test_names_of_classes(tmp_path: Path) -> None:
    images = ImageIndex.read(tmp_path)
    reading = Reading(tmp_path, Given(), images, [])
    path = write_json(tmp_path / "names.json", {"0": "cat", "1": "dog"})
    check_damaged("names of classes", path, lambda _: read_names(reading, set()))


def test_classes_that_a_table_of_labels_has(tmp_path: Path) -> None:
    path = tmp_path / "labels.csv"
    path.write_text("id,label\na,0\nb,1\nc,2\n")
    suggest = LABELS_TABLE.suggest_classes
    check_damaged("classes of labels", path, lambda path: suggest(tmp_path, path, "label"))


def test_images_that_were_cut_out(tmp_path: Path) -> None:
    path = tmp_path / MANIFEST
    path.write_text(_to_line(CutoutResult("a.png", "grabcut", "00", "11")) * 2)
    check_damaged(MANIFEST, path, lambda _: _load_manifest(tmp_path))


def test_the_settings_of_a_model_in_a_folder(tmp_path: Path) -> None:
    settings = {
        "architecture": "test_resnet",
        "num_classes": 2,
        "pretrained_cfg": {"mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5], "crop_pct": 0.9},
    }
    path = write_json(tmp_path / "m" / "config.json", settings)
    name = f"local-dir:{tmp_path}/m"
    config = ModelConfig(name=name, pretrained=False)

    def read(_: Path) -> None:
        describe_input(name, tmp_path)
        build_model(config, num_classes=2, image_size=(32, 32), root=tmp_path)

    check_damaged("config.json", path, read, FEW)


def test_packed_answers_and_views_of_mlflow(workspace: Workspace, tmp_path: Path) -> None:
    answers = load_answers(workspace.runs_dir / "exp1" / "predictions.csv", workspace.competition)
    numbers = Answers(["a", "b"], Numbers(np.eye(2)))

    def read_packed(path: Path) -> None:
        with suppress(ValueError, zlib.error):
            unpack(path.read_bytes().decode(errors="replace"))

    path = tmp_path / "packed"
    for name, packed in (
        ("answers", answers.pack()),
        ("numbers", numbers.pack()),
        ("sketch", numbers.sketch.pack()),
    ):
        path.write_text(packed)
        check_damaged(f"packed {name}", path, read_packed)

    def read_view(path: Path) -> None:
        text = path.read_bytes().decode(errors="replace")
        _move_json(text, ["/a"], "/b")
        with suppress(ValueError):
            unpack_view(text)

    path.write_text(pack_view("view", {"a": [1]}, created_ms=5))
    check_damaged("view of MLflow", path, read_view)
