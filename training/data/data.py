"""List, check and split the images; everything is checked before training.

`load_data` returns plain data, or raises one DataError that lists every offender; `inspect_data`
returns both.
"""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tracker.training.config import DataConfig, locate
from tracker.training.data.balance import count_classes, describe_balance
from tracker.training.data.exclude import CSV, Exclude, split_entries
from tracker.training.data.fold_file import FoldFile
from tracker.training.data.listing import RealPaths, name_clutter, name_note, scan, walk
from tracker.training.data.split import split_samples
from tracker.training.data.to_predict import is_listed, list_ids, list_images
from tracker.training.errors import DataError
from tracker.training.files import check_regular, translate_os_errors, write_bytes
from tracker.training.formats import FORMATS
from tracker.training.formats.format import IMAGE_SUFFIXES, TrainingFolder, split_suffix
from tracker.training.formats.images import ImageChecks, check_images
from tracker.training.formats.label_fixes import LabelFixes
from tracker.training.formats.samples import (
    DataReport,
    EvalImage,
    LabelValues,
    LoadedData,
    Sample,
    Task,
)
from tracker.training.formats.table_rows import add_strata
from tracker.training.numbers import render_count
from tracker.training.tables import read_table
from tracker.training.targets import TARGETS

NAMED = 5  # images that a sentence names


@dataclass
class Findings:
    """What is found while the folders are read.

    `problems` has a line for each problem, `broken` the reason for each unusable training image.
    `ignored` counts files beside the images by their kind; `unlabeled` are images without a row in
    the table of labels.
    """

    exclude: Exclude
    problems: list[str] = field(default_factory=list)
    broken: dict[str, str] = field(default_factory=dict)
    ignored: Counter[str] = field(default_factory=Counter)
    unlabeled: list[str] = field(default_factory=list)

    def add_problem(self, name: str, place: Path | str, reason: str) -> None:
        """Add a problem of a training image or folder, unless data.exclude covers it."""
        if not self.exclude.covers(name):
            self.problems.append(f"{place}: {reason}")
            if name:
                self.broken.setdefault(name, reason)

    def list_names(self, folder: Path) -> list[str]:
        """The names in a folder, sorted, without files that are no images; those are counted."""
        names, folders = scan(str(folder))
        kinds = (name_clutter(name) or (name not in folders and name_note(name)) for name in names)
        return [name for name, kind in zip(names, kinds, strict=True) if not self._ignore(kind)]

    def list_files(self, folder: Path) -> list[str]:
        """The same of everything below a folder, without folders: relative, with slashes."""
        found = walk(str(folder))
        return [name for name, kind in found if not self._ignore(kind)]

    def _ignore(self, kind: str | bool) -> bool:
        """Whether a file is of a kind that is ignored; it is counted then."""
        if kind:
            self.ignored[str(kind)] += 1
        return bool(kind)

    def note_ignored(self) -> list[str]:
        """A sentence about the files beside the images, if there are any."""
        kinds = ", ".join(f"{kind} {count}" for kind, count in self.ignored.most_common())
        return (
            [f"files beside the images, ignored: {self.ignored.total()} ({kinds})"] if kinds else []
        )


def load_data(
    config: DataConfig, task: Task, *, root: Path, cache: Path | None = None
) -> LoadedData:
    """List, check and split the images; `cache` keeps the checks of unchanged files between runs.

    Raises DataError with every corrupt or missing image, folder that does not parse, class without
    images and id that is both in training and evaluation.
    """
    report = inspect_data(config, task, root=root, cache=cache)
    if report.data is not None:
        return report.data
    message = f"{render_count(len(report.problems), 'problem')} in the data:"
    if report.broken:  # these can be left out
        raise DataError(message, problems=report.problems, reason="broken images")
    raise DataError(
        message,
        problems=report.problems,
        hint="repair or remove these files, then run the same command again",
    )


