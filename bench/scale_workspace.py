"""Makes a workspace of very many runs and ledger rows, quickly: for scale.py.

Of three runs in the ledger, each submitted once with four scores, two are here and one is a
teammate's; two have a note. A run folder has run.json of its own; config.toml is a hard link to one
of 200, metrics.jsonl and predictions.csv are links to those of exp1.
"""

from __future__ import annotations

import datetime as dt
import json
import os
import random
import sqlite3
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from compare_runs import make_run

from tracker.core.clock import to_utc_text
from tracker.ledger.append import CHAINED
from tracker.ledger.chain import canonical_json, row_hash
from tracker.setup.init import init_workspace
from tracker.training.config import Config, config_to_dict, merge
from tracker.workspace.tracker_toml import Workspace

MAX_LINKS = 30_000  # of one file; ext4 allows 65,000
SETTINGS, SEEDS = 40, 5
ROWS_OF_THREE = 20  # 3 runs, 3 submissions, 12 scores, 2 notes
BATCH = 5_000
Row = dict[str, Any]


def make_config(number: int) -> dict[str, Any]:
    lr, seed = 0.0001 * (1 + number // SEEDS % SETTINGS), number % SEEDS
    return merge(config_to_dict(Config()), {"optim": {"lr": lr}, "train": {"seed": seed}})


def val_score(number: int) -> float:
    return round(0.6 + 0.3 * random.Random(number).random(), 5)  # noqa: S311


def submitted_at(number: int, count: int) -> str:
    """One a minute, the last of `count` now."""
    start = dt.datetime.now(dt.UTC).replace(second=0, microsecond=0)
    return to_utc_text(start - dt.timedelta(minutes=count - number))


def parent_of(number: int) -> str | None:
    return f"exp{max(1, number - 1 - number % 20)}" if number > 1 else None


def copy_runs(workspace: Workspace, count: int) -> None:
    """Run folders until there are `count`."""
    import tomli_w

    runs = workspace.runs_dir
    record = json.loads((runs / "exp1" / "run.json").read_text())
    texts = [tomli_w.dumps(make_config(number)) for number in range(SETTINGS * SEEDS)]
    configs: dict[int, str] = {}
    shared = {name: f"{runs}/exp1/{name}" for name in ("metrics.jsonl", "predictions.csv")}
    now = time.time()
    os.utime(shared["metrics.jsonl"], (now - 1e6, now - 1e6))
    for number in range(3, count + 1):
        folder = f"{runs}/exp{number}"
        Path(folder).mkdir()
        which = number % len(texts)
        value = val_score(number)
        summary = {"val/f1": value, "val/accuracy": value, "train/loss": 1 - value}
        own = {"name": f"exp{number}", "uid": f"u{number}", "parent": parent_of(number)}
        Path(f"{folder}/run.json").write_text(json.dumps({**record, **own, "summary": summary}))
        age = 60.0 * (count - number)  # one run a minute, as the ledger has it
        os.utime(f"{folder}/run.json", (now - age, now - age))
        link(configs, which, f"{folder}/config.toml", texts[which])
        for name, source in shared.items():
            if number % MAX_LINKS == 0:
                Path(f"{folder}/{name}").write_bytes(Path(source).read_bytes())
                os.utime(f"{folder}/{name}", (now - 1e6, now - 1e6))
                shared[name] = f"{folder}/{name}"
            else:
                os.link(source, f"{folder}/{name}")
    (runs / ".last").write_text(str(count))


def link(known: dict[int, str], which: int, path: str, text: str) -> None:
    """A hard link to the first file with this text, or that first file."""
    if which in known:
        os.link(known[which], path)
    else:
        Path(path).write_text(text)
        known[which] = path


def list_rows(count: int) -> Iterator[tuple[str, Row]]:
    """(table, row) of `count` runs, each submitted and scored once."""
    diffs: dict[tuple[int, int], str] = {}
    best, best_score = None, 0.0
    configs = [canonical_json(make_config(number)) for number in range(SETTINGS * SEEDS)]
    for number in range(1, count + 1):
        value, at = val_score(number), submitted_at(number, count)
        which = number % len(configs)
        prints = {"config_fingerprint": f"sha256:c{which}", "data_fingerprint": "sha256:d"}
        prints |= {"weights_fingerprint": f"sha256:w{number}"}
        prints |= {"predictions_fingerprint": f"sha256:p{number}"}
        shared = {"author": f"author{number % 4}", "host": "box", "config": configs[which]}
        run = {"name": f"exp{number}", "uid": f"u{number}", "kind": "train", "status": "finished"}
        run |= {"created_at": at, "finished_at": at, "parent": parent_of(number)}
        run |= {"summary": json.dumps({"val/f1": value}), "path": f"/elsewhere/runs/exp{number}"}
        yield "run", {**run, **shared, **prints}
        sent = {"number": number, "run": run["name"], "run_uid": run["uid"], "memo": "smaller"}
        sent |= {"submitted_at": at, "file": f"submissions/{number}.csv", "val_f1": value}
        sent |= {"sota": best, "best_epoch": 30, "val_accuracy": value, "val_loss": 1 - value}
        if best is not None:
            pair = (best % len(configs), which)
            sent["config_diff"] = diffs.setdefault(pair, diff_of(*pair))
        yield "submission", {**sent, **shared, **prints}
        noise = random.Random(-number)  # noqa: S311
        public = round(value + noise.gauss(0, 0.01), 5)
        for split in ("public", "private"):
            for metric in ("f1", "accuracy"):
                score = public if split == "public" else round(value + noise.gauss(0, 0.01), 5)
                row = {"submission": number, "split": split, "metric": metric, "value": score}
                yield "score", {**row, "author": "ann", "scored_at": at}
        if public > best_score:
            best, best_score = number, public
        if number % 3:
            note = {"submission": number, "kind": "note", "text": "looked at the errors"}
            yield "note", {**note, "author": "ann", "noted_at": at}


def diff_of(old: int, new: int) -> str:
    a, b = make_config(old), make_config(new)
    keys = (("optim", "lr"), ("train", "seed"))
    pairs = {f"{s}.{k}": [a[s][k], b[s][k]] for s, k in keys if a[s][k] != b[s][k]}
    return canonical_json(pairs)


def fill(path: Path, count: int) -> None:
    """Write the rows, chained as the ledger does it."""
    columns = {
        kind: [column.name for column in table.columns if column.name != "seq"]
        for kind, table in CHAINED.items()
    }
    ledger = sqlite3.connect(path)
    previous = ""
    links: list[Row] = []
    rows: dict[str, list[Row]] = {kind: [] for kind in CHAINED}
    for seq, (kind, known) in enumerate(list_rows(count), start=1):
        row = {name: known.get(name) for name in columns[kind]}
        one = {"seq": seq, "kind": kind, "previous": previous}
        previous = row_hash(one, row)
        links.append({**one, "hash": previous})
        rows[kind].append({"seq": seq, **row})
        if len(links) >= BATCH and kind == "run":
            write(ledger, links, rows)
    write(ledger, links, rows)
    ledger.close()


def write(ledger: sqlite3.Connection, links: list[Row], rows: dict[str, list[Row]]) -> None:
    with ledger:
        for table, waiting in {"chain": links, **{f"{kind}s": rows[kind] for kind in rows}}.items():
            if waiting:
                marks = ", ".join(f":{name}" for name in waiting[0])
                ledger.executemany(
                    f"INSERT INTO {table} ({', '.join(waiting[0])}) VALUES ({marks})", waiting
                )
            waiting.clear()


def main() -> None:
    """`scale_workspace.py DIR RUNS ROWS`."""
    root, runs, rows = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    workspace = init_workspace(root, data={}, competition={"classes": ["a", "b"], "name": "bench"})
    for lr in (0.001, 0.002):
        make_run(workspace, lr)
    copy_runs(workspace, runs)
    fill(root / "ledger.db", rows // ROWS_OF_THREE * 3)


if __name__ == "__main__":
    main()
