"""Whether timm's weights can be had from here: one short look, without timm."""

from __future__ import annotations

from pathlib import Path

from tracker.core.settings import find_hub_locations
from tracker.training.model.hub import ask

LOOK_LIMIT_S = 2.5  # of the 3 s that tracker init may take for it
LATER = "change it in tracker.toml: true, false or a weights file"


def look_for_weights() -> tuple[bool, str]:
    """Whether model.pretrained can be true, and why, in a sentence; first the caches are looked at,
    then the hub."""
    places = find_hub_locations()
    names = sorted({name for cache in places.caches for name in _list_cached(cache)})
    if names:
        more = f" and {len(names) - 1} more" if len(names) > 1 else ""
        return (
            True,
            f"model.pretrained = true: weights of {names[0]}{more} are in the cache; {LATER}",
        )
    problem = (
        ask(places.address, limit_s=LOOK_LIMIT_S) if places.address else "HF_HUB_OFFLINE is set"
    )
    if problem:
        return False, f"model.pretrained = false: no weights in the cache, {problem}; {LATER}"
    return (
        True,
        (
            f"model.pretrained = true: {places.address} answers, timm loads its weights from there;"
            f" {LATER}"
        ),
    )


def _list_cached(cache: Path) -> list[str]:
    """Models with weights in a cache: timm's repositories in the hub's, files in torch's."""
    try:
        repositories = [
            path for path in cache.glob("models--timm--*") if any(path.glob("snapshots/*/*.*"))
        ]
        files = [path for path in cache.iterdir() if path.suffix in (".pth", ".safetensors")]
    except OSError:
        return []
    return [path.name.removeprefix("models--timm--") for path in repositories] + [
        path.stem for path in files
    ]
