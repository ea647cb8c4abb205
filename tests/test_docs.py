"""Texts agree with what there is: no leftovers of merges, no names of files that have gone, no dead
links.

The pages of docs/reference are what docs/generate.py makes of the code.
"""

from __future__ import annotations

import ast
import html
import re
import subprocess
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
import yaml
from rich.text import Text

from docs.generate import REFERENCE, build_pages
from docs.make_pictures import (
    LIMIT_BYTES,
    MOST_LINES,
    PICTURES,
    SCHEMES,
    THEMES,
    cut,
    draw_svg,
    run_in_terminal,
)
from tests.conftest import ROOT
from tests.support.commands import COMMANDS
from tests.support.workspaces import make_run, make_workspace
from tracker.core.settings import SETTINGS
from tracker.training.config import list_options
from tracker.workspace.leaderboard_kinds import KINDS
from tracker.workspace.leaderboard_kinds import list_options as list_leaderboard_options

WINDOW = 12  # lines in which a merge leaves both versions of a sentence
ALIKE = 40  # characters
# Files that users or other programs make.
OTHERS = {"judge.py", "train.py", "my_loop.py", "setup.py"}


def list_files(*endings: str) -> list[Path]:
    """Files of the repository, links to them left out."""
    listed = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard"], cwd=ROOT, capture_output=True, check=True
    )
    paths = [ROOT / name for name in listed.stdout.decode().splitlines()]
    return [
        path
        for path in paths
        if path.suffix in endings and path.is_file() and not path.is_symlink()
    ]


DOCUMENTS = list_files(".md")
PICTURE = re.compile(r"</?(picture|source|img)\b")


def read_prose(path: Path) -> Iterator[tuple[int, str]]:
    """(number, line) outside code and pictures; rows of tables included."""
    in_code = False
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        if line.startswith("```"):
            in_code = not in_code
        elif not in_code and line.strip() and not PICTURE.match(line.strip()):
            yield number, line.strip()


def find_doubled(lines: list[tuple[int, str]]) -> list[tuple[int, int]]:
    """Numbers of lines that begin or end alike within a few lines of each other; rows of tables
    may."""
    found = []
    lines = [
        (number, line) for number, line in lines if len(line) >= ALIKE and not line.startswith("|")
    ]
    for place, (number, line) in enumerate(lines):
        for other, text in lines[place + 1 :]:
            if other - number > WINDOW:
                break
            if text[:ALIKE] == line[:ALIKE] or text[-ALIKE:] == line[-ALIKE:]:
                found.append((number, other))
    return found


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_line_of_a_document_stands_twice(path: Path) -> None:
    assert find_doubled(list(read_prose(path))) == []


def test_a_doubled_line_would_be_found() -> None:
    line = "agree with an earlier submission on 99.9 % of the images, unless"
    assert find_doubled([(1, line + " this"), (3, "other"), (5, line + " that"), (40, line)]) == [
        (1, 5)
    ]
    line = "runs the first. Machines are shared and noisy: every script times"
    assert find_doubled([(1, "`make bench` " + line), (2, "another " + line)]) == [(1, 2)]


DECISIONS = ROOT / "DECISIONS.md"


def read_decisions() -> dict[str, list[tuple[str, str]]]:
    """By subject, the (title, text) of its entries."""
    subjects = {}
    for part in re.split(r"^## ", DECISIONS.read_text(encoding="utf-8"), flags=re.MULTILINE)[1:]:
        subject, *entries = re.split(r"^### ", part, flags=re.MULTILINE)
        pairs = [entry.partition("\n\n") for entry in entries]
        subjects[subject.strip()] = [(title, text) for title, _, text in pairs]
    return subjects


def test_a_decision_has_a_subject_a_title_of_its_own_and_a_date() -> None:
    titles = [title for entries in read_decisions().values() for title, _ in entries]
    texts = [text for entries in read_decisions().values() for _, text in entries]
    assert len(titles) > 150
    assert sorted(set(titles)) == sorted(titles)
    assert [text for text in texts if not re.match(r"20\d\d-\d\d-\d\d\. \S", text)] == []
    dated = re.findall(r"^\*\*20\d\d-.*", DECISIONS.read_text(encoding="utf-8"), re.MULTILINE)
    assert dated == [], (
        "an entry is `### Title` under its subject, and its text begins with the date"
    )


def test_decisions_of_a_subject_are_in_order_of_date() -> None:
    for subject, entries in read_decisions().items():
        dates = [text[:10] for _, text in entries]
        assert dates == sorted(dates), subject


