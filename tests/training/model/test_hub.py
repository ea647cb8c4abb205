"""Names and weights of timm's models: its own list, folders, the cache of the hub, and a hub that
does not answer."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import torch
from huggingface_hub import constants

from tests.support.hub import CLOSED, hang, save_model, save_to_cache, serve
from tracker.training.config import ModelConfig
from tracker.training.errors import ConfigError, WeightsError
from tracker.training.model import hub as hub_module
from tracker.training.model.hub import ModelSource, ask, describe_input, find_source
from tracker.training.model.model import build_model, check_model

NAME = "test_resnet.r160_in1k"


def build(name: str, *, pretrained: bool = False, root: Path = Path()) -> torch.nn.Module:
    config = ModelConfig(name=name, pretrained=pretrained)
    return build_model(config, num_classes=3, image_size=(32, 32), root=root)


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache of the hub's client, and no hub."""
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "ENDPOINT", CLOSED)
    monkeypatch.setattr(
        constants,
        "HUGGINGFACE_CO_URL_TEMPLATE",
        CLOSED + "/{repo_id}/resolve/{revision}/{filename}",
    )
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setattr(logging.getLogger("huggingface_hub"), "level", logging.WARNING)
    return tmp_path / "hub"


@contextmanager
def serve_file(content: bytes, *, sent: int | None = None) -> Iterator[tuple[str, list[str]]]:
    """A hub that has one file, of which it sends `sent` bytes and then nothing; and the requests
    that it got."""
    requests: list[str] = []
    ended = threading.Event()

    class Handler(BaseHTTPRequestHandler):
        def answer(self, status: int, length: int) -> None:
            requests.append(f"{self.command} {self.headers.get('Range', '')}".strip())
            self.send_response(status)
            headers = {"ETag": '"abc"', "X-Repo-Commit": "a" * 40, "Content-Length": str(length)}
            for key, value in headers.items():
                self.send_header(key, value)
            self.end_headers()

        def do_HEAD(self) -> None:
            found = self.path.endswith("/model.safetensors")
            self.answer(200 if found else 404, len(content) if found else 0)

        def do_GET(self) -> None:
            if self.headers.get("Range") == "bytes=0-0":
                self.answer(206, 1)
                self.wfile.write(content[:1])
                return
            self.answer(200, len(content))
            self.wfile.write(content[:sent])
            if sent is not None:
                self.wfile.flush()
                ended.wait(60)

        def log_message(self, *_args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", requests
    finally:
        ended.set()
        server.shutdown()
        server.server_close()
        thread.join()


def use_hub(monkeypatch: pytest.MonkeyPatch, address: str) -> None:
    """What HF_ENDPOINT says to the hub's client when it is imported."""
    monkeypatch.setattr(constants, "ENDPOINT", address)
    monkeypatch.setattr(
        constants,
        "HUGGINGFACE_CO_URL_TEMPLATE",
        address + "/{repo_id}/resolve/{revision}/{filename}",
    )


@pytest.mark.parametrize(
    ("name", "source"),
    [
        ("resnet18", ModelSource("timm", "resnet18")),
        ("resnet18.a1_in1k", ModelSource("timm", "resnet18.a1_in1k")),
        ("timm/resnet18.a1_in1k", ModelSource("timm", "resnet18.a1_in1k")),
        ("hf-hub:timm/resnet18.a1_in1k", ModelSource("timm", "resnet18.a1_in1k")),
        ("hf_hub:timm/resnet18.a1_in1k", ModelSource("timm", "resnet18.a1_in1k")),
        ("hf-hub:timm/resnet18.a1_in1k@v1", ModelSource("hf-hub", "timm/resnet18.a1_in1k@v1")),
        ("hf-hub:someone/net", ModelSource("hf-hub", "someone/net")),
        ("local-dir:nets/mine", ModelSource("local-dir", "/ws/nets/mine")),
    ],
)
def test_names_are_found_as_timm_takes_them(name: str, source: ModelSource) -> None:
    assert find_source(name, Path("/ws")) == source


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("resnt18", "nearest: resnet18"),
        ("resnet18.a1_in2k", "nearest: resnet18.a1_in1k"),
        ("timm/resnt18.a1_in1k", "nearest: timm/resnet18.a1_in1k"),
        ("hf-hub:timm/resnet18.a1_in2k", "nearest: hf-hub:timm/resnet18.a1_in1k"),
        ("someone/net", "hf-hub:someone/net of the hub"),
        ("hub:resnet18", "nearest: "),
        ("hf-hub:", "nearest: none"),
        ("", "nearest: none"),
    ],
)
def test_other_names_get_the_nearest(name: str, hint: str) -> None:
    with pytest.raises(ConfigError) as caught:
        find_source(name, Path())
    assert hint in caught.value.hint
    assert f"timm has no model {name!r}" in str(caught.value)


@pytest.mark.parametrize("name", [f"timm/{NAME}", f"hf-hub:timm/{NAME}"])
def test_a_name_of_the_hub_is_made_without_the_hub(cache: Path, name: str) -> None:
    torch.manual_seed(1)
    model = build(name).state_dict()
    torch.manual_seed(1)
    assert all(
        torch.equal(value, model[key]) for key, value in build("test_resnet").state_dict().items()
    )
    assert describe_input(name, Path())["data"] == {"mean": (0.5, 0.5, 0.5), "std": (0.5, 0.5, 0.5)}


