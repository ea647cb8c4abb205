"""A logger for Lightning: `Fabric(loggers=[TrackerLogger()])`, `Trainer(logger=TrackerLogger())`."""

from __future__ import annotations

import os
import sys
import weakref
from argparse import Namespace
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lightning_fabric.loggers.logger import Logger
from lightning_fabric.utilities.rank_zero import rank_zero_only

from tracker.runs.output import notify
from tracker.runs.read import load_config
from tracker.training.errors import ConfigError, TrackerError
from tracker.workflows.own_loop.active_run import ActiveRun, exit_with_interrupted_code, shorten
from tracker.workflows.own_loop.begin import begin_in_group
from tracker.workflows.own_loop.common_names import common_key, common_name, is_length
from tracker.workflows.own_loop.config_tables import NO_SECTION, to_tables
from tracker.workflows.own_loop.termination import NAME


class TrackerLogger(Logger):
    """Records hyperparameters, metrics and the best checkpoint as a run of the workspace, begun
    when it is needed.

    Metrics and hyperparameters have this program's names (`val_acc` is val/accuracy, `lr`
    optim.lr). Of the Trainer: checkpoints are in the run folder; the best one of its
    ModelCheckpoint, of several the first that monitors something, becomes best.pth, with the
    callback metrics of that moment as the run's.

    The run is still open after `trainer.fit`, so that `run.save_validation` and
    `run.save_probabilities` can follow; it ends with the script, or by `run.finish()`. To go on
    with one that broke off: `TrackerLogger(resume="exp3")` and
    `trainer.fit(model, ckpt_path="runs/exp3/checkpoints/...ckpt")`. `note`, `parent`, `tags`,
    `resume`, `root`,
    `follow` and `quiet` are those of tracker.start_run.
    """

    def __init__(
        self,
        *,
        note: str = "",
        parent: str | None = None,
        tags: Sequence[str] | Mapping[str, str] = (),
        resume: str | None = None,
        root: Path | None = None,
        follow: bool = True,
        quiet: bool = False,
    ) -> None:
        self._options: dict[str, Any] = {
            "note": note,
            "parent": parent,
            "tags": tags,
            "resume": resume,
        }
        self._options |= {"root": root, "follow": follow, "quiet": quiet}
        self._params: dict[str, Any] = {}
        self._run: ActiveRun | None = None
        self._trainer: Any = None  # a weak reference

    @property
    def run(self) -> ActiveRun:
        """The run, begun now if it was not; after it failed or was interrupted, the same goes on."""
        if self._run is None or self._run.status != "running":
            if self._run is not None:
                self._options["resume"] = None if self._run.status == "finished" else self._run.name
            rank = rank_zero_only.rank or None  # type: ignore[attr-defined]
            config = {} if self._options["resume"] else _name_params(self._params, {})
            self._run = begin_in_group(config, rank=rank, **self._options)
            self._run.explain_resume = self._explain_resume
            if self._options["resume"]:
                self.log_hyperparams(self._params)
        return self._run

    @property
    def experiment(self) -> ActiveRun:
        """The run; the Trainer asks for it before it asks where checkpoints go."""
        return self.run

    @property
    def name(self) -> str:
        """`..`: the Trainer keeps checkpoints in save_dir/name/version, which is to be the run folder."""
        return ".."

    @property
    def version(self) -> str:
        """`expN`."""
        return self.run.name

    @property
    def save_dir(self) -> str:
        """The run folder, which is the Trainer's `log_dir`."""
        return str(self.run.folder)

    @property
    def log_dir(self) -> str:
        """The run folder."""
        return self.save_dir

    @property
    def root_dir(self) -> str:
        """The folder of the run folders."""
        return str(self.run.folder.parent)

    @rank_zero_only
    def log_hyperparams(
        self, params: Mapping[str, Any] | Namespace, *args: Any, **kwargs: Any
    ) -> None:
        """Keep hyperparameters as the config; those that come after the first point as facts about
        the run.

        Raises ConfigError when a resumed run had others.
        """
        values = vars(params) if isinstance(params, Namespace) else dict(params)
        if self._run is None or self._run.status != "running":
            self._params |= values
            return
        try:
            before = load_config(self._run.folder.parent, self._run.name) if self._run.name else {}
            tables = _name_params(values, before)
            if self._options["resume"]:
                tables = self._change_lengths(before, tables)
            self._run.add_config(tables)
            self._params |= values
        except ConfigError as error:
            if self._options["resume"]:
                hint = "a new TrackerLogger, without resume, makes a new run"
                raise ConfigError(
                    f"{self._run.name} goes on with its own hyperparameters: {error}", hint=hint
                ) from error
            self._run.add_facts(values)

    def _change_lengths(
        self, before: Mapping[str, Mapping[str, Any]], tables: Mapping[str, Mapping[str, Any]]
    ) -> dict[str, dict[str, Any]]:
        """Take another number of epochs or steps into the config of a run that goes on; returns
        what else is given."""
        merged = {section: dict(table) for section, table in before.items()}
        rest: dict[str, dict[str, Any]] = {}
        for section, table in tables.items():
            for key, value in table.items():
                target = merged if is_length(f"{section}.{key}") else rest
                target.setdefault(section, {})[key] = value
        self.run.change_length(to_tables(merged))
        return rest

    @rank_zero_only
    def log_graph(self, model: Any, *args: Any, **kwargs: Any) -> None:
        """Nothing is drawn; the model knows its Trainer, if it has one."""
        trainer = getattr(model, "_trainer", None)
        self._trainer = None if trainer is None else weakref.ref(trainer)
        self._note_source(trainer)

    def _note_source(self, trainer: Any) -> None:
        """A fit from another run's checkpoint, without `resume`, makes a new run: that is told, and
        is its parent."""
        path, run = getattr(trainer, "ckpt_path", None), self._run
        if not path or run is None or self._options["resume"] or trainer.state.fn != "fit":
            return
        runs_dir = run.folder.parent.resolve()
        source = next(
            (each.name for each in Path(path).resolve().parents if each.parent == runs_dir),
            run.name,
        )
        if source != run.name:
            told = f"{run.name} is a new run, begun from a checkpoint of {source}"
            notify(f'{told}: TrackerLogger(resume="{source}") goes on with {source} itself')
            run.set_parent(source)

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Put one point on disk; a metric called `epoch` counts as the epoch of the others."""
        values = dict(metrics)
        epoch = values.pop("epoch", None)
        trainer = self._find_trainer()
        if epoch is not None and trainer is not None and trainer.state.fn == "fit":
            epoch += 1  # the Trainer counts from 0; after a fit it has the number of its epochs
        if values:
            self.run.log(_rename(values), step=step, epoch=None if epoch is None else int(epoch))

    @rank_zero_only
    def after_save_checkpoint(self, checkpoint_callback: Any) -> None:
        """Keep the best checkpoint as best.pth, when it is the one that was saved now."""
        trainer, path = self._find_trainer(), Path(checkpoint_callback.best_model_path)
        saved = getattr(checkpoint_callback, "_last_checkpoint_saved", path)
        if (
            trainer is None
            or Path(saved) != path
            or not path.exists()
            or not _decides(checkpoint_callback, trainer)
        ):
            return
        from tracker.training.model.weights import read_state_dict

        try:
            weights = read_state_dict(path)[0]
        except TrackerError as error:
            if not path.is_file():  # shards, which only Lightning puts together
                notify(f"{path} does not become best.pth: {error}")
                return
            weights = trainer.lightning_module.state_dict()
        now = trainer.callback_metrics
        if trainer.validating:  # figures of the training are of the epoch before
            now = {name: value for name, value in now.items() if not name.startswith("train")}
        metrics = _rename(now)
        epoch, monitor = trainer.current_epoch + 1, getattr(checkpoint_callback, "monitor", None)
        if not monitor:  # the newest is the best
            self.run.replace_best(weights, epoch=epoch, metrics=metrics)
            return
        name = common_name(monitor) if common_name(monitor) in metrics else monitor
        higher = getattr(checkpoint_callback, "mode", "min") == "max"
        self.run.save_better(weights, epoch=epoch, metrics=metrics, monitor=name, higher=higher)

    @rank_zero_only
    def finalize(self, status: str) -> None:
        """End the run; but `success` of the Trainer, which comes after each fit, test and predict,
        leaves it open."""
        if self._run is None or self._run.status != "running":
            return
        trainer = self._find_trainer()
        if status == "failed":
            error = sys.exc_info()[1]
            stopped = getattr(
                trainer, "received_sigterm", False
            )  # Lightning raises a SystemExit without a code
            if error is not None and (isinstance(error, KeyboardInterrupt) or stopped):
                exit_with_interrupted_code(error)
            if stopped:
                error = KeyboardInterrupt(NAME)
            if error is not None:
                self._run.end(error)
            else:
                self._run.finish("failed", error=status)
        elif trainer is not None:
            if trainer.state.fn == "fit":
                self._run.mark_trained()
        else:
            self._run.finish(
                "finished" if status == "success" else "failed",
                error="" if status == "success" else status,
            )

    def _explain_resume(self) -> str:
        """What to write to go on with the run, with the newest checkpoint that there is."""
        name = self._run.name if self._run else ""
        words = f'TrackerLogger(resume="{name}")'
        trainer = self._find_trainer()
        if trainer is None:
            return words
        folders = [
            Path(each.dirpath)
            for each in trainer.checkpoint_callbacks
            if getattr(each, "dirpath", None)
        ]
        found = [path for folder in folders for path in folder.glob("*.ckpt")]
        if not found:
            return f"{words}, which begins at its first epoch: there is no checkpoint"
        newest = max(found, key=lambda path: path.stat().st_mtime)
        return (
            f'{words} and trainer.fit(..., ckpt_path="{shorten(Path(os.path.normpath(newest)))}")'
        )

    def _find_trainer(self) -> Any:
        return None if self._trainer is None else self._trainer()

    def __getstate__(self) -> dict[str, Any]:
        """Without the run and the Trainer: a spawned process begins its own."""
        return {**vars(self), "_run": None, "_trainer": None}


def _decides(callback: Any, trainer: Any) -> bool:
    """Whether the Trainer's best checkpoint is this callback's: the first that monitors something,
    else the first."""
    found = trainer.checkpoint_callbacks
    chosen = next(
        (each for each in found if getattr(each, "monitor", None)), found[0] if found else None
    )
    return bool(callback == chosen)


def _name_params(values: Mapping[str, Any], before: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Hyperparameters under this program's keys, `lr` as optim.lr; two that would have one key keep
    their own.

    One that the config `before` has under its own name keeps it: such a run was begun when all of
    them did.
    """
    flat: list[tuple[str, str, Any]] = []
    for section, value in values.items():
        if isinstance(value, Mapping):
            flat += [(section, str(key), item) for key, item in value.items()]
        else:
            flat.append((NO_SECTION, section, value))
    named = [common_key(section, key) for section, key, _ in flat]
    tables: dict[str, dict[str, Any]] = {}
    for (section, key, value), new in zip(flat, named, strict=True):
        stays = named.count(new) > 1 or key in before.get(section, {})
        target, name = (section, key) if stays else new
        tables.setdefault(target, {})[name] = value
    return tables


def _rename(metrics: Mapping[str, Any]) -> dict[str, float]:
    """The metrics under this program's names; two that would have one name keep their own.

    Of `loss` and `loss_epoch`, which Lightning makes of one metric, the latter is the mean over the
    epoch.
    """
    names = {name: common_name(name) for name in metrics if f"{name}_epoch" not in metrics}
    taken = list(names.values())
    return {name if taken.count(new) > 1 else new: metrics[name] for name, new in names.items()}
