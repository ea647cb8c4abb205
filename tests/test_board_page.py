"""The live page in a real browser, served by `tracker board`: phone and wide screen, light and
dark; what is new comes without a reload, and without a script it can be read all the same."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.support.servers import PAGE_LIMIT_MS, pictured, tracker_page
from tests.support.winners_table import TABLE
from tests.support.workspaces import begin_run, make_run, make_workspace, set_parent
from tracker.ledger.submission_table import import_table, read_submission_table
from tracker.run_folder.recorder import Recorder
from tracker.submission.notes import add_note
from tracker.submission.submit import submit
from tracker.workspace.tracker_toml import Workspace

PAGES = ("", "runs/exp2", "submissions/17", "diff?a=exp1&b=exp2", "diff")
MEMO = "기준 모델 <script>alert(1)</script>"


@dataclass(frozen=True)
class Served:
    """A workspace, the address of its board, and its running run."""

    workspace: Workspace
    address: str
    running: Recorder


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """The submissions of 2022 with a deadline, two runs and one that is running."""
    competition = {"deadline": "2099-01-01", "daily_limit": 50, "time_zone": "Asia/Seoul"}
    workspace = make_workspace(tmp_path_factory.mktemp("b") / "ws", competition=competition)
    import_table(workspace, read_submission_table(TABLE, workspace.competition))
    make_run(workspace, "0000011110", f1=0.5)
    make_run(workspace, "0000011101", f1=0.6, note=MEMO, config={"optim.lr": 0.5})
    set_parent(workspace, "exp2", "exp1")
    submit(workspace, "exp2", memo=MEMO)
    running = begin_run(workspace, config={"train": {"epochs": 9, "monitor": "val/f1"}})
    for epoch in (1, 2, 3):
        running.metrics({"train/loss": 1 / epoch, "val/f1": 0.2 * epoch}, step=epoch, epoch=epoch)
    with tracker_page("board", cwd=workspace.root, stop=signal.SIGTERM) as address:
        yield Served(workspace, address, running)
    running.finish("finished")


@contextmanager
def opened(
    browser: Browser, address: str, *, width: int = 1400, scheme: str = "light", script: bool = True
) -> Iterator[Page]:
    """A page of the board; fails when it complained or asked another server."""
    complaints: list[str] = []
    requests: list[str] = []
    context = browser.new_context(
        viewport={"width": width, "height": 900},
        color_scheme="dark" if scheme == "dark" else "light",
        java_script_enabled=script,
    )
    page = context.new_page()
    page.set_default_timeout(PAGE_LIMIT_MS)
    page.on("console", lambda message: complaints.append(message.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("dialog", lambda dialog: complaints.append(dialog.message))
    page.on("request", lambda request: requests.append(request.url))
    page.goto(address)
    try:
        with pictured(page):
            yield page
        root = address[: address.index("/", len("http://")) + 1]
        assert complaints == []
        assert [url for url in requests if not url.startswith((root, "data:"))] == []
    finally:
        context.close()


def ask_now(page: Page) -> None:
    """What the page does when it is looked at again: no test waits for its next question."""
    page.wait_for_timeout(1100)  # the board looks at the ledger once a second
    page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1400])
def test_every_page_fits_the_screen_and_shows_no_markup_of_users(
    browser: Browser, served: Served, width: int, scheme: str
) -> None:
    with opened(browser, served.address, width=width, scheme=scheme) as page:
        for place in PAGES:
            page.goto(served.address + place)
            assert page.evaluate("document.documentElement.scrollWidth") <= width, place
            assert page.locator("script").count() == 1
            brightness = page.evaluate(
                "getComputedStyle(document.body).backgroundColor.match(/\\d+/g).map(Number)"
            )
            assert (min(brightness) > 200) == (scheme == "light")
        page.goto(served.address)
        assert page.locator("#submissions ~ .scroll tbody tr").count() == 19
        expect(page.locator("#s19 [data-key=memo]")).to_have_text(MEMO)
        expect(page.get_by_role("article", name="exp3").locator("svg")).to_be_visible()
        expect(page.locator("time.until").last).to_contain_text(" d ")
        page.get_by_role("link", name="19", exact=True).first.click()
        expect(page.get_by_role("heading", level=1)).to_contain_text("Submission 19")
        page.get_by_role("link", name="with SOTA at that time").click()
        expect(page.get_by_role("heading", level=1)).to_contain_text("s17")


def test_what_is_new_comes_by_itself_and_order_and_place_stay(
    browser: Browser, served: Served
) -> None:
    with opened(browser, served.address) as page:
        page.evaluate("window.sameDocument = true")
        page.get_by_role("columnheader", name="public").first.get_by_role("button").click()
        first = page.locator("#submissions ~ .scroll tbody tr").first.get_attribute("id")
        page.evaluate("window.scrollTo(0, 1200)")
        add_note(served.workspace, "s3", "noted while the page was open")
        served.running.metrics({"train/loss": 0.2, "val/f1": 0.7}, step=4, epoch=4)
        ask_now(page)
        expect(page.locator("#s3")).to_contain_text("noted while")
        expect(page.get_by_role("article", name="exp3")).to_contain_text("4 of 9")
        assert page.evaluate("window.sameDocument")  # no reload
        assert page.evaluate("window.scrollY") == 1200
        assert page.locator("th[aria-sort=ascending]").count() == 1
        button = page.get_by_role("columnheader", name="public").first.get_by_role("button")
        expect(button).to_be_visible()
        assert first == page.locator("#submissions ~ .scroll tbody tr").first.get_attribute("id")


def test_without_a_script_the_page_is_loaded_anew_by_the_browser(
    browser: Browser, served: Served
) -> None:
    with opened(browser, served.address, script=False) as page:
        refresh = page.locator("meta[http-equiv=refresh]")
        assert refresh.get_attribute("content") == "30"
        expect(page.locator("#s17")).to_be_visible()
        expect(page.locator("time.until").last).to_contain_text(" d ")
        page.goto(served.address + "diff")
        page.locator("select[name=a]").select_option("exp1")
        page.locator("select[name=b]").select_option("exp2")
        page.get_by_role("button", name="Compare").click()
        expect(page.locator(".first")).to_contain_text("exp1 -> exp2")


def test_a_page_whose_board_has_gone_says_that_it_is_old(browser: Browser, served: Served) -> None:
    context = browser.new_context()
    page = context.new_page()
    page.set_default_timeout(PAGE_LIMIT_MS)
    page.goto(served.address)
    expect(page.locator("#offline")).to_be_hidden()
    page.route("**/*", lambda route: route.abort())
    ask_now(page)
    expect(page.locator("#offline")).to_be_visible()
    page.unroute("**/*")
    ask_now(page)
    expect(page.locator("#offline")).to_be_hidden()
    context.close()


def test_ctrl_c_ends_the_board_with_a_word_of_how_to_go_on(served: Served, tmp_path: Path) -> None:
    log = tmp_path / "stderr"
    with log.open("w") as stderr, tracker_page("board", cwd=served.workspace.root, stderr=stderr):
        pass
    assert log.read_text() == "the board is closed; continue with: tracker board\n"
