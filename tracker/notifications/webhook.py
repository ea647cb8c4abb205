"""A webhook: its address, which is a secret, the form that its service takes, and one request."""

from __future__ import annotations

import hashlib
import http.client
import ipaddress
import json
import socket
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from tracker.core.errors import TrackerError
from tracker.core.sender import NOTIFY_SETTING
from tracker.core.settings import get_setting
from tracker.training.errors import ConfigError

SETTING = NOTIFY_SETTING
ANSWER_S = 10.0
LIMIT = 1500  # characters of a message; Discord takes 2,000
# What the service is when the address does not say it, by the end of the host's name.
HOSTS = {
    "hooks.slack.com": "slack",
    "discord.com": "discord",
    "discordapp.com": "discord",
    "ntfy.sh": "ntfy",
}
SERVICES = ("slack", "discord", "ntfy", "json")
EXAMPLE = f"{SETTING}=https://hooks.slack.com/services/..., or ntfy+https://HOST/TOPIC"


class NotSentError(TrackerError):
    """A message did not arrive; `wait_s` is how long the server asks to wait."""

    def __init__(self, message: str, *, wait_s: float = 0.0) -> None:
        super().__init__(message)
        self.wait_s = wait_s


@dataclass(frozen=True)
class Webhook:
    """Where messages go; the address is in no text and in no repr."""

    service: str
    host: str
    url: str = field(repr=False)

    @property
    def key(self) -> str:
        """A name for the queue on disk, from which the address cannot be computed."""
        return hashlib.sha256(f"{self.service}+{self.url}".encode()).hexdigest()[:16]

    def __str__(self) -> str:
        return f"{self.service} at {self.host}"

    def send(self, competition: str, notice: Mapping[str, Any]) -> str:
        """Send one message; the server's answer, as in `200 OK`. Raises NotSentError."""
        try:
            with _OPENER.open(self._build(competition, notice), timeout=ANSWER_S) as answer:
                return f"{answer.status} {answer.reason}".strip()
        except urllib.error.HTTPError as error:
            error.close()
            wait = error.headers.get("Retry-After") or ""
            raise NotSentError(
                f"{self} answers {error.code} {http.client.responses.get(error.code, '')}".strip(),
                wait_s=float(wait) if wait.isdecimal() else 0.0,
            ) from None
        except (OSError, http.client.HTTPException, ValueError) as error:
            # Only the kind of the error: its text may have the address.
            raise NotSentError(f"{self} does not answer: {_describe(error)}") from None

    def _build(self, competition: str, notice: Mapping[str, Any]) -> urllib.request.Request:
        text = f"{competition}: {notice['text']}"[:LIMIT]
        body: dict[str, Any] = {**notice, "competition": competition}
        if self.service == "slack":
            # & < > are the only characters that Slack wants written otherwise
            for char, name in (("&", "&amp;"), ("<", "&lt;"), (">", "&gt;")):
                text = text.replace(char, name)
            body = {"text": text}
        elif self.service == "discord":
            body = {"content": text, "allowed_mentions": {"parse": []}}
        content, kind = json.dumps(body).encode(), "application/json"
        if self.service == "ntfy":
            content, kind = text.encode(), "text/plain; charset=utf-8"
        headers = {"Content-Type": kind, "User-Agent": "tracker"}
        return urllib.request.Request(self.url, content, headers, method="POST")  # noqa: S310


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """A redirect is an answer like any other: a secret address is told to nobody else."""

    def redirect_request(self, *args: Any, **options: Any) -> None:
        return None


_OPENER = urllib.request.build_opener(_NoRedirect)


def _describe(error: BaseException) -> str:
    reason = error.reason if isinstance(error, urllib.error.URLError) else error
    if isinstance(reason, TimeoutError):
        return f"no answer within {ANSWER_S:.0f} s"
    if isinstance(reason, socket.gaierror):
        return "its name is not known"
    if isinstance(reason, OSError) and reason.strerror:
        return reason.strerror.lower()
    return type(reason).__name__


def list_webhooks() -> list[Webhook]:
    """The webhooks of TRACKER_NOTIFY_URL, none without it; raises ConfigError."""
    return [_parse(word) for word in get_setting(SETTING).split()]


def _parse(word: str) -> Webhook:
    given, plus, url = word.partition("+")
    if not plus or given not in SERVICES:
        given, url = "", word
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname or "", parts.port
    except ValueError:
        host = ""
    if not host or parts.scheme not in ("https", "http"):
        raise ConfigError(f"{SETTING} is not the address of a webhook", hint=EXAMPLE)
    if parts.scheme == "http" and not _is_loopback(host):
        raise ConfigError(
            f"{SETTING}: http to {host} would send its secret unencrypted",
            hint="an address that begins with https://",
        )
    names = [name for name in HOSTS if host == name or host.endswith(f".{name}")]
    return Webhook(given or (HOSTS[names[0]] if names else "json"), host, url)


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