def inspect_data(
    config: DataConfig, task: Task, *, root: Path, cache: Path | None = None
) -> DataReport:
    """Check the data and return a report, also for data that cannot be used.

    Raises DataError when there is nothing to check.
    """
    if not config.train_dir:
        raise DataError("no training data: data.train_dir is empty", reason="no training folder")
    train_dir = locate(root, config.train_dir)
    if not train_dir.is_dir():
        raise DataError(f"no such folder: {train_dir} (data.train_dir)")
    problems: list[str] = []
    findings = Findings(_read_exclude(config, task, root, train_dir, problems), problems)
    samples = _read_samples(train_dir, config, task, root, findings)
    if task.held_out:
        samples, images = _hold_out(samples, config, task, problems)
    else:
        images = _read_eval(config, task, root, findings)
        # an image in both sets would make validation and predictions too good
        for sample, image in _list_overlaps(samples, images, by_name=not is_listed(config)):
            findings.add_problem(sample.id, image.id, "is both a training and an evaluation image")
    # decode and hash all files
    checked = check_images(
        [*(sample.file for sample in samples), *(image.file for image in images)], cache=cache
    )
    _add_broken(samples, images, checked.problems, findings)
    copies = _list_copies(samples, images, task, checked)
    if copies:
        samples = [sample for sample in samples if sample.id not in copies]
    # rules and classes without an image
    eval_ids = [image.id for image in images]
    problems += findings.exclude.list_unused(eval_ids)
    counts = count_classes(samples)
    problems += [
        f"class {name!r}: no training image"
        for label, name in enumerate(task.classes)
        if not counts[label]
    ]
    # the split of damaged data says nothing
    folds = FoldFile.read(config, task, root) if config.fold_file else None
    samples = folds.assign(samples, config, problems) if folds else samples
    train, val = split_samples(samples, config) if samples else ((), ())
    if not problems:
        problems += _list_split_problems(train, val, task, config)
    notes = (*findings.exclude.describe(eval_ids), *findings.note_ignored())
    eval_dir = locate(root, config.eval_dir)
    notes += tuple(_describe_unmatched(findings, images, train_dir, eval_dir))
    notes += tuple(_describe_gone(samples, checked))
    notes += folds.describe_unused(samples) if folds else ()
    if copies:
        count = render_count(len(copies), "training image")
        notes += (f"left out: {count} with the content of a held-out image",)
    rows = (*findings.exclude.to_rows(), *findings.broken.items())
    if problems:
        return DataReport(tuple(problems), rows, len(findings.broken), notes)
    hashes = checked.sha256
    left_out = sorted(findings.exclude.left_out)
    lines = _list_units(samples, config)
    fingerprint = _fingerprint(samples, images, hashes, left_out, lines)
    balance = describe_balance(train, val, task, grouped=bool(config.group))
    data = LoadedData(train, val, images, fingerprint, hashes, notes, balance)
    return DataReport((), rows, 0, notes, data)


def _add_broken(
    samples: Sequence[Sample],
    images: Sequence[EvalImage],
    broken: Mapping[str, str],
    findings: Findings,
) -> None:
    """Add the images that cannot be used to the problems; `broken` has the reasons by file."""
    if not broken:
        return
    for sample in samples:
        if sample.file in broken:
            findings.add_problem(sample.id, sample.file, broken[sample.file])
    findings.problems += [f"{i.file}: {broken[i.file]}" for i in images if i.file in broken]


def _describe_unmatched(
    findings: Findings,
    images: Sequence[EvalImage],
    train_dir: Path,
    eval_dir: Path,
) -> list[str]:
    """A sentence about images without a label, which are not to be predicted."""
    if not findings.unlabeled:
        return []
    above, apart = train_dir.resolve(), eval_dir.resolve()
    real_paths = RealPaths()
    predicted = {real_paths.find(image.file) for image in images}
    alone = []
    for file in findings.unlabeled:
        relative = Path(file).relative_to(train_dir)
        real = above / relative
        # a folder of its own, with images that a sample need not list
        beside = apart != above and apart.is_relative_to(above) and real.is_relative_to(apart)
        if str(real) not in predicted and not beside:
            alone.append(relative.as_posix())
    if not alone:
        return []
    count = render_count(len(alone), "image")
    verb = "has" if len(alone) == 1 else "have"
    return [f"{count} of {train_dir} {verb} no row in the table of labels ({_name_first(alone)})"]


