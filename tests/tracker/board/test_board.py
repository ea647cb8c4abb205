"""The live page: what it shows, that it only reads, and whom it answers."""

from __future__ import annotations

import datetime as dt
import math
import re
import socket
from dataclasses import replace
from pathlib import Path

import pytest

from tests.support.boards import Board, basic
from tests.support.ledger_rows import change, rewrite
from tests.support.report_texts import HEBREW, make_hostile
from tests.support.workspaces import begin_run, make_run, make_workspace, set_parent, workspace
from tracker.board import state
from tracker.board.curves import draw_curves
from tracker.board.now import list_clocks, render_span
from tracker.board.serve import find_password, list_names, listen
from tracker.core.errors import TrackerError
from tracker.ledger.connection import open_reader
from tracker.ledger.team_runs import TeamRuns
from tracker.report import excerpt
from tracker.submission.notes import add_note
from tracker.submission.scores import reveal
from tracker.submission.submit import submit
from tracker.training.errors import ConfigError
from tracker.workflows.ending import index_run
from tracker.workspace.quota import build_quota
from tracker.workspace.tracker_toml import Competition, Workspace

__all__ = ["workspace"]
NOW = dt.datetime(2026, 11, 27, 12, tzinfo=dt.UTC)
PASSWORD = "correct-horse-battery"
ADDRESSES = ("/", "/runs/exp1", "/submissions/1", "/diff", "/diff?a=exp1&b=s2", "/health")


@pytest.fixture(autouse=True)
def read_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(state, "READ_AGAIN_S", 0.0)


def make_two(workspace: Workspace) -> None:
    """Two runs, the second made from the first, both submitted."""
    for answers, f1 in (("0000011110", 0.5), ("0000011101", 0.6)):
        make_run(workspace, answers, f1=f1, note=f"run with {f1}")
    set_parent(workspace, "exp2", "exp1")
    submit(workspace, "exp1", memo="first memo")
    submit(workspace, "exp2", memo="second memo")


def read_files(root: Path) -> dict[str, bytes]:
    """The files of a workspace, without the heads that it has seen."""
    files = [path for path in root.rglob("*") if path.is_file()]
    seen = (root / ".tracker" / "heads", root / ".tracker" / "heads.lock")
    return {str(path): path.read_bytes() for path in files if path not in seen}


# --- What it shows ---


def test_the_pages_lead_from_the_leaderboard_to_runs_submissions_and_comparisons(
    workspace: Workspace,
) -> None:
    make_two(workspace)
    board = Board(workspace)
    home = board.read("/")
    assert 'href="/submissions/2"' in home
    assert 'href="/runs/exp2"' in home
    assert "second memo" in home
    assert 'href="/diff?a=s1&amp;b=s2"' in home
    run = board.read("/runs/exp2")
    assert "run with 0.6" in run
    assert 'href="/diff?a=exp1&amp;b=exp2"' in run
    assert 'href="/submissions/2"' in run
    assert re.search(r"<svg class=.chart.*val/f1", run)
    sent = board.read("/submissions/2")
    assert 'href="/runs/exp2"' in sent
    assert 'href="/diff?a=s1&amp;b=s2"' in sent
    assert "second memo" in sent
    compared = board.read("/diff?a=exp1&b=exp2")
    assert "exp1 -&gt; exp2: no config key changed" in compared
    assert "predictions: 2 of 10 differ" in compared
    form = board.read("/diff")
    assert "<option selected>exp1</option>" in form


def test_running_runs_are_shown_with_their_curves_and_go_when_they_end(
    workspace: Workspace,
) -> None:
    board = Board(workspace)
    assert "No run is running." in board.read("/")
    recorder = begin_run(workspace, config={"train": {"epochs": 4, "monitor": "val/f1"}})
    for epoch in (1, 2):
        recorder.metrics({"train/loss": 1.0, "val/f1": 0.25 * epoch}, step=epoch, epoch=epoch)
    home = board.read("/")
    assert "2 of 4" in home
    assert "val/f1 0.5000 in epoch 2." in home
    assert "exp1 running" in board.read("/runs/exp1")
    recorder.finish("finished")
    home = board.read("/")
    assert "No run is running." in home
    assert "exp1 finished" in home  # among the events


