"""The users of a team's MLflow, one for each member, made over HTTP by its administrator."""

from __future__ import annotations

import base64
import json
import urllib.error
import urllib.request
from typing import Any
from urllib.parse import unquote, urlsplit

from tracker.mirror import targets as mirror_targets
from tracker.mirror.targets.mlflow_server import MlflowError
from tracker.workspace.tracker_toml import Workspace

EXISTS = "RESOURCE_ALREADY_EXISTS"
MISSING = "RESOURCE_DOES_NOT_EXIST"


def has_users(workspace: Workspace) -> bool:
    """Whether the workspace knows a user and a password of a tracking server."""
    parts = urlsplit(workspace.mlflow_uri)
    return parts.scheme in ("http", "https") and bool(parts.password)


def put_user(workspace: Workspace, name: str, password: str) -> None:
    """Make the user, or give it a new password; raises MlflowError."""
    user = {"username": name, "password": password}
    if _request(workspace, "POST", "create", user) == EXISTS:
        _request(workspace, "PATCH", "update-password", user)


def delete_user(workspace: Workspace, name: str) -> None:
    """Delete the user, if there is one; raises MlflowError."""
    _request(workspace, "DELETE", "delete", {"username": name})


def _request(workspace: Workspace, method: str, what: str, body: dict[str, Any]) -> str:
    """Send a request about users; returns "", EXISTS or MISSING."""
    parts = urlsplit(workspace.mlflow_uri)
    login = f"{unquote(parts.username or '')}:{unquote(parts.password or '')}"
    address = workspace.shown_mlflow_uri.rstrip("/")
    request = urllib.request.Request(  # noqa: S310 (its scheme is http or https)
        f"{address}/api/2.0/mlflow/users/{what}",
        data=json.dumps(body).encode(),
        method=method,
        headers={
            "Content-Type": "application/json",
            "Authorization": "Basic " + base64.b64encode(login.encode()).decode(),
        },
    )
    try:
        urllib.request.urlopen(request, timeout=mirror_targets.ANSWER_S).close()  # noqa: S310
    except urllib.error.HTTPError as error:
        with error:
            text = error.read().decode(errors="replace")
        for word in (EXISTS, MISSING):
            if word in text:
                return word
        raise MlflowError(
            f"MLflow at {address} did not {what} the user {body['username']}: {error.code}",
            hint="only its administrator may: see the password of admin in .env",
        ) from error
    except (OSError, ValueError) as error:
        raise MlflowError(
            f"MLflow at {address} does not answer: {getattr(error, 'reason', error)}",
            hint="the same command again completes it",
        ) from error
    return ""
