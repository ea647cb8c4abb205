"""Losses, scores, schedules, samplers, weights and files against independent references."""

from __future__ import annotations

import errno
import itertools
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score, f1_score
from torch.nn import functional

from tracker.training.config import LossConfig, ModelConfig, OptimConfig, SchedConfig
from tracker.training.errors import ConfigError, StorageError, WeightsError
from tracker.training.files import atomic_path, write_json, write_text
from tracker.training.input.sampler import BatchSampler, OrderedBatches, balance
from tracker.training.machine import has_bfloat16
from tracker.training.metrics import accuracy, f1_by_class, macro_f1
from tracker.training.model.losses import build_loss, focal_loss, soft_f1_loss
from tracker.training.model.model import build_model, resolve_precision
from tracker.training.model.optim import build_optimizer, lr_factor
from tracker.training.run.checkpoint import load_checkpoint, save_checkpoint, weights_fingerprint
from tracker.training.scores import confusion_matrix, count_classes

LOGITS = torch.tensor(
    [[2.0, 0.5, -1.0], [0.1, 0.2, 0.3], [-1.0, 3.0, 0.0], [0.0, 0.0, 2.0]], dtype=torch.float64
)
TARGETS = torch.tensor([0, 2, 1, 1])


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), min_size=1, max_size=60))
def test_scores_equal_scikit_learn(pairs: list[tuple[int, int]]) -> None:
    truth, guess = (np.array(side, dtype=np.int64) for side in zip(*pairs, strict=True))
    counts = count_classes(confusion_matrix(truth, guess, 5))
    expected = f1_score(truth, guess, labels=range(5), average=None, zero_division=0)
    np.testing.assert_allclose(f1_by_class(counts), expected, atol=1e-12)
    assert macro_f1(counts) == pytest.approx(float(np.mean(expected)), abs=1e-12)
    assert accuracy(counts) == pytest.approx(accuracy_score(truth, guess), abs=1e-12)


def test_soft_f1_loss_equals_its_definition_in_float64() -> None:
    p = np.exp(LOGITS.numpy()) / np.exp(LOGITS.numpy()).sum(1, keepdims=True)
    y = np.eye(3)[TARGETS.numpy()]
    expected = 0.0
    for c in range(3):
        tp, fp, fn = (
            (p[:, c] * y[:, c]).sum(),
            (p[:, c] * (1 - y[:, c])).sum(),
            ((1 - p[:, c]) * y[:, c]).sum(),
        )
        expected += 2 * tp / (2 * tp + fp + fn) / 3
    assert float(soft_f1_loss(LOGITS, TARGETS)) == pytest.approx(1 - expected, abs=1e-12)


def test_focal_loss_equals_its_definition_and_is_cross_entropy_at_gamma_zero() -> None:
    p = torch.softmax(LOGITS, 1)[torch.arange(4), TARGETS]
    assert float(focal_loss(LOGITS, TARGETS, gamma=2.0)) == pytest.approx(
        float((-((1 - p) ** 2) * p.log()).mean())
    )
    assert float(focal_loss(LOGITS, TARGETS, gamma=0.0)) == pytest.approx(
        float(functional.cross_entropy(LOGITS, TARGETS))
    )


def test_every_loss_name_is_another_loss_and_its_parameter_counts() -> None:
    configs = [
        LossConfig(),
        LossConfig(name="focal"),
        LossConfig(name="focal", gamma=4.0),
        LossConfig(name="label_smoothing"),
        LossConfig(name="label_smoothing", smoothing=0.3),
        LossConfig(name="f1"),
    ]
    assert len({round(float(build_loss(config)(LOGITS, TARGETS)), 9) for config in configs}) == len(
        configs
    )


def test_step_schedule_halves_every_decay_step() -> None:
    config = SchedConfig(name="step", decay_step=2, decay_rate=0.5)
    factors = [
        lr_factor(step, steps_per_epoch=10, epochs=6, config=config) for step in (0, 19, 20, 39, 40)
    ]
    assert factors == [1.0, 1.0, 0.5, 0.5, 0.25]


