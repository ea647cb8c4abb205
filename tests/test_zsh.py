"""Every command line of README and docs, of the help pages and of hints does in zsh what it does in
other shells.

At its prompt zsh refuses a word with brackets, `*` or `?` that fits no file, reads `=word` as the
path of a program, and takes `#` for a word like any other.
"""

from __future__ import annotations

import ast
import re
import shlex
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

import typer

from tests.conftest import ROOT
from tests.support.commands import COMMANDS
from tests.support.servers import require_or_skip
from tracker.commands.demo import render_train_command
from tracker.commands.table import app

PROGRAMS = ("tracker", "make", "pip", "cd", "cp", "docker")
# An option with its value, as texts name it; a value in quotes is one, with what stands before the
# quotes.
FRAGMENT = re.compile(
    r"""(?<![\w-])--[a-z][a-z-]+(?:[ =][^\s"']*(?:"[^"]*"|'[^']*')|[ =][^\s"',;()]+)?"""
)
LIMIT_S = 120


def list_blocks(text: str) -> Iterator[str]:
    """The lines of a document's blocks of commands."""
    for language, block in re.findall(r"^```(\w*)\n(.*?)^```", text, re.MULTILINE | re.DOTALL):
        if not language and block.split(maxsplit=1)[0] in PROGRAMS:
            yield from block.splitlines()


def list_spans(text: str) -> Iterator[str]:
    """Commands and options within a document's sentences; what stands first in a table is usage, as
    in `[DIR]`."""
    prose = re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)
    for line in prose.splitlines():
        shown = line.partition("|")[2].partition("|")[2] if line.startswith("|") else line
        for span in re.findall(r"`([^`]+)`", shown):
            if span.startswith("--"):
                yield f"tracker {span}"
            elif span.split()[0] in PROGRAMS and " " in span:
                yield span


def list_help() -> Iterator[str]:
    """The sentences of every help page."""
    for command in [typer.main.get_command(app), *COMMANDS.values()]:
        yield command.help or ""
        yield from (getattr(parameter, "help", "") or "" for parameter in command.params)


def list_hints() -> Iterator[str]:
    """The texts of the program, X where something is put in."""
    for file in [
        ROOT / "cli.py",
        *(ROOT / "tracker").rglob("*.py"),
        *(ROOT / "training").rglob("*.py"),
    ]:
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.JoinedStr):
                yield "".join(
                    str(part.value) if isinstance(part, ast.Constant) else "X"
                    for part in node.values
                )
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                yield node.value


def list_fragments(texts: Iterator[str]) -> Iterator[str]:
    for text in texts:
        for found in FRAGMENT.findall(text):
            yield f"tracker {found.rstrip('.:`')}"


def type_into_zsh(lines: Sequence[str], folder: Path) -> list[list[str]]:
    """The words that the programs get when the lines are typed at zsh's prompt, in a folder without
    files."""
    zsh = shutil.which("zsh")
    if zsh is None:
        require_or_skip("zsh", "no zsh on PATH")
    work, out = folder / "empty", folder / "words"
    work.mkdir()
    typed = [f'note() {{ print -rN -- "$@" >> {out} }}']
    typed += [f'{name}() {{ note {name} "$@" }}' for name in PROGRAMS]
    for line in lines:
        typed += ["note ' next'", line]
    done = subprocess.run(
        [str(zsh), "-fis"],
        input="\n".join([*typed, "note ' end'", ""]),
        cwd=work,
        env={"HOME": str(work), "PATH": "/usr/bin:/bin", "TERM": "dumb", "LC_ALL": "C.UTF-8"},
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        check=False,
    )
    words = out.read_text(encoding="utf-8").removesuffix("\0").split("\0")
    assert words.pop() == " end", done.stderr[-2000:]
    found: list[list[str]] = []
    for word in words:
        if word == " next":
            found.append([])
        else:
            found[-1].append(word)
    return found


def check(lines: Sequence[str], folder: Path) -> list[str]:
    """The lines that come to something else in zsh than in a shell of POSIX."""
    typed = type_into_zsh(lines, folder)
    assert len(typed) == len(lines)
    wanted = [
        [] if line.startswith("export ") else shlex.split(line, comments=True) for line in lines
    ]
    return [line for line, words, right in zip(lines, typed, wanted, strict=True) if words != right]


def test_command_lines_of_the_documents_work_as_typed(tmp_path: Path) -> None:
    paths = [*ROOT.glob("README*.md"), *(ROOT / "docs").glob("*.md")]
    texts = [path.read_text(encoding="utf-8") for path in sorted(paths)]
    blocks = [line for text in texts for line in list_blocks(text) if line]
    spans = list(dict.fromkeys(span for text in texts for span in list_spans(text)))
    assert len(blocks) > 40
    assert len(spans) > 60
    assert check([*blocks, *spans], tmp_path) == []


def test_options_that_help_pages_and_hints_name_work_as_typed(tmp_path: Path) -> None:
    lines = list(dict.fromkeys([*list_fragments(list_help()), *list_fragments(list_hints())]))
    assert "tracker --set model.pretrained=false" in lines
    assert check(lines, tmp_path) == []


def test_commands_that_the_demo_prints_are_quoted_for_every_shell(tmp_path: Path) -> None:
    flags = {"data.image_size": [48, 36], "augment.name": "standard", "optim.lr": 0.003}
    line = render_train_command("exp1", "what's *new*", flags, force=True)
    given = ["--set", "data.image_size=[48,36]", "--set", "augment.name=standard"]
    words = ["--from", "exp1", "--force", *given, "--set", "optim.lr=0.003"]
    assert shlex.split(line) == ["tracker", "run", "train", *words, "--note", "what's *new*"]
    assert "--set 'data.image_size=[48,36]' --set augment.name=standard" in line
    assert check([line], tmp_path) == []


def test_what_zsh_takes_in_another_way_is_found(tmp_path: Path) -> None:
    wrong = [
        "tracker --set data.image_size=[32,32]",
        "tracker check  # what submit would say; sends nothing",
        "tracker --set data.exclude=cat/*.gif",
        "tracker is it so?",
        "tracker =zsh",
    ]
    right = ['tracker --set "data.image_size=[32,32]"', "tracker a=b c~d 'x?'", "pip install ."]
    assert check([*wrong, *right], tmp_path) == wrong
    assert list(list_fragments(iter(['as in --set optim.lr=2e-5, or --where "a > 1".']))) == [
        "tracker --set optim.lr=2e-5",
        'tracker --where "a > 1"',
    ]
