"""Every option of a run changes what it says, and nothing else."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.optim.swa_utils import AveragedModel

from tests.support.training_loop import CONFIG, PLAIN, SHORT, Stop, train, vary
from tests.training.conftest import TWO
from tracker.training.config import (
    AugmentConfig,
    LossConfig,
    ModelConfig,
    OptimConfig,
)
from tracker.training.data.data import load_data
from tracker.training.errors import ConfigError
from tracker.training.input.mixup import build_mixer
from tracker.training.model.losses import build_loss
from tracker.training.model.model import AttributeHeads, build_model, check_model, train_mode
from tracker.training.model.optim import build_optimizer, check_optimizer
from tracker.training.predict import predict
from tracker.training.predict.probabilities import load_probabilities
from tracker.training.run.checkpoint import load_checkpoint
from tracker.training.run.setup import update_average


def last_weights(root: Path, name: str) -> Mapping[str, torch.Tensor]:
    found: Mapping[str, torch.Tensor] = load_checkpoint(root / name / "last.pth")["model"]
    return found


def test_two_batches_of_eight_equal_one_of_sixteen(folders: Path) -> None:
    base = vary(replace(CONFIG, model=PLAIN), train__epochs=2, optim__name="sgd", optim__lr=0.05)
    whole, logged = train(vary(base, train__batch_size=16), folders, "whole")
    halves, logged_halves = train(
        vary(base, train__batch_size=8, train__accumulate=2), folders, "halves"
    )
    for key, value in last_weights(folders, "whole").items():
        torch.testing.assert_close(
            last_weights(folders, "halves")[key], value, rtol=1e-4, atol=1e-6
        )
    steps = [
        [step for step, values in log.points if "train/batch_lr" in values]
        for log in (logged, logged_halves)
    ]
    assert steps == [[1, 2, 3, 4], [1, 2, 3, 4]]
    assert halves.best.metrics["train/loss"] == pytest.approx(
        whole.best.metrics["train/loss"], rel=1e-4
    )
    train(vary(base, train__batch_size=8), folders, "single")
    assert not torch.equal(
        last_weights(folders, "single")["head.weight"],
        last_weights(folders, "whole")["head.weight"],
    )


def test_clip_grad_limits_the_step(folders: Path) -> None:
    base = vary(replace(SHORT, model=PLAIN), train__batch_size=32)
    base = vary(base, optim__name="sgd", optim__momentum=0.0, optim__weight_decay=0.0)
    train(vary(base, optim__lr=1e-12), folders, "start")
    start = last_weights(folders, "start")
    moved = {}
    for clip in (0.0, 0.01):
        train(vary(base, optim__lr=1.0, train__clip_grad=clip), folders, f"clip{clip}")
        end = last_weights(folders, f"clip{clip}")
        moved[clip] = float(sum((end[key] - start[key]).square().sum() for key in end) ** 0.5)
    assert moved[0.01] == pytest.approx(0.01, rel=1e-2)
    assert moved[0.0] > 0.02


def test_a_moving_average_is_what_is_validated_kept_and_resumed(folders: Path) -> None:
    config = vary(CONFIG, train__ema=0.9, train__epochs=3)
    whole, _ = train(config, folders, "whole")
    plain, _ = train(vary(config, train__ema=0.0), folders, "plain")
    assert torch.equal(
        last_weights(folders, "whole")["fc.weight"], last_weights(folders, "plain")["fc.weight"]
    )
    assert whole.weights_fingerprint != plain.weights_fingerprint
    with pytest.raises(Stop):
        train(config, folders, "cut", stop_after=2)
    resumed, _ = train(config, folders, "cut", resume=True)
    assert resumed.weights_fingerprint == whole.weights_fingerprint


def test_the_average_follows_its_formula() -> None:
    model = torch.nn.BatchNorm1d(1)
    average = AveragedModel(model)
    for count, decay, expected in ((1, 0.9, 1 + (1 - 2 / 11)), (1000, 0.9, 1.1), (0, 0.9, 2.0)):
        average.n_averaged.fill_(count)
        average.module.weight.data.fill_(1.0)
        model.weight.data.fill_(2.0)
        model.running_mean.fill_(3.0)
        update_average(average, model, decay)
        assert average.module.weight.item() == pytest.approx(expected)
        assert average.module.running_mean.item() == 3.0
        assert average.n_averaged.item() == count + 1


def test_patience_ends_a_run_that_does_not_get_better(folders: Path) -> None:
    config = replace(CONFIG, model=PLAIN)  # batch norms would learn even at this rate
    config = vary(
        config, train__epochs=30, train__patience=2, optim__lr=1e-12, train__monitor="val/accuracy"
    )
    result, logger = train(config, folders, "a")
    epochs = [step for step, values in logger.points if "val/f1" in values]
    assert result.best.epoch == 1
    assert epochs == [1, 2, 3]
    again, _ = train(config, folders, "a", resume=True)
    assert again.weights_fingerprint == result.weights_fingerprint


@pytest.mark.parametrize("kind", ["mixup", "cutmix"])
def test_mixing_changes_training_and_repeats(folders: Path, kind: str) -> None:
    config = vary(SHORT, **{f"augment__{kind}": 0.4})
    fingerprints = [
        train(config, folders, f"m{number}")[0].weights_fingerprint for number in range(2)
    ]
    assert fingerprints[0] == fingerprints[1] != train(SHORT, folders, "off")[0].weights_fingerprint
    mixer = build_mixer(config.augment, 3)
    assert mixer is not None
    images, shares = mixer(torch.rand(6, 3, 8, 8), torch.tensor([0, 1, 2, 0, 1, 2]))
    assert images.shape == (6, 3, 8, 8)
    torch.testing.assert_close(shares.sum(1), torch.ones(6))
    assert ((shares > 0).sum(1) == 2).any()
    assert build_mixer(AugmentConfig(), 3) is None


def test_every_loss_takes_shares_as_well_as_labels() -> None:
    logits, labels = (
        torch.randn(5, 3, generator=torch.Generator().manual_seed(1)),
        torch.tensor([0, 2, 1, 1, 0]),
    )
    shares = torch.eye(3)[labels]
    for name in ("cross_entropy", "focal", "label_smoothing", "f1"):
        loss = build_loss(LossConfig(name=name))
        torch.testing.assert_close(loss(logits, labels), loss(logits, shares))


def test_class_weights_weigh_the_images_of_a_class() -> None:
    logits, labels = (
        torch.randn(4, 2, generator=torch.Generator().manual_seed(1)),
        torch.tensor([0, 0, 0, 1]),
    )
    weights = torch.tensor([2 / 3, 2.0])
    for name in ("cross_entropy", "focal"):
        each = torch.stack(
            [
                build_loss(LossConfig(name=name))(logits[i : i + 1], labels[i : i + 1])
                for i in range(4)
            ]
        )
        expected = (each * weights[labels]).mean()
        torch.testing.assert_close(
            build_loss(LossConfig(name=name), weights=weights)(logits, labels), expected
        )
    with pytest.raises(ConfigError, match="f1 weighs the classes alike"):
        vary(CONFIG, loss__name="f1", loss__class_weights="balanced")


def test_balanced_class_weights_and_weighted_sampling_change_a_run_with_uneven_classes(
    folders: Path,
) -> None:
    for path in sorted((folders / "train" / "dog").iterdir())[4:]:
        path.unlink()
    short = SHORT
    found = [
        train(vary(short, **options), folders, f"w{number}")[0].weights_fingerprint
        for number, options in enumerate(
            [{}, {"loss__class_weights": "balanced"}, {"data__sampler": "weighted"}]
        )
    ]
    assert len(set(found)) == 3


@pytest.mark.parametrize(
    ("freeze", "trained"), [("body", ("fc.",)), ("layer1", ("conv1.", "layer2.", "fc."))]
)
def test_frozen_parts_stay_as_they_are_batch_norms_included(
    folders: Path, freeze: str, trained: tuple[str, ...]
) -> None:
    train(vary(SHORT, optim__lr=1e-12), folders, "start")
    train(vary(SHORT, model__freeze=freeze), folders, "frozen")
    start, end = last_weights(folders, "start"), last_weights(folders, "frozen")
    for key in end:
        if key.startswith(trained):
            assert not torch.equal(end[key], start[key]) or "num_batches" in key
        elif freeze == "body" or key.startswith("layer1."):
            if key.endswith("running_mean"):
                assert not end[key].any()
            elif key.endswith("weight"):
                torch.testing.assert_close(end[key], start[key], rtol=0, atol=1e-6)


def test_a_part_that_is_not_there_cannot_be_frozen() -> None:
    with pytest.raises(ConfigError, match="no part 'layer9'") as caught:
        build_model(
            ModelConfig(name="test_resnet", freeze="layer9"),
            num_classes=2,
            image_size=(32, 32),
            root=Path(),
        )
    assert "layer1" in caught.value.hint


def test_frozen_modules_are_in_evaluation_mode() -> None:
    model = build_model(
        ModelConfig(name="resnet10t", freeze="body"),
        num_classes=2,
        image_size=(32, 32),
        root=Path(),
    )
    train_mode(model)
    assert model.training
    assert not any(
        module.training for module in model.modules() if isinstance(module, torch.nn.BatchNorm2d)
    )


def test_layer_decay_lowers_the_rate_from_head_to_stem() -> None:
    model = build_model(PLAIN, num_classes=2, image_size=(32, 32), root=Path())
    optimizer = build_optimizer(model, OptimConfig(lr=1.0, layer_decay=0.5))
    rates = {id(p): group["lr"] for group in optimizer.param_groups for p in group["params"]}
    named = dict(model.named_parameters())
    assert rates[id(named["head.weight"])] == 1.0
    assert (
        rates[id(named["patch_embed.proj.weight"])]
        < rates[id(named["blocks.0.attn.qkv.weight"])]
        < 1.0
    )
    plain = build_optimizer(model, OptimConfig(lr=1.0))
    assert [group["lr"] for group in plain.param_groups] == [1.0]


@pytest.mark.parametrize("name", ["lion", "muon", "adan", "lamb"])
def test_an_optimizer_of_timm_trains_and_resumes_to_the_bit(folders: Path, name: str) -> None:
    config = vary(replace(CONFIG, model=PLAIN), optim__name=name, train__epochs=2)
    whole, _ = train(config, folders, "whole")
    plain, _ = train(vary(config, optim__name="adamw"), folders, "plain")
    with pytest.raises(Stop):
        train(config, folders, "cut", stop_after=1)
    resumed, _ = train(config, folders, "cut", resume=True)
    assert resumed.weights_fingerprint == whole.weights_fingerprint != plain.weights_fingerprint


def test_an_optimizer_of_timm_gets_rate_momentum_and_layer_decay() -> None:
    model = build_model(PLAIN, num_classes=2, image_size=(32, 32), root=Path())
    config = OptimConfig(name="nesterov", lr=0.5, momentum=0.7, weight_decay=0.1, layer_decay=0.5)
    assert type(build_optimizer(model, replace(config, name="lion"))).__name__ == "Lion"
    optimizer = build_optimizer(model, config)
    rates = {id(p): group["lr"] for group in optimizer.param_groups for p in group["params"]}
    decays = {
        id(p): group["weight_decay"] for group in optimizer.param_groups for p in group["params"]
    }
    named = dict(model.named_parameters())
    assert rates.keys() == {id(parameter) for parameter in named.values()}
    assert rates[id(named["head.weight"])] == 0.5
    assert rates[id(named["blocks.0.attn.qkv.weight"])] < 0.5
    assert {group["momentum"] for group in optimizer.param_groups} == {0.7}
    assert decays[id(named["head.weight"])] == 0.1
    assert decays[id(named["head.bias"])] == 0.0


def test_an_unknown_optimizer_is_refused_with_the_nearest_name() -> None:
    with pytest.raises(ConfigError) as caught:
        vary(CONFIG, optim__name="lionn")
    assert "(nearest: lion)" in str(caught.value.problems)
    assert "timm.optim.list_optimizers()" in str(caught.value.problems)
    assert vary(CONFIG, optim__name="lion").optim.name == "lion"


@pytest.mark.parametrize("name", ["adahessian", "bnblion"])
def test_an_optimizer_that_cannot_be_used_is_refused_before_a_run_is_made(name: str) -> None:
    if name == "bnblion" and torch.cuda.is_available():
        pytest.skip("it can be used on a GPU")
    with pytest.raises(ConfigError, match=rf"optim\.name: {name} cannot be used here"):
        check_optimizer(OptimConfig(name=name))
    check_optimizer(OptimConfig(name="lion"))


@pytest.mark.parametrize("name", ["test_vit", "test_resnet"])
def test_gradient_checkpointing_keeps_fewer_activations_and_the_same_losses(
    folders: Path, name: str
) -> None:
    config = vary(SHORT, model__name=name)
    kept, losses = {}, {}
    for checkpointing in (False, True):
        options = vary(config, model__grad_checkpointing=checkpointing)
        _, logger = train(options, folders, f"{name}-{checkpointing}")
        losses[checkpointing] = [
            values["train/batch_loss"]
            for _, values in logger.points
            if "train/batch_loss" in values
        ]
        model = build_model(options.model, num_classes=2, image_size=(32, 32), root=Path())
        saved: list[int] = []
        with torch.autograd.graph.saved_tensors_hooks(
            lambda tensor, saved=saved: saved.append(tensor.numel()) or tensor,
            lambda tensor: tensor,
        ):
            model(torch.rand(4, 3, 32, 32))
        kept[checkpointing] = sum(saved)
    assert losses[True] == pytest.approx(losses[False], abs=1e-5)
    assert kept[True] < kept[False]


def test_a_model_without_gradient_checkpointing_is_refused_before_a_run_is_made() -> None:
    config = ModelConfig(name="vgg11", grad_checkpointing=True)
    with pytest.raises(ConfigError, match=r"model\.grad_checkpointing: vgg11 does not have it"):
        check_model(config, root=Path())
    check_model(replace(config, name="test_vit"), root=Path())


def test_attribute_heads_give_the_product_of_the_attributes() -> None:
    config = ModelConfig(name="test_resnet", heads="attributes")
    model = build_model(config, num_classes=18, image_size=(32, 32), root=Path())
    assert isinstance(model, AttributeHeads)
    images = torch.rand(2, 3, 32, 32)
    parts = [torch.softmax(part, 1) for part in model.body(images).split((3, 2, 3), dim=1)]
    together = torch.softmax(model(images), 1)
    assert together.shape == (2, 18)
    for mask, gender, age in itertools.product(range(3), range(2), range(3)):
        expected = parts[0][:, mask] * parts[1][:, gender] * parts[2][:, age]
        torch.testing.assert_close(together[:, mask * 6 + gender * 3 + age], expected)
    with pytest.raises(ConfigError, match="18 classes, not 2"):
        build_model(config, num_classes=2, image_size=(32, 32), root=Path())


def test_a_random_stop_at_any_step_resumes_to_the_bit(folders: Path) -> None:
    config = vary(CONFIG, model__drop_path=0.2, train__ema=0.9, augment__mixup=0.3, train__epochs=3)
    config = vary(config, augment__name="custom", augment__crop=[20, 16])
    whole, logged = train(config, folders, "whole")
    steps = [step for step, values in logged.points if "train/batch_loss" in values]
    for number, step in enumerate(np.random.default_rng().choice(steps, 2, replace=False)):
        with pytest.raises(Stop):
            train(config, folders, f"cut{number}", stop_at_step=int(step))
        resumed, _ = train(config, folders, f"cut{number}", resume=True)
        assert resumed.weights_fingerprint == whole.weights_fingerprint, f"stopped at step {step}"


CLOCKS = ("train/images_per_s", "train/data_wait")


def drop_clocks(points: list[tuple[int, dict[str, float]]]) -> list[tuple[int, dict[str, float]]]:
    return [
        (step, {name: value for name, value in values.items() if name not in CLOCKS})
        for step, values in points
    ]


def test_a_run_that_saved_within_epochs_goes_on_from_there_to_the_bit(folders: Path) -> None:
    config = vary(CONFIG, model__drop_path=0.2, train__ema=0.9, augment__mixup=0.3, train__epochs=3)
    config = vary(config, train__batch_size=4, train__accumulate=2, train__log_every=2)
    whole, logged = train(config, folders, "whole")
    parts = []
    for step in (2, 6):  # in the first epoch, where nothing is best, and at the end of the second
        with pytest.raises(Stop):
            train(config, folders, "cut", save_at_step=step, resume=step > 2)
        state = load_checkpoint(folders / "cut" / "last.pth")
        parts.append((state["epoch"], state["part"]["batches"]))
    resumed, _ = train(config, folders, "cut", resume=True)
    assert resumed.weights_fingerprint == whole.weights_fingerprint
    assert parts == [(0, 4), (1, 5)]
    assert "part" not in load_checkpoint(folders / "cut" / "last.pth")
    saved, again = train(config, folders, "saved", save_at_step=2, leaves=False)
    assert saved.weights_fingerprint == whole.weights_fingerprint
    assert drop_clocks(again.points) == drop_clocks(logged.points)


def test_what_an_epoch_added_up_before_a_save_counts_after_it(folders: Path) -> None:
    config = vary(SHORT, train__batch_size=4, train__log_every=2)
    whole, logged = train(config, folders, "whole")
    with pytest.raises(Stop):
        train(config, folders, "cut", save_at_step=2)
    resumed, rest = train(config, folders, "cut", resume=True)
    assert resumed.best.metrics["train/loss"] == whole.best.metrics["train/loss"]
    assert drop_clocks(rest.points) == drop_clocks(logged.points)[1:]


@pytest.mark.usefixtures("forked_workers")
@pytest.mark.parametrize("strategy", ["ddp", "fsdp"])
def test_two_processes_save_within_an_epoch_and_go_on_to_the_bit(
    folders: Path, strategy: str
) -> None:
    config = vary(replace(SHORT, model=PLAIN), model__drop_path=0.2)
    config = vary(config, train__batch_size=4, train__devices=2, train__strategy=strategy)
    whole, _ = train(config, folders, "whole")
    with pytest.raises(Stop):
        train(config, folders, "cut", save_at_step=2)
    state = load_checkpoint(folders / "cut" / "last.pth")
    assert (state["epoch"], len(state["part"]["random"])) == (0, 2)
    resumed, _ = train(config, folders, "cut", resume=True)
    assert resumed.weights_fingerprint == whole.weights_fingerprint


def test_compiled_models_train_alike(folders: Path) -> None:
    config = replace(SHORT, model=PLAIN)
    plain, _ = train(config, folders, "plain")
    with torch.compiler.set_stance(
        "force_eager"
    ):  # the kernels are torch's own concern, and take a minute to build
        compiled, _ = train(vary(config, train__compile=True), folders, "compiled")
    assert compiled.best.metrics["train/loss"] == pytest.approx(
        plain.best.metrics["train/loss"], rel=1e-3
    )
    assert set(last_weights(folders, "plain")) == set(last_weights(folders, "compiled"))


@pytest.mark.parametrize(
    ("loss", "strategy"), [("cross_entropy", "ddp"), ("f1", "ddp"), ("f1", "fsdp")]
)
def test_two_processes_give_what_one_gives(
    folders: Path, loss: str, strategy: str, request: pytest.FixtureRequest
) -> None:
    if loss == "f1":  # the other starts an interpreter, as runs do
        request.getfixturevalue("forked_workers")
    # 21 training images in batches of 8 and 3 validation images: neither divides evenly
    config = vary(replace(CONFIG, model=PLAIN), data__split="by_image", data__val_ratio=0.12)
    # SGD leaves rounding as small as it is; Adam's first steps are of one size, also where a
    # gradient is only rounding
    config = vary(config, loss__name=loss, train__epochs=2, optim__name="sgd", optim__lr=0.05)
    _, logged_one = train(config, folders, "one")
    _, logged_two = train(vary(config, train__devices=2, train__strategy=strategy), folders, "two")
    assert logged_two.facts["processes"] == 2
    for (step, values), (step_two, values_two) in zip(
        logged_one.points, logged_two.points, strict=True
    ):
        assert step == step_two
        for each in (values, values_two):
            for clock in ("train/images_per_s", "train/data_wait"):
                each.pop(clock, None)
        assert values_two == pytest.approx(values, rel=1e-3, abs=1e-5)
    first, second = (
        load_probabilities(folders / name / "validation.npz") for name in ("one", "two")
    )
    assert first.ids == second.ids
    np.testing.assert_allclose(second.probabilities, first.probabilities, atol=1e-3)
    assert sorted(path.name for path in (folders / "two").iterdir()) == sorted(
        path.name for path in (folders / "one").iterdir()
    )


@pytest.mark.usefixtures("forked_workers")
def test_a_sharded_run_resumes_to_the_bit(folders: Path) -> None:
    config = vary(
        replace(CONFIG, model=PLAIN), train__epochs=2, train__devices=2, train__strategy="fsdp"
    )
    whole, _ = train(config, folders, "whole")
    with pytest.raises(Stop):
        train(config, folders, "cut", stop_after=1)
    resumed, _ = train(config, folders, "cut", resume=True)
    assert resumed.weights_fingerprint == whole.weights_fingerprint


def test_tta_averages_the_views(folders: Path) -> None:
    found = {}
    for tta in ("none", "flip", "crops", "crops_flip"):
        train(vary(SHORT, eval__tta=tta), folders, tta)
        found[tta] = load_probabilities(folders / tta / "probabilities.npz")
        np.testing.assert_allclose(found[tta].probabilities.sum(1), 1, atol=1e-5)
    fingerprints = {predictions.probabilities.tobytes() for predictions in found.values()}
    assert len(fingerprints) == 4


def record_batches(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, ...]]:
    """The shapes of the batches that the model is shown without training, in order."""
    shapes: list[tuple[int, ...]] = []

    def list_views(batch: torch.Tensor, tta: str) -> Any:
        shapes.append(tuple(batch.shape))
        return original(batch, tta)

    original = predict._list_views
    monkeypatch.setattr(predict, "_list_views", list_views)
    return shapes


def test_the_model_sees_the_image_size_and_the_batch_sizes_of_the_config(
    folders: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shapes = record_batches(monkeypatch)
    sizes = {"train__eval_batch_size": 3, "eval__batch_size": 4}
    small, logged = train(vary(SHORT, data__image_size=[32, 48], **sizes), folders, "small")
    assert shapes == [
        (3, 3, 32, 48),
        (1, 3, 32, 48),
        (4, 3, 32, 48),
        (2, 3, 32, 48),
    ]  # 4 validate, 6 are predicted
    shapes.clear()
    whole, logged_whole = train(vary(SHORT, data__image_size=[32, 48]), folders, "whole")
    assert shapes == [(4, 3, 32, 48), (6, 3, 32, 48)]
    assert small.weights_fingerprint == whole.weights_fingerprint
    losses = [log.points[-1][1]["val/loss"] for log in (logged, logged_whole)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)


def test_the_eval_section_changes_predictions_and_not_the_weights(folders: Path) -> None:
    plain, _ = train(SHORT, folders, "plain")
    found = [load_probabilities(folders / "plain" / "probabilities.npz").probabilities.tobytes()]
    for name, options in {
        "crop": {"eval__center_crop": [12, 12]},
        "jitter": {"eval__color_jitter": 0.3},
    }.items():
        result, _ = train(vary(SHORT, **options), folders, name)
        assert result.weights_fingerprint == plain.weights_fingerprint
        found.append(
            load_probabilities(folders / name / "probabilities.npz").probabilities.tobytes()
        )
    assert len(set(found)) == 3


@pytest.mark.parametrize("every", [1, 2])
def test_log_every_is_the_distance_of_two_points(folders: Path, every: int) -> None:
    _, logger = train(vary(SHORT, train__log_every=every, train__epochs=2), folders, "a")
    steps = [step for step, values in logger.points if "train/batch_loss" in values]
    assert steps == list(range(every, 7, every))


@pytest.mark.parametrize("deterministic", [True, False])
def test_deterministic_asks_torch_for_it(folders: Path, deterministic: bool) -> None:
    try:
        train(vary(SHORT, train__deterministic=deterministic), folders, "a")
        assert torch.are_deterministic_algorithms_enabled() is deterministic
    finally:
        torch.use_deterministic_algorithms(False)


def test_labels_may_be_in_a_csv_elsewhere(folders: Path) -> None:
    (folders / "own.csv").write_text(
        "ImageID,ans\ncat/cat00.png,dog\ncat/cat01.png,cat\ndog/dog00.png,cat\n"
    )
    config = vary(SHORT, data__format="csv", data__labels="own.csv", data__val_ratio=0.34)
    data = load_data(config.data, TWO, root=folders)
    labels = {sample.id: sample.label for sample in (*data.train, *data.val)}
    assert labels == {"cat/cat00.png": 1, "cat/cat01.png": 0, "dog/dog00.png": 0}


def test_several_machines_need_torchrun(folders: Path) -> None:
    with pytest.raises(
        ConfigError, match=r"train.num_nodes: several machines need torchrun"
    ) as caught:
        train(vary(SHORT, train__num_nodes=2), folders, "a")
    assert caught.value.reason == "torchrun needed"
    assert caught.value.facts == {"machines": 2, "processes": 1}
