"""Progress of a training: a bar for each network on a terminal, a few lines elsewhere."""

import os
import time

import lightning as L
from lightning.pytorch.callbacks import Callback
from rich.console import Console

from uncus.pipeline.progress_bars import progress_bar, time_left

NO_BAR = "UNCUS_NO_BAR"
"""Environment variable of a process whose progress another process shows."""


class EpochBar(Callback):
    """Shows the epoch, the loss and the validation score of the network called ``name``."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.console = Console(stderr=True, quiet=NO_BAR in os.environ)
        self.live = self.console.is_terminal and not self.console.quiet
        self.bar = progress_bar("epochs {task.fields[values]}", disable=not self.live)

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self.started, self.first = time.monotonic(), trainer.current_epoch
        if trainer.is_global_zero:
            self.bar.start()
            self.task = self.bar.add_task(
                self.name, total=trainer.max_epochs, completed=trainer.current_epoch, values=""
            )

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if not trainer.is_global_zero:
            return
        values = "  ".join(
            f"{key} {float(trainer.callback_metrics[key]):.3f}"
            for key in ("loss", "val_loss", "score")
            if key in trainer.callback_metrics
        )
        epoch, last = trainer.current_epoch + 1, trainer.max_epochs or 0
        self.bar.update(self.task, completed=epoch, values=values)
        if not self.live and (epoch == last or epoch % max(1, last // 5) == 0):
            left = time_left(self.started, epoch - self.first, last - self.first)
            line = f"{self.name}: epoch {epoch}/{last}  {values}  {left}".rstrip()
            self.console.print(line, highlight=False, soft_wrap=True)

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if trainer.is_global_zero:
            self.bar.stop()

    def on_exception(
        self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException
    ) -> None:
        self.bar.stop()
