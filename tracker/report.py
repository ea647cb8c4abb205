"""Views of plain data: tables for people, JSON for programs."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # annotations only: a command loads what it computes with, not every kind of result
    from tracker.audit import Audit
    from tracker.diff import RunDiff
    from tracker.ledger_read import Event, Submission
    from tracker.quota import Quota
    from tracker.runs import RunRecord
    from tracker.submit import CheckReport
    from tracker.workspace import Competition

PIPED_WIDTH = 240
RUN_METRICS = ("val/f1", "val/accuracy", "val/loss")


def print_json(value: Any) -> None:
    """One JSON document on stdout."""
    print(json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False))


def print_table(columns: Sequence[str], rows: Iterable[Sequence[str]], *, title: str = "") -> None:
    """A table on stdout; user texts are printed as they are, never as markup."""
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(title=Text(title) if title else None, box=box.SIMPLE_HEAD)
    for name in columns:
        table.add_column(Text(name))
    for row in rows:
        table.add_row(*[Text(cell) for cell in row])
    wide = None if sys.stdout.isatty() else PIPED_WIDTH
    Console(width=wide, highlight=False).print(table)


def render_number(value: Any) -> str:
    """A number in a few characters; `-` when unknown."""
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:.4f}" if 0.001 <= abs(value) < 10000 or value == 0 else f"{value:.3g}"
    return str(value)


def render_scores(summary: Mapping[str, float | None]) -> str:
    """The validation figures of a run's last line."""
    return f"val f1 {render_number(summary.get('val/f1'))}, val accuracy {render_number(summary.get('val/accuracy'))}"


def render_end(record: RunRecord) -> str:
    """How a run ended, or how far it has come, in one line."""
    if record.status == "finished":
        at = f"best epoch {record.best_epoch}, " if record.best_epoch else ""
        return f"{record.name} finished: {at}{render_scores(record.summary)}"
    reason = f" ({record.error.partition(chr(10))[0]})" if record.error else ""
    best = f", best {record.best_epoch}: {render_scores(record.summary)}" if record.best_epoch else ""
    return f"{record.name} {record.status}{reason} after epoch {record.epoch}{best}"


def render_value(value: Any) -> str:
    """A config value as it is typed; `-` when a side does not have the key."""
    return "-" if value is None else value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def render_change(diff: Mapping[str, Sequence[Any]] | None) -> str:
    """A config diff on one line: `optim.lr 0.001 -> 0.002`."""
    if diff is None:
        return "-"
    if not diff:
        return "no config key"
    return ", ".join(f"{key} {render_value(a)} -> {render_value(b)}" for key, (a, b) in diff.items())


def runs_to_json(
    records: Sequence[RunRecord], configs: Mapping[str, Any], submitted: Mapping[str, int]
) -> list[dict[str, Any]]:
    """The documented object of `tracker runs --json`."""
    return [
        {
            **record.to_dict(),
            "config": configs.get(record.name),
            "metrics": dict(record.summary),
            "submission": submitted.get(record.uid),
        }
        for record in records
    ]


def print_runs(records: Sequence[RunRecord], submitted: Mapping[str, int]) -> None:
    """A line a run, newest first."""
    rows = [
        (
            record.name,
            record.kind,
            record.status,
            record.parent or "-",
            render_number(record.best_epoch),
            *[render_number(record.summary.get(name)) for name in RUN_METRICS],
            str(submitted.get(record.uid, "-")),
            record.created_at[:16].replace("T", " "),
            record.note or record.error.partition("\n")[0],
        )
        for record in records
    ]
    columns = ("run", "kind", "status", "parent", "best epoch", *RUN_METRICS, "submission", "created (UTC)", "note")
    print_table(columns, rows)


def print_run(record: RunRecord, config: Mapping[str, Any], rows: Sequence[Submission], comp: Competition) -> None:
    """Everything about one run."""
    about = {
        "status": record.status + (f": {record.error}" if record.error else ""),
        "kind": record.kind,
        "parent": record.parent or "-",
        "note": record.note or "-",
        "author": f"{record.author} on {record.host}",
        "created (UTC)": record.created_at[:19].replace("T", " "),
        "duration": f"{record.duration_s:.0f} s",
        "epochs": f"{record.epoch}, best {render_number(record.best_epoch)}",
        **{f"{name} fingerprint": value or "-" for name, value in record.fingerprints.items()},
    }
    print_table((record.name, ""), list(about.items()))
    print_table(("config", "value"), [(key, render_value(value)) for key, value in config.items()])
    print_table(("metric at best epoch", "value"), [(k, render_number(v)) for k, v in record.summary.items()])
    if rows:
        print_leaderboard(rows, comp, sota=None, was_sota=())


def submission_to_json(row: Submission, competition: Competition, *, sota: int | None, was: bool) -> dict[str, Any]:
    """The documented object of a submission: null where unknown."""
    plain = row.to_dict()
    scores = plain.pop("scores")
    splits = ("public", "private")
    known = {f"{split}_{metric.name}": None for split in splits for metric in competition.metrics}
    return {**plain, **known, **scores, "is_sota": row.number == sota, "was_sota": was}


def print_leaderboard(
    rows: Sequence[Submission], competition: Competition, *, sota: int | None, was_sota: Sequence[int]
) -> None:
    """The submission table, SOTA marked: ** now, * when it was made."""
    columns = [f"{split} {metric.name}" for split in ("public", "private") for metric in competition.metrics]
    table = []
    for row in rows:
        mark = " **" if row.number == sota else " *" if row.number in was_sota else ""
        scores = [
            metric.render(row.scores.get(f"{split}_{metric.name}"))
            for split in ("public", "private")
            for metric in competition.metrics
        ]
        change = f"to {row.sota}: {render_change(row.config_diff)}" if row.sota else "-"
        validation = [render_number(row.val_f1), render_number(row.val_accuracy)]
        table.append((f"{row.number}{mark}", row.run or "-", *scores, *validation, row.memo, change))
    print_table(("number", "run", *columns, "val f1", "val accuracy", "memo", "change to SOTA then"), table)


