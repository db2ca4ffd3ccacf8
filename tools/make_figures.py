"""Draw the figures of the documentation, docs/figures/*.svg, from the number formats themselves.

python tools/make_figures.py            write them
python tools/make_figures.py --check    say which are out of date; exit status 1 if any is
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ristretto.atomic import atomic_write_text
from ristretto.formats import FixedPoint, Minifloat, Rounding

FOLDER = Path(__file__).resolve().parent.parent / "docs" / "figures"

STYLE = """
  text { font: 14px system-ui, sans-serif; fill: #24292f; }
  .small { font-size: 12px; } .mono { font-family: ui-monospace, monospace; font-size: 13px; }
  .middle { text-anchor: middle; } .end { text-anchor: end; }
  .soft { fill: #6e7781; } .head { font-weight: 600; } .hot { fill: #b3541e; } .cool { fill: #1f6f8b; }
  .line { stroke: #57606a; stroke-width: 1.5; fill: none; } .thin { stroke: #afb8c1; stroke-width: 1; fill: none; }
  .hotline { stroke: #b3541e; stroke-width: 2; fill: none; } .coolline { stroke: #1f6f8b; stroke-width: 2; fill: none; }
  .box { fill: #f6f2ee; stroke: #8a6d5a; stroke-width: 1.5; }
  .bit { fill: #eef4f7; stroke: #1f6f8b; stroke-width: 1.2; }
  .hotbox { fill: #fbe9df; stroke: #b3541e; stroke-width: 1.5; } .dot { fill: #1f6f8b; } .hotdot { fill: #b3541e; }
  @media (prefers-color-scheme: dark) {
    text { fill: #e6edf3; } .soft { fill: #9aa4af; } .hot { fill: #f0a070; } .cool { fill: #79c0d8; }
    .line { stroke: #9aa4af; } .thin { stroke: #484f58; } .hotline { stroke: #f0a070; } .coolline { stroke: #79c0d8; }
    .box { fill: #2b2520; stroke: #c09a80; } .bit { fill: #17272e; stroke: #79c0d8; }
    .hotbox { fill: #3a251a; stroke: #f0a070; } .dot { fill: #79c0d8; } .hotdot { fill: #f0a070; }
  }
"""


def array(values: Sequence[float]) -> NDArray[np.float32]:
    """Values as formats take them."""
    return np.array(values, np.float32)


@dataclass
class Drawing:
    """A figure, built up element by element; x and y are in pixels from the upper left corner."""

    width: int
    height: int
    title: str
    parts: list[str] = field(default_factory=list)

    def text(self, x: float, y: float, words: str, look: str = "") -> None:
        """Words, from x on, or around it with the look "middle"."""
        escaped = words.replace("&", "&amp;").replace("<", "&lt;")
        self.parts.append(f'<text x="{x:g}" y="{y:g}" class="{look}">{escaped}</text>')

    def line(self, *points: float, look: str = "line", arrow: bool = False) -> None:
        """A line through points, x and y by turns."""
        pairs = " ".join(f"{x:g},{y:g}" for x, y in zip(points[::2], points[1::2], strict=True))
        end = ' marker-end="url(#tip)"' if arrow else ""
        self.parts.append(f'<polyline points="{pairs}" class="{look}"{end}/>')

    def box(self, x: float, y: float, width: float, height: float, look: str = "box") -> None:
        """A rectangle with round corners."""
        self.parts.append(f'<rect x="{x:g}" y="{y:g}" width="{width:g}" height="{height:g}" rx="6" class="{look}"/>')

    def dot(self, x: float, y: float, look: str = "dot") -> None:
        """A dot."""
        self.parts.append(f'<circle cx="{x:g}" cy="{y:g}" r="4.5" class="{look}"/>')

    def labelled(self, x: float, y: float, width: float, words: tuple[str, ...], look: str = "box") -> None:
        """A box with a heading and lines below it, all centred."""
        self.box(x, y, width, 22 + 18 * len(words), look)
        for number, word in enumerate(words):
            self.text(x + width / 2, y + 24 + 18 * number, word, f"middle {'head' if number == 0 else 'small soft'}")

    def svg(self) -> str:
        """The figure as a file."""
        tip = (
            '<defs><marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto">'
            '<path d="M0,0 L8,4 L0,8 z" class="soft"/></marker></defs>'
        )
        head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {self.width} {self.height}" width="{self.width}"'
        body = "\n  ".join([f"<title>{self.title}</title>", f"<style>{STYLE}  </style>", tip, *self.parts])
        return f'{head} height="{self.height}" role="img">\n  {body}\n</svg>\n'


def flow() -> Drawing:
    """What goes into the tool and what comes out."""
    figure = Drawing(760, 250, "From a trained net to fixed point")
    for number, given in enumerate(("train_val.prototxt", "net.caffemodel", "images, LMDB")):
        figure.labelled(10, 20 + 70 * number, 160, (given,))
        figure.line(170, 40 + 70 * number, 232, 110, arrow=True)
    steps = ("ristretto quantize", "score the float net", "measure ranges", "search bit-widths", "score the result")
    figure.labelled(240, 50, 190, steps, "hotbox")
    results = (
        ("quantized.prototxt", "the same text, with formats"),
        ("report.json", "scores, ranges, each layer"),
        ("quantized.caffemodel", "if weights may change"),
    )
    for number, words in enumerate(results):
        figure.line(430, 110, 502, 44 + 72 * number, arrow=True)
        figure.labelled(510, 14 + 72 * number, 240, words)
    return figure


def number_line() -> Drawing:
    """The values of fixed point formats of 4 bits, with their codes."""
    figure = Drawing(760, 330, "The values of fixed point formats of four bits")
    formats = (FixedPoint(4, 2), FixedPoint(4, 1), FixedPoint(4, 2, signed=False))
    scale, zero = 80.0, 370.0
    for number, fmt in enumerate(formats):
        y = 70.0 + 90 * number
        figure.line(30, y, 730, y, look="thin")
        sign = "signed" if fmt.signed else "no sign bit"
        label = f"bw {fmt.bw}, fl {fmt.fl}, {sign}: steps of {2.0**-fmt.fl:g}, from {fmt.min:g} to {fmt.max:g}"
        figure.text(30, y - 32, label, "head")
        low = -(2 ** (fmt.bw - 1)) if fmt.signed else 0
        for code in range(low, low + 2**fmt.bw):
            x = zero + scale * code * 2.0**-fmt.fl
            figure.dot(x, y)
            figure.text(x, y - 10, f"{code}", "middle small soft")
            if code % 2**fmt.fl == 0:
                figure.text(x, y + 22, f"{code * 2.0**-fmt.fl:g}", "middle small")
    figure.text(30, 318, "above each dot: the code that is stored; below: the value, code x 2^-fl", "small soft")
    return figure


def rounding() -> Drawing:
    """What becomes of a value: a staircase between the two ends of the format."""
    fmt = FixedPoint(3, 0)
    figure = Drawing(760, 420, "Rounding and saturation")
    zero_x, zero_y, scale = 270.0, 215.0, 36.0
    figure.line(zero_x - 6.6 * scale, zero_y, zero_x + 6.4 * scale, zero_y, look="thin")
    figure.line(zero_x, zero_y + 5.2 * scale, zero_x, zero_y - 4.6 * scale, look="thin")
    for value in range(-6, 7):
        figure.text(zero_x + scale * value, zero_y + 16, f"{value}" if value else "", "middle small soft")
    figure.text(zero_x + 6.4 * scale, zero_y - 8, "x", "end")
    figure.text(zero_x + 8, zero_y - 4.3 * scale, "stored value")
    inputs = np.linspace(-6.5, 6.2, 1271).astype(np.float32)
    for rule, look in ((Rounding.TRUNCATE, "coolline"), (Rounding.HALF_EVEN, "hotline")):
        outputs = fmt.quantize(inputs, rule)
        points: list[float] = []
        for index, (x, y) in enumerate(zip(inputs.tolist(), outputs.tolist(), strict=True)):
            ends = index in (0, len(inputs) - 1) or outputs[index - 1] != y or outputs[index + 1] != y
            if ends:
                points += [zero_x + scale * x, zero_y - scale * y]
        figure.line(*points, look=look)
    figure.line(zero_x + 3.0 * scale, zero_y - 3.6 * scale, zero_x + 6.2 * scale, zero_y - 3.6 * scale, look="thin")
    figure.text(zero_x + 3.2 * scale, zero_y - 3.7 * scale, f"saturates at {fmt.max:g}", "small")
    figure.text(zero_x - 6.5 * scale, zero_y + 4.6 * scale, f"saturates at {fmt.min:g}", "small")
    figure.text(545, 60, "bw 3, fl 0", "head")
    figure.line(545, 84, 575, 84, look="hotline")
    figure.text(585, 89, "half to even: 0.5", "small")
    figure.text(585, 106, "becomes 0, 1.5 becomes 2", "small")
    figure.line(545, 134, 575, 134, look="coolline")
    figure.text(585, 139, "truncate: the bits are", "small")
    figure.text(585, 156, "cut off, always down", "small")
    rows = [["x", "even", "away", "up", "cut"]]
    rules = (Rounding.HALF_EVEN, Rounding.HALF_AWAY, Rounding.HALF_UP, Rounding.TRUNCATE)
    for half in (-1.5, -0.5, 0.5, 1.5, 2.5):
        rounded = (float(fmt.quantize(array([half]), rule)[0]) + 0.0 for rule in rules)
        rows.append([f"{half:g}", *(f"{result:g}" for result in rounded)])
    columns = (548, 604, 658, 706, 754)
    for number, row in enumerate(rows):
        for column, cell in zip(columns, row, strict=True):
            figure.text(column, 210 + 22 * number, cell, f"end small {'head' if number == 0 else ''}")
    figure.text(545, 190, "halves, by rule", "small soft")
    return figure


def data_path() -> Drawing:
    """What a quantized layer does with codes, with the figures of one product sum."""
    x, w, out = FixedPoint(8, 5), FixedPoint(8, 7), FixedPoint(8, 4)
    xs, ws, bias = array([1.25, -0.5, 3.0]), array([0.75, 0.5, -0.375]), array([2.015625])
    codes_x, codes_w = x.encode(xs).tolist(), w.encode(ws).tolist()
    scale = x.fl + w.fl
    code_bias = round(float(bias[0]) * 2**scale)
    total = sum(a * b for a, b in zip(codes_x, codes_w, strict=True)) + code_bias
    stored = int(out.encode(array([total * 2.0**-scale]))[0])
    figure = Drawing(760, 400, "The data path of a quantized layer")
    figure.labelled(10, 20, 170, ("input codes", f"{x.bw} bits, fl {x.fl}", ", ".join(map(str, codes_x))))
    figure.labelled(10, 120, 170, ("weight codes", f"{w.bw} bits, fl {w.fl}", ", ".join(map(str, codes_w))))
    figure.labelled(10, 220, 170, ("bias", f"fl {scale}", f"{code_bias}"))
    figure.labelled(240, 60, 150, ("multiply", "exact, 16 bits"), "hotbox")
    figure.line(180, 58, 236, 82, arrow=True)
    figure.line(180, 158, 236, 110, arrow=True)
    figure.labelled(240, 180, 150, ("accumulate", f"32 bits, fl {scale}", f"{total}"), "hotbox")
    figure.line(315, 118, 315, 174, arrow=True)
    figure.line(180, 256, 236, 226, arrow=True)
    shift = scale - out.fl
    figure.labelled(
        440, 170, 150, ("shift, round", f"by {scale} - {out.fl} = {shift} bits", f"{total} / 2^{shift}"), "hotbox"
    )
    figure.line(390, 216, 436, 216, arrow=True)
    figure.labelled(440, 290, 150, ("saturate", f"to {-(2 ** (out.bw - 1))} .. {2 ** (out.bw - 1) - 1}"), "hotbox")
    figure.line(515, 248, 515, 284, arrow=True)
    figure.labelled(630, 280, 120, ("output code", f"{out.bw} bits, fl {out.fl}", f"{stored}"))
    figure.line(590, 318, 626, 318, arrow=True)
    terms = " + ".join(f"{a:g} x {b:g}" for a, b in zip(xs.tolist(), ws.tolist(), strict=True))
    exact = float(np.dot(xs.astype(np.float64), ws.astype(np.float64))) + float(bias[0])
    figure.text(440, 60, "in values:", "small soft")
    figure.text(440, 82, f"{terms}".replace("+ -", "- ").replace("x -", "x -"), "small")
    figure.text(440, 104, f"+ {bias[0]:.8g} = {exact:.8g}", "small")
    figure.text(440, 126, f"stored: {stored} x 2^-{out.fl} = {stored * 2.0**-out.fl:g}", "small")
    figure.text(10, 372, "between the first multiplication and the shift nothing is rounded", "small soft")
    return figure


def minifloat() -> Drawing:
    """The bits of a minifloat and where its values lie."""
    fmt = Minifloat(3, 2)
    figure = Drawing(760, 300, "A minifloat of three exponent and two mantissa bits")
    x = 30.0
    for count, name, look in ((1, "sign", "hotbox"), (3, "exponent", "bit"), (2, "mantissa", "box")):
        for _ in range(count):
            figure.box(x, 30, 34, 34, look)
            x += 38
        figure.text(x - 19 * count - 2, 86, name, "middle small soft")
    bias = 2 ** (fmt.exp_bits - 1) - 1
    figure.text(300, 44, f"value = 2^(exponent - {bias}) x (1 + mantissa / 4)", "mono")
    figure.text(300, 68, f"exp_bits {fmt.exp_bits}, mant_bits {fmt.mant_bits}: from 2^-{bias} to {fmt.max:g}", "small")
    values = sorted({2.0 ** (e - bias) * (1 + m / 4) for e in range(2**fmt.exp_bits) for m in range(4)})
    assert np.array_equal(fmt.quantize(array(values)), array(values))
    scale = 690 / values[-1]
    figure.line(30, 160, 740, 160, look="thin")
    figure.text(30, 128, "minifloat: close to zero the steps are small, each power of two doubles them", "head")
    for value in (0.0, *values):
        figure.dot(30 + scale * value, 160, "hotdot")
    fixed = FixedPoint(6, 1)
    figure.line(30, 240, 740, 240, look="thin")
    figure.text(30, 208, f"fixed point of as many bits (bw {fixed.bw}, fl {fixed.fl}): all steps are alike", "head")
    for code in range(2 ** (fixed.bw - 1)):
        figure.dot(30 + scale * code * 2.0**-fixed.fl, 240)
    for value in (0, 4, 8, 12, 16, 20, 24, 28):
        figure.text(30 + scale * value, 184, f"{value}", "middle small soft")
        if value <= fixed.max:
            figure.text(30 + scale * value, 264, f"{value}", "middle small soft")
    return figure


def favicon() -> Drawing:
    """A cup with three steps of a staircase rising from it."""
    figure = Drawing(32, 32, "Ristretto")
    figure.parts += [
        '<path d="M5 16 h18 v6 a6 6 0 0 1 -6 6 h-6 a6 6 0 0 1 -6 -6 z" class="hotdot"/>',
        '<path d="M23 18 h2 a3 3 0 0 1 0 6 h-3" class="hotline"/>',
        '<path d="M7 13 h5 v-4 h5 v-4 h5" class="coolline"/>',
    ]
    return figure


FIGURES: dict[str, Callable[[], Drawing]] = {
    "flow": flow,
    "number_line": number_line,
    "rounding": rounding,
    "data_path": data_path,
    "minifloat": minifloat,
    "favicon": favicon,
}


def main() -> int:
    """Write the figures, or say which differ from what would be written."""
    old = 0
    for name, draw in FIGURES.items():
        path, text = FOLDER / f"{name}.svg", draw().svg()
        if path.exists() and path.read_text(encoding="utf-8") == text:
            continue
        if "--check" in sys.argv[1:]:
            print(f"{path.name} is out of date: python tools/make_figures.py")
            old = 1
        else:
            atomic_write_text(path, text)
            print(path.name)
    return old


if __name__ == "__main__":
    sys.exit(main())
