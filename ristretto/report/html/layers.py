"""The layers of a net: a table that can be sorted, and each one's values in detail."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from ristretto.report.html.histograms import histogram
from ristretto.report.html.markup import Html, decibels, join, many, number, percent, power_of_two, size, tag
from ristretto.report.html.plots import decibel, small_bar

SITES = (("in", "Input"), ("out", "Output"), ("params", "Weights"))
OPENED = 6
"""Nets with no more layers than this show all details at once."""


@dataclass(frozen=True, slots=True)
class Row:
    """What is known of one layer.

    Attributes:
        number: its place among the quantized layers, from 1.
        name: its name.
        layer: its entry in the report.
        compared: its entry in the comparison; empty where there is none.
    """

    number: int
    name: str
    layer: Mapping[str, Any]
    compared: Mapping[str, Any]

    @property
    def place(self) -> str:
        """Where on the page its details are."""
        return f"layer-{self.number}"

    @property
    def sqnr(self) -> float | None:
        """Of the error that the layer makes by itself, in dB."""
        return decibel(self.compared.get("own_db"))


def layer_rows(data: Mapping[str, Any]) -> list[Row]:
    """The quantized layers in the order of the net."""
    compared: dict[str, Any] = {}
    for entry in data.get("comparison", {}).get("layers", ()):
        compared.setdefault(entry["name"], entry)
    return [
        Row(n, name, layer, compared.get(name, {})) for n, (name, layer) in enumerate(data["layers"].items(), start=1)
    ]


def format_text(entry: Mapping[str, Any] | None) -> str:
    """A format in few signs: width and fractional length, or its name."""
    if entry is None:
        return "float"
    if "fls" in entry:
        return f"<{entry['bw']}, {min(entry['fls'])}..{max(entry['fls'])}>"
    if "float_format" in entry:
        return str(entry["float_format"])
    if "exp_bits" in entry:
        return f"e{entry['exp_bits']}m{entry['mant_bits']}"
    if "exp_min" in entry:
        return f"2^{entry['exp_min']}..{entry['exp_max']}"
    return f"{'' if entry.get('signed', True) else 'u'}<{entry['bw']}, {entry['fl']}>"


def format_bits(entry: Mapping[str, Any] | None) -> float:
    """Its bits; what is not told by a number sorts as float."""
    if entry is None:
        return 32
    if "exp_bits" in entry:
        return 1 + float(entry["exp_bits"]) + float(entry["mant_bits"])
    if "exp_min" in entry:
        return 1 + int(entry["exp_max"] - entry["exp_min"]).bit_length()
    return float(entry.get("bw", 32))


_COLUMNS = (
    ("n", "#", "Place in the net"),
    ("name", "Layer", ""),
    ("in", "Input", "Format and measured range"),
    ("out", "Output", "Format and measured range"),
    ("params", "Weights", "Format and range"),
    ("sqnr", "SQNR, dB", "Of the error that the layer makes by itself"),
    ("sofar", "so far, dB", "Of the error that has gathered up to here"),
    ("satin", "in sat. %", "Share of input values beyond the format"),
    ("satout", "out sat. %", "Share of output values beyond the format"),
    ("satparams", "w. sat. %", "Share of weights beyond the format"),
    ("bytes", "Size", "Bytes of weights and biases in their formats"),
    ("macs", "MACs", "Multiply-accumulates for one image"),
)


def layer_table(rows: list[Row]) -> Html:
    """All layers, one a line; the heads sort."""
    heads = [
        tag("th", tag("button", title, type="button", data_tip=tip or None), scope="col", data_key=key)
        for key, title, tip in _COLUMNS
    ]
    best = max((row.sqnr for row in rows if row.sqnr is not None and math.isfinite(row.sqnr)), default=0.0)
    caption = tag(
        "caption",
        "Quantized layers. A format is <bits, fractional length>, u without a sign bit; below it stands the range.",
    )
    body = [tag("tr", *_cells(row, best)) for row in rows]
    table = tag("table", caption, tag("thead", tag("tr", *heads)), tag("tbody", *body), id="layers")
    return tag("div", table, class_="scroll", tabindex="0", role="region", aria_label="Table of layers")


def _cells(row: Row, best: float) -> Iterator[Html]:
    layer, sites = row.layer, row.layer.get("sites", {})
    so_far = decibel(row.compared.get("so_far_db"))
    yield tag("td", str(row.number), class_="num", data_v=float(row.number))
    name = tag("a", row.name, href=f"#{row.place}")
    yield tag("th", name, tag("small", layer["type"]), scope="row", data_v=row.name)
    for role, _ in SITES:
        yield _format_cell(layer, role)
    sqnr = small_bar(row.sqnr, best, "bar b")
    yield tag("td", decibels(row.sqnr), " ", sqnr, class_="num", data_v=_sortable(row.sqnr))
    yield tag("td", decibels(so_far), class_="num", data_v=_sortable(so_far))
    for role, _ in SITES:
        share = _saturated(sites.get(role))
        marked = "num bad" if share is not None and share >= 0.01 else "num"
        yield tag("td", percent(share), class_=marked, data_v=_sortable(share))
    size_ = layer.get("size")
    yield tag(
        "td", "–" if size_ is None else size(size_["bytes"]), class_="num", data_v=_sortable((size_ or {}).get("bytes"))
    )
    macs = layer.get("macs")
    yield tag("td", "–" if macs is None else many(macs), class_="num", data_v=_sortable(macs))


def _format_cell(layer: Mapping[str, Any], role: str) -> Html:
    entry, spread = layer.get(role), layer.get("ranges", {}).get(role)
    if entry is None and spread is None:
        return tag("td", "–", data_v="")
    seen = "" if spread is None else f"{number(spread['min'], 3)} … {number(spread['max'], 3)}"
    return tag("td", tag("span", format_text(entry), class_="format"), tag("small", seen), data_v=format_bits(entry))


def _saturated(site: Mapping[str, Any] | None) -> float | None:
    if site is None or "saturated" not in site:
        return None
    return site["saturated"] / site["elements"] if site["elements"] else 0.0


def _sortable(value: float | None) -> float | str:
    """What a column is sorted by; nothing comes last."""
    if value is None or math.isnan(value):
        return ""
    return repr(value)


def layer_details(rows: list[Row]) -> Html:
    """Each layer's histograms and numbers, opened where there are few layers, else for the worst alone."""
    worst = min((row for row in rows if row.sqnr is not None), key=lambda row: row.sqnr or 0.0, default=None)
    return join(*(_detail(row, len(rows) <= OPENED or row is worst) for row in rows))


