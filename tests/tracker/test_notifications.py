"""Messages to a webhook: each event once, queued on disk, sent again; the address stays secret."""

from __future__ import annotations

import datetime as dt
import json
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Event, Thread

import pytest
from typer.testing import CliRunner

from tests.conftest import run_tracker
from tests.support.workspaces import begin_run, make_run, make_workspace
from tracker.commands.table import app
from tracker.core.clock import to_utc_text
from tracker.core.errors import TrackerError
from tracker.core.sender import start_sender
from tracker.notifications.find import find_notices
from tracker.notifications.queue import NAME, collect, send_queued
from tracker.notifications.webhook import SETTING, list_webhooks
from tracker.run_folder.record import STALE_HEARTBEAT_S
from tracker.submission.submit import submit
from tracker.training.errors import ConfigError
from tracker.workspace.tracker_toml import Workspace

TOKEN = "T0p-s3cret-t0ken"
LIMIT_S = 60


@dataclass
class Hook:
    """A webhook that answers with `codes`, the last of them for ever, once `open` is set."""

    codes: list[int] = field(default_factory=lambda: [200])
    got: list[bytes] = field(default_factory=list)
    open: Event = field(default_factory=Event)
    url: str = ""
    followed: bool = False

    @property
    def texts(self) -> list[str]:
        return [json.loads(body)["text"] for body in self.got]


@pytest.fixture
def hook(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hook]:
    """A server on loopback, which TRACKER_NOTIFY_URL names."""
    hook = Hook()
    hook.open.set()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            hook.open.wait(LIMIT_S)
            code = hook.codes.pop(0) if len(hook.codes) > 1 else hook.codes[0]
            if code < 300:
                hook.got.append(body)
            with suppress(OSError):
                self.send_response(code)
                if code in (301, 302, 307):
                    self.send_header("Location", f"{hook.url}/elsewhere")
                self.send_header("Content-Length", "0")
                self.end_headers()

        def do_GET(self) -> None:  # what a redirect would lead to
            hook.followed = True
            self.send_error(404)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    hook.url = f"http://127.0.0.1:{server.server_port}/{TOKEN}"
    monkeypatch.setenv(SETTING, hook.url)
    yield hook
    hook.open.set()
    server.shutdown()
    thread.join(LIMIT_S)
    server.server_close()


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return make_workspace(tmp_path / "ws", competition={"daily_limit": 2})


def tell(workspace: Workspace, pauses: list[float] | None = None) -> list[str]:
    """What the sender does, without waiting."""
    webhooks = list_webhooks()
    collect(workspace, webhooks)
    return send_queued(workspace, webhooks, sleep=(pauses or []).append)


def list_waiting(workspace: Workspace) -> list[str]:
    state = json.loads((workspace.state_dir / NAME).read_text())
    return [item["notice"]["kind"] for item in state["queue"]]


