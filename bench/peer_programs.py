"""What each peer is asked to do, in its own words: begin a run and log a step, say after a kill how
many steps it has, and find the best of many runs.

`begin` defines `log(step)`, which logs VALUES; `read` prints how many different steps are kept.
`fill` makes COUNT runs of `config(number)`, whose val/f1 is `score(number)`, and `ask` defines
`ask()`: the val/f1 of the SHOWN best runs above LEAST, the best first, with all that the peer's own
interface returns of them, their settings included. All run in an empty folder, with the
peer's own interpreter, and write to this machine, to no service.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Peer:
    """A program to compare with: what pip installs, its command, and its snippets if it logs.

    `no_question` says why it cannot be asked for the best runs on this machine alone; `frames` are
    the packages besides that the interface needs.
    """

    packages: tuple[str, ...]
    command: str
    begin: str = ""
    read: str = ""
    fill: str = ""
    ask: str = ""
    no_question: str = ""
    frames: tuple[str, ...] = ()


TRACKER = Peer(
    (".",),
    "tracker",
    """
import tracker
run = tracker.start_run({}, note="n")
def log(step): run.log(VALUES, step=step)
""",
    """
import json
from pathlib import Path
lines = Path("runs/exp1/metrics.jsonl").read_bytes().split(b"\\n")[:-1]
points = [json.loads(line) for line in lines]
print(len({point["step"] for point in points if "val/f1" in point["values"]}))
""",
    """
import json, shutil
from pathlib import Path
import tracker
with tracker.start_run(config(1), note="n", follow=False, quiet=True) as run:
    run.log({"val/f1": score(1), "val/loss": 0.5}, step=1)
first = Path("runs/exp1")
record = json.loads((first / "run.json").read_text())
text = (first / "config.toml").read_text()
for number in range(2, COUNT + 1):
    folder = Path(f"runs/exp{number}")
    shutil.copytree(first, folder)
    summary = {**record["summary"], "val/f1": score(number)}
    own = {"name": folder.name, "uid": f"{number:032x}", "summary": summary}
    (folder / "run.json").write_text(json.dumps({**record, **own}))
    own_text = text.replace(f"key00 = {config(1)['key00']}", f"key00 = {config(number)['key00']}")
    assert own_text != text
    (folder / "config.toml").write_text(own_text)
""",
    """
import tracker
def ask():
    found = tracker.runs(f"val/f1 > {LEAST}", sort="val/f1", limit=SHOWN, frame="arrow")
    assert "config.key00" in found.column_names
    return found["val/f1"].to_pylist()
""",
    frames=("pyarrow",),
)
MLFLOW = Peer(
    ("mlflow",),
    "mlflow",
    """
import time
from mlflow import MlflowClient
from mlflow.entities import Metric
client = MlflowClient("sqlite:///mlflow.db")
run_id = client.create_run(client.create_experiment("bench")).info.run_id
def log(step):
    now = round(time.time() * 1000)
    client.log_batch(run_id, metrics=[Metric(k, v, now, step) for k, v in VALUES.items()])
""",
    """
from mlflow import MlflowClient
client = MlflowClient("sqlite:///mlflow.db")
(run,) = client.search_runs([client.get_experiment_by_name("bench").experiment_id])
print(len({point.step for point in client.get_metric_history(run.info.run_id, "val/f1")}))
""",
    """
import sqlite3
from mlflow import MlflowClient
from mlflow.entities import Metric, Param
client = MlflowClient("sqlite:///mlflow.db")
run_id = client.create_run(client.create_experiment("bench")).info.run_id
params = [Param(key, str(value)) for key, value in config(1).items()]
metrics = [Metric("val/f1", score(1), 0, 1), Metric("val/loss", 0.5, 0, 1)]
client.log_batch(run_id, metrics=metrics, params=params)
client.set_terminated(run_id)
store = sqlite3.connect("mlflow.db")
for table in ("runs", "params", "latest_metrics", "metrics", "tags"):  # the others are copies of it
    cursor = store.execute(f"SELECT * FROM {table} WHERE run_uuid = ?", (run_id,))
    names, rows = [column[0] for column in cursor.description], cursor.fetchall()
    copies = []
    for number in range(2, COUNT + 1):
        for row in rows:
            made = {**dict(zip(names, row)), "run_uuid": f"{number:032x}"}
            if made.get("key") == "val/f1":
                made["value"] = score(number)
            if made.get("key") == "key00":
                made["value"] = str(config(number)["key00"])
            copies.append(tuple(made.values()))
    store.executemany(f"INSERT INTO {table} VALUES ({', '.join('?' * len(names))})", copies)
store.commit()
""",
    """
from mlflow import MlflowClient
client = MlflowClient("sqlite:///mlflow.db")
experiment = client.get_experiment_by_name("bench").experiment_id
def ask():
    where, order = f"metrics.`val/f1` > {LEAST}", ["metrics.`val/f1` DESC"]
    found = client.search_runs([experiment], where, order_by=order, max_results=SHOWN)
    assert "key00" in found[0].data.params
    return [run.data.metrics["val/f1"] for run in found]
""",
)
WANDB = Peer(
    ("wandb",),
    "wandb",
    """
import wandb
run = wandb.init(mode="offline", project="bench")
def log(step): run.log(VALUES, step=step)
""",
    # blocks of 32 KiB with chunks that have a head of seven bytes: LevelDB's log format
    """
