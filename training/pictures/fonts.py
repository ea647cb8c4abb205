"""Fonts of pictures: matplotlib's own has no Korean, Japanese or Chinese characters.

Texts are drawn character by character with the first font that has it. Only what is missing is
looked for.
"""

from __future__ import annotations

import contextlib
import logging
import sys
import unicodedata
import warnings
from collections.abc import Iterable, Iterator, Sequence
from functools import cache

from matplotlib import font_manager, rc_context, rcParams
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.text import Text

KNOWN = (  # taken before others that have the same characters
    *(
        "Noto Sans CJK KR",
        "Noto Sans KR",
        "NanumGothic",
        "NanumBarunGothic",
        "Malgun Gothic",
        "Apple SD Gothic Neo",
    ),
    *("AppleGothic", "Baekmuk Gulim", "UnDotum"),
    *(
        "Noto Sans CJK JP",
        "Noto Sans JP",
        "IPAexGothic",
        "IPAGothic",
        "TakaoGothic",
        "VL Gothic",
        "Hiragino Sans",
    ),
    *("Yu Gothic", "Meiryo", "MS Gothic"),
    *(
        "Noto Sans CJK SC",
        "Noto Sans SC",
        "Noto Sans CJK TC",
        "Source Han Sans",
        "WenQuanYi Zen Hei",
    ),
    *(
        "WenQuanYi Micro Hei",
        "Microsoft YaHei",
        "SimHei",
        "PingFang SC",
        "Droid Sans Fallback",
        "Arial Unicode MS",
    ),
)
LAST_RESORT = "Last Resort"  # matplotlib's font of boxes, which claims to have everything
SHOWN = 8  # missing characters that the message names
LOG = logging.getLogger("matplotlib.font_manager")
_reported: set[str] = set()


@contextlib.contextmanager
def use_fonts(figure: Figure) -> Iterator[None]:
    """Give the texts of a figure fonts that have their characters.

    That includes texts that are made while the figure is drawn. Nothing is warned of; once a
    process a sentence on stderr says which characters no font has, and what to install.
    """
    texts = [text for text in figure.findobj(Text) if isinstance(text, Text)]
    letters = {letter for text in texts for letter in text.get_text() if _is_drawn(letter)}
    extra, missing = find_families(letters)
    _report_missing(missing)
    families = [*rcParams["font.family"], *extra]
    if extra:
        for text in texts:
            text.set_fontfamily(families)
    with rc_context({"font.family": families}), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        yield


def _is_drawn(letter: str) -> bool:
    return unicodedata.category(letter) not in ("Cc", "Cf", "Zl", "Zp", "Zs")


def find_families(letters: Iterable[str]) -> tuple[list[str], set[str]]:
    """The extra font families for these characters, and the characters that no font has."""
    missing = {letter for letter in letters if not letter.isascii()}
    if missing:
        missing -= _list_letters(tuple(rcParams["font.family"]))
    families: list[str] = []
    level = LOG.level
    LOG.setLevel(logging.ERROR)  # it warns about each font without a normal weight
    try:
        for list_candidates in (_list_known, _list_others, _list_new):
            if missing:
                missing = _add_families(list_candidates(), families, missing)
    finally:
        LOG.setLevel(level)
    return families, missing


def _add_families(candidates: Sequence[str], families: list[str], missing: set[str]) -> set[str]:
    """Add the candidates with most of the missing characters; returns what is still missing."""
    while missing and candidates:
        best = max(candidates, key=lambda family: len(missing & _list_letters((family,))))
        covered = missing & _list_letters((best,))
        if not covered:
            break
        families.append(best)
        missing = missing - covered
    return missing


def _list_names() -> set[str]:
    names = {entry.name for entry in font_manager.fontManager.ttflist}
    return {name for name in names if not name.startswith(LAST_RESORT)}


def _list_known() -> list[str]:
    names = _list_names()
    return [name for name in KNOWN if name in names]


def _list_others() -> list[str]:
    return sorted(_list_names() - set(KNOWN))


def _list_new() -> list[str]:
    """Families that were installed after matplotlib made its permanent list of fonts."""
    _add_new_fonts()
    return [*_list_known(), *_list_others()]


@cache
def _add_new_fonts() -> None:
    """Once a process: it asks the system for all of its fonts."""
    known = {str(entry.fname) for entry in font_manager.fontManager.ttflist}
    for path in sorted(set(font_manager.findSystemFonts()) - known):
        # skip a font that cannot be read
        with contextlib.suppress(OSError, RuntimeError, ValueError):
            font_manager.fontManager.addfont(path)


@cache
def _list_letters(families: tuple[str, ...]) -> frozenset[str]:
    """The characters of the font for these families; none when it cannot be scaled."""
    try:
        path = font_manager.findfont(
            FontProperties(family=list(families)), fallback_to_default=False
        )
        font = font_manager.get_font(path)
    except (OSError, RuntimeError, ValueError):
        return frozenset()
    return frozenset(map(chr, font.get_charmap())) if font.scalable else frozenset()


def _report_missing(missing: set[str]) -> None:
    if not missing - _reported:
        return
    first = not _reported
    _reported.update(missing)
    if first:
        letters = "".join(sorted(missing)[:SHOWN])
        with contextlib.suppress(OSError, ValueError):  # stderr may be closed
            print(
                f"pictures: no font on this machine has {letters}, they appear as boxes; "
                "install one: apt-get install fonts-noto-cjk",
                file=sys.stderr,
            )
