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


def check_login(workspace: Workspace) -> None:
    """Ask whether the server takes the user and password of the workspace, where it has any.

    Raises MlflowError where it does not, or does not answer.
    """
    if not has_users(workspace):
        return
    try:
        # of a server without users, too, which takes everybody
        _send(workspace, "GET", "experiments/search?max_results=1")
    except urllib.error.HTTPError as error:
        error.close()
        if error.code in (401, 403):
            raise explain_login(workspace, error.code) from None
    except (OSError, ValueError) as error:
        raise _no_answer(workspace, error, "tracker doctor asks again") from error


def explain_login(workspace: Workspace, code: int = 401) -> MlflowError:
    """The error for a user or a password that the server does not take, or not any more."""
    user = unquote(urlsplit(workspace.mlflow_uri).username or "")
    return MlflowError(
        f"MLflow at {workspace.shown_mlflow_uri} does not take the user {user} with this password"
        f" ({code}): nothing is copied",
        hint=f"ask the owner for a new secret (tracker ledger grant {user}), and give it to:"
        " tracker join HOST",
    )


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
    address = workspace.shown_mlflow_uri.rstrip("/")
    try:
        _send(workspace, method, f"users/{what}", body)
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
        raise _no_answer(workspace, error, "the same command again completes it") from error
    return ""


def _send(workspace: Workspace, method: str, what: str, body: Any = None) -> None:
    """Send a request with the workspace's user and password; raises urllib's errors."""
    parts = urlsplit(workspace.mlflow_uri)
    login = f"{unquote(parts.username or '')}:{unquote(parts.password or '')}"
    request = urllib.request.Request(  # noqa: S310 (its scheme is http or https)
        f"{workspace.shown_mlflow_uri.rstrip('/')}/api/2.0/mlflow/{what}",
        data=None if body is None else json.dumps(body).encode(),
        method=method,
        headers={
            "Content-Type": "application/json",
            "Authorization": "Basic " + base64.b64encode(login.encode()).decode(),
        },
    )
    urllib.request.urlopen(request, timeout=mirror_targets.ANSWER_S).close()  # noqa: S310


def _no_answer(workspace: Workspace, error: Exception, hint: str) -> MlflowError:
    reason = getattr(error, "reason", error)
    return MlflowError(
        f"MLflow at {workspace.shown_mlflow_uri} does not answer: {reason}", hint=hint
    )
