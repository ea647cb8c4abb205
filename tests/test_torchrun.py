"""A run of several processes that torchrun starts: on two machines, and again after a death."""

from __future__ import annotations

from pathlib import Path

import psutil
import pytest
import torch

from tests.support.forks import COMMANDS, TORCHRUN, Forks
from tests.support.machines import DEVICE, two_machines
from tests.support.trained_runs import count_points, read_kinds, read_record, wait_until
from tracker.training.run.checkpoint import load_checkpoint

pytestmark = pytest.mark.slow
# No batch norm, and no optimizer whose first steps are of one size where a gradient is rounding.
PLAIN = ("model.name=test_vit", "optim.name=sgd", "optim.lr=0.02", "model.drop_path=0")


def command(*changes: str) -> list[str]:
    words = [word for text in changes for word in ("--set", text)]
    return ["-m", COMMANDS, "run", "train", "base.toml", *words]


def test_two_machines_with_an_address_each_train_what_one_process_trains(
    training_root: Path, forks: Forks
) -> None:
    root = training_root
    short = (*PLAIN, "train.epochs=2", "train.batch_size=8")
    forks.run(*command(*short)[2:], cwd=root)
    launch = ["--nnodes", "2", "--nproc-per-node", "1", "--master-port", "29511"]
    with two_machines("first", "second") as machines:
        agents = [
            forks.start(
                *launch,
                *("--master-addr", machines[0].address, "--node-rank", str(rank)),
                *command(*short, "train.num_nodes=2"),
                "--force",
                cwd=root,
                module=TORCHRUN,
                ranks=1,
                machine=machine.pid,
                # gloo would take the address that the host's name has, which is another one
                GLOO_SOCKET_IFNAME=DEVICE,
            )
            for rank, machine in enumerate(machines)
        ]
        outputs = [agent.communicate() for agent in agents]
    assert [agent.wait() for agent in agents] == [0, 0], outputs
    one, two = (read_record(root, run) for run in ("exp1", "exp2"))
    assert (two["status"], two["facts"]["processes"]) == ("finished", 2)
    assert two["summary"]["val/loss"] == pytest.approx(one["summary"]["val/loss"], abs=1e-6)
    states = [
        load_checkpoint(root / "runs" / run / "last.pth")["model"] for run in ("exp1", "exp2")
    ]
    for name, tensor in states[0].items():
        torch.testing.assert_close(states[1][name], tensor, atol=1e-6, rtol=1e-6)
    assert count_points(root, "exp2") == count_points(root, "exp1")


def test_a_group_that_torchrun_starts_again_after_a_kill_goes_on_with_its_run(
    training_root: Path, forks: Forks
) -> None:
    root = training_root
    launch = ["--standalone", "--nproc-per-node", "2", "--max-restarts", "1"]
    words = (*launch, *command(*PLAIN, "train.devices=2"))
    agent = forks.start(*words, cwd=root, module=TORCHRUN, ranks=4)
    wait_until(lambda: len(count_points(root, "exp1")) > 20)
    first = read_record(root, "exp1")["pid"]
    workers = [each for each in psutil.Process(agent.pid).children() if each.name() == "tracker"]
    (second,) = [each for each in workers if each.pid != first]
    second.kill()
    outputs = agent.communicate()
    assert agent.wait() == 0, outputs
    assert [path.name for path in (root / "runs").glob("exp*")] == ["exp1"]
    record = read_record(root, "exp1")
    assert (record["status"], record["epoch"]) == ("finished", 30)
    assert set(count_points(root, "exp1").values()) == {1}
    kinds = read_kinds(root, "exp1")
    assert (kinds[0], kinds[-2:], len(kinds)) == ("started", ["resumed", "finished"], 4), kinds
