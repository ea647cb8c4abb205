"""The configuration of a run: typed, frozen, every field with a sentence.

config_reading.py makes one of what people wrote. What makes two configs the same is in
config_fingerprint.py.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import re
import types
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from tracker.training.errors import find_nearest
from tracker.training.formats import FORMATS, by_format
from tracker.training.reading import key

T = TypeVar("T")
OF_MODEL = "model"  # the value of a key that takes what timm's model was trained with
MEASURED = "measured"
CROP_KEYS = ("crop_pct", "crop_mode", "interpolation")  # of FITTED, in section augment
AUTOMATIC = ("auto", "strong")  # values of augment.name with operations of torchvision
# Values that train on random crops, and those that fit an image to the model as timm does.
CROPPED = ("standard", *AUTOMATIC)
FITTED = ("base", *CROPPED)
PIPELINE_SUFFIXES = (".yaml", ".yml", ".json")
AUTO, AUTO_BATCH_SIZE = "auto", 0  # train.batch_size as people write it, and as the config has it
OPTIMIZERS = ("adamw", "adam", "sgd")  # torch's own; timm has the others
TABLE_KEYS = (
    "data.label_fixes",
    "data.exclude",
    "data.fold_file",
)  # their content is in the data fingerprint


def parse_monitor(raw: Any) -> str:
    """The name of a validation figure; raises ValueError."""
    if not isinstance(raw, str) or not re.fullmatch(r"val/\S+", raw):
        raise ValueError
    return raw


def parse_batch_size(raw: Any) -> int:
    """A number of images, or AUTO_BATCH_SIZE for "auto"; raises ValueError."""
    if raw == AUTO:
        return AUTO_BATCH_SIZE
    if type(raw) is not int or raw < AUTO_BATCH_SIZE:
        raise ValueError
    return raw


def parse_optimizer(raw: Any) -> str:
    """One of OPTIMIZERS or of timm's names; raises ValueError with the nearest.

    timm is asked only where it must be, because that loads torch.
    """
    if raw in OPTIMIZERS:
        return str(raw)
    expected = "adamw, adam, sgd or another name of timm.optim.list_optimizers()"
    if not isinstance(raw, str):
        raise ValueError(expected)
    try:
        from timm.optim import list_optimizers
    except ImportError:  # this machine reads what others train
        return raw
    known = list_optimizers()
    if raw not in known:
        raise ValueError(expected, find_nearest(raw, known))
    return raw


def option(
    default: T,
    doc: str,
    *,
    choices: Sequence[str] = (),
    files: Sequence[str] = (),
    low: float | None = None,
    high: float | None = None,
    outcome: bool = True,
    place: bool = False,
    rounding: bool = False,
    by_format: Mapping[str, Any] | None = None,
    later: bool = False,
    parse: Callable[[Any], Any] | None = None,
    expected: str = "",
) -> T:
    """One field of the config, with its help sentence and its limits.

    `outcome=False` marks a key that cannot change the result. Neither can `place`, a folder or file
    whose content the data fingerprint covers, wherever it lies, nor `rounding`: how the work is
    divided among devices, which moves no more than the last bits of a number.

    With `files`, a path that ends in one of these suffixes is as good as a choice. `by_format` is
    what a new run takes by its data.format (see `format_defaults`). `later=True` marks a key that
    runs made before do not have: its default means what they did, and is left out of fingerprints
    and comparisons.
    """
    return key(
        default,
        doc,
        choices=tuple(choices),
        files=tuple(files),
        parse=parse,
        expected=expected,
        low=low,
        high=high,
        outcome=outcome and not place and not rounding,
        place=place,
        rounding=rounding,
        by_format=by_format or {},
        later=later,
    )


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """Where the images are and how they are split."""

    format: str = option("image_folder", "Layout of the training images.", choices=tuple(FORMATS))
    train_dir: str = option(
        "", "Folder of the training images; in a file relative to the workspace.", place=True
    )
    eval_dir: str = option(
        "",
        "Folder with the images to predict, and info.csv unless data.sample lists them; empty: no"
        " predictions.",
        place=True,
    )
    labels: str = option(
        "", "Table of labels for format csv; empty: labels.csv in train_dir.", place=True
    )
    sample: str = option(
        "",
        "Sample submission: its ids are predicted, in its order; empty: data.eval_table, info.csv"
        " in eval_dir, or all images there.",
        place=True,
        later=True,
    )
    eval_table: str = option(
        "",
        "Table of the images to predict, where it says more than the sample: the file name of an id"
        " in data.name_column.",
        place=True,
        later=True,
    )
    label_id: str = option(
        "",
        "Column of data.labels with the id; empty: competition.id_column.",
        outcome=False,
        later=True,
    )
    label_columns: tuple[str, ...] = option(
        (),
        "Column of data.labels with the label; several: a column of 0 and 1 for each class. Empty:"
        " competition.label_column.",
        outcome=False,
        later=True,
    )
    name_column: str = option(
        "",
        "Column of data.labels and data.eval_table with the file name or path, where the id is"
        " none.",
        outcome=False,
        later=True,
    )
    image_table: str = option(
        "",
        "Table with the file name (data.name_column) of each id in data.labels, where that has"
        " none.",
        place=True,
        later=True,
    )
    image_id: str = option(
        "",
        "Column with the ids in data.image_table and data.eval_table, where its name differs.",
        outcome=False,
        later=True,
    )
    ending: str = option(
        "",
        'What an image\'s file name has after the id, as in ".jpg"; ".*" where images have several'
        " endings.",
        outcome=False,
        later=True,
    )
    group: str = option(
        "",
        "Column of data.labels or data.image_table whose value a split never divides, as a patient;"
        " empty: none.",
        later=True,
    )
    split: str = option(
        "by_image",
        "Unit of the validation split: people (by_profile), images (by_image), images with the same"
        " share of each class (stratified), groups (by_group), or groups with about that share"
        " (stratified_group). With data.group no value divides a group.",
        choices=("by_profile", "by_image", "stratified", "by_group", "stratified_group"),
        by_format=by_format("data.split"),
    )
    val_ratio: float = option(
        0.2, "Share of the training data held out for validation.", low=0.01, high=0.9
    )
    split_seed: int = option(
        42,
        "Seed of the split. Runs with another train.seed still validate on the same images, so they"
        " can be compared.",
        low=0,
    )
    age_bands: tuple[int, int] = option(
        (30, 60), "Ages at which the middle and the old class begin (format mask_profiles)."
    )
    folds: int = option(
        0, "Parts for cross-validation, each validated on by one run; 0: val_ratio instead.", low=0
    )
    fold: int = option(0, "The part that this run validates on, counted from 0.", low=0)
    fold_file: str = option(
        "",
        "CSV of id,fold that takes the place of data.split; fold -1: never validated on. Empty:"
        " none.",
        later=True,
    )
    label_fixes: str = option(
        "", "CSV of corrections: id,field,value; see docs, Data. Empty: none."
    )
    exclude: str = option(
        "",
        "Training images to exclude: glob patterns or CSVs of paths, separated by commas; see"
        " docs, Data.",
        later=True,
    )
    undersample: tuple[int, int, float] | tuple[()] = option(
        (),
        "First age, last age, share: train on that share of these people only (format"
        " mask_profiles). Empty: on all.",
    )
    image_size: tuple[int, int] = option(
        (224, 224), "Height and width fed to the model; one number: both.", low=8
    )
    mean: tuple[float, float, float] | str = option(
        (0.548, 0.504, 0.479),
        'Mean of the channels R, G, B in 0..1. "model": as timm\'s model was trained;'
        ' "measured": from the training images.',
        by_format=by_format("data.mean"),
    )
    std: tuple[float, float, float] | str = option(
        (0.237, 0.247, 0.246),
        'Standard deviation of R, G, B in 0..1, "model" or "measured".',
        low=1e-6,
        by_format=by_format("data.std"),
    )
    sampler: str = option(
        "shuffle",
        "shuffle: each image once per epoch. weighted: drawn with replacement, each class equally"
        " often.",
        choices=("shuffle", "weighted"),
    )
    workers: int = option(
        -1,
        "Loader processes, in training and on GPUs; -1: cores - 1, 4 at most. Predictions on a CPU"
        " are read by the threads that make them.",
        low=-1,
        outcome=False,
    )
    decode: str = option(
        "full",
        "full: every pixel of a photograph. reduced: a JPEG is made smaller while it is decoded, by"
        " 2, 4 or 8, as long as it stays twice as large as its resize or crop needs. New workspaces"
        " take reduced.",
        choices=("full", "reduced"),
        later=True,
    )
    cache: bool = option(
        True,
        "Keep decoded, cropped and resized images on disk for later epochs and runs.",
        outcome=False,
    )


@dataclass(frozen=True, kw_only=True)
class AugmentConfig:
    """How an image is changed before the model sees it."""

    name: str = option(
        "base",
        "base: resize and normalize. standard: the same, but in training a random resized crop and"
        " a random flip, as torchvision and timm train. auto: then one operation of TrivialAugment."
        " strong: then two of RandAugment, and random erasing. custom: center crop, resize, color"
        " jitter, normalize. Or the path of an albumentations pipeline (.yaml, .json); relative to"
        " the workspace.",
        choices=(*FITTED, "custom"),
        files=PIPELINE_SUFFIXES,
    )
    file_sha256: str = option("", "SHA-256 of the pipeline file; filled in when a run is started.")
    crop: tuple[int, int] = option(
        (320, 256), "Height and width of the center crop of custom.", low=1
    )
    crop_pct: float | str = option(
        1.0,
        "Share of the side that the center crop of base keeps, and of standard, auto and strong"
        ' outside of training. "model", the default where data.mean is "model": as timm\'s model'
        " was trained.",
        low=0.1,
        high=1,
        later=True,
    )
    crop_mode: str = option(
        "squash",
        "How base resizes. center: keep the aspect ratio and crop the longer side; squash: resize"
        " each side on its own; model: as for crop_pct.",
        choices=("center", "squash", "model"),
        later=True,
    )
    interpolation: str = option(
        "area",
        "Resize filter of base; model: as for crop_pct.",
        choices=("area", "bilinear", "bicubic", "model"),
        later=True,
    )
    scale: float = option(
        0.08,
        "Smallest share of the image's area in a random crop of standard, auto and strong.",
        low=0.01,
        high=1,
        later=True,
    )
    ratio: float = option(
        4 / 3,
        "Largest ratio of the longer to the shorter side of that crop.",
        low=1,
        high=10,
        later=True,
    )
    flip: float = option(
        0.5,
        "Share of the training images that standard, auto and strong mirror, left to right.",
        low=0,
        high=1,
        later=True,
    )
    jitter: float = option(
        0.1, "Strength of brightness, contrast, saturation and hue of custom.", low=0, high=0.5
    )
    jitter_mode: str = option(
        "hsv",
        "hsv: albumentations' ColorJitter. fast: the same random factors as one matrix, with the"
        " hue rotated in YIQ and no clipping at black and white.",
        choices=("hsv", "fast"),
    )
    noise: float = option(
        0.0,
        "Standard deviation of Gaussian noise added after normalization, in training; 0: none.",
        low=0,
    )
    mixup: float = option(0.0, "Alpha of mixup's Beta distribution; 0: off.", low=0)
    cutmix: float = option(
        0.0, "Alpha of cutmix's Beta distribution; 0: off. With mixup, a batch gets either.", low=0
    )


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """The network."""

    name: str = option("resnet18", "Any timm model name.")
    pretrained: bool | str = option(
        False, "true: timm's hub; a path: local weights; false: random."
    )
    drop_path: float = option(
        0.0, "Stochastic depth rate, for models that have it.", low=0, high=0.99
    )
    freeze: str = option(
        "",
        "Parts that are not trained, separated by commas: stem,layer1. body: all but the head."
        " Empty: none.",
    )
    heads: str = option(
        "joint",
        "joint: one output a class. attributes: outputs for mask, gender and age, joined to the 18"
        " mask classes.",
        choices=("joint", "attributes"),
    )
    grad_checkpointing: bool = option(
        False,
        "Compute activations again in the backward pass instead of keeping them: less memory,"
        " slower steps, the same training losses.",
        later=True,
    )


@dataclass(frozen=True, kw_only=True)
class LossConfig:
    """The training loss."""

    name: str = option(
        "cross_entropy",
        "Training loss. One class an image: the first four; several labels: bce, asymmetric, focal;"
        " a number: smooth_l1, mse.",
        choices=(
            *("cross_entropy", "focal", "label_smoothing", "f1"),
            *("bce", "asymmetric", "smooth_l1", "mse"),
        ),
    )
    gamma: float = option(2.0, "Focusing parameter of focal.", low=0)
    smoothing: float = option(
        0.1, "Mass taken from the true class by label_smoothing.", low=0, high=0.99
    )
    class_weights: str = option(
        "none",
        "balanced: images of rare classes count more. For cross_entropy, label_smoothing, focal of"
        " one class, and bce.",
        choices=("none", "balanced"),
    )


@dataclass(frozen=True, kw_only=True)
class OptimConfig:
    """The optimizer."""

    name: str = option(
        "adamw",
        "Optimizer: adamw, adam, sgd, or any other of timm's, such as lion, muon, adan, lamb.",
        parse=parse_optimizer,
    )
    lr: float = option(1e-3, "Peak learning rate.", low=1e-12)
    weight_decay: float = option(0.01, "Weight decay.", low=0)
    momentum: float = option(
        0.9, "Momentum of sgd and of timm's optimizers that have one.", low=0, high=0.9999
    )
    layer_decay: float = option(
        1.0, "Factor of the learning rate from each layer to the one before it.", low=0.01, high=1
    )


@dataclass(frozen=True, kw_only=True)
class SchedConfig:
    """The learning-rate schedule, stepped every batch."""

    name: str = option("cosine", "Learning-rate schedule.", choices=("step", "cosine", "constant"))
    decay_step: int = option(20, "Epochs between two decays of step.", low=1)
    decay_rate: float = option(0.5, "Factor of each decay of step.", low=0, high=1)
    warmup_epochs: float = option(0.0, "Epochs of linear warm-up from zero.", low=0)


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """The loop."""

    epochs: int = option(10, "Passes over the training data.", low=1)
    batch_size: int = option(
        32,
        'Images per forward pass, over all processes. "auto" (or 0): the largest power of two that'
        " the GPU holds and that leaves 8 batches an epoch; 32 on a CPU. The run's config has the"
        " number.",
        parse=parse_batch_size,
        expected='a whole number of at least 1, or "auto"',
    )
    accumulate: int = option(1, "Batches per optimizer step.", low=1)
    clip_grad: float = option(0.0, "Largest gradient norm; 0: no clipping.", low=0)
    ema: float = option(
        0.0,
        "Decay of a moving average of the weights, which is validated and saved; 0: off.",
        low=0,
        high=0.99999,
    )
    patience: int = option(
        0,
        "Training stops after this number of epochs without a better train.monitor; 0: never.",
        low=0,
    )
    eval_batch_size: int = option(
        64, "Images per validation batch; on a CPU, of all threads together.", low=1
    )
    precision: str = option(
        "auto",
        "Number format of the forward pass. auto: of 16 bits on a GPU; on a CPU bf16-mixed where it"
        " has bfloat16 and a few measured steps are at least 1.25 times quicker, else 32-true.",
        choices=("auto", "32-true", "bf16-mixed", "16-mixed"),
    )
    accelerator: str = option(
        "auto", "Device kind.", choices=("auto", "cpu", "cuda", "mps"), rounding=True
    )
    devices: int = option(
        1,
        "Processes on this machine, each with a device; on a CPU, each with its share of cores.",
        low=1,
        rounding=True,
    )
    num_nodes: int = option(
        1, "Machines; each runs the command under torchrun.", low=1, rounding=True
    )
    strategy: str = option(
        "ddp",
        "With several processes. ddp: each has the whole model. fsdp: each keeps a part of weights"
        " and optimizer.",
        choices=("ddp", "fsdp"),
        rounding=True,
    )
    compile: bool = option(
        False, "Compile the model with torch.compile: a slow start, sometimes faster steps."
    )
    monitor: str = option(
        "val/f1",
        "Metric that chooses best.pth: val/loss, val/f1, val/accuracy, or val/ and a metric of the"
        " competition.",
        parse=parse_monitor,
        expected="val/ and the name of a metric",
    )
    seed: int = option(42, "Seed of order, augmentation and initial weights.", low=0)
    deterministic: bool = option(True, "Use only algorithms with bit-exact results.")
    log_every: int = option(
        10, "Optimizer steps between two points of train/loss.", low=1, outcome=False
    )


@dataclass(frozen=True, kw_only=True)
class EvalConfig:
    """Prediction on the evaluation set."""

    batch_size: int = option(
        64, "Images per prediction batch; on a CPU, of all threads together.", low=1
    )
    tta: str = option(
        "none",
        "Views averaged for each image: flip adds the mirrored image; crops takes five crops of the"
        " image enlarged by an eighth.",
        choices=("none", "flip", "crops", "crops_flip"),
    )
    center_crop: tuple[int, int] | tuple[()] = option(
        (), "Height and width of a center crop in place of augment.crop; []: as in training.", low=1
    )
    color_jitter: float = option(
        0.0,
        "Strength of a color jitter drawn from (train.seed, position); 0: none.",
        low=0,
        high=0.5,
    )

    decide: str = option(
        "plain",
        "How probabilities become answers. plain: the most probable class, or the classes above"
        " eval.threshold. expected: of ordered classes the expected one. tuned: thresholds or cut"
        " points that are best for the deciding metric on the validation images.",
        choices=("plain", "expected", "tuned"),
        later=True,
    )
    threshold: float = option(
        0.5,
        "Probability from which an image has a class, where it may have several, and from which it"
        " is the second of two.",
        low=0,
        high=1,
        later=True,
    )


@dataclass(frozen=True, kw_only=True)
class Config:
    """Everything that decides a run."""

    data: DataConfig = DataConfig()
    augment: AugmentConfig = AugmentConfig()
    model: ModelConfig = ModelConfig()
    loss: LossConfig = LossConfig()
    optim: OptimConfig = OptimConfig()
    sched: SchedConfig = SchedConfig()
    train: TrainConfig = TrainConfig()
    eval: EvalConfig = EvalConfig()


SECTIONS: dict[str, Any] = {
    f.name: type(getattr(Config(), f.name)) for f in dataclasses.fields(Config)
}


def locate(root: Path, path: str) -> Path:
    """A path of a config, relative to the workspace `root`.

    `../photos` becomes the folder beside the workspace, without `..` in the path.
    """
    wanted = Path(path).expanduser()
    while wanted.parts[:1] == ("..",):
        root, wanted = root.resolve().parent, Path(*wanted.parts[1:])
    return root / wanted


@functools.cache
def list_options() -> Mapping[str, dataclasses.Field[Any]]:
    """Every option by its dotted key, in order."""
    found = {
        f"{section}.{f.name}": f
        for section, cls in SECTIONS.items()
        for f in dataclasses.fields(cls)
    }
    return types.MappingProxyType(found)  # made once: it is asked for each key of each run


def format_defaults(values: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """The defaults of a new run that depend on the data.format in `values`, as nested tables.

    They are no defaults of the dataclasses: a config that was written before and lacks the key
    keeps its meaning.
    """
    data = values.get("data")
    given = data.get("format") if isinstance(data, Mapping) else None
    data_format = given if isinstance(given, str) else Config().data.format
    found: dict[str, dict[str, Any]] = {}
    for name, known in list_options().items():
        section, _, key = name.partition(".")
        if data_format in known.metadata["by_format"]:
            found.setdefault(section, {})[key] = known.metadata["by_format"][data_format]
    return merge(found, crop_defaults(merge(found, values)))


def crop_defaults(values: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """The defaults of a new run that depend on data.mean, as nested tables.

    With data.mean "model", base also crops and resizes as the model was trained.
    """
    data = values.get("data")
    follows = isinstance(data, Mapping) and data.get("mean") == OF_MODEL
    return {"augment": dict.fromkeys(CROP_KEYS, OF_MODEL)} if follows else {}


def merge(*layers: Mapping[str, Any]) -> dict[str, Any]:
    """Later layers win, key by key inside each section."""
    merged: dict[str, Any] = {}
    for layer in layers:
        for section, table in layer.items():
            if isinstance(table, Mapping) and isinstance(merged.get(section), dict):
                merged[section].update(table)
            else:
                merged[section] = dict(table) if isinstance(table, Mapping) else table
    return merged


def config_to_dict(config: Config) -> dict[str, dict[str, Any]]:
    """Nested tables of plain values, every field present; the inverse of config_from_dict."""
    plain: dict[str, dict[str, Any]] = json.loads(json.dumps(dataclasses.asdict(config)))
    return plain
