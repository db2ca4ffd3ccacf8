"""The log's form; its content is held against the original's own logs in tests/golden."""

from __future__ import annotations

import os
from datetime import datetime

from ristretto.report.events import BatchDone, DeviceChosen, Output, PassDone, Warned
from ristretto.report.glog import LogLine, event_lines, glog_line, number
from tests.golden.shared import SHARED, messages, needs_shared


def test_glog_form() -> None:
    when = datetime(2026, 5, 8, 22, 49, 41, 93957)
    assert glog_line(LogLine("Use CPU.", 98), when) == (
        f"I0508 22:49:41.093957 {os.getpid():5d} quantization.cpp:98] Use CPU."
    )
    assert glog_line(LogLine("hm", severity="W"), when).endswith(" quantize.py:1] hm")


def test_numbers_as_c_streams_print_them() -> None:
    assert [number(value) for value in (0.9908, 0.48503049, 1.0, 0.00820906, 1e-7, 123456789.0)] == [
        "0.9908",
        "0.48503",
        "1",
        "0.00820906",
        "1e-07",
        "1.23457e+08",
    ]


def test_lines_of_a_pass() -> None:
    outputs = (Output("accuracy", (0.88,)), Output("loss", (0.5, 0.25), loss_weight=2.0))
    assert [line.text for line in event_lines(BatchDone(3, outputs))] == [
        "Batch 3, accuracy = 0.88",
        "Batch 3, loss = 0.5",
        "Batch 3, loss = 0.25",
    ]
    assert [line.text for line in event_lines(PassDone("test", 1.5, outputs))] == [
        "Loss: 1.5",
        "accuracy = 0.88",
        "loss = 0.5 (* 2 = 1 loss)",
        "loss = 0.25 (* 2 = 0.5 loss)",
    ]


def test_what_the_original_does_not_say_is_marked_as_ours() -> None:
    lines = [*event_lines(DeviceChosen("0", None, "there is none")), *event_lines(Warned("careful"))]
    assert [(line.line, line.severity) for line in lines] == [(98, "I"), (0, "W"), (0, "W")]


@needs_shared
def test_places_are_the_originals() -> None:
    """Every message kind stands at the line number that the original's log gives it."""
    log = (SHARED / "golden/runs/lenet_dynamic_fixed_point/log.txt").read_text()
    places = {
        message: int(line.split("quantization.cpp:")[1].split("]")[0])
        for line, message in zip(log.splitlines(), messages(log), strict=True)
        if "quantization.cpp:" in line
    }
    assert places["Use CPU."] == 98
    batch = next(place for message, place in places.items() if message.startswith("Batch "))
    assert batch == next(iter(event_lines(BatchDone(0, (Output("a", (1.0,)),))))).line