def test_a_browser_gets_nothing_until_the_head_of_the_ledger_moves(workspace: Workspace) -> None:
    make_two(workspace)
    board = Board(workspace)
    tag = board.ask("/").headers["etag"]
    again = board.ask("/", if_none_match=f'"other", {tag}')
    if again.status == 200:  # the minute has changed meanwhile
        tag = again.headers["etag"]
        again = board.ask("/", if_none_match=tag)
    assert (again.status, again.text, again.headers["etag"]) == (304, "", tag)
    add_note(workspace, "s2", "noted just now")
    fresh = board.ask("/", if_none_match=tag)
    assert fresh.status == 200
    assert "noted just now" in fresh.text
    assert fresh.headers["etag"] != tag
    assert f'content="{fresh.headers["etag"].strip(chr(34))}"' in fresh.text


def test_private_scores_are_hidden_until_they_are_revealed(workspace: Workspace) -> None:
    make_two(workspace)
    board = Board(workspace)
    places = ("/", "/submissions/2", "/runs/exp2", "/diff?a=s1&b=s2")
    before = {place: board.read(place) for place in places}
    texts = [text for text in before.values() if re.search(r"private[ _](f1|acc)", text, re.I)]
    assert texts == []
    reveal(workspace)
    assert "private F1" in board.read("/submissions/2")
    assert "private_f1" in board.read("/diff?a=s1&b=s2")


def test_texts_of_users_are_escaped_on_every_page(workspace: Workspace) -> None:
    make_hostile(workspace)
    add_note(workspace, "exp1", "<img src=x onerror=alert(1)> 한글")
    board = Board(workspace)
    for place in ("/", "/runs/exp1", "/submissions/1", "/submissions/2", "/diff?a=s1&b=s3"):
        text = board.read(place)
        assert text.count("<script>") == 1, place  # our own
        assert "<img" not in text
        assert "<b>m</b>" not in text
    assert "한글" in board.read("/runs/exp1")
    assert f"<bdi>{HEBREW}</bdi>" in board.read("/submissions/2")


def test_a_teammates_run_shows_what_the_ledger_has_of_it(tmp_path: Path, ledger_url: str) -> None:
    home = make_workspace(tmp_path / "home", ledger_url=ledger_url)
    index_run(home, make_run(home, "0000011110", f1=0.75))
    submit(home, "exp1", memo="from elsewhere")
    root = tmp_path / "mine"
    mine = replace(make_workspace(root, ledger_url=f"sqlite:///{root}/l.db"), ledger_url=ledger_url)
    board = Board(mine)
    assert "from elsewhere" in board.read("/")
    sent = board.read("/submissions/1")
    assert "whose folder is not here" in sent
    (run,) = TeamRuns(mine).runs
    page = board.read(f"/runs/{run.name}")
    assert "This is what the ledger has of it." in page
    assert f"tracker pull {run.name}" in page
    assert "0.7500" in page


def test_a_rewritten_ledger_is_said_on_every_page(workspace: Workspace) -> None:
    make_two(workspace)
    board = Board(workspace)
    assert "The ledger was changed" not in board.read("/")
    rewrite(workspace.ledger_url, "UPDATE submissions SET memo = 'better' WHERE number = 1")
    for place in ("/", "/submissions/1"):
        assert re.search(
            r"The ledger was changed:.*is not what this workspace saw", board.read(place)
        )


def test_a_row_that_was_changed_under_its_old_hash_is_said_on_every_page(
    workspace: Workspace,
) -> None:
    make_two(workspace)
    change(workspace.ledger_url, "UPDATE submissions SET memo = 'better' WHERE number = 1")
    changed = r"The ledger was changed:.*\(submission 1\) was changed after it was written"
    for place in ("/", "/submissions/1"):
        assert re.search(changed, Board(workspace).read(place))


