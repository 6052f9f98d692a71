"""The log: a table that a resumed run cuts back, lines for people, curves for TensorBoard."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from training.run_log import LOG_NAME, TENSORBOARD_NAME, open_log, read_log


def add(log, kind: str, step: int, **values: float) -> None:
    log.add(
        kind, {"step": step, "epoch": 0, "elapsed_s": 2.0 * step} | values, left_s=60, share=0.5
    )


def test_rows_come_back_as_numbers_and_lines_say_the_time_left(tmp_path: Path, capsys) -> None:
    with open_log(tmp_path, from_step=0, share=0.0) as log:
        add(log, "train", 25, loss=1.5, rate=2e-5)
        add(log, "validation", 50, f1=0.5, recall=float("nan"))
    first, second = read_log(tmp_path)
    assert first == {
        "kind": "train",
        "step": 25,
        "epoch": 0,
        "elapsed_s": 50,
        "loss": 1.5,
        "rate": 2e-5,
    }
    assert second["f1"] == 0.5
    assert second["recall"] != second["recall"]
    out = capsys.readouterr().out
    assert "train step 25 (50 %, 1.0 min left)  loss 1.5" in out


def test_steps_that_were_lost_are_cut_from_the_table(tmp_path: Path) -> None:
    with open_log(tmp_path, from_step=0, share=0.0) as log:
        for step in (25, 50, 75):
            add(log, "train", step, loss=1.0)
    with (tmp_path / LOG_NAME).open("a", encoding="utf-8") as stream:
        stream.write("train,100,")  # killed while it wrote
    with open_log(tmp_path, from_step=50, share=0.5) as log:
        add(log, "train", 75, loss=0.5)
    assert [(row["step"], row["loss"]) for row in read_log(tmp_path)] == [
        (25, 1.0),
        (50, 1.0),
        (75, 0.5),
    ]


def test_a_terminal_gets_a_bar_with_the_time_left(tmp_path: Path, capsys, monkeypatch) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    with open_log(tmp_path, from_step=0, share=0.0) as log:
        add(log, "train", 25, loss=1.25)
        log.progress(0.25)
        add(log, "validation", 50, f1=0.5)
    captured = capsys.readouterr()
    assert "25%" in captured.err
    assert "<" in captured.err
    assert "train step" not in captured.out
    assert "validation step 50" in captured.out + captured.err


def test_curves_for_tensorboard(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    with open_log(tmp_path, from_step=0, share=0.0) as log:
        add(log, "train", 25, loss=1.5)
        add(log, "validation", 50, f1=0.5, recall=float("nan"))
    events = EventAccumulator(str(tmp_path / TENSORBOARD_NAME))
    events.Reload()
    assert set(events.Tags()["scalars"]) == {"train/loss", "validation/f1"}
    (value,) = events.Scalars("train/loss")
    assert (value.step, value.value) == (25, 1.5)


def test_without_tensorboard_a_line_says_so(tmp_path: Path, capsys, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with open_log(tmp_path, from_step=0, share=0.0):
        pass
    assert "TensorBoard is not installed, log.csv has the same figures" in capsys.readouterr().out
    assert not (tmp_path / TENSORBOARD_NAME).exists()