def _describe_gone(samples: Sequence[Sample], checked: ImageChecks) -> list[str]:
    """A sentence about labels without an image."""
    broken = [s for s in samples if s.file in checked.problems] if checked.problems else []
    gone = [sample.id for sample in broken if not os.path.lexists(sample.file)]
    if not gone:
        return []
    count = render_count(len(gone), "label")
    verb = "has" if len(gone) == 1 else "have"
    return [f"{count} {verb} no image ({_name_first(gone)})"]


def _name_first(names: Sequence[str]) -> str:
    more = len(names) - NAMED
    return ", ".join([*names[:NAMED], *([f"{more:,} more"] if more > 0 else [])])


def _read_exclude(
    config: DataConfig, task: Task, root: Path, train_dir: Path, problems: list[str]
) -> Exclude:
    folders = [str(train_dir), str(train_dir.resolve()), str(Path(config.train_dir))]
    below = FORMATS[config.format].images_folder
    if below and (train_dir / below).is_dir():
        folders = [*folders, *(f"{folder}/{below}" for folder in folders), below]
    return Exclude.read(config.exclude, root, problems, folders=folders, id_column=task.id_column)


def copy_tables(config: DataConfig, root: Path, run_dir: Path) -> None:
    """Copy the CSVs of label fixes, folds and exclusions to the run folder.

    Raises StorageError.
    """
    excluded = [text for text in split_entries(config.exclude) if text.lower().endswith(CSV)]
    kept = {"label_fixes.csv": config.label_fixes, "folds.csv": config.fold_file}
    kept |= {f"exclude{number or ''}.csv": text for number, text in enumerate(excluded)}
    for name, text in kept.items():
        if text:
            table = locate(root, text)
            with translate_os_errors(table, "read"):
                check_regular(table)
                content = table.read_bytes()
            write_bytes(run_dir / name, content)


def _read_samples(
    folder: Path, config: DataConfig, task: Task, root: Path, findings: Findings
) -> list[Sample]:
    """The training images, with corrected labels and without the excluded ones."""
    fixes = LabelFixes.read(
        locate(root, config.label_fixes) if config.label_fixes else None, findings.problems
    )
    source = TrainingFolder(
        folder=folder,
        labels=locate(root, config.labels) if config.labels else None,
        task=task,
        age_bands=config.age_bands,
        fixes=fixes,
        listing=findings,
        label_id=config.label_id,
        label_columns=config.label_columns,
        name_column=config.name_column,
        image_table=locate(root, config.image_table) if config.image_table else None,
        image_id=config.image_id,
        ending=config.ending,
        group=config.group,
    )
    samples = FORMATS[config.format].read(source)
    fixed = [_fix(sample, fixes, task) for sample in samples] if fixes.table else samples
    if fixed != samples and not TARGETS[task.target].is_class:
        fixed = add_strata(fixed, task.target)
    findings.problems += fixes.list_unused()
    # what is held out is predicted, whatever is excluded from training
    exclude = findings.exclude
    if exclude.is_empty:
        return fixed
    return [s for s in fixed if s.id in task.held_out or not exclude.covers(s.id)]


def _fix(sample: Sample, fixes: LabelFixes, task: Task) -> Sample:
    """The sample with what data.label_fixes says of its class, its classes or its number."""
    if not sample.values:
        return sample._replace(label=fixes.fix_label(sample.id, sample.label, task.classes))
    classes = () if task.target == "number" else task.classes
    return sample._replace(values=fixes.fix_values(sample.id, sample.values, classes))


