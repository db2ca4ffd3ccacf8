"""Finished scores come back from JSON as they were, whatever they hold."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ristretto.report.events import BatchDone, Dropped, Event, Output, PassDone, PassStarted, Warned
from ristretto.report.finished import FinishedScore, finished_from_json, finished_to_json
from ristretto.report.model import Scored

numbers = st.floats()
counts = st.integers(0, 2**40)
values = st.lists(numbers, max_size=3).map(tuple)
outputs = st.lists(st.builds(Output, st.text(max_size=4), values, numbers), max_size=3).map(tuple)
events: st.SearchStrategy[Event] = st.one_of(
    st.builds(PassStarted, st.text(max_size=4), counts),
    st.builds(BatchDone, counts, outputs),
    st.builds(PassDone, st.text(max_size=4), numbers, outputs),
    st.builds(Dropped, st.text(max_size=4), counts, counts, numbers),
)
verdicts = st.none() | st.lists(st.booleans(), max_size=20).map(lambda each: np.array(each, np.bool_))
scores = st.builds(
    Scored, numbers, st.dictionaries(st.text(max_size=4), values, max_size=2), counts, counts, numbers, verdicts
)


@given(st.builds(FinishedScore, st.text(), st.text(), scores, st.lists(events, max_size=4).map(tuple)))
def test_there_and_back(finished: FinishedScore) -> None:
    text = json.dumps(finished_to_json(finished), allow_nan=False)
    back = finished_from_json(json.loads(text))
    assert repr(back) == repr(finished)  # NaN is no NaN's equal


def test_no_other_event_can_be_kept() -> None:
    with pytest.raises(TypeError, match="Warned"):
        finished_to_json(FinishedScore("", "", Scored(0, {}, 1, 1, 0), (Warned("oh"),)))


GOOD: dict[str, Any] = finished_to_json(
    FinishedScore("", "", Scored(0.5, {"a": (1.0,)}, 9, 1, 0, np.ones(9, bool)), ())
)


@pytest.mark.parametrize(
    "change",
    [
        {"right": {"images": 17, "bits": GOOD["right"]["bits"]}},
        {"right": {"images": 9, "bits": "?"}},
        {"events": [["started", "x"]]},
        {"events": [["unknown"]]},
        {"outputs": {"a": "words"}},
        {"score": None},
    ],
)
def test_what_is_no_score(change: dict[str, Any]) -> None:
    finished_from_json(GOOD)
    with pytest.raises((ValueError, TypeError)):
        finished_from_json({**GOOD, **change})
