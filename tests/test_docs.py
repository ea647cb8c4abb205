"""Texts agree with what there is: no leftovers of merges, no names of files that have gone, no dead links.

The pages of docs/reference are what docs/generate.py makes of the code.
"""

from __future__ import annotations

import ast
import io
import re
import subprocess
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from docs.generate import REFERENCE, build_pages
from tests.conftest import ROOT
from tests.test_cli import COMMANDS
from tracker.leaderboards.registry import KINDS
from tracker.leaderboards.registry import list_options as list_leaderboard_options
from tracker.settings import SETTINGS
from tracker.training.config import list_options

WINDOW = 12  # lines in which a merge leaves both versions of a sentence
ALIKE = 40  # characters
# Files that users or other programs make.
OTHERS = {"train.py", "my_loop.py", "setup.py"}


def list_files(*endings: str) -> list[Path]:
    """Files of the repository, links to them left out."""
    listed = subprocess.run(["git", "ls-files", "-co", "--exclude-standard"], cwd=ROOT, capture_output=True, check=True)
    paths = [ROOT / name for name in listed.stdout.decode().splitlines()]
    return [path for path in paths if path.suffix in endings and path.is_file() and not path.is_symlink()]


DOCUMENTS = list_files(".md")


def read_prose(path: Path) -> Iterator[tuple[int, str]]:
    """(number, line) outside code; rows of tables included."""
    in_code = False
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        if line.startswith("```"):
            in_code = not in_code
        elif not in_code and line.strip():
            yield number, line.strip()


def find_doubled(lines: list[tuple[int, str]]) -> list[tuple[int, int]]:
    """Numbers of lines that begin or end alike within a few lines of each other; rows of tables may."""
    found = []
    lines = [(number, line) for number, line in lines if len(line) >= ALIKE and not line.startswith("|")]
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
    assert find_doubled([(1, line + " this"), (3, "other"), (5, line + " that"), (40, line)]) == [(1, 5)]
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
    assert dated == [], "an entry is `### Title` under its subject, and its text begins with the date"


def test_decisions_of_a_subject_are_in_order_of_date() -> None:
    for subject, entries in read_decisions().items():
        dates = [text[:10] for _, text in entries]
        assert dates == sorted(dates), subject


def test_the_contents_of_decisions_name_every_subject() -> None:
    contents = re.findall(r"^- \[(.+)\]\(#", DECISIONS.read_text(encoding="utf-8"), re.MULTILINE)
    assert contents == list(read_decisions())


def test_a_decision_that_a_text_names_is_there() -> None:
    titles = [title for entries in read_decisions().values() for title, _ in entries]
    texts = [text for _, text in list_texts()] + [(ROOT / "pyproject.toml").read_text(encoding="utf-8")]
    named = [name for text in texts for name in re.findall(r'DECISIONS\.md,\s+"([^"]+)"', text)]
    assert len(named) > 3
    assert [name for name in named if not any(title.startswith(name) for title in titles)] == []


def read_remarks(path: Path) -> Iterator[str]:
    """Docstrings and comments of a module."""
    source = path.read_text(encoding="utf-8")
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            yield ast.get_docstring(node) or ""
    tokens = tokenize.generate_tokens(io.StringIO(source).readline)
    yield from (token.string for token in tokens if token.type == tokenize.COMMENT)


def list_texts() -> Iterator[tuple[Path, str]]:
    for path in DOCUMENTS:
        yield path, path.read_text(encoding="utf-8")
    for path in list_files(".py"):
        for text in read_remarks(path):
            yield path, text


