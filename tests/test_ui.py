"""The MLflow web page of a workspace, in a real browser: runs, curves, best.pth, memo, leaderboard
scores."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.conftest import run_tracker
from tests.support.servers import PAGE_LIMIT_MS, tracker_ui
from tracker.mirror.targets.mlflow_view import VIEW_KEY, VIEW_KEYS

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `tracker ui` printed beside the address."""
    return tmp_path_factory.mktemp("ui") / "stderr"


@pytest.fixture(scope="module")
def address(
    demo: tuple[Path, str], log: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[str]:
    """What `tracker ui` printed for the demo's workspace; started where modules of other people's
    have known names."""
    here = tmp_path_factory.mktemp("theirs")
    for name in ("mlflow", "uvicorn", "statistics", "alembic"):
        (here / f"{name}.py").write_text("raise SystemExit('not ours')\n")
    environment = {**os.environ, "TRACKER_WORKSPACE": str(demo[0])}
    with log.open("w") as stderr, tracker_ui(cwd=here, env=environment, stderr=stderr) as page:
        yield page


@pytest.fixture(scope="module")
def page(browser: Browser) -> Page:
    """A page of a real browser."""
    page = browser.new_page(viewport={"width": 1600, "height": 1000})
    page.set_default_timeout(PAGE_LIMIT_MS)
    return page


def keep_picture(page: Page, folder: Path, name: str) -> None:
    page.screenshot(path=folder / f"{name}.png")


def test_the_server_prints_no_warnings_about_its_own_libraries(address: str, log: Path) -> None:
    assert "Warning" not in log.read_text()


def test_the_page_opens_with_the_runs_in_the_order_of_the_leaderboard(
    demo: tuple[Path, str], address: str, page: Page, tmp_path: Path
) -> None:
    sent = json.loads(run_tracker("leaderboard", "--json", cwd=demo[0]).stdout)
    order = [row["run"] for row in sorted(sent, key=lambda row: row["public_f1"], reverse=True)]
    page.goto(address)
    for name in ("exp1", "exp2", "exp3"):
        expect(page.get_by_role("link", name=name).first).to_be_visible()
    keep_picture(page, tmp_path, "runs")
    shown = re.findall(r"exp[123]", page.locator("body").inner_text())
    assert shown == [*order, "exp3"]


def test_the_saved_views_show_their_columns(address: str, page: Page, tmp_path: Path) -> None:
    page.goto(address)
    expect(page.get_by_role("button", name="Leaderboard")).to_be_visible()
    page.locator('[data-component-id="mlflow.assistant.chat_panel.close"]').click()  # makes room
    shown = page.locator("body")
    for title in ("submission", "public_f1", "changed against SOTA", "optim.lr 0.001 -> 0.003"):
        expect(shown).to_contain_text(title)
    keep_picture(page, tmp_path, "leaderboard")
    open_view(page, address, "Machines")
    expect(shown).to_contain_text("tracker.host")
    expect(shown).not_to_contain_text("changed against SOTA")
    open_view(page, address, "Curves", "compareRunsMode=CHART")
    expect(shown).to_contain_text(re.compile(r"Curves\s*\(\d\)"))
    expect(page.locator(".scatterlayer path.js-line").first).to_be_attached()
    keep_picture(page, tmp_path, "charts")


def open_view(page: Page, address: str, name: str, *query: str) -> None:
    page.goto("about:blank")  # the page does not read another address while it is open
    key = f"viewStateShareKey={VIEW_KEYS[name]}"
    page.goto("&".join([address.replace(f"viewStateShareKey={VIEW_KEY}", key), *query]))
    expect(page.get_by_role("button", name=name)).to_be_visible()


def test_a_run_page_shows_params_scores_and_the_memo(
    address: str, page: Page, tmp_path: Path
) -> None:
    open_run(page, address, "Overview")
    expect(page.get_by_text("Submission 2: three times the learning rate")).to_be_visible()
    expect(page.get_by_text("optim.lr").first).to_be_visible()
    expect(page.get_by_text("public_f1").first).to_be_visible()
    keep_picture(page, tmp_path, "overview")


def test_a_run_page_draws_the_curve(address: str, page: Page, tmp_path: Path) -> None:
    open_run(page, address, "Model metrics")
    points = page.locator(".scatterlayer path.point")
    expect(points.first).to_be_attached()  # a search during the first drawing may be lost
    page.get_by_placeholder("Search metric charts").fill("val/loss")
    expect(points).to_have_count(6)  # epochs; the page searches 150 ms after the last key
    keep_picture(page, tmp_path, "curves")


def test_a_run_page_begins_with_f1_loss_and_learning_rate_and_has_no_charts_of_one_bar(
    address: str, page: Page, tmp_path: Path
) -> None:
    open_run(page, address, "Model metrics")
    page.get_by_placeholder("Search metric charts").fill(
        ""
    )  # the page remembers what was searched before
    expect(page.locator("body")).to_contain_text(re.compile(r"train\s*\(3\)"))
    keep_picture(page, tmp_path, "charts")
    shown = page.locator("body").inner_text().partition("Auto-refresh")[2].split()
    names = [
        word
        for word in shown
        if word in ("train", "val", "best", "f1", "loss", "lr", "accuracy", "epoch")
    ]
    assert names[:4] == ["train", "f1", "loss", "lr"]


def test_a_run_page_offers_best_pth(address: str, page: Page, tmp_path: Path) -> None:
    open_run(page, address, "Artifacts")
    expect(page.get_by_text("best.pth").first).to_be_visible()
    expect(page.get_by_text("curves.png").first).to_be_visible()
    keep_picture(page, tmp_path, "artifacts")


def open_run(page: Page, address: str, tab: str) -> None:
    """The page of exp2; it stays open, for to load all of MLflow's program takes two seconds."""
    if "/runs/" not in page.url:
        page.goto(address)
        page.get_by_role("link", name="exp2").first.click()
    page.get_by_role("tab", name=tab).click()