def test_cosine_schedule_warms_up_and_falls_to_zero() -> None:
    config = SchedConfig(name="cosine", warmup_epochs=1.0)
    factors = [lr_factor(step, steps_per_epoch=10, epochs=5, config=config) for step in range(51)]
    assert factors[:10] == pytest.approx([(n + 1) / 11 for n in range(10)])
    assert factors[10] == 1.0
    assert factors[30] == pytest.approx(0.5)
    assert factors[50] == pytest.approx(0.0)
    assert all(a > b for a, b in itertools.pairwise(factors[10:]))


def test_constant_schedule_stays_at_one() -> None:
    factors = {
        lr_factor(s, steps_per_epoch=4, epochs=9, config=SchedConfig(name="constant"))
        for s in range(36)
    }
    assert factors == {1.0}


@pytest.mark.parametrize(("name", "kind"), [("adamw", "AdamW"), ("adam", "Adam"), ("sgd", "SGD")])
def test_optimizer_takes_its_numbers_from_the_config(name: str, kind: str) -> None:
    optimizer = build_optimizer(
        torch.nn.Linear(1, 1), OptimConfig(name=name, lr=0.3, weight_decay=0.2, momentum=0.7)
    )
    assert type(optimizer).__name__ == kind
    group = optimizer.param_groups[0]
    assert (group["lr"], group["weight_decay"]) == (0.3, 0.2)
    assert name != "sgd" or group["momentum"] == 0.7


def test_every_image_comes_once_an_epoch_in_another_order() -> None:
    sampler = BatchSampler(10, 4, seed=1)
    orders = []
    for epoch in (1, 2):
        sampler.epoch = epoch
        batches = list(sampler)
        assert [len(batch) for batch in batches] == [4, 4, 2]
        orders.append([index for batch in batches for _, index in batch])
        assert sorted(orders[-1]) == list(range(10))
    assert orders[0] != orders[1]


def test_a_last_batch_of_one_image_is_dropped_in_training_only() -> None:
    assert len(list(BatchSampler(9, 4, seed=1))) == 2
    assert len(list(OrderedBatches(9, 4))) == 3
    assert len(list(BatchSampler(1, 4, seed=1))) == 1


@given(st.integers(1, 60), st.integers(1, 5), st.integers(1, 4))
def test_processes_share_every_image_of_an_epoch(size: int, share: int, world: int) -> None:
    whole = BatchSampler(size, share * world, seed=3)
    parts = [
        list(BatchSampler(size, share * world, seed=3, rank=rank, world=world))
        for rank in range(world)
    ]
    for number, batch in enumerate(list(whole)[: len(parts[0])]):
        assert sorted(position for part in parts for position in part[number]) == sorted(batch)
        assert max(len(part[number]) for part in parts) <= share
    ordered = [
        [p for batch in OrderedBatches(size, 4, rank=r, world=world) for p in batch]
        for r in range(world)
    ]
    assert len({len(part) for part in ordered}) == 1
    woven = [index for together in zip(*ordered, strict=True) for _, index in together]
    assert woven[:size] == list(range(size))


def test_weighted_sampling_draws_every_class_as_often() -> None:
    labels = [0] * 900 + [1] * 100
    weights = balance(labels)
    assert weights.mean() == pytest.approx(1)
    assert weights[:900].sum() == pytest.approx(weights[900:].sum())
    drawn = [
        index for batch in BatchSampler(1000, 50, seed=1, weights=weights) for _, index in batch
    ]
    rare = sum(index >= 900 for index in drawn)
    assert 430 < rare < 570
    assert len(set(drawn)) < 1000


def test_unknown_model_names_the_nearest() -> None:
    with pytest.raises(ConfigError) as caught:
        build_model(ModelConfig(name="resnet81"), num_classes=2, image_size=(32, 32), root=Path())
    assert "resnet18" in caught.value.hint


def test_drop_path_reaches_the_model_and_is_refused_where_there_is_none() -> None:
    model = build_model(
        ModelConfig(name="resnet10t", drop_path=0.4),
        num_classes=2,
        image_size=(32, 32),
        root=Path(),
    )
    assert any(getattr(module, "drop_prob", 0) for module in model.modules())
    with pytest.raises(ConfigError, match="drop_path_rate"):
        build_model(
            ModelConfig(name="vgg11", drop_path=0.4),
            num_classes=2,
            image_size=(32, 32),
            root=Path(),
        )


