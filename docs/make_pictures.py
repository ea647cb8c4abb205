"""Draws docs/pictures: what commands print in a terminal, the report and MLflow's page, each light
and dark.

`make pictures` runs it. All of it is real output, of a made-up competition: runs whose
probabilities are drawn from a
seed go through `start_run` and the commands. So only dates differ from one time to the next.
"""

from __future__ import annotations

import csv
import fcntl
import io
import os
import pty
import re
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import termios
import tomllib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from html import escape, unescape
from pathlib import Path
from typing import Any

import numpy as np
from playwright.sync_api import Browser, FloatRect, Page, sync_playwright
from rich.cells import cell_len
from rich.console import Console
from rich.terminal_theme import TerminalTheme
from rich.text import Text

import tracker
from tracker.core.settings import SETTINGS

PICTURES = Path(__file__).resolve().parent / "pictures"
LIMIT_BYTES = 300_000  # of a picture; pages with several of them stay quick on a phone
COMMAND_LIMIT_S = 300
PAGE_LIMIT_MS = 120_000
SCHEMES = ("light", "dark")

# --- The workspace ---

SEED = 7
IMAGES = 1200  # of validation, and as many to predict
CLASSES = ("healthy", "scab", "rust", "blight", "mildew", "mixed")
HARDNESS, CHANCE = 1.0, 0.5  # of the noise that all runs share on an image, and of that of one run
EPOCHS, BEST_EPOCH = 20, 18
BASELINE: dict[str, dict[str, Any]] = {
    "model": {"name": "resnet50"},
    "data": {"image_size": 224, "split_seed": 1},
    "augment": {"name": "flip", "mixup": 0.0},
    "loss": {"name": "cross_entropy", "smoothing": 0.0},
    "optim": {"name": "adamw", "lr": 0.001},
    "train": {"epochs": EPOCHS, "seed": 42, "ema": 0.0},
}


@dataclass(frozen=True)
class Step:
    """A run of the story: `skill` is how far its logits lift the right class; "" as memo: it is not
    submitted."""

    skill: float
    note: str
    memo: str
    parent: str = ""
    change: Mapping[str, Any] = field(default_factory=dict)


STORY = (
    Step(1.90, "baseline", "baseline"),
    Step(2.10, "lower learning rate", "lr 0.0003", "exp1", {"optim.lr": 0.0003}),
    Step(2.09, "focal loss", "focal loss", "exp2", {"loss.name": "focal"}),
    Step(2.30, "RandAugment", "RandAugment", "exp2", {"augment.name": "randaugment"}),
    Step(2.24, "label smoothing", "라벨 스무딩 0.1", "exp4", {"loss.smoothing": 0.1}),
    Step(2.55, "larger images", "이미지 크기 288", "exp4", {"data.image_size": 288}),
    Step(2.53, "another seed", "", "exp6", {"train.seed": 43}),
    Step(2.75, "ConvNeXt", "ConvNeXt", "exp6", {"model.name": "convnext_small"}),
    Step(2.68, "mixup", "mixup 0.2", "exp8", {"augment.mixup": 0.2}),
    Step(2.92, "average of the weights", "EMA", "exp8", {"train.ema": 0.999}),
)


def make_workspace(root: Path) -> None:
    """The competition, its runs and their submissions in `root`."""
    rng = np.random.default_rng(SEED)
    labels = rng.integers(len(CLASSES), size=(2, IMAGES))  # of validation, of the images to predict
    hardness = rng.normal(scale=HARDNESS, size=(2, IMAGES, len(CLASSES)))
    write_competition(root, labels[1])
    for number, step in enumerate(STORY, start=1):
        own = rng.normal(scale=CHANCE, size=hardness.shape)
        logits = step.skill * np.eye(len(CLASSES))[labels] + hardness + own
        record_run(root, step, labels, np.exp(logits) / np.exp(logits).sum(axis=2, keepdims=True))
        if step.memo:
            run_tracker(root, "submit", f"exp{number}", "--memo", step.memo, "--yes")


