"""The page: what it says is in the report, and nothing in a report can break it."""

from __future__ import annotations

import copy
import math
import re
from collections.abc import Iterator
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ristretto.errors import FormatError
from ristretto.report.html.markup import Html, number, shortened, tag
from ristretto.report.html.page import page_of_file, report_page
from ristretto.report.html.svg import ticks
from tests.report.reports import CHANNELS, LADDER, MINIFLOAT, MIXED, POWERS, report_of

VOID = {"meta", "input", "br"}
STYLE = Path(report_page.__code__.co_filename).with_name("style.css")


class Page(HTMLParser):
    """Reads a page strictly: every element is closed where it should be."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if not {"script", "style"} & set(self.open):
            self.words.append(data)

    def all(self, name: str) -> list[dict[str, str | None]]:
        return [attributes for tag, attributes in self.tags if tag == name]


JOBS = [
    pytest.param(net, flags, id=f"{net}-{name}")
    for net, name, flags in (
        ("lenet", "ladder", LADDER),
        ("resnet", "channels", CHANNELS),
        ("resnet", "mixed", MIXED),
        ("lenet", "minifloat", MINIFLOAT),
        ("lenet", "powers", POWERS),
    )
]


@pytest.mark.parametrize(("net", "flags"), JOBS)
def test_every_kind_of_job_gives_a_sound_page(net: str, flags: tuple[str, ...]) -> None:
    data = report_of(net, *flags)
    page = Page(report_page(data))
    text = " ".join(page.words)
    for name, layer in data["layers"].items():
        assert name in text
        assert layer["type"] in text
    assert f"{data['baseline']['images']} images" in text
    for warning in data["warnings"]:
        assert warning in text
    places = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(places) == len(set(places))
    assert {link["href"] for link in page.all("a")} <= {f"#{place}" for place in places}
    assert ("tradeoff" in places) == ("mixed" in data)
    assert ("ladder" in places) == any(ladder["trials"] for ladder in data["ladders"].values())
    for attribute, value in (pair for _, attributes in page.tags for pair in attributes.items()):
        if attribute in {"x", "y", "x1", "x2", "y1", "y2", "cx", "cy", "width", "height", "points", "d", "r"}:
            assert not re.search(r"nan|inf|None|e[+-]", value or ""), (attribute, value)


@pytest.mark.parametrize(("net", "flags"), JOBS)
def test_the_page_loads_nothing(net: str, flags: tuple[str, ...]) -> None:
    text = report_page(report_of(net, *flags))
    assert not re.search(r"https?:|//[a-z]|url\(|@import|\bsrc=|<link|<iframe|<img|fetch\(|\bimport\(", text)
    assert "default-src 'none'" in text


def test_bars_are_as_the_counts() -> None:
    data = report_of("lenet", *LADDER)
    page = Page(report_page(data))
    drawn = [attributes["data-counts"] for attributes in page.all("svg") if "data-counts" in attributes]
    sites = [site for layer in data["layers"].values() for site in layer["sites"].values()]
    assert drawn == [" ".join(map(str, site["histogram"]["counts"])) for site in sites]


def test_limits_and_steps_stand_where_they_are() -> None:
    data = report_of("lenet", *LADDER)
    site = {
        "elements": 8,
        "limits": [-2.0, 1.5],
        "step": 0.25,
        "saturated": 1,
        "sqnr_db": 20.0,
        "histogram": {"min": -2.0, "max": 2.0, "counts": [1, 0, 0, 2, 4, 0, 0, 1]},
    }
    first = next(iter(data["layers"].values()))
    first["sites"] = {"in": site}
    for other in list(data["layers"])[1:]:
        del data["layers"][other]
    page = Page(report_page(data))
    plot = next(attributes for attributes in page.all("svg") if "data-counts" in attributes)
    start, end = map(float, str(plot["data-places"]).split())

    def place(value: float) -> float:
        return start + (value + 2.0) / 4.0 * (end - start)

    limits = [float(str(each["x1"])) for each in page.all("line") if each["class"] == "limit"]
    assert limits == pytest.approx([place(-2.0), place(1.5)], abs=0.02)
    levels = next(str(each["d"]) for each in page.all("path") if each["class"] == "levels")
    found = [float(x) for x in re.findall(r"M([\d.]+)", levels)]
    assert found == pytest.approx([place(n / 4) for n in range(-8, 7)], abs=0.02)
    beyond = next(str(each["d"]) for each in page.all("path") if each["class"] == "bars beyond")
    assert [float(x) for x in re.findall(r"M([\d.]+)", beyond)] == pytest.approx([place(1.5)], abs=0.02)


HOSTILE = "</script><script>alert(1)</script>\"'><img src=x onerror=alert(1)>&amp;\ud800\x00"


def poisoned(value: Any) -> Any:
    """A report with something hostile in every text that a net, a path or a score may bring."""
    if isinstance(value, dict):
        kept = {"in", "out", "params", "bias"}
        return {
            key: {f"{HOSTILE}{name}": poisoned(layer) for name, layer in each.items()}
            if key == "layers" and isinstance(each, dict)
            else poisoned(each)
            for key, each in value.items()
            if key not in kept or isinstance(each, dict)
        }
    if isinstance(value, list):
        return [poisoned(each) for each in value]
    return f"{HOSTILE}{value}" if isinstance(value, str) and value not in {"inf", "-inf"} else value


def test_whatever_a_net_is_called_stays_text() -> None:
    clean = report_of("lenet", *LADDER)
    data = poisoned(clean)
    data["settings"]["options"] = {HOSTILE: HOSTILE}
    page = Page(report_page(data))
    assert len(page.all("script")) == 1
    assert page.all("img") == []
    assert not any(key.startswith("on") for _, attributes in page.tags for key in attributes)
    assert "".join(page.words).count("<script>alert(1)</script>") > 10
    report_page(data).encode("utf-8")


def is_refused(data: Any) -> bool:
    """Whether a report is a mistake; if not, its page is sound. Any other exception is a fault."""
    try:
        Page(page_of_file(data, "report.json"))
    except FormatError as error:
        assert str(error).startswith("report.json: ")
        return True
    return False


def strange(data: dict[str, Any]) -> Iterator[Any]:
    for key in data:
        cut = copy.deepcopy(data)
        del cut[key]
        yield cut
        for other in (None, 7, "x", [], {}):
            changed = copy.deepcopy(data)
            changed[key] = other
            yield changed


def test_damaged_reports_are_mistakes_not_faults() -> None:
    data = report_of("lenet", *LADDER)
    assert sum(is_refused(damaged) for damaged in strange(data)) > 20
    for other in ([], 3, None, {"schema": 1}, {**data, "schema": 2}):
        with pytest.raises(FormatError, match=r"^report\.json: "):
            page_of_file(other, "report.json")


def test_older_reports_are_drawn_without_what_they_lack() -> None:
    data = report_of("lenet", *LADDER)
    for key in ("size", "histogram_images", "comparison", "steps", "paired", "passes", "device"):
        data.pop(key, None)
    for layer in data["layers"].values():
        for key in ("sites", "size", "macs"):
            layer.pop(key)
    places = {attributes.get("id") for _, attributes in Page(page_of_file(data, "")).tags}
    assert {"ladder", "table"} <= places
    assert not {"details", "error", "steps", "sizes"} & places


def test_scores_that_are_no_numbers_are_left_out() -> None:
    data = report_of("lenet", *LADDER)
    data["combined"]["score"] = data["drop_pct"] = data["ladders"]["conv"]["trials"][0]["score"] = None
    data["layers"]["conv1"]["sites"]["out"].pop("histogram")
    data["layers"]["conv1"]["ranges"]["out"] = {"min": None, "max": None}
    data["comparison"]["layers"][0] |= {"own_db": None, "so_far_db": "-inf"}
    assert "nan" not in " ".join(Page(report_page(data)).words)


def test_text_can_be_read_light_and_dark() -> None:
    style = STYLE.read_text()
    themes = [
        dict(re.findall(r"--([\w-]+): (#[0-9a-f]{3,6})", block))
        for block in re.findall(r":root \{(.*?)\}", style, re.S)
    ]
    assert len(themes) == 3
    for theme in themes:
        for ink in ("ink", "ink2", "muted", "a", "bad", "good"):
            for paper in ("page", "surface", "sunk"):
                assert contrast(theme[ink], theme[paper]) >= 4.5, (ink, paper, theme[ink])
        assert contrast(theme["good"], theme["good-soft"]) >= 4.5
        assert contrast(theme["bad"], theme["bad-soft"]) >= 4.5
        assert contrast(theme["ink"], theme["warn-soft"]) >= 4.5
        assert min(contrast(theme[each], theme["surface"]) for each in "abc") >= 3


def contrast(one: str, other: str) -> float:
    """The ratio of the web's accessibility guidelines (WCAG 2.2, 1.4.3)."""
    low, high = sorted(map(luminance, (one, other)))
    return (high + 0.05) / (low + 0.05)


