"""The team's report in a real browser: on a phone and a wide screen, in light and dark, by keyboard
and on paper."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.support.report_texts import CELLS, HEBREW, HOSTILE, list_expected, make_hostile
from tests.support.servers import PAGE_LIMIT_MS, pictured
from tests.support.winners_table import TABLE
from tests.support.workspaces import make_workspace
from tracker.ledger.submission_table import import_table, read_submission_table
from tracker.report.write import write_report
from tracker.submission.notes import add_note

MOST_TABS = 60


@pytest.fixture(scope="module")
def winners(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The report of the submissions of 2022."""
    workspace = make_workspace(tmp_path_factory.mktemp("winners") / "ws")
    import_table(workspace, read_submission_table(TABLE, workspace.competition))
    write_report(workspace, html=workspace.root / "report.html")
    return workspace.root / "report.html"


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A report with markup and right-to-left text in everything that users write."""
    workspace = make_workspace(tmp_path_factory.mktemp("hostile") / "ws")
    make_hostile(workspace)
    write_report(workspace, html=workspace.root / "report.html")
    return workspace.root / "report.html"


@contextmanager
def opened(
    browser: Browser, path: Path, width: int = 1400, scheme: str = "light"
) -> Iterator[Page]:
    """The report in a page; fails when it complained on the console or asked for anything but
    itself."""
    complaints: list[str] = []
    requests: list[str] = []
    context = browser.new_context(
        viewport={"width": width, "height": 900},
        color_scheme="dark" if scheme == "dark" else "light",
    )
    page = context.new_page()
    page.set_default_timeout(PAGE_LIMIT_MS)
    page.on("console", lambda message: complaints.append(message.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("dialog", lambda dialog: complaints.append(dialog.message))
    page.on("request", lambda request: requests.append(request.url))
    page.goto(path.as_uri())
    try:
        with pictured(page):
            yield page
        assert complaints == []
        assert [url for url in requests if not url.startswith("data:")] == [path.as_uri()]
    finally:
        context.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1400])
def test_the_report_fits_the_screen_and_has_the_reference_rows(
    browser: Browser, winners: Path, width: int, scheme: str
) -> None:
    with opened(browser, winners, width, scheme) as page:
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        rows = page.locator("#submissions ~ .scroll tbody tr").all()
        assert len(rows) == 18
        for row, expected in zip(rows, list_expected(), strict=True):
            cells = row.evaluate(
                "row => Object.fromEntries([...row.querySelectorAll('[data-label], [data-key]')]"
                ".map(cell => [cell.dataset.label || cell.dataset.key, cell.innerText.trim()]))"
            )
            # A sign behind a validation score: measured on other images than SOTA's.
            assert {name: cells[name].rstrip("\n≠") for name in ("model", "memo", *CELLS)} == {
                name: expected[name] for name in ("model", "memo", *CELLS)
            }
            assert re.match(r"\d+", cells["number"])[0] == expected["number"]
        brightness = page.evaluate(
            "getComputedStyle(document.body).backgroundColor.match(/\\d+/g).map(Number)"
        )
        assert (min(brightness) > 200) == (scheme == "light")
        if width == 390:
            assert page.locator("#submissions ~ .scroll").evaluate(
                "box => box.scrollWidth <= box.clientWidth"
            )
        cards = page.locator("#s1").evaluate("row => getComputedStyle(row).display")
        assert cards == ("grid" if width == 390 else "table-row")


@pytest.mark.parametrize("width", [1024, 1280])
def test_no_table_scrolls_sideways_on_a_laptop_however_long_the_notes(
    browser: Browser, tmp_path: Path, width: int
) -> None:
    workspace = make_workspace(tmp_path / "ws", competition={"time_zone": "Asia/Seoul"})
    import_table(workspace, read_submission_table(TABLE, workspace.competition))
    for number in (3, 7, 12):
        add_note(
            workspace,
            f"s{number}",
            "a long remark on the validation of this submission and its images, " * 6,
        )
    write_report(workspace, html=workspace.root / "report.html")
    with opened(browser, workspace.root / "report.html", width) as page:
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        boxes = page.evaluate(
            "[...document.querySelectorAll('.scroll')].map(e => [e.scrollWidth, e.clientWidth])"
        )
        assert [box for box in boxes if box[0] > box[1]] == []
        assert page.inner_text(".eyebrow").endswith(
            "(Asia/Seoul)"
        )  # the table has no times of its own


@pytest.mark.parametrize("width", [390, 1400])
def test_the_keyboard_reaches_every_table_that_scrolls(
    browser: Browser, winners: Path, width: int
) -> None:
    with opened(browser, winners, width) as page:
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement.innerText") == "Skip to the submissions"
        assert page.locator(":focus").bounding_box()["x"] >= 0  # type: ignore[index]
        page.keyboard.press("Enter")
        reached = []
        for _ in range(MOST_TABS):
            page.keyboard.press("Tab")
            reached.append(page.evaluate("document.activeElement.getAttribute('aria-labelledby')"))
            outline = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
            assert outline == "solid" or page.evaluate("document.activeElement === document.body")
        assert {"submissions", "family"} <= set(reached)


def test_a_heading_sorts_the_table_by_keyboard_and_leaves_the_unknown_at_the_end(
    browser: Browser, winners: Path
) -> None:
    with opened(browser, winners) as page:
        numbers = (
            "[...document.querySelectorAll('[data-key=number]')].map(cell =>"
            " parseInt(cell.innerText))"
        )
        button = page.get_by_role("columnheader", name="public").first.get_by_role("button")
        button.focus()
        page.keyboard.press("Enter")
        assert page.evaluate(numbers)[:3] == [5, 1, 3]
        page.keyboard.press("Enter")
        assert page.evaluate(numbers)[:3] == [17, 12, 18]
        assert page.locator("th[aria-sort=descending]").count() == 1
        page.get_by_role("columnheader", name="loss").first.get_by_role("button").click()
        assert page.evaluate(numbers)[0] == 10
        assert set(page.evaluate(numbers)[-6:]) == {1, 2, 3, 4, 5, 6}


@pytest.mark.parametrize("width", [390, 1400])
def test_markup_and_right_to_left_text_are_shown_as_text(
    browser: Browser, hostile: Path, width: int
) -> None:
    with opened(browser, hostile, width) as page:
        assert page.evaluate("document.title") == "ws: submissions"
        memo, other = page.locator("[data-key=memo] bdi").all()[:2]
        assert memo.inner_text() == " ".join(HOSTILE.split())
        assert memo.is_visible()
        assert other.inner_text() == HEBREW
        assert other.evaluate("bdi => getComputedStyle(bdi).unicodeBidi") == "isolate"
        assert other.evaluate("bdi => bdi.matches(':dir(rtl)')")
        assert page.locator("script").count() == 1
        assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_a_phone_has_a_way_back_to_the_top_wherever_it_is(browser: Browser, winners: Path) -> None:
    with opened(browser, winners, 390) as page:
        page.locator("footer").scroll_into_view_if_needed()
        link = page.get_by_role("link", name="Top", exact=True)
        box = link.bounding_box()
        assert box is not None
        assert (box["width"] >= 44, box["height"] >= 44) == (True, True)  # as large as a finger
        assert box["y"] + box["height"] <= 900
        expect(page.locator("h1")).not_to_be_in_viewport()
        link.click()
        expect(page.locator("h1")).to_be_in_viewport()
    with opened(browser, winners) as page:
        assert not page.get_by_role("link", name="Top", exact=True).is_visible()


def test_on_paper_nothing_is_cut_off(browser: Browser, winners: Path) -> None:
    with opened(browser, winners, 1040) as page:  # A4 landscape within its margins
        page.emulate_media(media="print")
        assert page.evaluate("document.documentElement.scrollWidth") <= 1040
        assert not page.get_by_role("navigation").is_visible()