def write_competition(root: Path, labels: np.ndarray[Any, Any]) -> None:
    """Images to predict (empty files: nothing decodes them), their solution, and what `tracker
    init` makes."""
    images = root / "eval" / "images"
    images.mkdir(parents=True)
    names = [f"leaf{number:04}.jpg" for number in range(IMAGES)]
    for name in names:
        (images / name).write_bytes(b"")
    write_rows(root / "eval" / "info.csv", [("ImageID", "ans"), *((name, 0) for name in names)])
    usage = [("Public", "Private", "Private")[number % 3] for number in range(IMAGES)]
    rows = zip(names, labels.tolist(), usage, strict=True)
    write_rows(root / "solution.csv", [("ImageID", "ans", "Usage"), *rows])
    words = (
        "--name",
        "leaves",
        "--classes",
        ",".join(CLASSES),
        "--eval-dir",
        "eval",
        "--solution",
        "solution.csv",
    )
    run_tracker(root, "init", ".", *words, "--daily-limit", "15")


def write_rows(path: Path, rows: list[tuple[Any, ...]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(rows)


def record_run(
    root: Path, step: Step, labels: np.ndarray[Any, Any], guesses: np.ndarray[Any, Any]
) -> None:
    """A finished run with its curves and the probabilities `guesses` [2, images, classes]."""
    import torch

    config = {section: dict(keys) for section, keys in BASELINE.items()}
    if step.parent:
        config = read_config(root, step.parent)
    for name, value in step.change.items():
        section, _, key = name.partition(".")
        config[section][key] = value
    run = tracker.start_run(
        config, note=step.note, parent=step.parent or None, root=root, follow=False, quiet=True
    )
    with run:
        for epoch, values in draw_curves(labels[0], guesses[0]):
            run.log(values, epoch=epoch)
            if epoch == BEST_EPOCH:
                run.save_best(
                    {"head.weight": torch.from_numpy(guesses[0])}, epoch=epoch, metrics=values
                )
        run.save_validation(
            [f"train/{number:04}.jpg" for number in range(IMAGES)], labels[0], guesses[0]
        )
        run.save_probabilities([f"leaf{number:04}.jpg" for number in range(IMAGES)], guesses[1])


def read_config(root: Path, run: str) -> dict[str, dict[str, Any]]:
    """The config of a run as it was recorded."""
    return tomllib.loads((root / "runs" / run / "config.toml").read_text(encoding="utf-8"))


def draw_curves(
    labels: np.ndarray[Any, Any], guesses: np.ndarray[Any, Any]
) -> Iterator[tuple[int, dict[str, float]]]:
    """(epoch, metrics) of a training whose best epoch gives these probabilities of the validation
    images."""
    from sklearn.metrics import f1_score

    answers = guesses.argmax(axis=1)
    f1, accuracy = (
        float(f1_score(labels, answers, average="macro")),
        float((answers == labels).mean()),
    )
    loss = float(-np.log(guesses[np.arange(IMAGES), labels]).mean())
    rng = np.random.default_rng(int(1e6 * f1))
    for epoch in range(1, EPOCHS + 1):
        missing = (
            np.exp(-epoch / 4) + 0.01 * rng.random()
            if epoch < BEST_EPOCH
            else 0.01 * (epoch - BEST_EPOCH)
        )
        yield (
            epoch,
            {
                "train/loss": loss * (0.75 + 1.4 * float(np.exp(-epoch / 5))),
                "val/loss": loss * (1 + float(missing)),
                "val/f1": f1 * (1 - 0.5 * float(missing)),
                "val/accuracy": accuracy * (1 - 0.5 * float(missing)),
            },
        )


def run_tracker(root: Path, *words: str) -> None:
    """A command that must succeed; what it prints is shown when it does not."""
    done = subprocess.run(
        tracker_command(*words),
        cwd=root,
        capture_output=True,
        text=True,
        timeout=COMMAND_LIMIT_S,
        check=False,
    )
    if done.returncode:
        sys.exit(
            f"tracker {' '.join(words)} ended with {done.returncode}:\n{done.stdout}{done.stderr}"
        )


def tracker_command(*words: str) -> list[str]:
    """The command line of tracker for a color terminal, whatever the one here is."""
    names = ["NO_COLOR", "COLUMNS", *(setting.name for setting in SETTINGS)]
    unset = [f"-u{name}" for name in names]
    return [
        "env",
        *unset,
        "TERM=xterm-256color",
        "TRACKER_AUTHOR=mina",
        sys.executable,
        "-P",
        "-m",
        "tracker.cli",
        *words,
    ]


# --- Terminal ---

# By the name of its picture: columns, words of the command.
TERMINAL: dict[str, tuple[int, tuple[str, ...]]] = {
    "diff": (100, ("diff", "exp4", "exp6")),
    "no-difference": (100, ("diff", "exp2", "exp3")),
    "leaderboard": (104, ("leaderboard",)),
    "compare": (100, ("compare", "--sort", "val/f1")),
    "tree": (116, ("tree",)),
    "refused": (100, ("submit", "exp10", "--memo", "EMA, surely new")),
}
SHOWN_CODES = (0, 3)  # done, refused
MOST_LINES = 34  # of a picture: what is below is cut, and its lines are counted
# Of GitHub's two themes: background, text, then black, red, green, yellow, blue, magenta, cyan,
# white.
THEMES = {
    "light": (
        "#ffffff",
        "#1f2328",
        "#24292f #cf222e #116329 #7d4e00 #0969da #8250df #1b7c83 #57606a",
    ),
    "dark": (
        "#0d1117",
        "#e6edf3",
        "#8b949e #ff7b72 #3fb950 #d29922 #58a6ff #bc8cff #39c5cf #c9d1d9",
    ),
}
# Rich's own template links a font from elsewhere; these are fonts that a machine has.
FONTS = (
    "ui-monospace, SFMono-Regular, Menlo, Consolas, 'DejaVu Sans Mono', 'Liberation Mono',"
    " NanumGothicCoding, monospace"
)
TEMPLATE = """\
<svg viewBox="0 0 {width} {height}" width="{width}" height="{height}" \
xmlns="http://www.w3.org/2000/svg" role="img">
<style>
.{unique_id}-matrix {{ font-family: @FONTS@; font-size: {char_height}px; white-space: pre; }}
{styles}
</style>
<defs><clipPath id="{unique_id}-clip-terminal">\
<rect width="{terminal_width}" height="{terminal_height}"/></clipPath>
{lines}
</defs>
<rect x="1" y="1" width="@FRAME_WIDTH@" height="@FRAME_HEIGHT@" rx="8"
 fill="@BACKGROUND@" stroke="#808080" stroke-opacity="0.5"/>
<g transform="translate({terminal_x}, @TOP@)" clip-path="url(#{unique_id}-clip-terminal)">
{backgrounds}
<g class="{unique_id}-matrix">
{matrix}
</g>
</g>
</svg>
"""


def draw_terminal(root: Path) -> None:
    """A picture of each command of TERMINAL."""
    for name, (columns, words) in TERMINAL.items():
        typed = " ".join(f'"{word}"' if " " in word else word for word in words)
        printed = cut(run_in_terminal(root, words, columns))
        shown = Text.assemble(
            ("$ ", "dim"), (f"tracker {typed}", "bold"), "\n\n", Text.from_ansi(printed)
        )
        for scheme in SCHEMES:
            write_picture(
                f"{name}-{scheme}.svg",
                draw_svg(shown, f"{name}-{scheme}", scheme, columns).encode(),
            )


def cut(printed: str) -> str:
    """The first lines, to the end of a paragraph; how many are left out is said."""
    lines = printed.splitlines()
    if len(lines) <= MOST_LINES:
        return printed
    kept = max(
        (number for number in range(MOST_LINES) if not lines[number].strip()), default=MOST_LINES
    )
    left_out = len([line for line in lines[kept:] if line.strip()])
    return "\n".join([*lines[:kept], "", f"... {left_out} more lines"])


def run_in_terminal(root: Path, words: tuple[str, ...], columns: int) -> str:
    """What the command writes to a terminal of so many columns, with its escapes for color."""
    reader, writer = pty.openpty()
    fcntl.ioctl(writer, termios.TIOCSWINSZ, struct.pack("HHHH", 50, columns, 0, 0))
    child = subprocess.Popen(
        tracker_command(*words), cwd=root, stdin=subprocess.DEVNULL, stdout=writer, stderr=writer
    )
    os.close(writer)
    output = b""
    try:
        while chunk := read_some(reader):
            output += chunk
    finally:
        os.close(reader)
    code, text = child.wait(COMMAND_LIMIT_S), output.decode()
    if code not in SHOWN_CODES:
        sys.exit(f"tracker {' '.join(words)} ended with {code}:\n{text}")
    return text.replace("\r\n", "\n").strip("\n")


def read_some(reader: int) -> bytes:
    """The next bytes of a terminal, b"" at its end."""
    try:
        return os.read(reader, 65536)
    except OSError:  # Linux says EIO when the last process has closed it
        return b""


def draw_svg(shown: Text, name: str, scheme: str, columns: int) -> str:
    """The text as rich exports it, in a frame, with nothing that is loaded from elsewhere."""
    background, foreground, colors = THEMES[scheme]
    ansi = [to_rgb(color) for color in colors.split()]
    console = Console(
        record=True,
        width=columns,
        file=io.StringIO(),
        force_terminal=True,
        color_system="truecolor",
    )
    console.print(shown, soft_wrap=True)
    template = TEMPLATE.replace("@FONTS@", FONTS)
    theme = TerminalTheme(to_rgb(background), to_rgb(foreground), ansi, ansi)
    text = console.export_svg(theme=theme, code_format=template, unique_id=name)
    return fit_frame(line_up_wide(text), background)


def to_rgb(color: str) -> tuple[int, int, int]:
    red, green, blue = bytes.fromhex(color.removeprefix("#"))
    return red, green, blue


RICH_TOP, TOP = 40, 14  # rich keeps room above for the buttons of a window


def fit_frame(text: str, background: str) -> str:
    """The picture without the room for a window's buttons."""
    found = re.search(r'viewBox="0 0 ([\d.]+) ([\d.]+)" width="[\d.]+" height="[\d.]+"', text)
    assert found, "the template has a viewBox"  # noqa: S101
    width, height = float(found[1]), float(found[2]) - RICH_TOP + TOP
    text = text.replace(
        found[0], f'viewBox="0 0 {width:g} {height:g}" width="{width:g}" height="{height:g}"'
    )
    frame = {
        "FRAME_WIDTH": f"{width - 2:g}",
        "FRAME_HEIGHT": f"{height - 2:g}",
        "BACKGROUND": background,
        "TOP": str(TOP),
    }
    for word, value in frame.items():
        text = text.replace(f"@{word}@", value)
    return text


TEXT = re.compile(
    r'<text class="(?P<kind>[^"]*)" x="(?P<x>[^"]*)" y="(?P<y>[^"]*)"'
    r' textLength="(?P<length>[^"]*)" '
    r"(?P<rest>[^>]*)>(?P<content>[^<]*)</text>"
)
WIDE = re.compile(r"([\u1100-\u11ff\u3000-\u9fff\uac00-\ud7a3\uff00-\uff60]+)")


def line_up_wide(text: str) -> str:
    """Each stretch of Korean as an element of its own, a character as wide as two others; rich
    takes it for one."""
    return TEXT.sub(split_wide, text)


def split_wide(found: re.Match[str]) -> str:
    content = unescape(found["content"])
    if not WIDE.search(content):
        return found[0]
    column, place = float(found["length"]) / len(content), float(found["x"])
    parts = []
    for part in WIDE.split(content):
        length = column * cell_len(part)
        if part.strip():
            stretch = ' lengthAdjust="spacingAndGlyphs"' if WIDE.match(part) else ""
            parts.append(
                f'<text class="{found["kind"]}" x="{place:g}" y="{found["y"]}"'
                f' textLength="{length:g}"{stretch} '
                f"{found['rest']}>{escape(part)}</text>"
            )
        place += length
    return "".join(parts)


# --- Pages ---

# What MLflow opens beside the runs of a new browser: its assistant, and a remark on the view.
MLFLOW_CLOSE = (
    '[data-component-id="mlflow.assistant.chat_panel.close"]',
    '[aria-label="Hide banner"]',
)
WIDTH = 1200  # of a page, in pixels
CHROMIUM_FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
]


def draw_pages(root: Path) -> None:
    """The report and MLflow's page in chromium."""
    run_tracker(root, "report", "--html", "report.html")
    run_tracker(root, "sync")
    with open_browser() as browser, serve_mlflow(root) as address:
        for scheme in SCHEMES:
            draw_report(browser, root / "report.html", scheme)
            draw_mlflow(browser, address, scheme)


@contextmanager
def open_browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=shutil.which("chromium"), args=CHROMIUM_FLAGS
        )
        yield browser
        browser.close()


