"""docker-compose.yml: valid, pinned, without a secret; and what it starts, started by hand with the same flags.

tests/assets/compose-spec.json is the schema of the Compose Specification (its compose-spec.json, Apache-2.0).
"""

from __future__ import annotations

import base64
import copy
import json
import os
import re
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from tests.conftest import ROOT, make_pictures, run_tracker
from tests.servers import PostgresServer, free_port, mlflow_server, running

COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
TEXT = (ROOT / "docker-compose.yml").read_text()
VALIDATOR = jsonschema.Draft7Validator(json.loads((ROOT / "tests" / "assets" / "compose-spec.json").read_text()))
PASSWORD = "a-long-password"
LIMIT_S = 60


# --- The file ---------------------------------------------------------------------------------------------------------


def test_the_file_is_valid_by_the_compose_specification() -> None:
    VALIDATOR.validate(COMPOSE)
    broken = copy.deepcopy(COMPOSE)
    broken["services"]["mlflow"]["prots"] = ["5000:5000"]
    with pytest.raises(jsonschema.ValidationError, match="prots"):
        VALIDATOR.validate(broken)


def test_every_image_and_package_has_an_exact_version() -> None:
    for name, service in SERVICES.items():
        assert re.fullmatch(r"[a-z-]+:\d+\.\d+[\w.-]*", service["image"]), name
    recipe = COMPOSE["x-python"]["build"]["dockerfile_inline"]
    assert re.search(r"^FROM python:\d+\.\d+\.\d+-\S+$", recipe, re.MULTILINE)
    pinned = (ROOT / "constraints.txt").read_text().lower().splitlines()
    packages = re.findall(r'"([^"]+)"', recipe)
    assert len(packages) == 3
    for package in packages:
        assert re.sub(r"\[.*]", "", package) in pinned  # the versions that the tests run with


def test_no_password_stands_in_the_file() -> None:
    for service in SERVICES.values():
        for key, value in service.get("environment", {}).items():
            if re.search("PASSWORD|SECRET|KEY", key):
                assert re.fullmatch(r"\$\{\w+:\?set it in \.env}", value), key
    assert not re.search(r"//\w+:[^$@\s]+@", TEXT)


def test_ports_are_published_on_this_machine_only() -> None:
    for service in SERVICES.values():
        assert service["ports"]
        assert all(port.startswith("${TRACKER_BIND:-127.0.0.1}:") for port in service["ports"])


def test_every_service_says_when_it_is_healthy_and_data_lie_in_named_volumes() -> None:
    for service in SERVICES.values():
        assert service["healthcheck"]["test"]
        for volume in service["volumes"]:
            source, _, mode = volume.removeprefix("${TRACKER_RUNS:-./runs}").partition(":")
            assert source in COMPOSE["volumes"] or mode == "/runs:ro"


def test_env_example_lists_exactly_the_variables_of_the_file() -> None:
    listed = re.findall(r"^(\w+)=(.*)$", (ROOT / ".env.example").read_text(), re.MULTILINE)
    assert {name for name, _ in listed} == set(re.findall(r"\$\{(\w+)", TEXT))
    required = set(re.findall(r"\$\{(\w+):\?", TEXT))
    assert {name for name, value in listed if not value} == required
    for name, value in listed:
        assert name in required or f"{{{name}:-{value}}}" in TEXT


# --- What it starts ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Team:
    """A team's server, its workspace with one run, and the addresses of both."""

    root: Path
    address: str
    ledger_url: str

    @property
    def uri(self) -> str:
        return self.address.replace("//", f"//admin:{PASSWORD}@")


def flags_of(service: str, **changes: str) -> list[str]:
    """The flags of a service's command, with variables at their defaults and some values changed."""
    command = SERVICES[service]["command"]
    flags = [re.sub(r"\$\{\w+:-([^}]*)}", r"\1", word) for word in command if word.startswith("--")]
    given = {f"--{name.replace('_', '-')}": value for name, value in changes.items()}
    assert set(given) <= {flag.partition("=")[0] for flag in flags}
    return [f"{name}={given[name]}" if (name := flag.partition("=")[0]) in given else flag for flag in flags]


