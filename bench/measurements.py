"""The measurements of `make bench`: their questions, how long they take, and their order on the
page, where those of one subject are together."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Measurement:
    """A script of this folder: its subject, its question, and its options where it is to be quick;
    None where it has no quick form.

    `long_s` and `quick_s` are about what it takes on two quiet cores, the peers being installed.
    """

    name: str
    subject: str
    question: str
    long_s: float
    quick: tuple[str, ...] | None = None
    quick_s: float = 0.0

    @property
    def limit_s(self) -> float:
        """What a busy machine may take."""
        return max(1800.0, 4 * self.long_s)


MEASUREMENTS = (
    Measurement(
        "startup",
        "Start-up",
        "How long does a command take to start?",
        60,
        ("--rounds", "3"),
        quick_s=13,
    ),
    Measurement(
        "logging_cost",
        "Logging",
        "What does a logged point cost, and what is left of it after kill -9?",
        40,
        ("--rounds", "3", "--kills", "4"),
        quick_s=9,
    ),
    Measurement("points", "Logging", "How long does it take to copy a long run to MLflow?", 400),
    Measurement(
        "peers",
        "Other trackers",
        "How large are other trackers, what does a point cost?",
        150,
        ("--quick",),
        quick_s=40,
    ),
    Measurement(
        "queries",
        "Other trackers",
        "How long does the same question take with other trackers?",
        600,
        ("--quick",),
        quick_s=15,
    ),
    Measurement(
        "compare_runs",
        "Comparing runs",
        "How long does diff take with few and many runs?",
        125,
        ("--rounds", "1", "--runs", "5", "1000"),
        quick_s=20,
    ),
    Measurement(  # no quick form: that of scale has these questions with 1,000 runs
        "compare_many", "Comparing runs", "How long does compare take with many runs?", 85
    ),
    Measurement(
        "compare_stats",
        "Comparing runs",
        "How long do the statistics of two runs take?",
        70,
        ("--rounds", "1", "--images", "3780"),
        quick_s=8,
    ),
    Measurement(
        "big_ledger",
        "Ledger",
        "How long does a question take with many submissions?",
        55,
        ("--rounds", "2", "--rows", "10000"),
        quick_s=12,
    ),
    Measurement(
        "writers",
        "Ledger",
        "How many submissions a second do several writers add to one ledger?",
        60,
        ("--seconds", "1"),
        quick_s=18,
    ),
    Measurement("large_tables", "Ledger", "How long does a submit take for tables of numbers?", 90),
    Measurement(
        "scale",
        "Large workspaces",
        "Does every command that reads answer with very many runs?",
        720,
        ("--quick",),
        quick_s=41,
    ),
    Measurement(  # no quick form: that of scale has a report of 1,000 runs
        "report_size", "Large workspaces", "How long does the report take, how large is it?", 170
    ),
    Measurement(
        "input",
        "Input",
        "How many images a second does the input make?",
        25,
        ("--rounds", "1", "--images", "48"),
        quick_s=10,
    ),
    Measurement(
        "data_check",
        "Input",
        "How long does data check of unchanged images take?",
        320,
        ("--quick",),
        quick_s=5,
    ),
    Measurement(
        "decoding",
        "Input",
        "What does reducing a photograph while it is decoded save?",
        85,
        ("--quick",),
        quick_s=21,
    ),
    Measurement("jitter_f1", "Input", "Does the quick jitter cost F1?", 900),
    Measurement(
        "epochs",
        "Training",
        "How long does an epoch take?",
        200,
        ("--quick",),
        quick_s=38,
    ),
    Measurement(
        "sharing",
        "Training",
        "What do two trainings at once cost each other?",
        90,
        ("--seconds", "1"),
        quick_s=26,
    ),
    Measurement(
        "inference",
        "Inference",
        "How long do predictions take, files to CSV?",
        520,
        ("--quick",),
        quick_s=14,
    ),
    Measurement("suspects", "Inference", "Does data suspects find wrong labels?", 400),
    Measurement("gpu", "GPU", "How near does training come to the GPU's limit?", 300, (), 6),
)
