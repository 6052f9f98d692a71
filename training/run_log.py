"""What is told of a training while it runs: a table, TensorBoard, and a bar or lines."""

from __future__ import annotations

import csv
import io
import math
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tqdm import tqdm

from CMBDetectorLib.io.writing import write_text

LOG_NAME = "log.csv"
TENSORBOARD_NAME = "tensorboard"
COLUMNS = (
    "kind",
    "step",
    "epoch",
    "elapsed_s",
    "loss",
    "dice",
    "focal",
    "gradient_norm",
    "rate",
    "f1",
    "precision",
    "recall",
    "false_positives_per_scan",
    "scans",
    "patch_dice",
    "patch_recall",
    "false_per_patch",
    "hard_negatives",
    "best_f1",
    "best_step",
)
_OF_THE_STEP = ("step", "epoch", "elapsed_s")
_PER_MILLE = 1000


@dataclass
class RunLog:
    """The log of the one process that writes; see :func:`open_log`."""

    folder: Path
    bar: tqdm[Any] | None
    writer: Any | None

    def add(self, kind: str, values: Mapping[str, float], *, left_s: float, share: float) -> None:
        """A row of the table, curves in TensorBoard, and a line for people.

        Parameters
        ----------
        kind
            "train", "validation" or "end".
        values
            By column, ``step`` and ``elapsed_s`` among them.
        left_s, share
            Time that is left, and share of the training that is done.
        """
        with (self.folder / LOG_NAME).open("a", encoding="utf-8", newline="") as stream:
            csv.writer(stream).writerow(_row(kind, values))
        step = int(values["step"])
        shown = {key: value for key, value in values.items() if key not in _OF_THE_STEP}
        if self.writer is not None:
            for name, value in shown.items():
                if math.isfinite(value):
                    self.writer.add_scalar(f"{kind}/{name}", value, step)
            self.writer.flush()
        text = "  ".join(f"{name} {value:.4g}" for name, value in shown.items())
        if self.bar is not None and kind == "train":
            self.bar.set_postfix_str(f"step {step}, loss {values['loss']:.3g}", refresh=False)
            return
        line = f"{kind} step {step} ({100 * share:.0f} %, {left_s / 60:.1f} min left)  {text}"
        if self.bar is None:
            print(line, flush=True)
        else:
            self.bar.write(line)

    def progress(self, share: float) -> None:
        """Move the bar to this share of the training."""
        if self.bar is not None:
            self.bar.update(round(_PER_MILLE * share) - self.bar.n)


@contextmanager
def open_log(folder: Path, *, from_step: int, share: float) -> Iterator[RunLog]:
    """The log in a run's folder, cut back to ``from_step``, where a resumed run goes on.

    ``share`` of the training is done by then. Without the package tensorboard there is only the
    table, and a line says so.
    """
    _cut_back(folder / LOG_NAME, from_step)
    writer = _tensorboard(folder / TENSORBOARD_NAME, from_step)
    bar = None
    if sys.stderr.isatty():
        form = "{percentage:3.0f}%|{bar}| {elapsed}<{remaining}, {postfix}"
        done = round(_PER_MILLE * share)
        bar = tqdm(total=_PER_MILLE, initial=done, bar_format=form, smoothing=0.0)
    try:
        yield RunLog(folder, bar, writer)
    finally:
        if bar is not None:
            bar.close()
        if writer is not None:
            writer.close()


def read_log(folder: Path) -> list[dict[str, Any]]:
    """The rows of a run's table; numbers as such, empty cells left out."""
    with (folder / LOG_NAME).open(encoding="utf-8", newline="") as stream:
        return [
            {key: value if key == "kind" else float(value) for key, value in row.items() if value}
            for row in csv.DictReader(stream)
        ]


def _row(kind: str, values: Mapping[str, float]) -> list[str]:
    cells = {key: f"{value:.6g}" for key, value in values.items()}
    cells |= {key: str(int(values[key])) for key in ("step", "epoch") if key in values}
    return [kind, *(cells.get(name, "") for name in COLUMNS[1:])]


def _cut_back(path: Path, from_step: int) -> None:
    """Drop rows of steps that a killed run has taken after its last checkpoint."""
    rows: list[list[str]] = []
    if path.exists():
        with path.open(encoding="utf-8", newline="") as stream:
            found = list(csv.reader(stream))[1:]
        rows = [row for row in found if len(row) == len(COLUMNS) and int(row[1]) <= from_step]
    text = io.StringIO()
    csv.writer(text).writerows([COLUMNS, *rows])
    write_text(path, text.getvalue())


def _tensorboard(folder: Path, from_step: int) -> Any | None:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        print(
            f"TensorBoard is not installed, {LOG_NAME} has the same figures; "
            "install the extra 'training' for both",
            flush=True,
        )
        return None
    return SummaryWriter(str(folder), purge_step=from_step + 1)
