"""The plots of a whole net: the ladders, the trade-off of a mixed search, signal to noise ratios, sizes, the drop."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from ristretto.report.html.markup import Html, decibels, join, many, number, shortened, size, tag
from ristretto.report.html.svg import (
    Box,
    Scale,
    dot,
    figure,
    line,
    padded,
    polyline,
    rect,
    text,
    x_axis,
    y_axis,
)

NOUNS = {
    "conv": "CONV weights",
    "fc": "FC weights",
    "activations": "activations",
    "minifloat": "all values",
    "weights": "weights",
}
"""What the groups of ladders are called."""

_COLOURS = ("a", "b", "c")
_DODGE = 9.0
"""How far the marks of two groups at one width are apart, so that equal scores do not hide each other."""

BARS_SHOWN = 14

WIDTH = 568.0
"""Of a plot, in pixels, before the window stretches it."""


def ladder_plot(data: Mapping[str, Any]) -> Html:
    """Score against width, a line for each group that was searched, and the whole net at the end."""
    ladders = {group: ladder for group, ladder in data["ladders"].items() if ladder["trials"]}
    baseline, combined = data["baseline"]["score"], data["combined"]["score"]
    margin = data["settings"]["error_margin"] / 100
    widths = sorted({trial["bw"] for ladder in ladders.values() for trial in ladder["trials"]}, reverse=True)
    scores = [trial["score"] for ladder in ladders.values() for trial in ladder["trials"]]
    known = [score for score in (*scores, combined, baseline, baseline - margin) if score is not None]
    box = Box(56, 34, 552, 270)
    scale = Scale(*padded(known), box.bottom, box.top)
    columns = Scale(0, max(len(widths), 1), box.left + 40, box.right - 55)
    parts = [
        rect(box.left, scale(baseline - margin), box.right - box.left, box.bottom - scale(baseline - margin), "missed"),
        y_axis(box, scale, data["score_blob"]),
        line(box.left, box.bottom, box.right, box.bottom, "base"),
        line(box.left, scale(baseline), box.right, scale(baseline), "reference"),
        line(box.left, scale(baseline - margin), box.right, scale(baseline - margin), "margin"),
        text(box.left + 6, scale(baseline - margin) + 15, "beyond the margin", "margin-text", "start"),
    ]
    parts += [text(columns(n), box.bottom + 20, f"{bw} bit", "tick") for n, bw in enumerate(widths)]
    for number_, (group, ladder) in enumerate(ladders.items()):
        shift = (number_ - (len(ladders) - 1) / 2) * _DODGE
        parts += _ladder(group, ladder, _COLOURS[number_ % 3], widths, columns, shift, scale, baseline)
    x = columns(len(widths))
    parts += [
        line(x - (columns(1) - columns(0)) / 2, box.top, x - (columns(1) - columns(0)) / 2, box.bottom, "grid"),
        text(x, box.bottom + 20, "all together", "tick"),
    ]
    if combined is not None:
        if "paired" in data:
            low, high = (scale(baseline - end / 100) for end in data["paired"]["drop_interval_pct"])
            parts.append(line(x, max(low, box.top), x, min(high, box.bottom), "interval"))
        tip = f"all together: {number(combined)}, {points(baseline - combined)} points below float"
        parts.append(dot(x, scale(combined), "mark all", tip, 6))
        parts.append(text(x + 12, scale(combined) + 4, number(combined, 3), "value", "start"))
    label = "Score of the net with each group of values at each width; all are in the table below."
    return figure(WIDTH, 306, label, *parts)


def _ladder(
    group: str,
    ladder: Mapping[str, Any],
    colour: str,
    widths: Sequence[int],
    columns: Scale,
    shift: float,
    scale: Scale,
    baseline: float,
) -> list[Html]:
    places = [
        (columns(widths.index(trial["bw"])) + shift, scale(trial["score"]), trial)
        for trial in ladder["trials"]
        if trial["score"] is not None
    ]
    parts = [polyline([(x, y) for x, y, _ in places], f"curve {colour}")]
    for x, y, trial in places:
        chosen = trial["bw"] == ladder["chosen"]
        tip = (
            f"{NOUNS.get(group, group)}, {trial['bw']} bit: {number(trial['score'])}, "
            f"{points(baseline - trial['score'])} points below float{', chosen' if chosen else ''}"
        )
        if "images" in trial:
            tip += f"; an estimate on {trial['images']} images"
        parts.append(dot(x, y, f"mark {colour}{'' if chosen else ' open'}", tip, 6 if chosen else 4.5))
    return parts


def points(drop: float) -> str:
    """A drop of a score in percent points, without a minus before nothing."""
    return f"{round(100 * drop, 2) + 0.0:.2f}".replace("-", "−")


def drop_plot(interval: Sequence[float], drop: float, margin: float) -> Html:
    """The drop with its interval, against the margin: small, for a tile."""
    scale = Scale(*padded([*interval, 0.0, margin], 0.1, 0.05), 6, 174)
    low, high = interval
    return figure(
        180,
        40,
        f"The drop is {drop:.2f} points, with 95 % confidence {low:.2f} to {high:.2f}; {margin:g} are allowed.",
        line(6, 16, 174, 16, "grid"),
        line(scale(0), 8, scale(0), 24, "reference"),
        text(scale(0), 36, "0", "tick"),
        line(scale(margin), 4, scale(margin), 28, "margin"),
        text(scale(margin), 38, f"{margin:g}", "margin-text"),
        line(scale(low), 16, scale(high), 16, "interval"),
        tag("circle", cx=scale(drop), cy=16, r=5, class_="mark all"),
        class_="plot small",
    )


def tradeoff_plot(data: Mapping[str, Any]) -> Html:
    """The path of a mixed search: scores above, the predicted harm below, both against the cost."""
    path, chosen = data["mixed"]["path"], data["mixed"]["chosen"]
    unit = str(data["settings"]["options"].get("cost", "weight_bits"))
    baseline, margin = data["baseline"]["score"], data["settings"]["error_margin"] / 100
    scored = [(n, point) for n, point in enumerate(path) if point.get("score") is not None]
    upper, lower = Box(56, 34, 552, 200), Box(56, 244, 552, 350)
    columns = Scale(*padded([point["cost"] for point in path], 0.03), upper.left, upper.right)
    scale = Scale(*padded([baseline, baseline - margin, *(point["score"] for _, point in scored)]), 200, 34)
    harms = [point["harm"] for point in path if point["harm"] and math.isfinite(point["harm"])]
    logs = Scale(*padded([math.log10(harm) for harm in harms], 0.05, 0.1), lower.bottom, lower.top)
    missed = scale(baseline - margin)
    parts = [
        rect(upper.left, missed, upper.right - upper.left, upper.bottom - missed, "missed"),
        y_axis(upper, scale, data["score_blob"], 4),
        line(upper.left, upper.bottom, upper.right, upper.bottom, "base"),
        line(upper.left, scale(baseline), upper.right, scale(baseline), "reference"),
        line(upper.left, missed, upper.right, missed, "margin"),
        polyline([(columns(point["cost"]), scale(point["score"])) for _, point in scored], "curve a"),
    ]
    for n, point in scored:
        held = "held" if point["score"] >= baseline - margin - 1e-9 else "missed"
        tip = f"{point['cost']:.3g} bits: {number(point['score'])}, margin {held}{', chosen' if n == chosen else ''}"
        kind = "mark a" if n == chosen else "mark a open"
        parts.append(dot(columns(point["cost"]), scale(point["score"]), kind, tip, 6 if n == chosen else 4.5))
    parts += [
        text(lower.left - 8, lower.top - 12, "predicted harm, log scale", "axis", "start"),
        x_axis(lower, columns, _COSTS.get(unit, unit.replace("_", " "))),
        polyline([(columns(each["cost"]), logs(math.log10(each["harm"]))) for each in path if each["harm"]], "curve b"),
    ]
    if chosen is not None:
        x = columns(path[chosen]["cost"])
        left = x > (lower.left + lower.right) / 2
        parts.append(line(x, upper.top, x, lower.bottom, "chosen"))
        parts.append(text(x + (-6 if left else 6), lower.bottom - 8, "chosen", "value", "end" if left else "start"))
    return figure(WIDTH, 400, f"Score and predicted harm of {len(path)} nets from wide to narrow widths.", *parts)


_COSTS = {
    "weight_bits": "bits for each weight, on average",
    "activation_bits": "bits for each layer input, on average",
    "mac_bits": "bits times bits for each multiplication, on average",
}


def sqnr_plot(rows: Sequence[Mapping[str, Any]], links: Mapping[str, str], width: float = WIDTH) -> Html:
    """For each layer the error of its own, and the error that has gathered up to it.

    Args:
        rows: layers of a comparison, in order.
        links: by name where a layer's details are.
        width: in pixels; many layers take more.
    """
    each = max(12.0, (width - 72) / max(len(rows), 1))
    right = 56 + each * len(rows)
    longest = max((len(row["name"]) for row in rows), default=0)
    foot = 16 + 4.6 * min(longest, 28)
    box = Box(56, 34, right, 240)
    values = [decibel(row[key]) for row in rows for key in ("own_db", "so_far_db")]
    finite = [value for value in values if value is not None and math.isfinite(value)]
    low, high = padded([0.0, *finite], 0.06, 1)
    scale = Scale(min(low, 0.0) if min(finite, default=0.0) < 0 else 0.0, high, box.bottom, box.top)
    parts = [y_axis(box, scale, "dB"), line(box.left, box.bottom, right, box.bottom, "base")]
    places = []
    every = math.ceil(20 / each)
    for n, row in enumerate(rows):
        x = box.left + each * (n + 0.5)
        own, so_far = decibel(row["own_db"]), decibel(row["so_far_db"])
        tip = f"{row['name']}: own error {decibels(own)} dB, so far {decibels(so_far)} dB"
        marks = [rect(x - each / 2, box.top, each, box.bottom - box.top, "hit")]
        if own is not None and math.isfinite(own):
            thick = min(each * 0.5, 22)
            marks.append(rect(x - thick / 2, scale(own), thick, scale(scale.low) - scale(own), "bar b"))
        if so_far is not None and math.isfinite(so_far):
            places.append((x, scale(so_far)))
            marks.append(tag("circle", cx=x, cy=scale(so_far), r=min(5, each * 0.3), class_="mark a"))
        group = tag("g", *marks, data_tip=tip)
        parts.append(tag("a", group, href=links[row["name"]]) if row["name"] in links else group)
        if n % every == 0:
            parts.append(_slanted(x, box.bottom + 14, row["name"]))
    parts.append(polyline(places, "curve a"))
    label = "Signal to noise ratio of each layer alone and of the net up to it; the numbers are in the table of layers."
    return figure(right + 16, 240 + foot + 8, label, *parts)


def _slanted(x: float, y: float, name: str) -> Html:
    return tag(
        "text",
        shortened(name, 28),
        x=x,
        y=y,
        text_anchor="end",
        class_="tick",
        transform=f"rotate(-40 {x:.1f} {y:.1f})",
    )


def decibel(value: float | str | None) -> float | None:
    """A ratio of a comparison, which writes infinities as words."""
    return None if value is None else float(value)


def steps_plot(steps: Sequence[Mapping[str, Any]]) -> Html:
    """What each rule and treatment brought, as bars below its name."""
    known = [step["sqnr_db"] for step in steps if step["sqnr_db"] is not None]
    scale = Scale(min(0.0, *known) if known else 0.0, max([*known, 1.0]), 2, 490)
    parts = []
    for n, step in enumerate(steps):
        y = 4 + n * 44
        parts.append(text(2, y + 12, step["name"], "label", "start"))
        if step["sqnr_db"] is not None:
            start, end = sorted((scale(0.0), scale(step["sqnr_db"])))
            parts.append(rect(start, y + 18, max(end - start, 1), 16, "bar a"))
            parts.append(text(end + 8, y + 31, f"{decibels(step['sqnr_db'])} dB", "value", "start"))
    label = "; ".join(f"{step['name']}: {decibels(step['sqnr_db'])} dB" for step in steps)
    return figure(WIDTH, 8 + 44 * len(steps), label, *parts)


def sizes_plot(layers: Mapping[str, Any]) -> Html:
    """The layers whose weights take most: in float32 and in the formats chosen."""
    sizes = {name: layer["size"] for name, layer in layers.items() if layer.get("size", {}).get("bytes_float")}
    shown = sorted(sizes, key=lambda name: -sizes[name]["bytes_float"])[:BARS_SHOWN]
    scale = Scale(0, max((sizes[name]["bytes_float"] for name in shown), default=1), 170, 420)
    parts = []
    for n, name in enumerate(shown):
        y, of = 8 + n * 26, sizes[name]
        tip = f"{name}: {many(of['weights'])} weights, {size(of['bytes_float'])} in float32, {size(of['bytes'])} now"
        group = (
            rect(0, y, WIDTH, 24, "hit"),
            text(160, y + 16, shortened(name, 23), "label", "end"),
            rect(170, y + 3, scale(of["bytes_float"]) - 170, 18, "bar before"),
            rect(170, y + 3, max(scale(of["bytes"]) - 170, 1), 18, "bar a"),
            text(
                scale(of["bytes_float"]) + 8,
                y + 16,
                f"{size(of['bytes_float'])} → {size(of['bytes'])}",
                "value",
                "start",
            ),
        )
        parts.append(tag("g", *group, data_tip=tip))
    label = "Bytes of the weights of the largest layers before and after; all are in the table of layers."
    return figure(WIDTH, 12 + 26 * len(shown), label, *parts)


def small_bar(value: float | None, most: float, class_: str) -> Html:
    """A bar in a cell of a table; it only repeats the number beside it."""
    width = 0.0 if value is None or not math.isfinite(value) or most <= 0 else max(0.0, min(value / most, 1.0)) * 44
    drawn = (rect(0, 3, 44, 6, "track"), rect(0, 3, width, 6, class_))
    return tag("svg", join(*drawn), viewBox="0 0 44 12", width=44, height=12, class_="cell", aria_hidden="true")
