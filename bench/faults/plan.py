"""A fault as plain data, made from its seed alone: what is struck, by what, where and when."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass

from bench.faults.scenarios import SCENARIOS, Scenario

DAMAGES = ("torn", "emptied", "flipped")
SERVERS = (
    *("refuses", "hangs", "is slow", "answers 500", "closes before", "closes after"),
    *("cuts answers", "answers a page"),
)
HOURS_BACK = (1, 24, 24 * 400)
PAGES_LEFT = (0, 1, 2, 3, 5, 8, 13, 34, 89, 233)
TITLES = {
    "kill": "kill -9",
    "term": "SIGTERM",
    "full": "full disk",
    "readonly": "read-only folder",
    "damage": "damaged file",
    "clock": "clock set back",
    "server": "MLflow server",
    "writers": "two writers",
}


@dataclass(frozen=True)
class Fault:
    """`at` is the step of the process `role`, counted from 1; 0 is before its first. `place` is the
    share of the workspace's files before the one that is damaged; `amount` are pages that a disk
    has left, or seconds; `mode` is how a file is damaged, or what the server does."""

    seed: int
    scenario: Scenario
    kind: str
    role: str
    at: int
    amount: int = 0
    mode: str = ""
    place: float = 0.0

    @property
    def title(self) -> str:
        """What goes wrong, for the table."""
        more = {
            "kill": f" of the {self.role}",
            "term": f" to the {self.role}",
            "full": f", {self.amount} pages left",
            "damage": f": {self.mode}",
            "server": f" {self.mode}",
            "clock": f" by {self.amount // 3600} h",
        }
        return TITLES[self.kind] + more.get(self.kind, "")


def list_pairs() -> Iterator[tuple[Scenario, str, str]]:
    """(scenario, kind, role) of every fault that there is; seeds take them in turn."""
    for scenario in SCENARIOS:
        for kind in scenario.kinds:
            # a process that is not killed is the one that does the work
            roles = list(scenario.steps)
            yield from ((scenario, kind, role) for role in (roles if kind == "kill" else roles[:1]))
        if scenario.asks_mlflow:
            yield scenario, "server", next(iter(scenario.steps))


PAIRS = tuple(list_pairs())


def plan_fault(seed: int) -> Fault:
    """The fault of a seed: always the same one."""
    rng = random.Random(seed)  # noqa: S311
    scenario, kind, role = PAIRS[seed % len(PAIRS)]
    # a signal does not come within SQL, which is the last; a server sees fewer steps than a file
    share = {"term": 0.75, "server": 0.2 if scenario.steps[role] > 200 else 1.0}.get(kind, 1.0)
    at = 1 + rng.randrange(int(share * scenario.steps[role]))
    fault = Fault(seed=seed, scenario=scenario, kind=kind, role=role, at=at)
    options = {
        "full": {"amount": rng.choice(PAGES_LEFT)},
        "damage": {"mode": rng.choice(DAMAGES), "place": rng.random(), "at": 0},
        "clock": {"amount": 3600 * rng.choice(HOURS_BACK)},
        "server": {"mode": rng.choice(SERVERS)},
    }
    return Fault(**{**vars(fault), **options.get(kind, {})})