@pytest.fixture(scope="module")
def team(postgres_server: PostgresServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Team]:
    """PostgreSQL and MLflow as docker-compose.yml starts them, and a run trained against them."""
    folder = tmp_path_factory.mktemp("team")
    content = COMPOSE["configs"]["mlflow-auth"]["content"]
    (folder / "auth.ini").write_text(content.replace("sqlite:////mlflow/", f"sqlite:///{folder}/"))
    names = set(SERVICES["mlflow"]["environment"])
    own = {
        "MLFLOW_BACKEND_STORE_URI": postgres_server.create_database(),
        "MLFLOW_FLASK_SERVER_SECRET_KEY": "any long random text",
        "MLFLOW_AUTH_ADMIN_PASSWORD": PASSWORD,
        "MLFLOW_AUTH_CONFIG_PATH": str(folder / "auth.ini"),
    }
    env = {name: own.get(name, str(SERVICES["mlflow"]["environment"][name])) for name in names}
    port = free_port()
    hosts = f"localhost:{port},127.0.0.1:{port}"
    changes = {"host": "127.0.0.1", "port": str(port), "artifacts_destination": str(folder / "artifacts")}
    with mlflow_server(folder, *flags_of("mlflow", allowed_hosts=hosts, **changes), port=port, **env) as address:
        team = Team(root=folder / "ws", address=address, ledger_url=postgres_server.create_database())
        make_pictures(team.root)
        words = ("--train-dir", team.root / "train", "--eval-dir", team.root / "eval")
        urls = ("--solution", team.root / "solution.csv", "--ledger-url", team.ledger_url, "--mlflow-uri", team.uri)
        run_tracker("init", team.root, *words, *urls, cwd=folder)
        small = ("--set", "data.image_size=[32,32]", "--set", "data.workers=0")
        run_tracker(
            *("run", "train", "--model", "test_resnet", "--epochs", "2", "--batch-size", "8", *small), cwd=team.root
        )
        run_tracker("submit", "--memo", "to the team's server", cwd=team.root)
        yield team


def answer(url: str, *, password: str = "", host: str = "") -> tuple[int, bytes]:
    """Status and body of a GET request."""
    request = urllib.request.Request(url)
    if password:
        request.add_header("Authorization", "Basic " + base64.b64encode(f"admin:{password}".encode()).decode())
    if host:
        request.add_header("Host", host)
    try:
        with urllib.request.urlopen(request, timeout=LIMIT_S) as response:
            return response.status, response.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read()


@pytest.mark.slow
def test_mlflow_asks_for_a_password_and_refuses_foreign_names(team: Team) -> None:
    url = f"{team.address}/api/2.0/mlflow/experiments/search?max_results=1"
    assert answer(url)[0] == 401
    assert answer(url, password="wrong")[0] == 401
    assert answer(url, password=PASSWORD)[0] == 200
    assert answer(url, password=PASSWORD, host="evil.example")[0] == 403


@pytest.mark.slow
def test_a_run_trained_against_the_servers_is_there_with_its_weights(team: Team, monkeypatch: Any) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "admin")
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", PASSWORD)
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=team.address)
    experiment = client.get_experiment_by_name("ws")
    assert experiment.artifact_location.startswith("mlflow-artifacts:")
    (run,) = client.search_runs([experiment.experiment_id])
    assert (run.info.run_name, run.info.status) == ("exp1", "FINISHED")
    assert run.data.params["model.name"] == "test_resnet"
    assert len(client.get_metric_history(run.info.run_id, "val/f1")) == 2
    assert run.data.metrics["submission"] == 1.0
    target = team.root.parent / "download"
    target.mkdir()
    fetched = client.download_artifacts(run.info.run_id, "best.pth", str(target))
    assert Path(fetched).read_bytes() == (team.root / "runs" / "exp1" / "best.pth").read_bytes()


@pytest.mark.slow
def test_the_submission_is_in_postgresql(team: Team) -> None:
    import psycopg

    with psycopg.connect(team.ledger_url.replace("+psycopg", "")) as connection:
        rows = connection.execute("SELECT number, run, memo FROM submissions").fetchall()
    assert rows == [(1, "exp1", "to the team's server")]
    again = run_tracker("submit", "--memo", "again", cwd=team.root, ok=False)
    assert again.returncode == 3
    assert "submission 1" in again.stderr


@pytest.mark.slow
def test_tensorboard_shows_the_curves(team: Team) -> None:
    port = free_port()
    flags = flags_of("tensorboard", host="127.0.0.1", port=str(port), logdir=str(team.root / "runs"))
    url = f"http://127.0.0.1:{port}/data/plugin/scalars/tags"

    def ready() -> bool:
        try:
            return "val/f1" in answer(url)[1].decode()
        except (OSError, urllib.error.URLError):
            return False

    command = [str(Path(sys.executable).parent / "tensorboard"), *flags]
    with running(command, team.root.parent / "tensorboard.log", ready, env={**os.environ, "DO_NOT_TRACK": "true"}):
        tags = json.loads(answer(url)[1])
    assert {"train/loss", "val/loss", "val/f1"} <= set(tags["exp1/tensorboard"])