from pathlib import Path
from wandb.proto.wandb_internal_pb2 import Record
steps = set()
for path in Path(".").rglob("*.wandb"):
    data, at, whole = path.read_bytes(), 7, b""
    while at + 7 <= len(data):
        left = 32768 - at % 32768
        if left < 7:
            at += left
            continue
        size, kind = int.from_bytes(data[at + 4 : at + 6], "little"), data[at + 6]
        if kind == 0 or at + 7 + size > len(data):
            break
        part = data[at + 7 : at + 7 + size]
        at += 7 + size
        whole = part if kind in (1, 2) else whole + part
        if kind in (1, 4):
            record = Record.FromString(whole)
            if record.WhichOneof("record_type") == "history":
                steps.add(record.history.step.num)
print(len(steps))
""",
    no_question="offline it writes a file for each run; only its service can be asked",
)
AIM = Peer(
    ("aim",),
    "aim",
    """
from aim import Run
run = Run(repo=".")
def log(step):
    for name, value in VALUES.items(): run.track(value, name=name, step=step)
""",
    """
from aim import Repo, Run
steps = set()
for name in Repo(".").list_all_runs():
    for metric in Run(name, repo=".").metrics():
        if metric.name == "val/f1":
            steps.update(int(step) for step in metric.values.sparse_list()[0])
print(len(steps))
""",
    """
import subprocess
from pathlib import Path
from aim import Run
for number in range(1, COUNT + 1):
    run = Run(repo=".", experiment="bench", system_tracking_interval=None)
    run["hparams"] = config(number)
    run.track(score(number), name="val/f1", step=1)
    run.track(0.5, name="val/loss", step=1)
    run.close()
index = [str(Path(sys.executable).with_name("aim")), "storage", "--repo", ".", "reindex"]
subprocess.run(index, input="y\\n", text=True, check=True, capture_output=True)
""",
    """
from aim import Repo
repo = Repo(".")
def ask():
    found = []
    where = f"metric.name == 'val/f1' and metric.last > {LEAST}"
    for run in repo.query_metrics(where, report_mode=0).iter_runs():
        for metric in run:
            found.append((metric.values.last_value(), metric.run))
    best = sorted(found, key=lambda pair: -pair[0])[:SHOWN]
    assert all("key00" in run["hparams"] for _, run in best)
    return [value for value, _ in best]
""",
)
DVC = Peer(
    ("dvc", "dvclive"),
    "dvc",
    """
from dvclive import Live
live = Live(save_dvc_exp=False, dvcyaml=None)
def log(step):
    live.step = step
    for name, value in VALUES.items(): live.log_metric(name, value)
    live.make_summary()
""",
    """
from pathlib import Path
lines = Path("dvclive/plots/metrics/val/f1.tsv").read_text().split("\\n")[1:-1]
print(len({line.split("\\t")[0] for line in lines}))
""",
    no_question="`dvc exp show` has no condition, and each run that it lists is a commit of git",
)
TRACKIO = Peer(
    ("trackio",),
    "trackio",
    """
import trackio
trackio.init(project="bench", name="r")
def log(step): trackio.log(VALUES, step=step)
""",
    """
import os, sqlite3
from pathlib import Path
path = Path(os.environ["TRACKIO_DIR"], "bench.db")
steps = "SELECT count(DISTINCT step) FROM metrics"
# killed before its first write, it has no file
print(sqlite3.connect(path).execute(steps).fetchone()[0] if path.is_file() else 0)
""",
    """
from trackio.sqlite_storage import SQLiteStorage
for number in range(1, COUNT + 1):
    values = [{"val/f1": score(number), "val/loss": 0.5}]
    SQLiteStorage.bulk_log("bench", f"run{number}", values, steps=[1], config=config(number))
""",
    """
from trackio.sqlite_storage import SQLiteStorage
def ask():
    value = "json_extract(metrics, '$.\\"val/f1\\"')"
    sql = (
        f"SELECT metrics.run_name, {value} AS f1, config FROM metrics JOIN configs USING (run_name)"
        f" WHERE f1 > {LEAST} ORDER BY f1 DESC LIMIT {SHOWN}"
    )
    rows = SQLiteStorage.query_project("bench", sql)["rows"]
    assert "key00" in rows[0]["config"]
    return [row["f1"] for row in rows]
""",
)
SWANLAB = Peer(
    ("swanlab",),
    "swanlab",
    """
import swanlab
swanlab.init(project="bench", mode="offline", logdir="log")
def log(step): swanlab.log(VALUES, step=step)
""",
    """
from pathlib import Path
from swanlab.proto.swanlab.record.v1.record_pb2 import Record
from swanlab.sdk.internal.core_python.store import DataStoreReader
steps = set()
(path,) = Path("log").rglob("*.swanlab")
reader = DataStoreReader()
reader.open(path)
try:
    while (data := reader.scan()) is not None:
        record = Record.FromString(data)
        if record.HasField("scalar") and record.scalar.key == "val/f1":
            steps.add(record.scalar.step)
except Exception as error:  # the record that the kill has torn
    assert "checksum" in str(error), error
print(len(steps))
""",
    no_question="offline it writes a file for each run; only its service can be asked",
)
KAGGLE = Peer(("kaggle", "six"), "kaggle")  # which it imports and does not name

PEERS = {
    "tracker": TRACKER,
    "mlflow": MLFLOW,
    "wandb": WANDB,
    "aim": AIM,
    "dvc": DVC,
    "trackio": TRACKIO,
    "swanlab": SWANLAB,
    "kaggle": KAGGLE,
}
