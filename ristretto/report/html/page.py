"""The page: the JSON report as one file that needs nothing else, neither a network nor a script to be read."""

from __future__ import annotations

import base64
import hashlib
import math
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from ristretto.errors import FormatError
from ristretto.report.html.layers import Row, layer_details, layer_rows, layer_table
from ristretto.report.html.markup import Html, join, number, size, tag
from ristretto.report.html.plots import (
    NOUNS,
    WIDTH,
    decibel,
    drop_plot,
    ladder_plot,
    points,
    sizes_plot,
    sqnr_plot,
    steps_plot,
    tradeoff_plot,
)

_HERE = Path(__file__).parent

FEW_LAYERS = 24
"""So many bars find room in half a row."""


def page_of_file(data: Any, file: str) -> str:
    """A JSON report that was read from a file as a page.

    Args:
        data: the parsed JSON.
        file: where it came from, for errors.

    Raises:
        FormatError: it is no report of ``ristretto quantize``, or a part of it is missing or of another kind.
    """
    cure = "give what ristretto quantize --report wrote"
    if not isinstance(data, Mapping) or "ladders" not in data or "layers" not in data:
        raise FormatError("this is no report of a quantization", file=file, cure=cure)
    if data.get("schema") != 1:
        what = f"this report has schema {data.get('schema')!r}, 1 is known"
        raise FormatError(what, file=file, cure="draw it with the version that wrote it")
    try:
        return report_page(data)
    except (KeyError, TypeError, ValueError, IndexError, AttributeError, ZeroDivisionError, OverflowError) as error:
        reason = f"{error} is missing" if isinstance(error, KeyError) else str(error)
        raise FormatError(f"the report cannot be drawn: {reason}", file=file, cure=cure) from error


def report_page(data: Mapping[str, Any]) -> str:
    """A JSON report (docs/report.md) as a page."""
    style, script = ((_HERE / name).read_text(encoding="utf-8") for name in ("style.css", "script.js"))
    # No script but this one runs, and nothing is loaded, whatever the report holds.
    policy = f"default-src 'none'; style-src {_hash(style)}; script-src {_hash(script)}"
    rows = layer_rows(data)
    title = data["net"] or "net"
    head = (
        tag("meta", charset="utf-8"),
        Html(f'<meta http-equiv="Content-Security-Policy" content="{policy}">'),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", name="color-scheme", content="light dark"),
        tag("title", f"{title} – ristretto"),
        Html(f"<style>{style}</style>"),
    )
    body = (
        _header(data, title),
        tag("main", *_sections(data, rows)),
        tag("footer", f"ristretto {data.get('version', '')}"),
        tag("div", id="tip", role="status", hidden=True),
        Html(f"<script>{script}</script>"),
    )
    return f"<!doctype html>\n{tag('html', tag('head', *head), tag('body', *body), lang='en')}\n"


def _hash(content: str) -> str:
    digest = hashlib.sha256(content.encode()).digest()
    return f"'sha256-{base64.b64encode(digest).decode()}'"


def _header(data: Mapping[str, Any], title: str) -> Html:
    settings, met = data["settings"], bool(data["margin_met"])
    allowed = settings["error_margin"]
    margin = f"{allowed:g} {'point' if allowed == 1 else 'points'}"
    verdict = f"✓ within {margin}" if met else f"✗ misses {margin}"
    facts = [settings["trimming_mode"].replace("_", " "), f"preset {settings['preset']}", _scored_on(data)]
    return tag(
        "header",
        tag("p", "Quantization report", class_="kicker"),
        tag("h1", title),
        tag("p", " · ".join(facts), class_="facts"),
        tag("p", verdict, class_="verdict good" if met else "verdict bad"),
    )


def _scored_on(data: Mapping[str, Any]) -> str:
    return f"{data['score_blob']} on {data['baseline']['images']:,} images"