def test_the_contents_of_decisions_name_every_subject() -> None:
    contents = re.findall(r"^- \[(.+)\]\(#", DECISIONS.read_text(encoding="utf-8"), re.MULTILINE)
    assert contents == list(read_decisions())


def test_a_decision_that_a_text_names_is_there() -> None:
    titles = [title for entries in read_decisions().values() for title, _ in entries]
    texts = [text for _, text in list_texts()] + [
        (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    ]
    named = [name for text in texts for name in re.findall(r'DECISIONS\.md,\s+"([^"]+)"', text)]
    assert len(named) > 3
    assert [name for name in named if not any(title.startswith(name) for title in titles)] == []


def read_remarks(path: Path) -> Iterator[str]:
    """Docstrings and comments of a module, and what looks like a comment within a string: to take
    the text apart into tokens would be two thirds of the time of these tests."""
    source = path.read_text(encoding="utf-8")
    yield from read_docstrings(ast.parse(source))
    yield from re.findall(r"(?:^|\s)#.*", source, re.MULTILINE)


def read_docstrings(node: ast.AST) -> Iterator[str]:
    """Those of a module and of all classes and functions in it."""
    if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
        yield ast.get_docstring(node) or ""
    for part in ast.iter_child_nodes(node):
        if not isinstance(part, ast.expr):  # no definition is in one
            yield from read_docstrings(part)


@cache
def list_texts() -> list[tuple[Path, str]]:
    """The documents, and the remarks of all modules, which takes a second."""
    texts = [(path, path.read_text(encoding="utf-8")) for path in DOCUMENTS]
    return texts + [(path, text) for path in list_files(".py") for text in read_remarks(path)]


def test_every_module_that_a_text_names_is_there() -> None:
    modules = list_files(".py", ".sql")
    known = {str(path.relative_to(ROOT)) for path in modules}
    known |= {
        f"tracker/{name}"
        for name in known
        if name.startswith(("training/", "cli.py", "ledger.db.sql"))
    }
    gone, seen = [], 0
    for path, text in list_texts():
        for name in re.findall(r"(?<![\w/.<])((?:[a-z_]\w*/)*\w+\.(?:py|sql))\b", text):
            seen += 1
            if name not in OTHERS and not any(
                module == name or module.endswith(f"/{name}") for module in known
            ):
                gone.append(f"{path.relative_to(ROOT)}: {name}")
    assert seen > 100
    assert gone == []


# --- Documents for users ---

PAGES = [
    path
    for path in DOCUMENTS
    if path.name.startswith("README") or path.parent.name in ("docs", "reference")
]
README_LINES = 150
COLUMN = 0.61  # of the font's size, in rich's pictures


@cache  # half a second, and every command looks at them
def generated_pages() -> dict[str, str]:
    """The pages of docs/reference by name, as the code gives them now."""
    return build_pages()


def test_generated_pages_are_what_the_code_says() -> None:
    committed = {path.name: path.read_text(encoding="utf-8") for path in REFERENCE.glob("*.md")}
    assert committed == generated_pages(), "make docs writes them anew"


@pytest.mark.parametrize("words", COMMANDS)
def test_the_page_of_commands_has_every_option(words: str) -> None:
    text = generated_pages()["commands.md"]
    section = text.partition(f"\n## tracker {words}\n")[2].partition("\n## ")[0]
    options = [
        parameter.opts[0]
        for parameter in COMMANDS[words].params
        if parameter.opts[0].startswith("-")
    ]
    assert section
    assert [
        option for option in options if f"`{option}" not in section and f" {option}" not in section
    ] == []


def test_the_page_of_keys_has_every_key_and_setting_and_no_other() -> None:
    config, _, settings = generated_pages()["config.md"].partition("\n## Environment settings\n")
    run, _, _ = config.partition("\n## tracker.toml\n")
    assert set(re.findall(r"^\| `([a-z_]+\.[a-z0-9_]+)` \|", run, re.MULTILINE)) == set(
        list_options()
    )
    assert set(re.findall(r"^\| `(\w+)` \|", settings, re.MULTILINE)) == {
        setting.name for setting in SETTINGS
    }


def test_the_page_of_keys_tells_the_metrics_and_the_leaderboard_of_a_workspace() -> None:
    text = generated_pages()["config.md"]
    rows = dict(re.findall(r"^\| `(\w+\.\w+)` \|.*\| ?(.*?) ?\|$", text, re.MULTILINE))
    kind = re.findall(r"^\| `competition.metrics.kind` \|.*", text, re.MULTILINE)[0]
    assert "| `macro_f1`, `accuracy`, `f_beta`, " in kind
    assert ", `function`, `given` |" in kind
    assert [f'"{kind}": ' in rows["leaderboard.kind"] for kind in KINDS] == [True] * len(KINDS)
    assert [
        option.key for option in list_leaderboard_options() if not rows[f"leaderboard.{option.key}"]
    ] == []


def test_every_command_with_json_has_a_document() -> None:
    text = generated_pages()["json.md"]
    takers = [
        words
        for words, command in COMMANDS.items()
        if any("--json" in parameter.opts for parameter in command.params)
    ]
    assert len(takers) > 15
    assert [words for words in takers if f"\n## {words}\n" not in text] == []


def test_every_module_says_what_it_does_in_the_map() -> None:
    rows = re.findall(r"^\| `(\w+\.\w+)` \| ?(.*?) ?\|$", generated_pages()["map.md"], re.MULTILINE)
    assert len(rows) > 100
    assert [name for name, sentence in rows if not sentence] == []


MAX_FILES = 2  # to open for an addition, besides where it is used


def test_the_table_of_what_to_open_names_files_and_what_is_in_them() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    table = text.partition("| to add | open | and |\n|---|---|---|\n")[2].partition("\n\n")[0]
    rows = [row.strip("| ").split(" | ") for row in table.splitlines()]
    assert len(rows) > 12
    for what, *cells in rows:
        paths = [ROOT / path for path in re.findall(r"`([\w./]*/[\w./]*|[\w]+\.\w+)`", str(cells))]
        assert 1 <= len(paths) <= MAX_FILES, what
        assert [path for path in paths if not path.exists()] == [], what
        # `FORMATS`, `TARGETS`, `Submission`: "there" is in one of the files, or beside them
        for name in re.findall(r"`([A-Z]\w+)`", str(cells)):
            folders = {path if path.is_dir() else path.parent for path in paths} - {ROOT}
            sources = [file for folder in folders for file in folder.glob("*.py")]
            defined = re.compile(rf"^(class )?{name}\b", re.MULTILINE)
            assert any(defined.search(file.read_text("utf-8")) for file in sources), what


def test_the_tree_of_contributing_is_the_tree_of_the_project() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    tree = text.partition("```\ncli.py ")[2].partition("\n```")[0]
    named = {name for line in tree.splitlines() for name in re.findall(r"^ +([\w/ ]+/) ", line)}
    rooms = {room for words in named for room in words.replace("/", " ").split()}
    found = {path.parent.name for path in (ROOT / "tracker").glob("*/__init__.py")}
    assert rooms == found - {"training"}


def test_readme_fits_in_a_minute_of_reading() -> None:
    for path in ROOT.glob("README*.md"):
        assert len(path.read_text(encoding="utf-8").splitlines()) <= README_LINES


def read_anchors(path: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    heads = re.findall(r"^#+ (.+)$", path.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in heads}


@pytest.mark.parametrize("path", [*PAGES, DECISIONS], ids=lambda path: str(path.relative_to(ROOT)))
def test_links_of_a_page_lead_somewhere(path: Path) -> None:
    dead = []
    for target in re.findall(r"\]\(([^)\s]+)\)", path.read_text(encoding="utf-8")):
        if "://" in target:
            continue
        name, _, anchor = target.partition("#")
        file = (path.parent / name).resolve() if name else path
        if not file.exists() or (anchor and anchor not in read_anchors(file)):
            dead.append(target)
    assert dead == []


# --- Pictures ---

SHOWN = re.compile(
    r'<picture>\n  <source media="\(prefers-color-scheme: dark\)" srcset="([^"]+)">\n'
    r'  <img alt="([^"]+)" src="([^"]+)">\n</picture>'
)


def list_shown(page: Path) -> list[tuple[Path, Path, str]]:
    """(light file, dark file, text for who cannot see it) of the pictures of a page."""
    found = SHOWN.findall(page.read_text(encoding="utf-8"))
    return [
        ((page.parent / light).resolve(), (page.parent / dark).resolve(), text)
        for dark, text, light in found
    ]


def read_svg(path: Path) -> str:
    """The words of a terminal picture, without its colors."""
    return " ".join(
        html.unescape(
            re.sub(r"<style>.*?</style>|<[^>]*>", "", path.read_text(), flags=re.DOTALL)
        ).split()
    )


@pytest.mark.parametrize("page", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_picture_of_a_page_is_there_light_and_dark(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    shown = list_shown(page)
    assert len(shown) == text.count("<img") == text.count("<source"), "in the form of SHOWN"
    assert "![" not in text, "a picture for one theme only"
    assert [path for light, dark, _ in shown for path in (light, dark) if not path.is_file()] == []
    pairs = [
        (light.stem.removesuffix("-light"), dark.stem.removesuffix("-dark"))
        for light, dark, _ in shown
    ]
    assert [pair for pair in pairs if pair[0] != pair[1]] == []


def test_every_picture_is_shown_small_and_loads_nothing() -> None:
    drawn = {path for path in PICTURES.iterdir() if path.is_file()}
    assert drawn == {
        path for page in PAGES for light, dark, _ in list_shown(page) for path in (light, dark)
    }
    assert [path.name for path in drawn if path.stat().st_size > LIMIT_BYTES] == []
    for path in drawn:
        if path.suffix == ".svg":
            text = path.read_text(encoding="utf-8").replace("http://www.w3.org/2000/svg", "")
            assert not re.search(r"//|@import|@font-face|href|<script|<image", text), path.name
            assert set(re.findall(r"url\((.)", text)) == {"#"}, path.name


def test_the_text_of_a_terminal_picture_has_its_numbers() -> None:
    seen = 0
    for page in PAGES:
        for light, dark, text in list_shown(page):
            numbers = re.findall(r"\d[\d,.]*\d", text) if light.suffix == ".svg" else []
            for words in (read_svg(light), read_svg(dark)) if numbers else ():
                seen += 1
                assert [number for number in numbers if number not in words] == [], (
                    f"{page.name}: {light.name}"
                )
    assert seen


def test_a_terminal_picture_has_what_the_command_prints_in_the_colors_of_its_theme(
    tmp_path: Path,
) -> None:
    workspace = make_workspace(tmp_path / "ws")
    make_run(workspace, note="라벨 스무딩 & <b>")
    printed = run_in_terminal(workspace.root, ("runs",), columns=100)
    assert "\x1b[" in printed
    for scheme in SCHEMES:
        drawn = draw_svg(Text.from_ansi(printed), "runs", scheme, columns=100)
        (tmp_path / "runs.svg").write_text(drawn, encoding="utf-8")
        words = read_svg(tmp_path / "runs.svg")
        assert all(word in words for word in ("exp1", "라벨", "스무딩", "& <b>"))
        assert all(color in drawn for color in THEMES[scheme][:2])


def test_a_long_picture_is_cut_between_paragraphs_and_says_so() -> None:
    printed = "\n".join(["first", "", *["second"] * (MOST_LINES + 5)])
    assert cut(printed) == f"first\n\n... {MOST_LINES + 5} more lines"
    assert cut("\n".join(["one"] * MOST_LINES)).count("one") == MOST_LINES
    assert cut("\n".join(["one"] * (MOST_LINES + 2))).endswith("one\n\n... 2 more lines")


def test_korean_in_a_terminal_picture_is_two_columns_wide() -> None:
    text = (PICTURES / "leaderboard-light.svg").read_text(encoding="utf-8")
    size = re.search(r"font-size: (\d+)px", text)
    found = re.findall(r'textLength="([\d.]+)"[^>]*>([가-힣]+)</text>', text)
    assert size and len(found) > 2
    assert all(
        abs(float(length) - 2 * COLUMN * int(size[1]) * len(word)) < 1 for length, word in found
    )


# --- Gates and package ---


def test_pre_commit_has_the_gates_of_make_lint_and_loads_nothing() -> None:
    gates = re.search(r"^lint: .*\n((?:\t.*\n)+)", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert gates
    wanted = [line.strip().replace("$(BIN)", ".venv/bin") for line in gates[1].splitlines()]
    config = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())
    assert [repo["repo"] for repo in config["repos"]] == ["local"]
    assert [hook["entry"] for hook in config["repos"][0]["hooks"]] == wanted


def test_changelog_has_the_form_of_keep_a_changelog() -> None:
    heads = re.findall(
        r"^(##+) (.+)$", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE
    )
    assert heads[0] == ("##", "[Unreleased]")
    kinds = {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"}
    assert {words for level, words in heads if level == "###"} <= kinds
