"""The stream of events: what runs wrote, what their records imply, and the ledger's rows."""

from __future__ import annotations

import datetime as dt
import json
import os
from dataclasses import replace
from types import SimpleNamespace

import pytest

from tests.support.workspaces import begin_run, make_run, workspace
from tracker.core.errors import RefusedError
from tracker.events import stream
from tracker.events.event import Event
from tracker.events.ledger_events import list_deadline_events
from tracker.events.stream import follow_events, parse_since, read_events
from tracker.run_folder.event_log import EVENTS
from tracker.run_folder.recorder import Recorder
from tracker.submission.submit import submit
from tracker.training.errors import ConfigError
from tracker.training.files import write_json
from tracker.workflows.advice_events import AdviceEvents
from tracker.workspace.tracker_toml import Workspace, load_workspace

__all__ = ["workspace"]
NOW = dt.datetime(2026, 11, 27, 12, tzinfo=dt.UTC)
LONG_AGO = dt.datetime(2000, 1, 1, tzinfo=dt.UTC)


def read(workspace: Workspace) -> list[Event]:
    return list(read_events(workspace, LONG_AGO))


def kinds(workspace: Workspace) -> list[str]:
    return [event.kind for event in read(workspace)]


def kill(recorder: Recorder) -> None:
    """What kill -9 leaves: the record says running, and no process holds the lock."""
    recorder._stop.set()
    recorder._heart.join()
    os.close(recorder._metrics_fd)
    recorder._lock.release()
    dead = replace(recorder.record, pid=2**22 + 1)  # no process has this number
    write_json(recorder.folder / "run.json", dead.to_file())


def test_a_run_tells_start_best_and_end(workspace: Workspace) -> None:
    make_run(workspace, note="more epochs")
    told = read(workspace)
    assert [event.kind for event in told] == ["started", "best", "finished"]
    assert told[0].text == "exp1 started: more epochs"
    assert told[1].text == "exp1 best so far in epoch 1: val/f1 0.5000, val/accuracy 0.5000"
    assert told[1].values == {"epoch": 1, "val/f1": 0.5, "val/accuracy": 0.5}
    assert {event.run for event in told} == {"exp1"}
    assert all(event.time.utcoffset() == dt.timedelta(0) for event in told)


def test_a_run_folder_without_a_log_tells_the_same(workspace: Workspace) -> None:
    make_run(workspace)
    before = [(event.kind, event.text) for event in read(workspace)]
    (workspace.runs_dir / "exp1" / EVENTS).unlink()
    assert [(event.kind, event.text) for event in read(workspace)] == before


def test_a_killed_run_is_told_as_died_and_once_only_after_its_resume(workspace: Workspace) -> None:
    recorder = begin_run(workspace)
    recorder.metrics({"val/f1": 0.5}, step=1, epoch=1)
    kill(recorder)
    assert kinds(workspace) == ["started", "died"]
    died = read(workspace)[-1]
    resumed = Recorder.reopen(workspace.runs_dir, "exp1")
    assert kinds(workspace) == ["started", "died", "resumed"]
    assert read(workspace)[1].id == died.id
    resumed.finish("interrupted", error="Ctrl-C")
    assert kinds(workspace)[-2:] == ["resumed", "interrupted"]
    assert "(Ctrl-C)" in read(workspace)[-1].text


def test_a_damaged_line_is_skipped_and_the_next_one_is_whole(workspace: Workspace) -> None:
    recorder = begin_run(workspace)
    log = recorder.folder / EVENTS
    wrong = [b"\xff\xfe", b"[]", b'{"time": 3}', b'{"kind": "best", "time": "2026"', b"[" * 99999]
    log.write_bytes(log.read_bytes() + b"\n".join(wrong))
    recorder.tell("advice", "after the damage", {})
    recorder.finish("failed", error="disk full")
    assert kinds(workspace) == ["started", "advice", "failed"]
    for line in log.read_bytes().splitlines()[-2:]:
        assert set(json.loads(line)) == {"time", "kind", "text", "values"}


def test_a_loss_that_is_no_number_is_told_once(workspace: Workspace) -> None:
    recorder = begin_run(workspace)
    for step in (1, 2):
        recorder.metrics({"train/loss": float("nan"), "lr": 0.1}, step=step, epoch=1)
    recorder.finish("finished")
    (advice,) = [event for event in read(workspace) if event.kind == "advice"]
    assert advice.text == "exp1: train/loss is nan in epoch 1, step 1"
    assert advice.values["state"] == "not finite"