def test_what_a_model_was_trained_with_is_timms(cache: Path, tmp_path: Path) -> None:
    found = describe_input("resnet18", tmp_path)
    assert found["data"] == {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}
    assert found["augment"] == {"crop_pct": 0.95, "crop_mode": "center", "interpolation": "bicubic"}
    save_model(tmp_path / "mine")
    mine = describe_input("local-dir:mine", tmp_path)
    assert mine["data"]["mean"] == (0.1, 0.2, 0.3)
    assert mine["augment"] == {"crop_pct": 0.8, "crop_mode": "center", "interpolation": "bilinear"}


@pytest.mark.parametrize("source", ["folder", "hub", "timm"])
def test_weights_of_a_folder_and_of_the_cache_are_loaded_without_the_hub(
    cache: Path, tmp_path: Path, source: str
) -> None:
    if source == "folder":
        name, state = "local-dir:mine", save_model(tmp_path / "mine")
    elif source == "hub":
        name, state = "hf-hub:someone/net", save_to_cache(cache, "someone/net")
    else:
        name, state = "test_resnet", save_to_cache(cache, f"timm/{NAME}")
    check_model(ModelConfig(name=name, pretrained=True), root=tmp_path)
    model = build(name, pretrained=True, root=tmp_path).state_dict()
    assert torch.equal(model["conv1.0.weight"], state["conv1.0.weight"])
    assert model["fc.weight"].shape[0] == 3
    assert not torch.equal(
        build(name, root=tmp_path).state_dict()["conv1.0.weight"], state["conv1.0.weight"]
    )


@pytest.mark.parametrize("name", ["test_resnet", "hf-hub:someone/net", f"timm/{NAME}"])
def test_weights_that_cannot_be_had_are_two_lines_with_the_two_ways_on(
    cache: Path, name: str
) -> None:
    with pytest.raises(WeightsError) as caught:
        build(name, pretrained=True)
    assert str(caught.value).endswith(f"cannot reach {CLOSED} ([Errno 111] Connection refused)")
    assert len(str(caught.value).splitlines()) == 1
    assert caught.value.reason == "no pretrained weights"


def test_weights_are_downloaded_once_before_anything_else_is_made(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = save_model(tmp_path / "there")
    content = (tmp_path / "there" / "model.safetensors").read_bytes()
    chunk, xet = constants.DOWNLOAD_CHUNK_SIZE, constants.HF_HUB_DISABLE_XET
    with serve_file(content) as (hub, requests):
        use_hub(monkeypatch, hub)
        check_model(ModelConfig(name="test_resnet", pretrained=True), root=tmp_path)
        assert "GET" in requests
        before = len(requests)
        model = build("test_resnet", pretrained=True).state_dict()
        assert len(requests) == before
    assert torch.equal(model["conv1.0.weight"], state["conv1.0.weight"])
    assert (chunk, xet) == (constants.DOWNLOAD_CHUNK_SIZE, constants.HF_HUB_DISABLE_XET)


@pytest.mark.parametrize(
    "case", [(1 << 20, 1.0, 1), (1000, 5.0, 6)]
)  # bytes, seconds before and after them
def test_a_download_that_stands_still_is_given_up_without_another_try(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, case: tuple[int, float, int]
) -> None:
    under_way, answer_s, told = case
    monkeypatch.setattr(hub_module, "ANSWER_LIMIT_S", answer_s)
    monkeypatch.setattr(hub_module, "STALL_LIMIT_S", 6.0)
    monkeypatch.setattr(hub_module, "UNDER_WAY", under_way)
    with serve_file(b"x" * (1 << 21), sent=1 << 18) as (hub, requests):
        use_hub(monkeypatch, hub)
        with pytest.raises(
            WeightsError, match=f"test_resnet: {hub} has sent nothing for {told} s"
        ) as caught:
            check_model(ModelConfig(name="test_resnet", pretrained=True), root=tmp_path)
        assert requests.count("GET") <= 1
    assert caught.value.reason == "no pretrained weights"
    assert not logging.getLogger("huggingface_hub.file_download").isEnabledFor(logging.WARNING)


def test_a_hub_that_has_no_weights_file_of_the_model_says_so(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with serve_file(b"x") as (hub, _):
        use_hub(monkeypatch, hub)
        with pytest.raises(WeightsError, match=r"config\.json"):
            check_model(ModelConfig(name="hf-hub:someone/net", pretrained=True), root=tmp_path)


def test_a_model_without_weights_at_all_says_so(cache: Path) -> None:
    with pytest.raises(WeightsError, match="timm has no pretrained weights of botnet50ts_256"):
        check_model(ModelConfig(name="botnet50ts_256", pretrained=True), root=Path())


def test_offline_is_taken_at_its_word(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(WeightsError, match="HF_HUB_OFFLINE is set"):
        check_model(ModelConfig(name="test_resnet", pretrained=True), root=Path())


def test_a_missing_weights_file_is_found_before_anything_is_made(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"no such file: a.pth"):
        check_model(ModelConfig(name="test_resnet", pretrained="a.pth"), root=tmp_path)


def test_an_answer_is_waited_for_once_and_not_for_long() -> None:
    with serve(206) as hub:
        assert ask(f"{hub}/a/b", limit_s=30) == ""
    with serve(404) as hub:
        assert ask(f"{hub}/a/b", limit_s=30) == ""
    with serve(503) as hub:
        assert ask(f"{hub}/a/b", limit_s=30) == f"{hub} answers 503"
    with hang() as hub:
        assert ask(f"{hub}/a/b", limit_s=0.3) == f"no answer from {hub} in 0.3 s"
    assert "cannot reach http://127.0.0.1:9" in ask(f"{CLOSED}/a", limit_s=30)
    assert ask("nothing", limit_s=30)
