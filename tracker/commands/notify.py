"""tracker notify."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from tracker.notifications.webhook import Webhook
    from tracker.workspace.tracker_toml import Workspace


def notify_command(
    test: Annotated[
        bool, typer.Option("--test", help="Send one test message and print the server's answer.")
    ] = False,
) -> None:
    """Send messages about runs, SOTA, quota and deadline to Slack, Discord, ntfy or a webhook.

    The address is the setting TRACKER_NOTIFY_URL. Every command sends what is new, in the
    background; this one waits for it, for a timer.
    """
    from tracker.core.errors import TrackerError
    from tracker.core.terminal import print_text
    from tracker.notifications.queue import collect, count_waiting, send_queued
    from tracker.notifications.webhook import EXAMPLE, SETTING, list_webhooks
    from tracker.training.errors import ConfigError
    from tracker.training.numbers import render_count
    from tracker.workspace.tracker_toml import find_workspace

    workspace = find_workspace()
    webhooks = list_webhooks()
    if not webhooks:
        raise ConfigError(f"messages are off: {SETTING} is not set", hint=EXAMPLE)
    if test:
        _send_test(workspace, webhooks)
        return
    collect(workspace, webhooks)
    waiting = count_waiting(workspace, webhooks)
    if problems := send_queued(workspace, webhooks, attempts=1):
        raise TrackerError(
            "; ".join(problems), hint="later: every command tries again, for two days"
        )
    if left := count_waiting(workspace, webhooks):
        print_text(f"another process is sending {render_count(left, 'message')}")
    else:
        print_text(f"{render_count(waiting, 'message')} sent" if waiting else "nothing new to tell")


def _send_test(workspace: Workspace, webhooks: Sequence[Webhook]) -> None:
    """Send one message to each webhook, past the queue; raises TrackerError."""
    from tracker.core.clock import utc_now
    from tracker.core.errors import TrackerError
    from tracker.core.terminal import print_text
    from tracker.notifications.notice import Notice
    from tracker.notifications.webhook import NotSentError

    now = utc_now()
    notice = Notice(id=f"test:{now}", time=now, kind="test", text="a test message of tracker")
    problems = []
    for webhook in webhooks:
        try:
            answer = webhook.send(workspace.competition.name, notice.to_dict())
            print_text(f"{webhook} answers {answer}")
        except NotSentError as error:
            problems.append(str(error))
    if problems:
        raise TrackerError("; ".join(problems))
