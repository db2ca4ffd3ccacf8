"""The picture of a training's loss, and the log lines that Caffe's scripts look for."""

from __future__ import annotations

import math
import re
import xml.etree.ElementTree as ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ristretto.report.events import Output
from ristretto.report.glog import glog_line
from ristretto.report.loss_plot import loss_plot
from ristretto.report.training import (
    NetTested,
    SnapshotWritten,
    StepShown,
    Training,
    TrainingEnded,
    score_from_json,
    score_to_json,
    training_lines,
    training_to_json,
)

SVG = "{http://www.w3.org/2000/svg}"
SCORED = NetTested(2, 0, (Output("accuracy", (0.5,)), Output("loss", (1.5,), 1.0)))


def training(losses: tuple[float, ...], tests: tuple[NetTested, ...] = (), net: str = "n", first: int = 0) -> Training:
    return Training("s", net, {}, first + len(losses), first, losses, (0.1,) * len(losses), tests)


def drawn(subject: Training) -> ElementTree.Element:
    return ElementTree.fromstring(loss_plot(subject))


def points(line: ElementTree.Element) -> list[tuple[float, float]]:
    return [tuple(map(float, pair.split(","))) for pair in line.get("points", "").split()]  # type: ignore[misc]


def test_a_loss_that_falls_goes_down_from_left_to_right() -> None:
    curve, mean, score = drawn(training((3.0, 2.0, 1.0), (SCORED, NetTested(0, 0, SCORED.outputs)))).findall(
        f"{SVG}polyline"
    )
    xs, ys = zip(*points(curve), strict=True)
    assert list(xs) == sorted(xs)
    assert list(ys) == sorted(ys)  # pixels count from the top
    assert ys[1] - ys[0] == pytest.approx(ys[2] - ys[1], abs=0.2)
    assert points(mean) == points(curve)
    assert len(points(score)) == 2


@given(
    st.lists(st.one_of(st.floats(-1e6, 1e6), st.sampled_from([math.nan, math.inf, 0.0])), max_size=30),
    st.text(max_size=10),
)
def test_any_losses_and_names_make_a_picture(losses: list[float], name: str) -> None:
    name = "".join(char for char in name if char.isprintable())
    picture = drawn(training(tuple(losses), (SCORED,), name, first=7))
    for line in picture.findall(f"{SVG}polyline"):
        for x, y in points(line):
            assert 0 <= x <= 800
            assert 0 <= y <= 420


def test_long_trainings_stay_small() -> None:
    assert len(loss_plot(training(tuple(math.sin(i) for i in range(100_000))))) < 60_000


def test_a_page_cannot_be_smuggled_in() -> None:
    assert "<script>" not in loss_plot(training((1.0,), net="<script>alert(1)</script>"))


def lines(*events: object) -> list[str]:
    return [glog_line(line) for event in events for line in training_lines(event)]  # type: ignore[arg-type]


def test_lines_stand_where_caffes_do() -> None:
    outputs = (Output("loss", (2.5,), 0.5),)
    told = lines(
        StepShown(20, 2.25, 0.01, outputs, 4.0, 20),
        SCORED,
        SnapshotWritten(20, "a.caffemodel", "a.solverstate"),
        TrainingEnded(20, False, "a.solverstate"),
    )
    assert [re.sub(r"^I\d{4} [\d:.]+ +\d+ ", "", line) for line in told] == [
        "solver.cpp:218] Iteration 20 (5 iter/s, 4s/20 iters), loss = 2.25",
        "solver.cpp:237]     Train net output #0: loss = 2.5 (* 0.5 = 1.25 loss)",
        "sgd_solver.cpp:105] Iteration 20, lr = 0.01",
        "solver.cpp:330] Iteration 2, Testing net (#0)",
        "solver.cpp:397]     Test net output #0: accuracy = 0.5",
        "solver.cpp:397]     Test net output #1: loss = 1.5 (* 1 = 1.5 loss)",
        "solver.cpp:447] Snapshotting to binary proto file a.caffemodel",
        "sgd_solver.cpp:273] Snapshotting solver state to binary proto file a.solverstate",
        "solver.cpp:315] Optimization Done.",
    ]


def test_json_has_no_nan() -> None:
    data = training_to_json(training((1.0, math.nan), (SCORED,)), "1")
    assert data["losses"] == [1.0, None]
    assert score_from_json(score_to_json(SCORED)) == SCORED