@contextmanager
def open_page(browser: Browser, scheme: str, height: int) -> Iterator[Page]:
    dark = scheme == "dark"
    context = browser.new_context(
        viewport={"width": WIDTH, "height": height}, color_scheme="dark" if dark else "light"
    )
    context.add_init_script(
        f"localStorage.setItem('_mlflow_dark_mode_toggle_enabled', '{str(dark).lower()}')"
    )
    page = context.new_page()
    page.set_default_timeout(PAGE_LIMIT_MS)
    yield page
    context.close()


def draw_report(browser: Browser, path: Path, scheme: str) -> None:
    with open_page(browser, scheme, 900) as page:
        page.goto(path.as_uri())
        below = page.get_by_role("heading", name="Submissions", exact=True).bounding_box()
        height = below["y"] - 24 if below else 900
        write_picture(
            f"report-{scheme}.png", shrink(page.screenshot(clip=frame(height), full_page=True))
        )


def frame(height: float) -> FloatRect:
    return {"x": 0, "y": 0, "width": WIDTH, "height": height}


def draw_mlflow(browser: Browser, address: str, scheme: str) -> None:
    with open_page(browser, scheme, 664) as page:
        page.goto(address)
        for name in ("exp1", f"exp{len(STORY)}"):
            page.get_by_role("link", name=name, exact=True).first.wait_for()
        for button in MLFLOW_CLOSE:
            if (shown := page.locator(button)).count():
                shown.first.click()
        page.mouse.move(0, 0)
        page.wait_for_timeout(1000)  # the table spreads into the room of the panel
        write_picture(f"mlflow-{scheme}.png", shrink(page.screenshot()))


