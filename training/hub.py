"""timm's models by name: in its own list, on the Hugging Face hub or in a folder; their settings and their weights.

Whether the hub answers is asked once and for a short time: its own client would try again for a minute.
"""

from __future__ import annotations

import difflib
import json
import logging
import ssl
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tracker.training.errors import ConfigError, WeightsError

ANSWER_LIMIT_S = 4.0  # with the start of torch and timm, an error comes within 10 s
TWO_WAYS = (
    "download a weights file elsewhere: --set model.pretrained=FILE; or train without: --set model.pretrained=false"
)
CONFIG = "config.json"
WEIGHT_NAMES = ("model.safetensors", "pytorch_model.bin", "pytorch_model.pth", "model.pth")  # in timm's order
SERVER_ERRORS = (429, 500)  # too many requests, and this or more: no use asking again now


@dataclass(frozen=True)
class Entry:
    """Where timm finds a model; `place` is a registered name, OWNER/NAME[@REVISION] on the hub, or a folder."""

    source: str  # "timm", "hf-hub" or "local-dir"
    place: str


def find_entry(name: str, root: Path) -> Entry:
    """What a model.name means; raises ConfigError, with the nearest names, for one that timm does not have.

    A timm/NAME of the hub that this timm knows is its own NAME: the same model, found without the hub.
    """
    source, colon, place = name.partition(":")
    source = source.lower().replace("_", "-") if colon else ""
    place = place if colon else name
    if source == "local-dir":
        return Entry(source, str(root / Path(place).expanduser()))
    if source == "hf-hub" and "@" in place:
        return Entry(source, place)
    if source in ("", "hf-hub") and place.startswith("timm/"):
        _check_registered(place.removeprefix("timm/"), name)
        return Entry("timm", place.removeprefix("timm/"))
    if source == "hf-hub" and place.count("/") == 1:
        return Entry(source, place)
    if not source and "/" in place:
        raise ConfigError(
            f"model.name: timm has no model {name!r}", hint=f"hf-hub:{name} of the hub, or local-dir:{name} of a folder"
        )
    _check_registered(name, name)
    return Entry("timm", name)


def _check_registered(name: str, shown: str) -> None:
    import timm

    problem = f"model.name: timm has no model {shown!r}"
    if not timm.is_model(name):
        known = timm.list_pretrained() if "." in name else timm.list_models()
        raise ConfigError(problem, hint=_name_nearest(name, known, shown))
    try:
        timm.get_pretrained_cfg(name)
    except RuntimeError as error:  # the model has no weights of this tag
        known = timm.list_pretrained(f"{name.partition('.')[0]}.*")
        raise ConfigError(problem, hint=_name_nearest(name, known, shown)) from error


def _name_nearest(name: str, known: Sequence[str], shown: str) -> str:
    near = difflib.get_close_matches(name, known, n=3, cutoff=0.4)
    prefix = shown.removesuffix(name)
    return f"nearest: {', '.join(prefix + word for word in near) or 'none'}"


def read_settings(entry: Entry) -> Mapping[str, Any]:
    """timm's pretrained_cfg of a model, empty where it has none; raises ConfigError, WeightsError without the hub."""
    import timm

    if entry.source == "timm":
        found = timm.get_pretrained_cfg(entry.place)
        return dict(found.to_dict()) if found else {}
    folder = Path(entry.place) if entry.source == "local-dir" else fetch_folder(entry.place, weights=False)
    try:
        loaded = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
        settings: Mapping[str, Any] = loaded.get("pretrained_cfg", loaded)
    except (OSError, ValueError, AttributeError) as error:
        raise ConfigError(
            f"model.name: cannot read {folder / CONFIG}: {error}", hint="timm's save_for_hf or push_to_hf_hub writes it"
        ) from error
    return settings


def describe_input(name: str, root: Path) -> dict[str, dict[str, Any]]:
    """What the model's pretrained weights were made for, as nested tables of config keys."""
    from timm.data import resolve_data_config

    found = resolve_data_config(pretrained_cfg=dict(read_settings(find_entry(name, root))))
    return {
        "data": {"mean": tuple(map(float, found["mean"])), "std": tuple(map(float, found["std"]))},
        "augment": {
            "crop_pct": float(found["crop_pct"]),
            "crop_mode": "squash" if found["crop_mode"] == "squash" else "center",
            "interpolation": "bilinear" if found["interpolation"] == "bilinear" else "bicubic",
        },
    }


# --- Weights ----------------------------------------------------------------------------------------------------------


def check_weights(entry: Entry, name: str) -> None:
    """Raise WeightsError when the weights of a model can be had neither from the cache nor from the hub."""
    if entry.source == "hf-hub":
        fetch_folder(entry.place, weights=True)
    elif entry.source == "timm":
        settings = read_settings(entry)
        if not find_cached(settings):
            _require_answer(_find_address(settings, name), name)