def luminance(colour: str) -> float:
    digits = colour[1:] if len(colour) == 7 else "".join(each * 2 for each in colour[1:])
    parts = [int(digits[n : n + 2], 16) / 255 for n in (0, 2, 4)]
    red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


@given(st.text(), st.text())
def test_text_is_escaped_markup_is_not(content: str, attribute: str) -> None:
    page = Page(tag("p", content, Html("<b>x</b>"), data_v=attribute))
    assert [name for name, _ in page.tags] == ["p", "b"]
    shown = re.sub(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ud800-\udfff]", "\ufffd", content)
    assert "".join(page.words) == f"{shown}x"


@given(st.floats(-1e12, 1e12), st.floats(1e-9, 1e12), st.integers(1, 10))
@settings(max_examples=200)
def test_ticks_lie_in_the_range_evenly(low: float, width: float, about: int) -> None:
    high = low + width
    if not (high - low) > abs(low) * 1e-6:
        return
    found = ticks(low, high, about)
    room = (high - low) * 1e-6
    assert all(low - room <= value <= high + room for value in found)
    assert len(found) <= 3 * about + 2
    gaps = [b - a for a, b in pairwise(found)]
    assert all(math.isclose(gap, gaps[0], rel_tol=1e-3) for gap in gaps)


def test_numbers_and_names_for_people() -> None:
    assert [number(value) for value in (-0.0, 2.5e-7, -1.5e12, math.inf)] == ["0", "2.5·10⁻⁷", "−1.5·10¹²", "∞"]
    assert shortened("conv1", 5) == "conv1"
    assert len(shortened("inception_4a/3x3_reduce", 15)) == 15