def _hold_out(
    samples: Sequence[Sample], config: DataConfig, task: Task, problems: list[str]
) -> tuple[list[Sample], tuple[EvalImage, ...]]:
    """The samples without the held-out images, and those as the images to predict."""
    for key in ("eval_dir", "sample", "eval_table"):
        if getattr(config, key):
            problems.append(f"data.{key}: the held-out images are predicted here; leave it empty")
    file_of = {sample.id: sample.file for sample in samples if sample.id in task.held_out}
    missing = [name for name in task.held_out if name not in file_of]
    problems += [f"held-out image {name} is no labeled image here" for name in missing]
    images = tuple(EvalImage(name, file_of[name]) for name in task.held_out if name in file_of)
    # two ids may name one file
    real_paths = RealPaths()
    real = {real_paths.find(image.file) for image in images}
    left = [s for s in samples if s.id not in file_of and real_paths.find(s.file) not in real]
    return left, images


def _list_copies(
    samples: Sequence[Sample],
    images: Sequence[EvalImage],
    task: Task,
    checked: ImageChecks,
) -> set[str]:
    """The ids of training images with the content of a held-out one, as it was or is now."""
    if not task.held_out:
        return set()
    contents = {*task.held_out.values(), *(checked.sha256.get(i.file, "") for i in images)}
    contents.discard("")
    return {sample.id for sample in samples if checked.sha256.get(sample.file) in contents}


def read_labeled(config: DataConfig, task: Task, *, root: Path) -> list[Sample]:
    """The labeled images of a config as they are listed, without reading an image.

    Raises DataError with every problem.
    """
    if not config.train_dir:
        raise DataError("no training data: data.train_dir is empty", reason="no training folder")
    folder = locate(root, config.train_dir)
    if not folder.is_dir():
        raise DataError(f"no such folder: {folder} (data.train_dir)")
    findings = Findings(Exclude())
    samples = _read_samples(folder, config, task, root, findings)
    problems = findings.problems
    problems += [f"{s.file}: no such file" for s in samples if not s.path.is_file()]
    if problems:
        count = render_count(len(problems), "problem")
        raise DataError(f"{count} in the data:", problems=problems)
    return samples


def _read_eval(
    config: DataConfig, task: Task, root: Path, findings: Findings
) -> tuple[EvalImage, ...]:
    """The images that a table lists, in its order: data.sample, data.eval_table or info.csv in the
    folder; without any, all images of the folder."""
    if not config.eval_dir:
        return ()
    folder = locate(root, config.eval_dir)
    if not folder.is_dir():
        raise DataError(f"no such folder: {folder} (data.eval_dir)")
    if is_listed(config):
        listed = list_images(config, task, root, findings.problems)
        if not listed and not findings.problems:
            findings.problems.append(f"{config.sample or config.eval_table}: no image to predict")
        return listed
    images = folder / "images" if (folder / "images").is_dir() else folder
    table = folder / "info.csv"
    if os.path.lexists(table):  # also a folder or a broken link: read_table reports it
        names = [name for (name,) in read_table(table, (task.id_column,))]
        twice = [name for name, count in Counter(names).items() if count > 1]
        findings.problems += [f"{table}: {name} is listed twice" for name in twice]
    else:
        visible = findings.list_names(images)
        names = [name for name in visible if split_suffix(name)[1].lower() in IMAGE_SUFFIXES]
    if not names:
        findings.problems.append(f"{folder}: no image to predict")
    return tuple(EvalImage(name, str(images / name)) for name in names)


def list_eval_ids(config: DataConfig, task: Task, *, root: Path) -> list[str]:
    """The ids to predict, without reading an image; raises DataError."""
    if task.held_out:
        return list(task.held_out)
    findings = Findings(Exclude())
    if is_listed(config):
        ids = list(list_ids(config, task, root, findings.problems))
    else:
        ids = [image.id for image in _read_eval(config, task, root, findings)]
    if findings.problems:
        raise DataError(
            f"{render_count(len(findings.problems), 'problem')} in the evaluation set:",
            problems=findings.problems,
        )
    return ids


