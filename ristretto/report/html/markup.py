"""HTML that cannot be broken by what it shows: whatever is not markup already is escaped."""

from __future__ import annotations

import html
import math
import re

_SUPERSCRIPTS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
_CONTROLS = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ud800-\udfff]")
_VOID = frozenset({"br", "col", "input", "meta"})

Attribute = str | float | bool | None


class Html(str):
    """Markup; any other str is text."""

    __slots__ = ()


def escaped(text: str) -> Html:
    """Text as markup; markup stays as it is. What HTML cannot hold becomes a replacement character."""
    return text if isinstance(text, Html) else Html(html.escape(_CONTROLS.sub("\ufffd", text)))


def join(*parts: str) -> Html:
    """Markup and text, one after the other."""
    return Html("".join(map(escaped, parts)))


def tag(name: str, /, *children: str, **attributes: Attribute) -> Html:
    """An element; text among its children is escaped.

    >>> tag("td", "a < b", class_="text", data_v=0.5)
    '<td class="text" data-v="0.5">a &lt; b</td>'

    Args:
        name: its name.
        children: what is in it.
        attributes: a trailing underscore is dropped, others become dashes, but in viewBox; None and False are left
            out, numbers are rounded to hundredths.
    """
    written = []
    for key, value in attributes.items():
        if value is None or value is False:
            continue
        attribute = key.rstrip("_").replace("_", "-")
        written.append(f" {attribute}" if value is True else f' {attribute}="{_attribute(value)}"')
    head = f"<{name}{''.join(written)}>"
    return Html(head) if name in _VOID else Html(f"{head}{join(*children)}</{name}>")


def _attribute(value: str | float) -> str:
    return escaped(value) if isinstance(value, str) else short(value)


def short(value: float) -> str:
    """A coordinate, to hundredths.

    >>> short(3.0), short(2.506)
    ('3', '2.51')
    """
    return f"{value:.2f}".rstrip("0").rstrip(".") if not float(value).is_integer() else str(int(value))


def number(value: float | None, digits: int = 4) -> str:
    """A number for people, with a real minus sign; a dash where there is none.

    >>> number(-0.00012345), number(524288.0), number(None)
    ('−0.0001234', '524,288', '–')
    """
    if value is None or math.isnan(value):
        return "–"
    value += 0.0  # no -0
    if math.isinf(value):
        return "∞" if value > 0 else "−∞"
    if value and (abs(value) >= 1e9 or abs(value) < 1e-5):
        mantissa, exponent = f"{value:.{digits - 1}e}".split("e")
        mantissa = mantissa.rstrip("0").rstrip(".") if "." in mantissa else mantissa
        return f"{mantissa}·10{str(int(exponent)).translate(_SUPERSCRIPTS)}".replace("-", "−")
    if abs(value) >= 1000:
        return f"{value:,.0f}".replace("-", "−")
    return f"{value:.{digits}g}".replace("-", "−")


def decibels(value: float | None) -> str:
    """A signal to noise ratio."""
    if value is None:
        return "–"
    return f"{value:.1f}".replace("-", "−") if math.isfinite(value) else number(value)


def percent(share: float | None) -> str:
    """A share from 0 to 1 in percent; what is more than nothing never reads 0.

    >>> percent(0.0), percent(0.0579), percent(1e-7)
    ('0', '5.79', '<0.01')
    """
    if share is None:
        return "–"
    if share == 0:
        return "0"
    return "<0.01" if share < 1e-4 else f"{100 * share:.2f}"


def size(count: float) -> str:
    """Bytes for people.

    >>> size(512), size(55848), size(4.99e6)
    ('512 B', '54.5 KiB', '4.76 MiB')
    """
    value = float(count)
    for unit in ("B", "KiB", "MiB"):
        if value < 1024:
            return f"{value:.3g} {unit}" if value < 1000 else f"{value:.0f} {unit}"
        value /= 1024
    return f"{value:.3g} GiB"


def shortened(name: str, most: int) -> str:
    """A name of no more than so many letters; its end, which tells layers apart, is kept longer than its beginning.

    >>> shortened("inception_4a/3x3_reduce", 15)
    'incep…x3_reduce'
    """
    head = most // 3
    return name if len(name) <= most else f"{name[:head]}…{name[len(name) - (most - head - 1) :]}"


def many(count: float) -> str:
    """A large number, shortened.

    >>> many(640), many(57600), many(8.6e8)
    ('640', '57.6 k', '860 M')
    """
    for unit, suffix in ((1e9, " G"), (1e6, " M"), (1e3, " k")):
        if count >= unit:
            return f"{count / unit:.3g}{suffix}" if count < 1000 * unit else f"{count / unit:,.0f}{suffix}"
    return f"{count:g}"


def power_of_two(value: float) -> str:
    """A power of two as one.

    >>> power_of_two(0.03125)
    '2⁻⁵'
    """
    return "2" + str(math.frexp(value)[1] - 1).translate(_SUPERSCRIPTS)