def test_overfitting_is_told_once_while_the_run_goes_on(workspace: Workspace) -> None:
    recorder = begin_run(workspace, config={"train": {"monitor": "val/f1"}})
    advice = AdviceEvents(recorder, workspace.competition, "val/f1")
    for epoch in range(1, 21):
        f1 = 0.5 + 0.05 * epoch if epoch <= 5 else 0.8 - 0.01 * epoch
        values = {"train/loss": 1 / epoch, "val/loss": abs(epoch - 5) + 1.0, "val/f1": f1}
        recorder.metrics(values, step=epoch, epoch=epoch)
        advice.look(epoch)
    (told,) = [event for event in read(workspace) if event.kind == "advice"]
    assert told.values["state"] == "overfitting"
    assert told.values["epoch"] < 20
    recorder.finish("finished")


def test_submissions_scores_sota_quota_and_refusals_are_told(workspace: Workspace) -> None:
    text = (workspace.root / "tracker.toml").read_text()
    (workspace.root / "tracker.toml").write_text(
        text.replace("[competition]", "[competition]\ndaily_limit = 2", 1)
        if "daily_limit" not in text
        else text.replace("daily_limit = 0", "daily_limit = 2")
    )
    limited = load_workspace(workspace.root)
    for answers in ("0000011111", "1111100000"):
        make_run(limited, answers)
    submit(limited, "exp1", "first")
    with pytest.raises(RefusedError):
        submit(limited, "exp1", "again")
    submit(limited, "exp2", "second")
    told = [event for event in read(limited) if event.kind not in ("started", "best", "finished")]
    found = [(event.kind, event.submission, event.run) for event in told]
    assert sorted(found, key=str) == sorted(
        [
            ("submitted", 1, "exp1"),
            ("quota", None, ""),
            ("scored", 1, "exp1"),
            ("sota", 1, "exp1"),
            ("refused", None, "exp1"),
            ("submitted", 2, "exp2"),
            ("quota", None, ""),
            ("scored", 2, "exp2"),
        ],
        key=str,
    )
    assert [event.values["left"] for event in told if event.kind == "quota"] == [1, 0]
    (sota,) = [event for event in told if event.kind == "sota"]
    assert sota.text.startswith("s1 (exp1) is the new SOTA: public f1 ")
    assert len({event.id for event in told}) == len(told)
    later = max(event.time for event in told) + dt.timedelta(seconds=1)
    assert list(read_events(limited, later)) == []


def test_a_follower_gets_each_event_once(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    polls = iter(range(20))  # a follower that finds nothing would ask for ever
    monkeypatch.setattr(stream, "time", SimpleNamespace(sleep=lambda _: next(polls)))
    make_run(workspace)
    follower = follow_events(workspace, LONG_AGO, poll_s=0.0)
    assert [next(follower).kind for _ in range(3)] == ["started", "best", "finished"]
    make_run(workspace)
    assert [next(follower).run for _ in range(3)] == ["exp2"] * 3


def test_the_deadline_is_told_before_and_after(workspace: Workspace) -> None:
    competition = replace(workspace.competition, deadline=NOW + dt.timedelta(hours=2))
    before = list(list_deadline_events(competition, LONG_AGO, NOW))
    assert [event.values["hours_left"] for event in before] == [24, 3]
    after = list(list_deadline_events(competition, NOW, NOW + dt.timedelta(hours=2)))
    assert [event.values["hours_left"] for event in after] == [1, 0]


def test_since_takes_spans_and_times_in_the_competitions_zone(workspace: Workspace) -> None:
    competition = replace(workspace.competition, time_zone="Asia/Seoul")
    expected = {
        "30m": NOW - dt.timedelta(minutes=30),
        "2h": NOW - dt.timedelta(hours=2),
        "2026-11-27 09:00": dt.datetime(2026, 11, 27, 0, tzinfo=dt.UTC),
        "2026-11-27T09:00:00Z": dt.datetime(2026, 11, 27, 9, tzinfo=dt.UTC),
    }
    assert {text: parse_since(text, competition, NOW) for text in expected} == expected
    for text in ("yesterday", "", "999999d", "-2h"):
        with pytest.raises(ConfigError, match="since"):
            parse_since(text, competition, NOW)


def test_a_workspace_without_events_is_quiet(workspace: Workspace) -> None:
    assert read(workspace) == []
