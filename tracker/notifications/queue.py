"""The queue of messages on disk: each event is queued once, and stays until it has arrived."""

from __future__ import annotations

import datetime as dt
import json
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from tracker.core.clock import from_utc_text, to_utc_text
from tracker.core.locks import FileLock
from tracker.notifications.find import find_notices
from tracker.notifications.notice import Notice
from tracker.notifications.webhook import NotSentError, Webhook
from tracker.training.files import write_json
from tracker.training.tables import parse_json
from tracker.workspace.tracker_toml import Workspace

NAME = "notifications.json"
FIRST = dt.timedelta(minutes=10)  # what happened this long before the first look is told, too
KEEP = dt.timedelta(days=2)  # a message that did not arrive by then is no news
PAUSE_S = 5.0  # before the second attempt; twice as long before each further one
LONGEST_PAUSE_S = 300.0  # that a server may ask for
ATTEMPTS = 6  # of one process; the next command goes on

State = dict[str, Any]


def collect(workspace: Workspace, webhooks: Sequence[Webhook]) -> None:
    """Queue what is new, once for each event."""
    now = dt.datetime.now(dt.UTC)
    with FileLock(workspace.state_dir / "notifications.lock"):
        state = _read(workspace)
        since = max(from_utc_text(state["since"]), now - KEEP)
        # Read here, not before: two commands would otherwise both find what is new.
        new = [n for n in find_notices(workspace, since) if n.id not in state["seen"]]
        state["seen"] |= {notice.id: notice.time for notice in new}
        state["queue"] += _address(new, webhooks)
        _forget_old(state, to_utc_text(now - KEEP))
        _write(workspace, state)


def send_queued(
    workspace: Workspace,
    webhooks: Sequence[Webhook],
    *,
    attempts: int = ATTEMPTS,
    sleep: Callable[[float], None] = time.sleep,
) -> list[str]:
    """Send what is queued, and again after pauses; returns the problems that are left.

    One process sends at a time: another one returns at once, and what it queued is sent by the
    first, which looks once more after it has freed the lock.
    """
    while True:
        lock = FileLock(workspace.state_dir / "notifications.send.lock")
        if not lock.acquire(wait=False):
            return []
        try:
            problems = _send_with_pauses(workspace, webhooks, attempts, sleep)
        finally:
            lock.release()
        if problems or not count_waiting(workspace, webhooks):
            return problems


def count_waiting(workspace: Workspace, webhooks: Sequence[Webhook]) -> int:
    """How many messages wait for these webhooks."""
    keys = {webhook.key for webhook in webhooks}
    return sum(item["to"] in keys for item in _read(workspace)["queue"])


def _send_with_pauses(
    workspace: Workspace,
    webhooks: Sequence[Webhook],
    attempts: int,
    sleep: Callable[[float], None],
) -> list[str]:
    for attempt in range(attempts):
        problems, wait_s = _send_once(workspace, webhooks)
        if not problems or attempt == attempts - 1:
            return problems
        sleep(max(PAUSE_S * 2**attempt, min(wait_s, LONGEST_PAUSE_S)))
    return []


def _send_once(workspace: Workspace, webhooks: Sequence[Webhook]) -> tuple[list[str], float]:
    """(problems, longest wait that a server asked for); a server that fails is asked once."""
    problems: dict[str, NotSentError] = {}
    known = {webhook.key: webhook for webhook in webhooks}
    for item in _read(workspace)["queue"]:
        webhook = known.get(item["to"])
        if webhook is None or item["to"] in problems:
            continue
        try:
            webhook.send(workspace.competition.name, item["notice"])
        except NotSentError as error:
            problems[item["to"]] = error
        else:
            _drop(workspace, item)
    wait_s = max((error.wait_s for error in problems.values()), default=0.0)
    return [str(error) for error in problems.values()], wait_s


def _address(notices: Iterable[Notice], webhooks: Sequence[Webhook]) -> list[State]:
    return [
        {"to": webhook.key, "notice": notice.to_dict()}
        for notice in notices
        for webhook in webhooks
    ]


def _drop(workspace: Workspace, sent: Mapping[str, Any]) -> None:
    with FileLock(workspace.state_dir / "notifications.lock"):
        state = _read(workspace)
        state["queue"] = [item for item in state["queue"] if item != sent]
        _write(workspace, state)


def _forget_old(state: State, oldest: str) -> None:
    state["seen"] = {key: at for key, at in state["seen"].items() if at >= oldest}
    state["queue"] = [item for item in state["queue"] if item["notice"]["time"] >= oldest]


def _read(workspace: Workspace) -> State:
    """The state; a missing or damaged file is one that begins a few minutes ago."""
    begin = to_utc_text(dt.datetime.now(dt.UTC) - FIRST)
    state: State = {"since": begin, "seen": {}, "queue": []}
    try:
        found = parse_json((workspace.state_dir / NAME).read_text(encoding="utf-8"))
        from_utc_text(found["since"])
        json.dumps(found, ensure_ascii=False, allow_nan=False).encode()  # it is written back
        seen, queue = dict(found["seen"]), list(found["queue"])
        read = {"since": found["since"], "seen": seen, "queue": list(filter(_is_item, queue))}
    except (OSError, ValueError, KeyError, TypeError):
        return state
    return read if all(isinstance(at, str) for at in seen.values()) else state


def _is_item(item: Any) -> bool:
    """Whether it is a message to a webhook, as `_address` makes it."""
    try:
        texts = (item["to"], item["notice"]["time"], item["notice"]["text"])
    except (TypeError, LookupError):
        return False
    return all(isinstance(text, str) for text in texts)


def _write(workspace: Workspace, state: State) -> None:
    workspace.state_dir.mkdir(exist_ok=True)
    write_json(workspace.state_dir / NAME, state)