def print_diff(diff: RunDiff, *, everything: bool = False) -> None:
    """What differs: config, metrics, best epochs, predictions, data and code."""
    if diff.config:
        rows = [(key, render_value(a), render_value(b)) for key, (a, b) in diff.config.items()]
        print_table(("config", diff.a, diff.b), rows)
    else:
        print("config: no difference")
    metrics = []
    by_class = {name: item for name, item in diff.metrics.items() if name.startswith("val/f1/")}
    for name, item in diff.metrics.items():
        if name in by_class and not everything:
            continue
        better = {"a": diff.a, "b": diff.b, None: "-"}[item["better"]]
        delta = "-" if item["delta"] is None else f"{item['delta']:+.4f}"
        metrics.append((name, render_number(item["a"]), render_number(item["b"]), delta, better))
    if metrics:
        print_table(("metric", diff.a, diff.b, "delta", "better"), metrics)
    else:
        print("metrics: no difference")
    if by_class and not everything:
        print(_render_by_class(by_class, diff))
    if diff.best_epoch[0] != diff.best_epoch[1]:
        print(f"best epoch: {render_number(diff.best_epoch[0])} -> {render_number(diff.best_epoch[1])}")
    print(_render_predictions(diff))
    for name in ("data", "code"):
        part = getattr(diff, name)
        if not part["equal"]:
            print(f"{name}: differs ({_short(part['a'])} -> {_short(part['b'])})")


def _render_by_class(by_class: Mapping[str, Mapping[str, Any]], diff: RunDiff) -> str:
    """One line on the F1 of the classes; --all shows each."""
    winners = [item["better"] for item in by_class.values()]
    name, item = max(by_class.items(), key=lambda pair: abs(pair[1]["delta"] or 0.0))
    most = f"most {name.removeprefix('val/f1/')} {item['delta']:+.4f}" if item["delta"] is not None else "-"
    return (
        f"val/f1 by class: {winners.count('b')} better in {diff.b}, {winners.count('a')} in {diff.a}; "
        f"{most} (--all shows each)"
    )


def _render_predictions(diff: RunDiff) -> str:
    found = diff.predictions
    if found is None:
        return "predictions: not both runs have them"
    if found["equal_share"] is None:
        return f"predictions: {found['problem']}"
    if not found["changed"]:
        return f"predictions: all {found['total']} equal"
    return f"predictions: {found['changed']} of {found['total']} differ ({found['equal_share'] * 100:.2f} % equal)"


def _short(fingerprint: str | None) -> str:
    return (fingerprint or "unknown").replace("sha256:", "")[:19]


def print_check(report: CheckReport) -> None:
    """What submit would say."""
    print(f"{report.run}: {report.images} predictions, {_short(report.fingerprint)}")
    if report.sota is not None:
        print(f"change to SOTA (submission {report.sota}): {render_change(report.config_diff)}")
        for name, (old, new) in report.validation.items():
            print(f"  {name}: {render_number(old)} -> {render_number(new)}")
        if report.changed_from_sota:
            moves = list(report.changed_from_sota.items())
            print("answers moved: " + ", ".join(f"{name} {count}" for name, count in moves[:8]))
    for item in report.nearest:
        share = item["equal_share"] * 100
        print(f"nearest: submission {item['number']} ({item['run']}), {item['changed']} differ, {share:.2f} % equal")
    print(render_quota(report.quota))
    if report.quota.left == 1 and not report.refusal:
        print("it would be the last one")
    print(f"would be refused: {report.refusal}" if report.refusal else "would be accepted")


def render_quota(quota: Quota) -> str:
    """What is left to submit, in one line."""
    until = f", deadline {quota.deadline[:16].replace('T', ' ')} UTC" if quota.deadline else ""
    if quota.left is None:
        return f"no daily limit, {quota.used} submitted today{until}"
    return f"{quota.left} of {quota.limit} submissions left{until}"


def print_audit(audit: Audit) -> None:
    """How the submissions were spent."""
    print(f"{audit.submissions} submissions, SOTA: {' -> '.join(map(str, audit.sota_chain)) or 'none scored'}")
    for item in audit.wasted:
        print(f"spent in vain: {item['number']} is {item['equal_to']} again ({item['evidence']})")
    one = [f"{item['number']} ({item['key']})" for item in audit.one_key]
    print(f"one key away from the SOTA then: {', '.join(one) or 'none'}")
    several = [f"{item['number']} ({len(item['keys'])} keys)" for item in audit.several_keys]
    print(f"several at once, so nobody can say which helped: {', '.join(several) or 'none'}")
    print("by author: " + (", ".join(f"{name} {count}" for name, count in audit.by_author.items()) or "-"))
    print("by day (UTC): " + (", ".join(f"{day} {count}" for day, count in audit.by_day.items()) or "-"))
    if audit.unscored:
        print(f"no score yet: {', '.join(map(str, audit.unscored))} (tracker score N)")
    for item in audit.missing:
        print(f"gone: {item['file']} ({item['what']})")


def print_history(events: Sequence[Event]) -> None:
    """A line for each row of the ledger, in the order they were added."""
    rows = [
        (
            str(event.seq),
            (event.time or "-")[:16].replace("T", " "),
            event.author or "-",
            event.kind,
            str(event.submission or "-"),
            event.text,
        )
        for event in events
    ]
    print_table(("row", "time (UTC)", "author", "kind", "submission", "what"), rows)