def find_cached(settings: Mapping[str, Any]) -> Path | None:
    """The file with a registered model's weights in the cache of the hub's client or of torch."""
    from huggingface_hub import try_to_load_from_cache
    from torch.hub import get_dir

    names = [settings["hf_hub_filename"]] if settings.get("hf_hub_filename") else WEIGHT_NAMES
    for name in names if settings.get("hf_hub_id") else ():
        found = try_to_load_from_cache(settings["hf_hub_id"], name)
        if isinstance(found, str):
            return Path(found)
    if url := settings.get("url"):
        path = Path(get_dir()) / "checkpoints" / url.rpartition("/")[2]
        return path if path.is_file() else None
    return None


def _find_address(settings: Mapping[str, Any], name: str) -> str:
    """Where the weights are to be had."""
    from huggingface_hub import hf_hub_url

    if repository := settings.get("hf_hub_id"):
        return str(hf_hub_url(repository, settings.get("hf_hub_filename") or WEIGHT_NAMES[0]))
    if url := settings.get("url"):
        return str(url)
    raise WeightsError(f"timm has no pretrained weights of {name}", hint=TWO_WAYS)


def _require_answer(address: str, name: str) -> None:
    from huggingface_hub import constants

    problem = "HF_HUB_OFFLINE is set" if constants.HF_HUB_OFFLINE else ask(address, limit_s=ANSWER_LIMIT_S)
    if problem:
        raise WeightsError(f"no pretrained weights of {name}: {problem}", hint=TWO_WAYS)


def fetch_folder(place: str, *, weights: bool) -> Path:
    """The cached copy of a model's folder on the hub, downloaded where it is not there; raises WeightsError."""
    from huggingface_hub import hf_hub_download, hf_hub_url, try_to_load_from_cache
    from huggingface_hub.errors import EntryNotFoundError

    repository, _, named = place.partition("@")
    revision = named or None
    found = try_to_load_from_cache(repository, CONFIG, revision=revision)
    folder = Path(found).parent if isinstance(found, str) else None
    if folder and (not weights or any((folder / name).exists() for name in WEIGHT_NAMES)):
        return folder
    _require_answer(str(hf_hub_url(repository, CONFIG, revision=revision)), place)
    with translate_hub_errors(place):
        folder = Path(hf_hub_download(repository, CONFIG, revision=revision)).parent
        for name in WEIGHT_NAMES if weights else ():
            try:
                hf_hub_download(repository, name, revision=revision)
            except EntryNotFoundError:
                continue
            return folder
    if weights:
        raise WeightsError(f"no weights in {place} of the hub", hint=TWO_WAYS)
    return folder


@contextmanager
def translate_hub_errors(name: str) -> Iterator[None]:
    """Whatever a download raises becomes a WeightsError; what its client would say about it is left out."""
    logger = logging.getLogger("huggingface_hub")
    before = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    except (ConfigError, WeightsError):
        raise
    except Exception as error:
        words = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise WeightsError(f"no pretrained weights of {name}: {words}", hint=TWO_WAYS) from error
    finally:
        logger.setLevel(before)


def ask(address: str, *, limit_s: float) -> str:
    """Ask for the first byte at an HTTP address; returns what is wrong, empty when there is an answer in time."""
    server = "/".join(address.split("/")[:3])
    late = f"no answer from {server} in {limit_s:g} s"
    problems = [late]

    def wait() -> None:
        try:
            request = urllib.request.Request(address, headers={"Range": "bytes=0-0"})  # noqa: S310
            with urllib.request.urlopen(request, timeout=limit_s, context=_trust()) as answer:  # noqa: S310
                answer.read(1)
            problems[0] = ""
        except urllib.error.HTTPError as error:  # an answer too: what is missing there, the download finds out
            down = error.code == SERVER_ERRORS[0] or error.code >= SERVER_ERRORS[1]
            problems[0] = f"{server} answers {error.code}" if down else ""
        except TimeoutError:
            pass
        except (OSError, ValueError) as error:
            reason = getattr(error, "reason", error)
            problems[0] = late if isinstance(reason, TimeoutError) else f"cannot reach {server} ({reason})"

    thread = threading.Thread(target=wait, daemon=True)  # looking a name up cannot be interrupted
    thread.start()
    thread.join(limit_s)
    return problems[0]


def _trust() -> ssl.SSLContext:
    """The system's certificates, and those that the hub's client brings."""
    context = ssl.create_default_context()
    try:
        import certifi
    except ImportError:
        return context
    context.load_verify_locations(certifi.where())
    return context
