"""No password of a foreign text comes into a message, a traceback or a log."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.conftest import COMMAND_LIMIT_S
from tracker.training.errors import ConfigError, first_line, mask_secrets

PLANTED = "pla%2Fnted"


@pytest.mark.parametrize(
    "text",
    [
        f"API request to http://admin:{PLANTED}@127.0.0.1:5000/api failed",
        f'Invalid URL "http://admin:{PLANTED}@ss/x@gpu1:5000"',
        f"(Background on: postgresql+psycopg://mina:{PLANTED}@gpu1/ledger)",
        f"connection failed: host=gpu1 user=mina password={PLANTED} dbname=x",
        f"https://s3/mlflow/x?X-Amz-Signature={PLANTED}&X-Amz-Expires=9",
        f"Authorization: Basic {PLANTED}",
        f"headers: {{'Authorization': 'Bearer {PLANTED}'}}",
    ],
)
def test_a_secret_in_a_library_s_text_is_masked(text: str) -> None:
    error = ConfigError(text, problems=[text], hint=text)
    for shown in (mask_secrets(text), first_line(OSError(text)), str(error), error.hint):
        assert PLANTED not in shown
        assert "***" in shown
    assert PLANTED not in "".join([*error.problems, *error.__notes__])
    assert mask_secrets(mask_secrets(text)) == mask_secrets(text)


@pytest.mark.parametrize(
    "text",
    [
        "http://gpu1:5000/a?user=x@y",
        "http://[::1]:5000/x@y",
        "postgresql+psycopg://USER:PASSWORD@HOST:5432/NAME",
        "mina@gpu1/exp12: s3://bucket/x@y",
        "it has the form NAME:PASSWORD",
    ],
)
def test_a_text_without_a_secret_stays(text: str) -> None:
    assert mask_secrets(text) == text


def test_a_traceback_and_a_library_s_warning_are_masked_on_stderr() -> None:
    code = (
        "from tracker.core.masking import mask_stderr; mask_stderr(); import logging;"
        f"url = 'http://admin:' + '{PLANTED}'[::1] + '@gpu1'; logging.warning('to %s', url);"
        "raise OSError(url)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        check=False,
        capture_output=True,
        text=True,
        timeout=COMMAND_LIMIT_S,
    )
    assert done.returncode == 1
    assert done.stderr.count("http://admin:***@gpu1") == 2
    assert "OSError: " in done.stderr
