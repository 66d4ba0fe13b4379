"""What is saved after each epoch: the training state, the best weights and the metrics."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import lightning as L
import pandas as pd
import torch
from lightning.pytorch.callbacks import Callback

from uncus.data import files
from uncus.data.errors import BadInput
from uncus.models.weights import save_weights
from uncus.pipeline.run_files import log
from uncus.pipeline.runs import Member, Run
from uncus.pipeline.training.steps.loss_check import all_finite


class Checkpoints(Callback):
    """Saves the training state, the weights if they are the best so far, and metrics.csv.

    Files are replaced atomically: if the process is killed while saving, the previous ones remain.
    The metrics are part of the state, so that a resumed run repeats no row.
    """

    def __init__(self, run: Run, member: Member, patience: int) -> None:
        self.run, self.member, self.patience = run, member, patience
        self.best, self.best_epoch = float("-inf"), -1
        self.rows: list[dict[str, float]] = []
        self.started = time.monotonic()
        self.restored = False

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self.restored = True

    def state_dict(self) -> dict[str, Any]:
        return {"best": self.best, "best_epoch": self.best_epoch, "rows": self.rows}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.best, self.best_epoch = state_dict["best"], state_dict["best_epoch"]
        self.rows = list(state_dict["rows"])

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self.started = time.monotonic()

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        epoch = trainer.current_epoch
        values = {k: float(v) for k, v in trainer.callback_metrics.items()}
        rate = trainer.optimizers[0].param_groups[-1]["lr"]
        seconds = round(time.monotonic() - self.started, 3)
        self.rows.append({"epoch": epoch, **values, "lr": rate, "seconds": seconds})
        score = values.get("score", float("nan"))
        improved = score > self.best
        if improved:
            self.best, self.best_epoch = score, epoch
        if self.patience and "score" in values and epoch - self.best_epoch >= self.patience:
            trainer.should_stop = True
        path = self.run.checkpoint(self.member)
        path.parent.mkdir(parents=True, exist_ok=True)
        best, temporary = self.run.best_weights(self.member), path.with_suffix(".tmp")
        if trainer.is_global_zero and improved:
            model: Any = pl_module.model
            with writing(best):
                save_weights(model, best)
        # All processes call it, and wait for the first one, which writes.
        with writing(path, temporary):
            trainer.save_checkpoint(temporary)
        if trainer.is_global_zero:
            files.write_atomically(path, lambda whole: temporary.replace(whole))
            metrics = pd.DataFrame(self.rows)
            files.write_text(self.run.metrics(self.member), metrics.to_csv(index=False))
            values_text = "  ".join(f"{name} {value:.4g}" for name, value in values.items())
            of = f"{self.member.name}: epoch {epoch + 1}/{trainer.max_epochs}"
            log.append(self.run.log_path, f"{of}  {values_text}  {seconds:.1f} s")


@contextmanager
def writing(path: Path, temporary: Path | None = None) -> Iterator[None]:
    """Raise BadInput if ``path`` cannot be written, on a full disk say; removes ``temporary``."""
    try:
        yield
    except OSError as error:
        if temporary:
            temporary.unlink(missing_ok=True)  # its space is needed
        raise BadInput(
            path,
            f"cannot be written ({error.strerror or error})",
            "free some space, then add --resume",
        ) from error


def check_checkpoint(path: Path) -> None:
    """Raise BadInput unless ``path`` is a complete training state; nothing in it is executed."""
    try:
        state = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
        finite = all_finite(state["state_dict"].values())
    except Exception as error:
        cause = f"is not a complete training state ({type(error).__name__})"
        raise BadInput(path, cause, "delete it to train this network from the start") from error
    if not finite:
        raise BadInput(path, "contains weights that are not finite", "delete it, and lower --lr")