def test_a_submission_that_the_first_page_leaves_out_has_its_page(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_two(workspace)
    make_run(workspace, "0000011100")
    submit(workspace, "exp3", memo="third memo")
    whole = Board(workspace).read("/submissions/2")
    monkeypatch.setattr(excerpt, "MOST", 1)
    monkeypatch.setattr(excerpt, "NEWEST", 1)
    monkeypatch.setattr(excerpt, "BEST", 1)
    board = Board(workspace)
    page = board.read("/")
    assert "This report shows 2 of 3 submissions" in page
    assert 'id="s3"' in page and 'id="s2"' not in page
    assert strip_clock(board.read("/submissions/2")) == strip_clock(whole)
    assert "<option selected>exp3</option>" in board.read("/diff")


def strip_clock(html: str) -> str:
    """A page without the times and the key of its state."""
    return re.sub(r"\d{4}-\d\d-\d\d[T ][\d:]+Z?|content=\"[0-9a-f]{32}\"", "", html)


def test_a_ledger_that_is_gone_is_an_error_that_ends_when_it_is_back(workspace: Workspace) -> None:
    make_two(workspace)
    board = Board(workspace)
    path = Path(workspace.ledger_url.removeprefix("sqlite:///"))
    path.rename(path.with_suffix(".away"))
    gone = board.ask("/")
    assert gone.status == 503
    assert "no ledger at" in gone.text
    assert 'http-equiv="refresh"' in gone.text
    path.with_suffix(".away").rename(path)
    assert "second memo" in board.read("/")


def test_a_server_that_does_not_answer_is_asked_once_for_all_who_wait(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(state, "READ_AGAIN_S", 3600.0)
    path = Path(workspace.ledger_url.removeprefix("sqlite:///"))
    path.rename(path.with_suffix(".away"))
    board = Board(workspace)
    assert board.ask("/").status == 503
    path.with_suffix(".away").rename(path)
    assert board.ask("/diff").status == 503  # not asked again
    monkeypatch.setattr(state, "READ_AGAIN_S", 0.0)
    assert board.ask("/diff").status == 200


@pytest.mark.parametrize(
    "path",
    [
        *("/runs/exp99", "/submissions/99", "/submissions/x", "/runs/", "/runs/../tracker.toml"),
        *("/runs/mina/exp3", "/runs/..%2Fexp1", "/diff?a=exp1&b=--full", "/diff?a=exp1&b=exp77"),
        *("/tracker.toml", "/submissions/99999999999999999999", "/runs/a/../../exp1"),
    ],
)
def test_what_is_not_there_is_a_page_with_404(workspace: Workspace, path: str) -> None:
    make_run(workspace, "0000011110")
    answer = Board(workspace).ask(path)
    assert answer.status == 404
    assert "<h1>" in answer.text
    assert "refresh" not in answer.text.partition("<style>")[0]


# --- It only reads ---


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE"])
def test_nothing_but_get_and_head_is_answered(workspace: Workspace, method: str) -> None:
    board = Board(workspace)
    for path in ADDRESSES:
        answer = board.ask(path, method)
        assert (answer.status, answer.headers["allow"]) == (405, "GET, HEAD")
    assert board.ask("/", "HEAD").status == 200


def test_a_page_is_compressed_for_browsers_that_take_it(workspace: Workspace) -> None:
    board = Board(workspace)
    packed = board.ask("/", accept_encoding="gzip, br")
    assert packed.headers["content-encoding"] == "gzip"
    assert int(packed.headers["content-length"]) < len(board.read("/")) / 2
    assert packed.headers["x-frame-options"] == "DENY"


def test_reading_every_page_changes_no_file_of_the_workspace(workspace: Workspace) -> None:
    make_two(workspace)
    before = read_files(workspace.root)
    board = Board(workspace)
    for path in ADDRESSES:
        board.read(path)
        board.ask(path, "POST")
    assert read_files(workspace.root) == before


def test_the_connection_of_the_board_cannot_write(tmp_path: Path, ledger_url: str) -> None:
    own = make_workspace(tmp_path / "ws", ledger_url=ledger_url)
    make_run(own, "0000011110")
    submit(own, "exp1", memo="the only one")
    assert "the only one" in Board(own).read("/")
    for statement in (
        "INSERT INTO notes (seq, kind, text, author, noted_at) VALUES (99, 'note', 'x', 'x', 'x')",
        "DELETE FROM submissions",
        "DROP TABLE scores",
    ):
        with pytest.raises(TrackerError, match=r"read-?only"), open_reader(ledger_url) as query:
            query(statement, {})
    assert "the only one" in Board(own).read("/")


# --- Whom it answers ---


@pytest.mark.parametrize(
    ("host", "status"),
    [
        *(("localhost:5001", 200), ("LOCALHOST", 200), ("gpu1", 200), ("127.0.0.1:5001", 200)),
        *(("[::1]:5001", 200), ("192.168.0.7", 200), ("gpu1.:80", 200)),
        *(("evil.example", 421), ("evil.example:5001", 421), ("localhost.evil.example", 421)),
        *(("", 421), ("127.0.0.1.evil.example", 421), ("localhost:5001@evil", 421), ("[::1", 421)),
    ],
)
def test_names_of_others_are_not_answered(workspace: Workspace, host: str, status: int) -> None:
    board = Board(workspace)
    assert board.ask("/health", host=host).status == status


def test_without_the_password_nothing_is_read(workspace: Workspace) -> None:
    make_two(workspace)
    board = Board(workspace, password=PASSWORD)
    wrong = ("", "Basic", "Basic !", "Bearer " + PASSWORD, basic("a", ""), basic("a", PASSWORD[1:]))
    for given in (*wrong, basic(PASSWORD, "")):
        for path in ADDRESSES[:-1]:
            answer = board.ask(path, authorization=given)
            assert answer.status == 401
            assert answer.headers["www-authenticate"].startswith("Basic ")
            assert "memo" not in answer.text
    for user in ("", "mina", "팀"):
        assert "second memo" in board.ask("/", authorization=basic(user, PASSWORD)).text
    assert board.ask("/health").text == "ok\n"


def test_every_answer_has_strict_headers(workspace: Workspace) -> None:
    board = Board(workspace, password=PASSWORD)
    answers = [board.ask("/"), board.ask("/", authorization=basic("a", PASSWORD))]
    answers += [board.ask("/", host="evil.example"), board.ask("/x"), board.ask("/", "POST")]
    assert [answer.status for answer in answers] == [401, 200, 421, 401, 405]
    for answer in answers:
        assert answer.headers["cache-control"] == "no-store"
        assert answer.headers["x-frame-options"] == "DENY"
        assert answer.headers["x-content-type-options"] == "nosniff"
        policy = answer.headers["content-security-policy"]
        assert policy.startswith("default-src 'none'")
        assert "unsafe" not in policy


@pytest.mark.parametrize("host", ["0.0.0.0", "::"])  # noqa: S104
def test_a_host_beyond_this_machine_needs_a_long_password(host: str) -> None:
    with pytest.raises(ConfigError, match="has no password") as caught:
        listen(host, 0, "")
    assert "TRACKER_BOARD_PASSWORD" in caught.value.hint
    with pytest.raises(ConfigError, match="12 characters") as caught:
        listen(host, 0, "short")
    assert "short" not in f"{caught.value} {caught.value.hint}"


def test_a_port_in_use_and_a_host_of_others_are_clear_errors() -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(ConfigError, match=f"port {port} of 127.0.0.1") as caught:
            listen("127.0.0.1", port, "")
    assert "--port 0" in caught.value.hint
    with pytest.raises(ConfigError, match="no such address"):
        listen("no.such.host.invalid", 0, PASSWORD)
    with pytest.raises(ConfigError, match="cannot listen"):
        listen("192.0.2.1", 0, PASSWORD)  # of no machine


def test_the_password_is_in_the_environment_or_in_the_env_of_the_workspace(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert find_password(tmp_path) == ""
    (tmp_path / ".env").write_text(f"# a comment\nOTHER=1\nTRACKER_BOARD_PASSWORD='{PASSWORD}'\n")
    assert find_password(tmp_path) == PASSWORD
    monkeypatch.setenv("TRACKER_BOARD_PASSWORD", "of-the-environment")
    assert find_password(tmp_path) == "of-the-environment"
    monkeypatch.setenv("TRACKER_BOARD_HOSTS", "Gpu1, board.example")
    assert {"localhost", "gpu1", "board.example"} < list_names("0.0.0.0")  # noqa: S104


# --- Its parts ---


def test_clocks_count_to_the_next_submission_and_the_deadline() -> None:
    competition = Competition(
        name="c", daily_limit=3, deadline=NOW + dt.timedelta(days=2, hours=3, minutes=4)
    )
    quota = build_quota(competition, NOW, ["2026-11-27T11:00:00.000000Z"])
    clocks = list(list_clocks(quota, competition, NOW))
    assert [clock.text for clock in clocks] == ["2 of 3", "12 h 0 min", "2 d 3 h 4 min"]
    assert clocks[2].until == "2026-11-29T15:04:00.000000Z"
    later = list(list_clocks(quota, competition, NOW + dt.timedelta(days=3)))
    assert later[2].text == "it has passed"
    free = replace(competition, daily_limit=0, deadline=None)
    (only,) = list_clocks(build_quota(free, NOW, []), free, NOW)
    assert only.text == "0, no daily limit"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        *((59.0, "less than a minute"), (60.0, "1 min"), (3600.0, "1 h 0 min")),
        (90_061.0, "1 d 1 h 1 min"),
    ],
)
def test_a_span_is_told_to_the_minute(seconds: float, text: str) -> None:
    assert render_span(seconds) == text


def test_curves_leave_out_what_is_no_number() -> None:
    def draw(*points: tuple[int, float]) -> str:
        return str(draw_curves("t", {"loss": points}, width=300, height=150, name="n"))

    assert draw() == draw((1, math.nan), (2, math.inf)) == ""
    assert "loss 0.5000 in epoch 3." in draw((1, 1.0), (2, math.nan), (3, 0.5))
    assert ">1.000e+30<" in draw((1, 1.0), (2, 1e30))
    assert draw((7, 0.5)).count("<circle") == 1
