"""tracker init looks once whether timm's weights can be had, and writes what it found."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.conftest import make_pictures, run_interpreter
from tests.support.hub import CLOSED, hang, save_to_cache, serve
from tracker.run_folder.read import list_runs
from tracker.setup import pretrained
from tracker.setup.init import init_workspace
from tracker.setup.pretrained import look_for_weights
from tracker.training.errors import ConfigError
from tracker.training.tables import read_toml
from tracker.workflows.resolve import resolve_config
from tracker.workspace.tracker_toml import load_workspace


@pytest.fixture
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Empty caches of the hub's client and of torch, and no hub."""
    for name in (
        "HF_HOME",
        "HF_HUB_CACHE",
        "HUGGINGFACE_HUB_CACHE",
        "TORCH_HOME",
        "HF_HUB_OFFLINE",
    ):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_ENDPOINT", CLOSED)
    return tmp_path / "cache"


def test_weights_in_a_cache_or_an_answer_of_the_hub_are_weights_to_be_had(
    places: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert look_for_weights()[0] is False
    with serve(200) as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub)
        found, reason = look_for_weights()
        assert (found, f"{hub} answers" in reason) == (True, True)
        monkeypatch.setenv("HF_HUB_OFFLINE", "1")
        assert look_for_weights() == (False, look_for_weights()[1])
    save_to_cache(places / "huggingface" / "hub", "timm/test_resnet.r160_in1k")
    found, reason = look_for_weights()
    assert (found, "weights of test_resnet.r160_in1k are in the cache" in reason) == (True, True)


def test_weights_in_torchs_cache_count(places: Path) -> None:
    folder = places / "torch" / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    (folder / "notes.txt").write_text("")
    assert look_for_weights()[0] is False
    (folder / "resnet18-5c106cde.pth").write_bytes(b"")
    assert look_for_weights()[0] is True


def test_a_hub_that_hangs_is_not_waited_for(places: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pretrained, "LOOK_LIMIT_S", 0.3)
    with hang() as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub)
        found, reason = look_for_weights()
    assert (found, f"no answer from {hub} in 0.3 s" in reason) == (False, True)


def test_init_writes_and_says_what_it_found(places: Path, tmp_path: Path) -> None:
    make_pictures(tmp_path, per_class=2, to_predict=2)
    images = ("--train-dir", tmp_path / "train")
    done = run_interpreter("init", tmp_path / "ws", *images, cwd=tmp_path)
    assert (
        f"model.pretrained = false: no weights in the cache, cannot reach {CLOSED}" in done.stdout
    )
    assert read_toml(tmp_path / "ws" / "tracker.toml")["model"] == {"pretrained": False}
    done = run_interpreter("init", tmp_path / "yes", "--pretrained", *images, cwd=tmp_path)
    assert "model.pretrained" not in done.stdout
    workspace = load_workspace(tmp_path / "yes")
    assert workspace.defaults["model"] == {"pretrained": True}
    assert resolve_config(workspace).model.pretrained is True
    assert (
        resolve_config(workspace, assignments=("model.pretrained=false",)).model.pretrained is False
    )


def test_init_looks_only_when_nothing_else_is_wrong(tmp_path: Path) -> None:
    def look() -> bool:
        raise AssertionError

    workspace = init_workspace(tmp_path / "ws", data={}, competition={})
    with pytest.raises(ConfigError, match="already"):
        init_workspace(workspace.root, data={}, competition={}, pretrained=look)


@pytest.mark.slow
def test_a_training_without_weights_ends_in_two_lines_and_makes_no_run(
    places: Path, tmp_path: Path
) -> None:
    root = tmp_path / "ws"
    make_pictures(root, per_class=4, to_predict=2)
    init_workspace(
        root, data={"train_dir": str(root / "train")}, competition={}, pretrained=lambda: True
    )
    with hang() as hub:
        done = run_interpreter(
            "run", "train", "--model", "test_resnet", cwd=root, ok=False, HF_ENDPOINT=hub
        )
    first, second = done.stderr.splitlines()
    assert done.returncode == 1
    assert f"no pretrained weights of test_resnet: no answer from {hub}" in first
    assert "--set model.pretrained=FILE" in second
    assert "--set model.pretrained=false" in second
    assert list_runs(root / "runs") == []
