"""The log of a training: a progress bar, metrics.jsonl and TensorBoard."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

from spikeclip.errors import first_line, missing_extra
from spikeclip.files import replacing
from spikeclip.progress import progress_bar
from spikeclip.records import read_rows
from spikeclip.train.folder import LOG

if TYPE_CHECKING:
    from rich.progress import Progress
    from torch.utils.tensorboard import SummaryWriter


class Report:
    """Progress of one run. Only the main process writes; `title` names the run in its lines."""

    def __init__(self, folder: Path, main: bool = True, title: str = "", quiet: bool = False) -> None:
        if find_spec("tensorboard") is None:
            raise missing_extra("tensorboard", "train")
        self.main, self.title, self.folder = main, title, folder
        self.console = Console(quiet=quiet or not main, stderr=True)
        self.file = folder / LOG
        self.board: SummaryWriter | None = None
        self.bar: Progress | None = None
        self.stage = ""
        self.loss = 0.0

    def begin(self, index: int, stage: Any, total: int, step: int) -> None:
        """Open the bar of stage number `index` and forget rows that a resumed run will write again."""
        from torch.utils.tensorboard import SummaryWriter

        self._rewind(index, step)
        self.stage_index = index
        if self.main:
            # A board per stage, because purging goes by the step alone.
            board = self.folder / "tensorboard" / f"{index}-{stage.config.stage}"
            self.board = SummaryWriter(str(board), purge_step=step)
        self.stage, self.started, self.samples = stage.config.stage, time.monotonic(), 0
        self.loss = float("nan")
        bar = progress_bar(self.console, shown=self.main)
        bar.start()
        self.bar = bar
        self.task = bar.add_task(f"{self.title}{self.stage}", total=total, completed=step, info="")

    def step(self, step: int, samples: int) -> None:
        """Count one step."""
        assert self.bar is not None
        self.samples += samples
        self.bar.update(self.task, completed=step + 1)

    def losses(self, losses: Iterable[float]) -> None:
        """Show the mean loss, over some twenty steps, after those that were read now."""
        assert self.bar is not None
        for loss in losses:
            self.loss = loss if self.loss != self.loss else 0.95 * self.loss + 0.05 * loss
        self.bar.update(self.task, info=f"loss {self.loss:.3f}  {self.speed():.0f}/s")

    def speed(self) -> float:
        """Samples per second of this stage in this process, validation included."""
        return self.samples / max(1e-9, time.monotonic() - self.started)

    def row(self, step: int, values: dict[str, Any]) -> None:
        """Append one row to metrics.jsonl and TensorBoard."""
        if self.board is None:
            return
        row = {"stage": self.stage, "stage_index": self.stage_index, "step": step, **values}
        with self.file.open("a") as file:
            file.write(json.dumps(row) + "\n")
        for name, value in values.items():
            if isinstance(value, dict):
                for key, part in value.items():
                    self.board.add_scalar(f"{name}/{key}", part, step)
            else:
                self.board.add_scalar(name, value, step)

    def epoch(self, epoch: int, step: int, scores: dict[str, float], model: Any) -> None:
        """Log the mean loss of an epoch, counted from 1, and the validation after it."""
        scale = model.logit_scale.item()
        self.row(step, {"epoch": epoch, **scores, "logit_scale": scale, "samples_per_second": self.speed()})
        shown = "  ".join(f"{name} {value:.4f}" for name, value in scores.items())
        self.console.print(
            f"{self.title}{self.stage} epoch {epoch}  {shown}  {self.speed():.0f}/s",
            highlight=False,
            soft_wrap=True,
        )

    def warn(self, text: str) -> None:
        """Print a warning above the bar."""
        self.console.print(f"[yellow]warning:[/yellow] {text}", highlight=False, soft_wrap=True)

    def end(self, stage: Any, progress: Any) -> None:
        """Close the bar of a stage."""
        self.close()
        self.console.print(
            f"{self.title}{self.stage} done in {progress.seconds:.0f} s: {stage.score_name} "
            f"{progress.best_score:.4f} at step {progress.best_step}",
            highlight=False,
            soft_wrap=True,
        )

    def close(self) -> None:
        """Stop the bar and close the board, whatever happened."""
        if self.bar is not None:
            self.bar.stop()
            self.bar = None
        if self.board is not None:
            board, self.board = self.board, None
            try:
                board.close()
            except OSError as error:  # the disk is full; what stopped the training says so too
                self.warn(f"the last rows for TensorBoard could not be written: {first_line(error)}")

    def _rewind(self, index: int, step: int) -> None:
        """Forget the rows of this step and of those after it."""
        if not self.main or not self.file.exists():
            return
        rows, damaged = read_rows(self.file, {"stage_index": int, "step": int})
        if damaged:
            self.warn(f"{self.file}: {damaged} lines are no rows of a log, and are left out")
        kept = [row for row in rows if (row["stage_index"], row["step"]) < (index, step)]
        with replacing(self.file) as file:
            file.write("".join(json.dumps(row) + "\n" for row in kept).encode())