def _sections(data: Mapping[str, Any], rows: list[Row]) -> Iterator[Html]:
    yield tag("div", *_tiles(data), class_="tiles")
    if data["warnings"]:
        warnings = tag("ul", *(tag("li", warning) for warning in data["warnings"]))
        yield tag("section", tag("h2", "⚠ Warnings"), warnings, class_="card warnings", id="warnings")
    if any(ladder["trials"] for ladder in data["ladders"].values()):
        legend = _legend(
            *(
                (f"line {colour}", NOUNS.get(group, group))
                for colour, group in zip("abc", _searched(data), strict=False)
            ),
            ("line ref", "float net"),
            ("line margin", "margin"),
        )
        note = "Each group of values alone, at each width tried; the filled mark is the width chosen."
        yield _card("ladder", "Accuracy against width", note, legend, _wide(ladder_plot(data)), _ladder_table(data))
    if data.get("mixed"):
        note = "Nets along the path from wide to narrow. The filled mark is the one chosen."
        yield _card("tradeoff", "Trade-off of mixed precision", note, _wide(tradeoff_plot(data)), _mixed_table(data))
    yield from _error_cards(data, rows)
    if any(row.layer.get("size", {}).get("bytes_float") for row in rows):
        legend = _legend(("box before", "float32"), ("box a", "in the formats chosen"))
        yield _card("sizes", "Weight size", _size_note(data), legend, _wide(sizes_plot(data["layers"])))
    search = tag("input", type="search", id="filter", placeholder="Find a layer", aria_label="Find a layer")
    yield _card("table", "Layers", "A click on a column's head sorts by it.", search, layer_table(rows))
    if any(row.layer.get("sites") for row in rows):
        images = data.get("histogram_images", 0)
        note = (
            f"How float values are spread in {images} calibration images; counts on a logarithmic scale. Dashed lines "
            "are the limits of the format, ticks below the axis its values where they can be told apart."
        )
        legend = _legend(("box inside", "held"), ("box beyond", "saturates"), ("box taken", "taken by a ReLU anyway"))
        yield _card("details", "Values, layer by layer", note, legend, layer_details(rows))
    yield _card("settings", "How it was made", "", *_settings(data))


_HALVES = frozenset({"ladder", "tradeoff", "error", "steps", "sizes"})
"""Cards that stand two in a row where there is room."""


def _card(place: str, title: str, note: str, *content: str) -> Html:
    explained = (tag("p", note, class_="note"),) if note else ()
    half = "card half" if place in _HALVES else "card"
    return tag("section", tag("h2", title), *explained, *content, class_=half, id=place)


def _wide(plot: Html) -> Html:
    """A plot that scrolls where the window is narrower."""
    return tag("div", plot, class_="scroll plot-box", tabindex="0")


def _legend(*entries: tuple[str, str]) -> Html:
    return tag("p", *(tag("span", tag("i", class_=kind), name) for kind, name in entries), class_="legend")


def _searched(data: Mapping[str, Any]) -> list[str]:
    return [group for group, ladder in data["ladders"].items() if ladder["trials"]]


def _tiles(data: Mapping[str, Any]) -> Iterator[Html]:
    baseline, combined = data["baseline"]["score"], data["combined"]["score"]
    margin = data["settings"]["error_margin"]
    yield _tile("Quantized score", number(combined), f"float {number(baseline)}")
    drop = data["drop_pct"]
    if drop is None:
        yield _tile("Drop", "–", "a score is not a number")
    elif "paired" in data:
        low, high = data["paired"]["drop_interval_pct"]
        text = f"{points(low / 100)} to {points(high / 100)} with 95 % confidence, {margin:g} allowed"
        yield _tile("Drop, points", points(drop / 100), text, drop_plot([low, high], drop, margin))
    else:
        yield _tile("Drop, points", points(drop / 100), f"{margin:g} allowed")
    if "size" in data:
        before, after = data["size"]["bytes_float"], data["size"]["bytes"]
        times = f": {before / after:.1f} times as large" if after else ""
        yield _tile("Weight size", size(after), f"{size(before)} in float32{times}")
    yield _tile("Widths chosen", *_widths(data))


def _tile(title: str, value: str, note: str, *more: str) -> Html:
    return tag("div", tag("h2", title), tag("p", value, class_="value"), tag("p", note), *more, class_="card tile")


def _widths(data: Mapping[str, Any]) -> tuple[str, str]:
    """The widths in figures, and what they are of."""
    mixed, ladders = data.get("mixed"), data["ladders"]
    if mixed and mixed["chosen"] is not None:
        unit = str(data["settings"]["options"].get("cost", "weight_bits")).replace("_", " ")
        return f"{mixed['path'][mixed['chosen']]['cost']:.3g}", f"{unit} on average, a width for every layer"
    chosen = [str(ladder["chosen"]) for ladder in ladders.values()]
    nouns = [NOUNS.get(group, group) for group in ladders]
    return (" / ".join(chosen) or "–"), f"bits: {' / '.join(nouns)}" if nouns else "as asked"


def _size_note(data: Mapping[str, Any]) -> str:
    if "size" not in data:
        return ""
    before, after = data["size"]["bytes_float"], data["size"]["bytes"]
    return f"All parameters: {size(before)} in float32, {size(after)} in the formats chosen. The largest layers:"


