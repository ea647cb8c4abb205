"""How fast are two trainings at once on one machine, with and without shared cores?

Against one alone, of which each could reach 50 % at best. The goal is about those that share: what
two make together, of what one makes alone.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile

from figures import Row, record
from timing import QUIET

from tracker.training.machine import count_cores

GOAL = 0.9
ALL, LATER, HALF = (
    "all cores each",
    "the second begins while the first trains",
    "half of the cores each",
)
REASONS = {
    LATER: "cores are shared out when a training begins: the first keeps its threads to its end",
    HALF: "two trainings share memory and caches, too",
}
TRAINING = """
import sys, time
from tracker.training.processes import share_cores
import timm, torch
model = timm.create_model("resnet18", num_classes=2)
optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
images, labels = torch.rand(16, 3, 64, 64), torch.randint(2, (16,))

def train(seconds):
    steps, started = 0, time.monotonic()
    while time.monotonic() - started < seconds:
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(model(images), labels).backward()
        optimizer.step()
        steps += 1
    return 16 * steps / (time.monotonic() - started)

sys.stdin.readline()
with share_cores(1):
    print("begun", flush=True)
    sys.stdin.readline()
    train(1.0)
    print(train(float(sys.argv[1])), torch.get_num_threads(), flush=True)
"""


def measure(seconds: float, threads: tuple[int, ...]) -> list[tuple[float, int]]:
    """Images/s and threads of trainings that begin one after the other and train at once.

    Each has a number of threads by hand; 0 for its share.
    """
    with tempfile.TemporaryDirectory() as registry:
        trainings = []
        for number in threads:
            environment = {**os.environ, **QUIET, "XDG_RUNTIME_DIR": registry}
            environment.pop("OMP_NUM_THREADS", None)
            if number:
                environment["OMP_NUM_THREADS"] = str(number)
            trainings.append(
                subprocess.Popen(
                    [sys.executable, "-c", TRAINING, str(seconds)],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    env=environment,
                    text=True,
                )
            )
        for training in trainings:
            assert training.stdin and training.stdout
            training.stdin.write("\n")
            training.stdin.flush()
            training.stdout.readline()
        for training in trainings:
            assert training.stdin
            training.stdin.write("\n")
            training.stdin.flush()
        lines = [training.communicate()[0].split() for training in trainings]
    return [(float(rate), int(used)) for rate, used in lines]


def main() -> None:
    """Print the speed of each way against one training alone."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=10.0)
    seconds, cores = parser.parse_args().seconds, count_cores()
    half = max(1, cores // 2)
    (alone, _), *_ = measure(seconds, (cores,))
    print(f"one alone, {cores} threads: {alone:.0f} images/s")
    ways = {ALL: (cores, cores), LATER: (0, 0), HALF: (half, half)}
    for name, threads in ways.items():
        found = measure(seconds, threads)
        shares = " and ".join(f"{rate / alone:.0%} ({used} threads)" for rate, used in found)
        print(f"two at once, {name}: {shares} of one alone")
        both = " and ".join(f"{rate / alone:.0%}" for rate, _ in found)
        together = sum(rate for rate, _ in found) / alone
        ours = f"{both} of one alone, together {together:.0%}"
        shared = name != ALL
        reached = together >= GOAL if shared else None
        goal = f"together {GOAL:.0%}" if shared else ""
        what = f"two trainings at once, {name}"
        record([Row(what, ours, "", "50% each", goal, reached, REASONS.get(name, ""))])


if __name__ == "__main__":
    main()
