"""Records Lightning trainings: `Trainer(logger=...)`, `Fabric(loggers=[TrackerLogger()])`."""

from __future__ import annotations

import os
import sys
import weakref
from argparse import Namespace
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from lightning_fabric.loggers.logger import Logger
from lightning_fabric.utilities.rank_zero import rank_zero_only

from tracker.core.errors import TrackerError
from tracker.run_folder.output import notify
from tracker.run_folder.read import load_config
from tracker.training.errors import ConfigError
from tracker.training.key_names import common_key
from tracker.workflows.own_loop.active_run import ActiveRun, shorten
from tracker.workflows.own_loop.begin import begin_in_group
from tracker.workflows.own_loop.common_names import common_name, is_length
from tracker.workflows.own_loop.config_tables import NO_SECTION, to_tables
from tracker.workflows.own_loop.loss_names import describe_loss
from tracker.workflows.own_loop.script_end import exit_with_interrupted_code, remember_stop
from tracker.workflows.own_loop.termination import SIGTERM_NAME


class TrackerLogger(Logger):
    """Records hyperparameters, metrics and the best checkpoint as a run, started when needed.

    Metrics and hyperparameters get the names of this program (`val_acc` is val/accuracy, `lr` is
    optim.lr). With a Trainer, checkpoints are in the run folder. The best one of its
    ModelCheckpoint becomes best.pth, with the callback metrics of that moment as the run's; of
    several ModelCheckpoints the first that monitors a metric counts.

    The run stays open after `trainer.fit`, so that you can call `run.save_validation` and
    `run.save_probabilities`. It ends with the script, or by `run.finish()`. To resume one that
    broke off: `TrackerLogger(resume="exp3")` and
    `trainer.fit(model, ckpt_path="runs/exp3/checkpoints/...ckpt")`. The options are those of
    tracker.start_run.
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
            "root": root,
            "follow": follow,
            "quiet": quiet,
        }
        self._params: dict[str, Any] = {}
        self._run: ActiveRun | None = None
        self._trainer: Any = None  # a weak reference

    @property
    def run(self) -> ActiveRun:
        """The run, started on first use; one that failed or was interrupted is resumed."""
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
        """The run; the Trainer asks for it before it asks where to save checkpoints."""
        return self.run

    @property
    def name(self) -> str:
        """`..`: the Trainer saves checkpoints in save_dir/name/version: this is the run folder."""
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
        """The folder that contains the run folders."""
        return str(self.run.folder.parent)

    @rank_zero_only
    def log_hyperparams(
        self, params: Mapping[str, Any] | Namespace, *args: Any, **kwargs: Any
    ) -> None:
        """Record hyperparameters in the config; after the first point as facts about the run.

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
                raise ConfigError(
                    f"{self._run.name} must resume with its own hyperparameters: {error}",
                    hint="a new TrackerLogger, without resume, starts a new run",
                ) from error
            self._run.add_facts(values)

    def _change_lengths(
        self, before: Mapping[str, Mapping[str, Any]], tables: Mapping[str, Mapping[str, Any]]
    ) -> dict[str, dict[str, Any]]:
        """Change the number of epochs or steps of a resumed run; returns the other keys."""
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
        """Draw nothing: this call is used to get the model's Trainer, if it has one."""
        trainer = getattr(model, "_trainer", None)
        self._trainer = None if trainer is None else weakref.ref(trainer)
        self._note_source(trainer)
        if trainer is not None and trainer.state.fn == "fit":
            self._note_loss(model)

    def _note_loss(self, model: Any) -> None:
        """Record the loss of a new run, where the module has one loss as a part.

        A loss that only the module's code calls is not known, nor which of several counts.
        """
        losses = [part for part in model.children() if type(part).__name__.endswith("Loss")]
        run = self.run
        if len(losses) != 1 or not run.name or self._options["resume"]:
            return
        before = load_config(run.folder.parent, run.name).get("loss", {})
        if "name" in before:  # by the hyperparameters
            return
        found = {key: value for key, value in describe_loss(losses[0]).items() if key not in before}
        with suppress(ConfigError):  # points were logged before this fit: the config stays
            run.add_config({"loss": found})

    def _note_source(self, trainer: Any) -> None:
        """Record the parent of a new run that is fitted from another run's checkpoint; say so."""
        path, run = getattr(trainer, "ckpt_path", None), self._run
        if not path or run is None or self._options["resume"] or trainer.state.fn != "fit":
            return
        runs_dir = run.folder.parent.resolve()
        folders = Path(path).resolve().parents
        source = next((folder.name for folder in folders if folder.parent == runs_dir), "")
        if not source:
            notify(f"{run.name} is a new run: {shorten(Path(path))} is of no run in this workspace")
        elif source != run.name:
            notify(
                f"{run.name} is a new run, started from a checkpoint of {source}:"
                f' TrackerLogger(resume="{source}") resumes {source} itself'
            )
            run.set_parent(source)

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Write one point to disk; a metric called `epoch` is the epoch of the others."""
        values = dict(metrics)
        epoch = values.pop("epoch", None)
        trainer = self._find_trainer()
        if epoch is not None and trainer is not None and trainer.state.fn == "fit":
            epoch += (
                1  # in a fit the Trainer counts from 0; after it, it gives the number of epochs
            )
        if values:
            self.run.log(_rename(values), step=step, epoch=None if epoch is None else int(epoch))

    @rank_zero_only
    def after_save_checkpoint(self, checkpoint_callback: Any) -> None:
        """Save the best checkpoint as best.pth, if it is the one that was just written."""
        trainer, path = self._find_trainer(), Path(checkpoint_callback.best_model_path)
        saved = getattr(checkpoint_callback, "_last_checkpoint_saved", path)
        is_new = Path(saved) == path and path.exists()
        if trainer is None or not is_new or not _decides(checkpoint_callback, trainer):
            return
        from tracker.training.model.weights import read_state_dict

        # Its weights, from the file if that is readable.
        try:
            weights = read_state_dict(path)[0]
        except TrackerError as error:
            if not path.is_file():  # a folder of shards, which only Lightning can join
                notify(f"{path} cannot become best.pth: {error}")
                return
            weights = trainer.lightning_module.state_dict()
        # Its metrics.
        current = trainer.callback_metrics
        if trainer.validating:  # its training metrics are still those of the epoch before
            current = {
                name: value for name, value in current.items() if not name.startswith("train")
            }
        metrics = _rename(current)
        epoch, monitor = trainer.current_epoch + 1, getattr(checkpoint_callback, "monitor", None)
        if not monitor:  # the newest checkpoint is the best
            self.run.replace_best(weights, epoch=epoch, metrics=metrics)
            return
        name = common_name(monitor) if common_name(monitor) in metrics else monitor
        higher = getattr(checkpoint_callback, "mode", "min") == "max"
        self.run.save_better(weights, epoch=epoch, metrics=metrics, monitor=name, higher=higher)

    @rank_zero_only
    def finalize(self, status: str) -> None:
        """End the run, but not after `success` of a Trainer.

        That comes after each fit, test and predict; the run stays open for what follows.
        """
        if self._run is None or self._run.status != "running":
            return
        trainer = self._find_trainer()
        if status == "failed":
            error = sys.exc_info()[1]
            # Lightning raises a SystemExit without a code after SIGTERM.
            stopped = getattr(trainer, "received_sigterm", False)
            if error is not None and (isinstance(error, KeyboardInterrupt) or stopped):
                exit_with_interrupted_code(error)
            if stopped:
                self._run.end(KeyboardInterrupt(SIGTERM_NAME))
                if error is not None:
                    remember_stop(error)
            elif error is not None:
                self._run.end(error)
            else:
                self._run.finish("failed", error=status)
        elif trainer is not None:
            if trainer.state.fn == "fit":
                self._run.mark_trained()
        elif status == "success":
            self._run.finish()
        else:
            self._run.finish("failed", error=status)

    def _explain_resume(self) -> str:
        """The code that resumes the run, from its newest checkpoint."""
        name = self._run.name if self._run else ""
        code = f'TrackerLogger(resume="{name}")'
        trainer = self._find_trainer()
        if trainer is None:
            return code
        checkpoints: list[Path] = []
        for callback in trainer.checkpoint_callbacks:
            if folder := getattr(callback, "dirpath", None):
                checkpoints += Path(folder).glob("*.ckpt")
        if not checkpoints:
            return f"{code}, which starts at its first epoch: there is no checkpoint"
        newest = max(checkpoints, key=lambda path: path.stat().st_mtime)
        path = shorten(Path(os.path.normpath(newest)))
        return f'{code} and trainer.fit(..., ckpt_path="{path}")'

    def _find_trainer(self) -> Any:
        return None if self._trainer is None else self._trainer()

    def __getstate__(self) -> dict[str, Any]:
        """Without the run and the Trainer: a spawned process starts its own."""
        return {**vars(self), "_run": None, "_trainer": None}


def _decides(callback: Any, trainer: Any) -> bool:
    """Whether this callback decides which is best: the first with a monitor, else the first."""
    callbacks = trainer.checkpoint_callbacks
    monitoring = [each for each in callbacks if getattr(each, "monitor", None)]
    chosen = next(iter([*monitoring, *callbacks]), None)
    return bool(callback == chosen)


def _name_params(values: Mapping[str, Any], before: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Hyperparameters by the keys of this program, `lr` as optim.lr.

    Two that would get the same key keep their own. So does one that the config `before` has by its
    own name: that run is of a version that renamed nothing.
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
    """The metrics by the names of this program; two that would get the same name keep their own.

    Lightning makes `loss` and `loss_epoch` of one metric: `loss_epoch`, the mean, is taken.
    """
    names = {name: common_name(name) for name in metrics if f"{name}_epoch" not in metrics}
    new_names = list(names.values())
    values: dict[str, float] = {}
    for name, new in names.items():
        is_unique = new_names.count(new) == 1
        values[new if is_unique else name] = metrics[name]
    return values