def test_every_module_that_a_text_names_is_there() -> None:
    modules = list_files(".py", ".sql")
    known = {str(path.relative_to(ROOT)) for path in modules}
    known |= {f"tracker/{name}" for name in known if name.startswith(("training/", "cli.py", "ledger.db.sql"))}
    gone, seen = [], 0
    for path, text in list_texts():
        for name in re.findall(r"(?<![\w/.<])((?:[a-z_]\w*/)*\w+\.(?:py|sql))\b", text):
            seen += 1
            if name not in OTHERS and not any(module == name or module.endswith(f"/{name}") for module in known):
                gone.append(f"{path.relative_to(ROOT)}: {name}")
    assert seen > 100
    assert gone == []


# --- Documents for users ----------------------------------------------------------------------------------------------

PAGES = [path for path in DOCUMENTS if path.name.startswith("README") or path.parent.name in ("docs", "reference")]
README_LINES = 150


def test_generated_pages_are_what_the_code_says() -> None:
    committed = {path.name: path.read_text(encoding="utf-8") for path in REFERENCE.glob("*.md")}
    assert committed == build_pages(), "make docs writes them anew"


@pytest.mark.parametrize("words", COMMANDS)
def test_the_page_of_commands_has_every_option(words: str) -> None:
    text = build_pages()["commands.md"]
    section = text.partition(f"\n## tracker {words}\n")[2].partition("\n## ")[0]
    options = [parameter.opts[0] for parameter in COMMANDS[words].params if parameter.opts[0].startswith("-")]
    assert section
    assert [option for option in options if f"`{option}" not in section and f" {option}" not in section] == []


def test_the_page_of_keys_has_every_key_and_setting_and_no_other() -> None:
    config, _, settings = build_pages()["config.md"].partition("\n## Environment settings\n")
    run, _, _ = config.partition("\n## tracker.toml\n")
    assert set(re.findall(r"^\| `([a-z_]+\.[a-z0-9_]+)` \|", run, re.MULTILINE)) == set(list_options())
    assert set(re.findall(r"^\| `(\w+)` \|", settings, re.MULTILINE)) == {setting.name for setting in SETTINGS}


def test_the_page_of_keys_tells_the_metrics_and_the_leaderboard_of_a_workspace() -> None:
    rows = dict(re.findall(r"^\| `(\w+\.\w+)` \|.*\| ?(.*?) ?\|$", build_pages()["config.md"], re.MULTILINE))
    assert '"macro_f1" and "accuracy" can be computed here' in rows["competition.metrics"]
    assert [f'"{kind}": ' in rows["leaderboard.kind"] for kind in KINDS] == [True] * len(KINDS)
    assert [option.key for option in list_leaderboard_options() if not rows[f"leaderboard.{option.key}"]] == []


def test_every_command_with_json_has_a_document() -> None:
    text = build_pages()["json.md"]
    takers = [
        words for words, command in COMMANDS.items() if any("--json" in parameter.opts for parameter in command.params)
    ]
    assert len(takers) > 15
    assert [words for words in takers if f"\n## {words}\n" not in text] == []


def test_every_module_says_what_it_does_in_the_map() -> None:
    rows = re.findall(r"^\| `(\w+\.\w+)` \| ?(.*?) ?\|$", build_pages()["map.md"], re.MULTILINE)
    assert len(rows) > 100
    assert [name for name, sentence in rows if not sentence] == []


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


# --- Gates and package ------------------------------------------------------------------------------------------------


def test_pre_commit_has_the_gates_of_make_lint_and_loads_nothing() -> None:
    gates = re.search(r"^lint: .*\n((?:\t.*\n)+)", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert gates
    wanted = [line.strip().replace("$(BIN)", ".venv/bin") for line in gates[1].splitlines()]
    config = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())
    assert [repo["repo"] for repo in config["repos"]] == ["local"]
    assert [hook["entry"] for hook in config["repos"][0]["hooks"]] == wanted


def test_changelog_has_the_form_of_keep_a_changelog() -> None:
    heads = re.findall(r"^(##+) (.+)$", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert heads[0] == ("##", "[Unreleased]")
    kinds = {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"}
    assert {words for level, words in heads if level == "###"} <= kinds