def test_ends_sota_and_the_last_submission_are_told_once_and_by_names_and_figures_only(
    workspace: Workspace, hook: Hook, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(workspace.root)
    make_run(workspace, "0000011110", f1=0.75)
    make_run(workspace, status="interrupted")
    submit(workspace, "exp1", f"a memo with {TOKEN}")
    begin_run(workspace)  # is running
    assert tell(workspace) == []
    ends = [text for text in hook.texts if "s1" not in text and "left" not in text]
    assert [" ".join(text.split()[:3]) for text in ends] == [
        "exp1 finished on",
        "exp2 interrupted on",
    ]
    assert "best val/f1 0.75 in epoch 1" in hook.texts[0]
    assert "1 of 2 submissions left" in hook.texts[2]
    assert hook.texts[3].startswith("s1 (exp1) is the new SOTA: public f1 1.0000")
    assert TOKEN not in "".join(hook.texts)
    tell(workspace)
    assert len(hook.got) == 4


def test_a_run_that_was_killed_is_told_once_whoever_finds_it(
    workspace: Workspace, hook: Hook
) -> None:
    folder = begin_run(workspace).folder
    record = json.loads((folder / "run.json").read_text())
    past = dt.datetime.now(dt.UTC) - dt.timedelta(seconds=STALE_HEARTBEAT_S + 60)
    record |= {"host": "gpu1", "heartbeat": to_utc_text(past), "pid": 0}
    (folder / "run.json").write_text(json.dumps(record))
    tell(workspace)
    tell(workspace)
    (text,) = hook.texts
    assert "exp1 died on gpu1" in text


def test_what_happened_long_before_messages_were_turned_on_is_not_told(
    workspace: Workspace, hook: Hook
) -> None:
    make_run(workspace, "0000011110")
    assert find_notices(workspace, dt.datetime.now(dt.UTC) + dt.timedelta(minutes=1)) == []
    hour_ago = dt.datetime.now(dt.UTC) - dt.timedelta(hours=1)
    assert [notice.kind for notice in find_notices(workspace, hour_ago)] == ["finished"]


def test_a_deadline_is_told_at_a_day_three_hours_and_an_hour(
    tmp_path: Path, hook: Hook, monkeypatch: pytest.MonkeyPatch
) -> None:
    workspace = make_workspace(tmp_path / "ws", competition={"deadline": "2026-11-27 23:59"})
    deadline = workspace.competition.deadline
    assert deadline is not None
    for hours in (30, 23, 20, 2.5, 2, 0.5, -1):
        now = deadline - dt.timedelta(hours=hours)
        monkeypatch.setattr("tracker.notifications.find.read_clock", lambda _, now=now: now)
        tell(workspace)
    assert [" ".join(text.split()[:4]) for text in hook.texts] == [
        "less than 24 hours",
        "less than 3 hours",
        "less than 1 hour",
    ]


def test_a_server_that_fails_first_gets_the_message_by_a_later_attempt(
    workspace: Workspace, hook: Hook
) -> None:
    make_run(workspace)
    hook.codes = [500, 429, 302, 200]
    pauses: list[float] = []
    webhooks = list_webhooks()
    collect(workspace, webhooks)
    assert send_queued(workspace, webhooks, sleep=pauses.append) == []
    assert pauses == [5.0, 10.0, 20.0]
    assert not hook.followed
    assert len(hook.got) == 1


def test_what_a_server_that_is_down_missed_is_sent_by_the_next_command(
    workspace: Workspace, hook: Hook
) -> None:
    make_run(workspace)
    hook.codes = [503]
    (problem,) = tell(workspace)
    assert problem == "json at 127.0.0.1 answers 503 Service Unavailable"
    assert list_waiting(workspace) == ["finished"]
    hook.codes = [200]
    run_tracker("runs", cwd=workspace.root)
    deadline = time.monotonic() + LIMIT_S
    while list_waiting(workspace) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert len(hook.got) == 1
    assert list_waiting(workspace) == []


def test_a_command_does_not_wait_for_a_server_that_does_not_answer(
    workspace: Workspace, hook: Hook
) -> None:
    make_run(workspace)
    hook.open.clear()
    run_tracker("runs", cwd=workspace.root)  # ends while the server keeps its answer
    assert hook.got == []
    hook.open.set()
    deadline = time.monotonic() + LIMIT_S
    while not hook.got and time.monotonic() < deadline:
        time.sleep(0.05)
    assert len(hook.got) == 1


def test_each_service_gets_the_form_that_it_takes(
    workspace: Workspace, hook: Hook, monkeypatch: pytest.MonkeyPatch
) -> None:
    services = ("slack", "discord", "ntfy", "json")
    monkeypatch.setenv(SETTING, " ".join(f"{name}+{hook.url}" for name in services))
    make_run(workspace)
    assert tell(workspace) == []
    slack, discord, ntfy, plain = hook.got
    text = ntfy.decode()
    assert text.startswith(f"{workspace.competition.name}: exp1 finished on ")
    assert json.loads(slack) == {"text": text}
    assert json.loads(discord) == {"content": text, "allowed_mentions": {"parse": []}}
    assert (json.loads(plain)["kind"], json.loads(plain)["run"]) == ("finished", "exp1")


def test_the_address_says_the_service_and_only_https_leaves_the_machine(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    known = {
        f"https://hooks.slack.com/services/{TOKEN}": "slack",
        f"https://discord.com/api/webhooks/1/{TOKEN}": "discord",
        f"https://ntfy.sh/{TOKEN}": "ntfy",
        f"ntfy+https://ntfy.example.org/{TOKEN}": "ntfy",
        f"https://example.org/{TOKEN}": "json",
    }
    monkeypatch.setenv(SETTING, " ".join(known))
    webhooks = list_webhooks()
    assert [webhook.service for webhook in webhooks] == list(known.values())
    assert TOKEN not in f"{webhooks} {webhooks[0]}"
    for wrong in (f"http://example.org/{TOKEN}", f"ftp://h/{TOKEN}", f"https://[{TOKEN}", TOKEN):
        monkeypatch.setenv(SETTING, wrong)
        with pytest.raises(ConfigError) as caught:
            list_webhooks()
        assert TOKEN not in f"{caught.value} {caught.value.hint}"


def test_the_address_is_in_no_output_and_no_file(
    workspace: Workspace, hook: Hook, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(workspace.root)
    runner = CliRunner()
    make_run(workspace)
    done = runner.invoke(app, ["notify", "--test"])
    assert done.output == "json at 127.0.0.1 answers 200 OK\n"
    outputs = [done.output, runner.invoke(app, ["notify"]).output]
    assert outputs[1] == "1 message sent\n"
    hook.codes = [404]
    make_run(workspace)
    monkeypatch.setenv(SETTING, f"{hook.url} http://127.0.0.1:1/{TOKEN} http://localhost/ {TOKEN}")
    for words in (["notify", "--test"], ["notify"]):
        failed = runner.invoke(app, words)
        outputs += [failed.output, repr(failed.exception), getattr(failed.exception, "hint", "")]
    monkeypatch.setenv(SETTING, f"{hook.url} http://127.0.0.1:1/{TOKEN}")
    for words in (["notify", "--test"], ["notify"]):
        failed = runner.invoke(app, words)
        assert isinstance(failed.exception, TrackerError)
        outputs += [failed.output, str(failed.exception), failed.exception.hint]
    assert "answers 404" in outputs[-2]
    assert "connection refused" in outputs[-2]
    assert TOKEN not in "".join(outputs)
    begin_run(workspace).finish("finished")  # its env.json describes this process
    files = [path for path in workspace.root.rglob("*") if path.is_file()]
    assert workspace.state_dir / NAME in files
    assert [path for path in files if TOKEN.encode() in path.read_bytes()] == []


def test_messages_are_off_by_default(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(SETTING, raising=False)
    make_run(workspace)
    started: list[object] = []
    monkeypatch.setattr("subprocess.Popen", lambda *words, **_: started.append(words))
    start_sender(workspace.root)
    assert started == []
    monkeypatch.undo()
    monkeypatch.delenv(SETTING, raising=False)
    done = run_tracker("notify", cwd=workspace.root, ok=False)
    assert done.returncode == 2
    assert "TRACKER_NOTIFY_URL is not set" in done.stderr


def test_two_senders_at_once_queue_an_event_once(workspace: Workspace, hook: Hook) -> None:
    make_run(workspace)
    webhooks = list_webhooks()
    threads = [Thread(target=collect, args=(workspace, webhooks)) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(LIMIT_S)
    assert list_waiting(workspace) == ["finished"]
