"""Sheets of pictures as PNG files: photographs with titles and captions."""

from __future__ import annotations

import io
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from matplotlib.cm import ScalarMappable
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from numpy.typing import NDArray

from tracker.training.files import write_bytes
from tracker.training.formats.images import open_small
from tracker.training.pictures.fonts import use_fonts

THUMBNAIL = (240, 240)
DPI = 110  # small files whose captions can be read
RIGHT, WRONG, NEUTRAL = "tab:green", "tab:red", "0.7"  # colors of frames
TILE_WIDTH, PICTURE_HEIGHT, LINE_HEIGHT = 2.1, 2.3, 0.14  # inches
NARROWEST = 2 * TILE_WIDTH  # of a sheet, so that its legend has room
TITLE_SIZE, CAPTION_SIZE, LEGEND_SIZE = 7, 6, 8  # points
SCALE_HEIGHT = 0.45  # inches, of a color scale with its words
LETTER = 0.62  # width of a letter in font sizes; of Korean, Japanese and Chinese ones 1


@dataclass(frozen=True)
class Tile:
    """A picture with a title, a caption and a colored frame.

    The picture is a file, or uint8 [height, width, 3].
    """

    picture: Path | NDArray[np.uint8]
    title: str = ""
    caption: str = ""
    frame: str = NEUTRAL


@dataclass(frozen=True)
class Legend:
    """The meaning of a sheet: `frames` by color, a sentence, and a scale.

    The scale has `colors` [n, 3] from 0 to 1, and words at its `ends`.
    """

    frames: Mapping[str, str] = field(default_factory=dict)
    sentence: str = ""
    colors: NDArray[np.float64] | None = None
    ends: tuple[str, str] = ("", "")


def draw_sheet(tiles: Sequence[Tile], path: Path, *, legend: Legend, columns: int = 6) -> Path:
    """Write the tiles row by row to a PNG, with the legend below.

    The file is written as a whole or not at all. Raises StorageError.
    """
    tiles = [_fold(tile) for tile in tiles]
    columns = min(columns, len(tiles))
    rows = -(-len(tiles) // columns)
    lines = max(tile.title.count("\n") + tile.caption.count("\n") + 2 for tile in tiles)
    width = max(TILE_WIDTH * columns, NARROWEST)
    sentence = fold_text(legend.sentence, width - 0.3, LEGEND_SIZE)
    below = LINE_HEIGHT * (sentence.count("\n") + len(legend.frames) + 2)
    if legend.colors is not None:
        below += SCALE_HEIGHT
    height = (PICTURE_HEIGHT + LINE_HEIGHT * lines) * rows + below
    figure = Figure(figsize=(width, height), layout="constrained")
    for position, tile in enumerate(tiles, start=1):
        axes = figure.add_subplot(rows, columns, position)
        axes.imshow(
            load_thumbnail(tile.picture) if isinstance(tile.picture, Path) else tile.picture
        )
        axes.set_title(tile.title, fontsize=TITLE_SIZE, parse_math=False)
        axes.set_xlabel(tile.caption, fontsize=CAPTION_SIZE, parse_math=False)
        axes.set_xticks([])
        axes.set_yticks([])
        for spine in axes.spines.values():
            spine.set(color=tile.frame, linewidth=3)
    _draw_legend(figure, legend, sentence)
    return save_figure(figure, path)


def _draw_legend(figure: Figure, legend: Legend, sentence: str) -> None:
    if legend.colors is not None:
        scale = ScalarMappable(cmap=ListedColormap(legend.colors))
        bar = figure.colorbar(
            scale, ax=figure.axes, location="bottom", shrink=0.5, aspect=40, pad=0.01, panchor=False
        )
        bar.set_ticks([0, 1], labels=list(legend.ends), fontsize=LEGEND_SIZE)
        bar.outline.set_linewidth(0.5)
    swatches = [Line2D([], [], color=color, linewidth=4) for color in legend.frames]
    figure.legend(
        *(swatches, list(legend.frames.values())),
        loc="outside lower left",
        fontsize=LEGEND_SIZE,
        frameon=False,
        title=sentence,
        title_fontsize=LEGEND_SIZE,
        alignment="left",
    )


def _fold(tile: Tile) -> Tile:
    """The tile with its texts wrapped to its width."""
    title = fold_text(tile.title, TILE_WIDTH, TITLE_SIZE)
    return replace(tile, title=title, caption=fold_text(tile.caption, TILE_WIDTH, CAPTION_SIZE))


def fold_text(text: str, width: float, size: float) -> str:
    """Wrap a text to lines of at most `width` inches at a font size in points.

    A line ends after a space, a slash, an underline or a hyphen where there is one in its second
    half.
    """
    lines = []
    for line in text.split("\n"):
        rest = line
        while (end := _count_fitting(rest, width, size)) < len(rest):
            breaks = [position for position in range(end // 2, end) if rest[position] in " /_-"]
            end = breaks[-1] + 1 if breaks else end
            lines.append(rest[:end].rstrip(" "))
            rest = rest[end:]
        lines.append(rest)
    return "\n".join(lines)


def _count_fitting(text: str, width: float, size: float) -> int:
    """How many letters fit into `width` inches, at least one."""
    for position in range(1, len(text) + 1):
        if measure_text(text[:position], size) > width:
            return max(1, position - 1)
    return len(text)


def measure_text(text: str, size: float) -> float:
    """The approximate width of the longest line in inches, at a font size in points."""
    widths = [sum(map(_measure_letter, line)) for line in text.split("\n")]
    return max(widths) * size / 72


def _measure_letter(letter: str) -> float:
    if unicodedata.combining(letter):
        return 0.0
    return 1.0 if unicodedata.east_asian_width(letter) in "WF" else LETTER


def draw_pages(
    tiles: Sequence[Tile], folder: Path, stem: str, *, legend: Legend, columns: int, rows: int
) -> list[Path]:
    """The tiles on as many sheets as they need: `<stem>-1.png`, `<stem>-2.png` and so on.

    Sheets of an earlier, longer list are removed.
    """
    size = columns * rows
    pages = [tiles[start : start + size] for start in range(0, len(tiles), size)]
    paths = [folder / f"{stem}-{number}.png" for number in range(1, len(pages) + 1)]
    for old in set(folder.glob(f"{stem}-[0-9]*.png")) - set(paths):
        old.unlink()
    return [
        draw_sheet(page, path, legend=legend, columns=columns)
        for page, path in zip(pages, paths, strict=True)
    ]


def save_figure(figure: Figure, path: Path) -> Path:
    """Write a figure as PNG, as a whole or not at all; raises StorageError."""
    content = io.BytesIO()  # PIL calls a full disk an encoder error
    with use_fonts(figure):
        figure.savefig(content, dpi=DPI, format="png")
    write_bytes(path, content.getvalue())
    return path


def load_thumbnail(path: Path) -> NDArray[np.uint8]:
    """A photograph as RGB, uint8 [height, width, 3], upright, not larger than THUMBNAIL.

    Raises DataError.
    """
    small = open_small(path, THUMBNAIL)
    small.thumbnail(THUMBNAIL)
    return np.asarray(small)