def test_transformers_take_any_image_size() -> None:
    model = build_model(
        ModelConfig(name="vit_tiny_patch16_224"), num_classes=3, image_size=(32, 48), root=Path()
    )
    assert model(torch.zeros(1, 3, 32, 48)).shape == (1, 3)


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_local_weights_are_loaded_and_the_head_may_have_other_classes(
    tmp_path: Path, suffix: str
) -> None:
    from safetensors.torch import save_file

    config = ModelConfig(name="resnet10t")
    torch.manual_seed(1)
    source = build_model(config, num_classes=7, image_size=(32, 32), root=tmp_path).state_dict()
    path = tmp_path / f"weights{suffix}"
    (
        save_file(source, path)
        if suffix == ".safetensors"
        else torch.save({"state_dict": source}, path)
    )
    torch.manual_seed(2)
    local = ModelConfig(name="resnet10t", pretrained=path.name)
    model = build_model(local, num_classes=2, image_size=(32, 32), root=tmp_path).state_dict()
    assert torch.equal(model["conv1.0.weight"], source["conv1.0.weight"])
    assert model["fc.weight"].shape[0] == 2


def test_weights_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    other = build_model(
        ModelConfig(name="resnet14t"), num_classes=2, image_size=(32, 32), root=tmp_path
    )
    torch.save(
        {k: v for k, v in other.state_dict().items() if "layer1" in k}, tmp_path / "part.pth"
    )
    (tmp_path / "text.pth").write_text("no weights")
    torch.save({"f": os.system}, tmp_path / "code.pth")
    for name, words in {
        "part.pth": "does not fit",
        "text.pth": "cannot read|more than tensors",
        "code.pth": "more than tensors",
        "none.pth": "no such file",
    }.items():
        with pytest.raises(WeightsError, match=words):
            build_model(
                ModelConfig(name="resnet10t", pretrained=name),
                num_classes=2,
                image_size=(32, 32),
                root=tmp_path,
            )


def test_bf16_on_a_cpu_without_its_instructions_stays_in_float32() -> None:
    precision, note = resolve_precision("bf16-mixed", "cpu")
    if has_bfloat16():
        assert (precision, note) == ("bf16-mixed", "")
    else:
        assert precision == "32-true"
        assert "float32" in note
    assert resolve_precision("auto", "cpu") == ("32-true", "")
    assert resolve_precision("16-mixed", "cpu")[0] == "32-true"


def test_weights_fingerprint_ignores_order_and_file_but_not_a_bit(tmp_path: Path) -> None:
    state = {"b": torch.ones(2, 3), "a": torch.arange(4)}
    save_checkpoint(tmp_path / "x.pth", {"model": state})
    loaded = load_checkpoint(tmp_path / "x.pth")["model"]
    base = weights_fingerprint(state)
    assert weights_fingerprint(dict(sorted(loaded.items()))) == base
    assert weights_fingerprint({**state, "a": torch.tensor([0, 1, 2, 4])}) != base
    assert weights_fingerprint({**state, "b": torch.ones(3, 2)}) != base
    assert weights_fingerprint({**state, "b": torch.ones(2, 3, dtype=torch.float64)}) != base


def test_a_torn_or_foreign_checkpoint_is_refused(tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "x.pth", {"model": {"a": torch.ones(1000)}})
    whole = (tmp_path / "x.pth").read_bytes()
    (tmp_path / "torn.pth").write_bytes(whole[: len(whole) // 2])
    torch.save({"a": 1}, tmp_path / "other.pth")
    for name in ("torn.pth", "other.pth", "none.pth"):
        with pytest.raises(WeightsError):
            load_checkpoint(tmp_path / name)


def test_a_write_that_fails_leaves_the_old_file_and_no_other(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    write_json(path, {"old": 1})
    with pytest.raises(ValueError, match="Out of range"):
        write_json(path, float("nan"))
    with (
        pytest.raises(StorageError, match="No space left") as caught,
        atomic_path(path) as temporary,
    ):
        temporary.write_text("half")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    assert "free some space" in caught.value.hint
    assert path.read_text() == '{\n "old": 1\n}\n'
    assert list(tmp_path.iterdir()) == [path]


def test_a_missing_folder_is_a_storage_error(tmp_path: Path) -> None:
    with pytest.raises(StorageError):
        write_text(tmp_path / "none" / "a", "x")