def _list_overlaps(
    samples: Sequence[Sample], images: Sequence[EvalImage], *, by_name: bool
) -> Iterator[tuple[Sample, EvalImage]]:
    """The training images that are evaluation images, too.

    Without `by_name` only where they are the same file: a table may count the ids of both sets from
    1.
    """
    if not images:
        return
    real_paths = RealPaths()
    by_path = {real_paths.find(sample.file): sample for sample in samples}
    if not by_name:
        pairs = ((by_path.get(real_paths.find(image.file)), image) for image in images)
        yield from ((sample, image) for sample, image in pairs if sample)
        return
    by_id = {sample.id: sample for sample in samples}
    names = {sample.file.rpartition(os.sep)[2]: sample for sample in samples}
    if len(names) < len(samples):  # mask1.jpg in every profile is no id
        names = {}
    for image in images:
        sample = by_id.get(image.id) or names.get(image.id)
        sample = sample or by_path.get(real_paths.find(image.file))
        if sample:
            yield sample, image


def _list_split_problems(
    train: Sequence[Sample], val: Sequence[Sample], task: Task, config: DataConfig
) -> list[str]:
    counts = count_classes(train)
    advice = "lower data.val_ratio or use split stratified"
    if config.fold_file:
        advice = f"change {config.fold_file}"
    elif config.group:
        advice = "lower data.val_ratio, or take another data.split_seed"
    problems = [
        f"class {name!r}: all its images are in the validation split, {advice}"
        for label, name in enumerate(task.classes)
        if not counts[label]
    ]
    if not val:
        mend = "choose another data.fold" if config.fold_file else "raise data.val_ratio"
        problems.append(f"no image is left for validation, {mend}")
    return problems


def _fingerprint(
    samples: Sequence[Sample],
    images: Sequence[EvalImage],
    hashes: Mapping[str, str],
    left_out: Sequence[str],
    units: Sequence[str],
) -> str:
    """SHA-256 over sorted `set,id,label,content` lines, and those of `_list_units`.

    An excluded image has no label and no content. A line with thousands of labels is long, so that
    lines are made one by one, in the order of what they begin with.
    """
    begins = {f"train,{s.id},": s for s in samples}
    lines = list(units)
    if any("," in s.id for s in samples):  # then one line may begin as another does
        lines += [begin + _render_rest(sample, hashes) for begin, sample in begins.items()]
        begins = {}
    lines += [f"eval,{i.id},,{hashes[i.file]}" for i in images]
    lines += [f"excluded,{name},," for name in left_out]
    digest, between = hashlib.sha256(), ""
    for line in sorted([*lines, *begins]):
        sample = begins.get(line)
        whole = line + _render_rest(sample, hashes) if sample else line
        digest.update((between + whole).encode())
        between = "\n"
    return f"sha256:{digest.hexdigest()}"


def _render_rest(sample: Sample, hashes: Mapping[str, str]) -> str:
    return f"{_render_label(sample)},{hashes[sample.file]}"


def _list_units(samples: Sequence[Sample], config: DataConfig) -> list[str]:
    """Lines of what a table says about the split: the groups, and the folds of a fold file."""
    lines = [f"group,{s.id},{s.group}," for s in samples] if config.group else []
    if config.fold_file:
        lines += [f"fold,{s.id},{s.fold}," for s in samples]
    return lines


def _render_label(sample: Sample) -> str:
    """What a sample has, as the fingerprint counts it."""
    if not sample.values:
        return str(sample.label)
    if isinstance(sample.values, LabelValues):
        cells = ["0"] * len(sample.values)
        for place, share in sample.values.list_pairs():
            cells[place] = f"{share:g}"
        return " ".join(cells)
    return " ".join(f"{value:g}" for value in sample.values)
