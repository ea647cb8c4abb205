"""Sheets of pictures as PNG files: photographs and what is to be said about each."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from tracker.training.atomic import write_bytes
from tracker.training.fonts import use_fonts
from tracker.training.images import open_small

THUMBNAIL = (240, 240)
RIGHT, WRONG, NEUTRAL = "tab:green", "tab:red", "0.7"  # colours of frames
TILE_WIDTH, PICTURE_HEIGHT, LINE_HEIGHT = 2.1, 2.3, 0.14  # inches


@dataclass(frozen=True)
class Tile:
    """A picture, from a file or as uint8 [height, width, 3], with words above and below it and a coloured frame."""

    picture: Path | NDArray[np.uint8]
    title: str = ""
    caption: str = ""
    frame: str = NEUTRAL


def draw_sheet(tiles: Sequence[Tile], path: Path, *, columns: int = 6) -> Path:
    """Write the tiles row by row to a PNG, as a whole or not at all; raises StorageError."""
    columns = min(columns, len(tiles))
    rows = -(-len(tiles) // columns)
    lines = max(tile.title.count("\n") + 1 for tile in tiles)
    height = PICTURE_HEIGHT + LINE_HEIGHT * (lines + 1)
    figure = Figure(figsize=(TILE_WIDTH * columns, height * rows), layout="constrained")
    for place, tile in enumerate(tiles, start=1):
        axes = figure.add_subplot(rows, columns, place)
        axes.imshow(_load(tile.picture))
        axes.set_title(tile.title, fontsize=7, parse_math=False)
        axes.set_xlabel(tile.caption, fontsize=6, parse_math=False)
        axes.set_xticks([])
        axes.set_yticks([])
        for spine in axes.spines.values():
            spine.set(color=tile.frame, linewidth=3)
    return save_figure(figure, path)


def draw_pages(tiles: Sequence[Tile], folder: Path, stem: str, *, columns: int, rows: int) -> list[Path]:
    """The tiles on as many sheets as they need: `<stem>-1.png` and on; those of an earlier, longer list are removed."""
    size = columns * rows
    pages = [tiles[start : start + size] for start in range(0, len(tiles), size)]
    paths = [folder / f"{stem}-{number}.png" for number in range(1, len(pages) + 1)]
    for old in set(folder.glob(f"{stem}-[0-9]*.png")) - set(paths):
        old.unlink()
    return [draw_sheet(page, path, columns=columns) for page, path in zip(pages, paths, strict=True)]


def save_figure(figure: Figure, path: Path) -> Path:
    """Write a figure as PNG, as a whole or not at all; raises StorageError."""
    content = io.BytesIO()  # PIL calls a full disk an encoder error
    with use_fonts(figure):
        figure.savefig(content, dpi=110, format="png")
    write_bytes(path, content.getvalue())
    return path


def _load(picture: Path | NDArray[np.uint8]) -> NDArray[np.uint8]:
    if not isinstance(picture, Path):
        return picture
    small = open_small(picture, THUMBNAIL)
    small.thumbnail(THUMBNAIL)
    return np.asarray(small)