def _error_cards(data: Mapping[str, Any], rows: list[Row]) -> Iterator[Html]:
    """Where the error arises, and what was done against it."""
    comparison = data.get("comparison")
    compared = [
        layer
        for layer in (comparison or {}).get("layers", ())
        if layer["formats"] is not None or math.isfinite(decibel(layer["own_db"]) or 0.0)
    ]
    if comparison and compared:
        legend = _legend(("box b", "the layer's own error"), ("line a", "gathered up to the layer"))
        note = f"Signal to noise ratio on {comparison['images']} images; higher is better. {_blame(comparison)}"
        links = {row.name: f"#{row.place}" for row in rows}
        few = len(compared) <= FEW_LAYERS
        place, width = ("error", WIDTH) if few else ("error-of-many", 2 * WIDTH)
        yield _card(place, "Where the error arises", note, legend, _wide(sqnr_plot(compared, links, width)))
    if data.get("steps"):
        note = "SQNR of the net's outputs at the widths chosen, with each rule and treatment and all before it."
        yield _card("steps", "What each step brought", note, _wide(steps_plot(data["steps"])))


def _blame(comparison: Mapping[str, Any]) -> str:
    found = []
    if comparison["worst_own"]:
        found.append(f"The worst error of its own is {comparison['worst_own']['name']}’s.")
    if comparison["steepest_fall"]:
        found.append(f"What has gathered grows most at {comparison['steepest_fall']['name']}.")
    return " ".join(found)


def _plain_table(caption: str, heads: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> Html:
    head = tag("tr", *(tag("th", title, scope="col") for title in heads))
    body = [tag("tr", *(tag("td", cell) for cell in row)) for row in rows]
    return tag("table", tag("caption", caption), tag("thead", head), tag("tbody", *body), class_="plain")


def _folded_table(title: str, table: Html) -> Html:
    return tag("details", tag("summary", title), tag("div", table, class_="scroll"), class_="numbers")


def _ladder_table(data: Mapping[str, Any]) -> Html:
    baseline = data["baseline"]["score"]
    rows = []
    for group, ladder in data["ladders"].items():
        for trial in ladder["trials"]:
            score = trial["score"]
            drop = "–" if score is None or baseline is None else points(baseline - score)
            about = f"about {number(score)}" if "images" in trial else number(score)
            rows.append(
                (NOUNS.get(group, group), f"{trial['bw']}", about, drop, "✓" * (trial["bw"] == ladder["chosen"]))
            )
    rows.append(("all together", "", number(data["combined"]["score"]), number(data["drop_pct"], 3), ""))
    heads = ("Group", "Bits", "Score", "Drop, points", "Chosen")
    return _folded_table("As a table", _plain_table("Scores of all widths tried", heads, rows))


def _mixed_table(data: Mapping[str, Any]) -> Html:
    chosen = data["mixed"]["chosen"]
    rows = [
        (f"{point['cost']:.4g}", number(point["harm"]), number(point["score"]), "✓" * (n == chosen))
        for n, point in enumerate(data["mixed"]["path"])
        if "score" in point
    ]
    heads = ("Cost, bits", "Predicted harm", "Score", "Chosen")
    return _folded_table("As a table", _plain_table("The nets that were scored", heads, rows))


def _settings(data: Mapping[str, Any]) -> Iterator[Html]:
    settings = data["settings"]
    facts = {
        "Net": settings["model"],
        "Weights": ", ".join(settings["weights"]),
        "Rounding": settings["rounding"].replace("_", " "),
        "Dialect": settings["dialect"],
        "Batches scored": str(settings["iterations"]),
        "Ranges": f"{settings['calibration_batches']} batches, phase {settings['calibration_phase']}",
        "Seed": str(settings["seed"]),
        "Made with": f"ristretto {data.get('version', '')}",
    }
    device = data.get("device")
    if device is not None:
        facts["Device"] = "CPU" if device["gpu"] is None else f"GPU {device['gpu']}"
    into = data.get("folded", {}).get("into")
    if into:
        facts["Folded"] = f"{sum(map(len, into.values()))} layers into {len(into)}"
    if data.get("equalized"):
        facts["Equalized"] = f"{sum(pair['channels'] for pair in data['equalized'])} channels"
    for name, value in settings["options"].items():
        facts[f"--{name}"] = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
    yield tag("dl", *(tag("div", tag("dt", name), tag("dd", value)) for name, value in facts.items()))
    passes = [
        (each["purpose"], join(*(f"{blob} {_mean(values)} " for blob, values in each["outputs"].items())))
        for each in data.get("passes", ())
    ]
    if passes:
        yield _folded_table("All passes", _plain_table("What each pass gave on average", ("Pass", "Outputs"), passes))


def _mean(values: list[float | None]) -> str:
    return number(values[0]) if len(values) == 1 else f"({len(values)} values)"