@contextmanager
def serve_mlflow(root: Path) -> Iterator[str]:
    """The address of the page while `tracker ui` serves it."""
    child = subprocess.Popen(
        tracker_command("ui", "--port", "0"), cwd=root, stdout=subprocess.PIPE, text=True
    )
    assert child.stdout is not None  # noqa: S101
    try:
        line = child.stdout.readline()
        found = re.search(r"http://127\.0\.0\.1:\d+/\S*", line)
        if not found:
            sys.exit(f"tracker ui named no address: {line!r}")
        yield found[0]
    finally:
        child.send_signal(signal.SIGINT)
        child.wait(COMMAND_LIMIT_S)
        child.stdout.close()


def shrink(png: bytes) -> bytes:
    """The picture with 256 colors, which a page of text and lines does not miss."""
    from PIL import Image

    output = io.BytesIO()
    Image.open(io.BytesIO(png)).convert("RGB").quantize(256).save(output, "PNG", optimize=True)
    return output.getvalue()


def write_picture(name: str, content: bytes) -> None:
    if len(content) > LIMIT_BYTES:
        sys.exit(f"{name} has {len(content):,} bytes, more than {LIMIT_BYTES:,}: show less")
    (PICTURES / name).write_bytes(content)
    print(f"{name}: {len(content):,} bytes", file=sys.stderr)


def main() -> None:
    """All pictures; the workspace is made in the folder of the argument and kept there, or made
    anew and deleted."""
    if shutil.which("chromium") is None:
        sys.exit("no chromium on PATH: apt-get install chromium")
    PICTURES.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        root = Path(sys.argv[1] if len(sys.argv) > 1 else folder).resolve() / "leaves"
        if not root.exists():
            make_workspace(root)
        draw_terminal(root)
        draw_pages(root)


if __name__ == "__main__":
    main()