def _detail(row: Row, opened: bool) -> Html:
    sites, layer = row.layer.get("sites", {}), row.layer
    figures = [
        _site_figure(row, role, noun, sites[role]) for role, noun in SITES if role in sites and sites[role]["elements"]
    ]
    facts = [layer["type"], f"own error {decibels(row.sqnr)} dB"]
    head = tag("summary", tag("b", row.name), " ", tag("span", " · ".join(facts)))
    return tag("details", head, tag("div", *figures, class_="histograms"), _facts(layer), id=row.place, open=opened)


def _site_figure(row: Row, role: str, noun: str, site: Mapping[str, Any]) -> Html:
    entry = row.layer.get(role)
    title = tag("b", noun, " ", tag("span", format_text(entry), class_="format"))
    drawn = Html("")
    if site.get("histogram") is not None:
        drawn = histogram(site, entry, f"How the values of {noun.lower()} of {row.name} are spread.")
    caption = tag("figcaption", tag("p", title), tag("p", " · ".join(_site_facts(site, entry))))
    return tag("figure", caption, drawn)


def _site_facts(site: Mapping[str, Any], entry: Mapping[str, Any] | None) -> Iterator[str]:
    if entry is not None and "limits" in site:
        low, high = site["limits"]
        yield f"holds {number(low)} … {number(high)}"
        if site.get("step"):
            yield f"step {power_of_two(site['step'])} = {number(site['step'])}"
        if "fls" in entry:
            yield "a step for each channel"
        yield f"{percent(_saturated(site))} % saturated"
        yield f"SQNR {decibels(site['sqnr_db']) if site['sqnr_db'] is not None else '∞'} dB"
    yield f"{many(site['elements'])} values"
    if site.get("rectified"):
        yield "negative ones go to a ReLU"


def _facts(layer: Mapping[str, Any]) -> Html:
    """The rest of what is known of a layer."""
    facts = {"Bias": format_text(layer.get("bias")) if "bias" in layer or "params" in layer else "–"}
    spread = layer.get("ranges", {}).get("bias")
    if spread is not None:
        facts["Range of biases"] = f"{number(spread['min'])} … {number(spread['max'])}"
    size_ = layer.get("size")
    if size_ is not None:
        facts["Parameters"] = f"{size_['weights']:,} weights, {size_['biases']:,} biases"
        facts["Size"] = f"{size(size_['bytes_float'])} in float32, {size(size_['bytes'])} now"
    if layer.get("macs") is not None:
        facts["Multiply-accumulates"] = f"{layer['macs']:,} for one image"
    return tag("dl", *(tag("div", tag("dt", name), tag("dd", value)) for name, value in facts.items()))
