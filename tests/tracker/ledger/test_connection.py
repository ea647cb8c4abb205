"""Reading at one moment: everything inside agrees, and nothing of it stays open."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from tests.support.ledger_rows import add
from tests.support.workspaces import make_workspace
from tracker.core.errors import LedgerError
from tracker.ledger.connection import one_moment, open_reader
from tracker.ledger.read import list_numbers
from tracker.workspace.tracker_toml import Workspace


@pytest.fixture
def shared(ledger_url: str, tmp_path: Path) -> Workspace:
    """A workspace on a fresh ledger of either database, with one submission."""
    workspace = make_workspace(tmp_path / "ws", ledger_url=ledger_url)
    add(workspace, "0")
    return workspace


def test_what_is_added_meanwhile_is_seen_after_the_moment(shared: Workspace) -> None:
    elsewhere: list[list[int]] = []
    with one_moment(shared.ledger_url):
        before = list_numbers(shared)
        add(shared, "1")
        with one_moment(shared.ledger_url):  # a part that wants one moment of its own
            assert list_numbers(shared) == before
        assert list_numbers(shared) == before
        other = threading.Thread(target=lambda: elsewhere.append(list_numbers(shared)))
        other.start()
        other.join()

    assert elsewhere == [[1, 2]]
    assert list_numbers(shared) == [1, 2]


def test_a_wrong_query_is_an_error_of_the_ledger_and_ends_the_moment(shared: Workspace) -> None:
    with pytest.raises(LedgerError, match="nowhere"), one_moment(shared.ledger_url):
        try:
            with open_reader(shared.ledger_url) as query:
                query("SELECT * FROM nowhere", {})
        except LedgerError as error:  # already here, where somebody may answer it
            raise error from None

    add(shared, "1")
    assert list_numbers(shared) == [1, 2]
