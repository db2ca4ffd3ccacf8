"""The page of ``quantize --html`` and ``ristretto report``, in a real browser where there is one."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import pytest

from ristretto.report.html.page import report_page
from tests.cli.runner import MODELS, ristretto
from tests.report.reports import LADDER, command, report_of

Capture = pytest.CaptureFixture[str]

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
needs_browser = pytest.mark.skipif(CHROMIUM is None, reason="there is no chromium: apt install chromium")


@dataclass(frozen=True)
class Look:
    """What a browser made of a page: its elements once its script had run, and what its console said."""

    dom: str
    console: list[str]


def browse(page: Path, *flags: str, place: str = "") -> Look:
    assert CHROMIUM is not None
    quiet = ("--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--hide-scrollbars")
    profile = f"--user-data-dir={page.parent / 'profile'}"
    look = subprocess.run(
        [CHROMIUM, *quiet, profile, "--enable-logging=stderr", *(flags or ("--dump-dom",)), f"{page.as_uri()}{place}"],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    return Look(look.stdout, [line for line in look.stderr.splitlines() if ":CONSOLE:" in line])


def layer_table(look: Look) -> str:
    return look.dom.split('<table id="layers">')[1].split("</table>")[0]


def layer_order(look: Look) -> list[str]:
    return re.findall(r'<th scope="row" data-v="([^"]*)"', layer_table(look))


@pytest.fixture
def page(tmp_path: Path) -> Path:
    path = tmp_path / "report.html"
    path.write_text(report_page(report_of("lenet", *LADDER)), encoding="utf-8")
    return path


@needs_browser
def test_the_script_runs_and_nothing_is_wrong(page: Path) -> None:
    look = browse(page)
    layers = report_of("lenet", *LADDER)["layers"]
    assert f'data-layers="{len(layers)}"' in look.dom.split(">")[1]
    assert layer_order(look) == list(layers)
    assert look.console == []


@needs_browser
@pytest.mark.parametrize(
    ("place", "key", "descending"),
    [("#sort=sqnr", "own_db", False), ("#sort=sofar&desc", "so_far_db", True), ("#sort=macs&desc", "macs", True)],
)
def test_the_table_is_sorted_as_the_address_says(page: Path, place: str, key: str, descending: bool) -> None:
    data = report_of("lenet", *LADDER)
    compared = {layer["name"]: layer for layer in data["comparison"]["layers"]}
    look = browse(page, place=place)
    expected = sorted(
        data["layers"], key=lambda name: float({**data["layers"][name], **compared[name]}[key]), reverse=descending
    )
    assert expected != list(data["layers"])
    assert layer_order(look) == expected
    direction = "descending" if descending else "ascending"
    column = place[6:].removesuffix("&desc")
    assert re.findall(r'data-key="(\w+)" aria-sort="(\w+)"', layer_table(look)) == [(column, direction)]
    assert look.console == []


@needs_browser
def test_an_address_of_a_layer_opens_its_details(tmp_path: Path) -> None:
    data = report_of("lenet", *LADDER)
    for n in range(20):
        data["layers"][f"more{n}"] = data["layers"]["conv1"]
    page = tmp_path / "many.html"
    page.write_text(report_page(data), encoding="utf-8")
    opened = [re.findall(r'<details id="([^"]+)" open=""', browse(page, place=place).dom) for place in ("", "#layer-9")]
    assert len(opened[0]) == 1
    assert sorted(opened[1]) == sorted([*opened[0], "layer-9"])


@needs_browser
def test_no_other_script_runs_and_nothing_is_loaded(page: Path) -> None:
    more = "<script>document.title = 'taken'</script><img src='https://example.org/x.png'></body>"
    page.write_text(page.read_text(encoding="utf-8").replace("</body>", more), encoding="utf-8")
    look = browse(page)
    assert "<title>DigitsLeNet" in look.dom
    assert len(look.console) == 2
    assert all("Content Security Policy" in line for line in look.console)


@needs_browser
def test_the_pointer_tells_the_bin_below_it(page: Path) -> None:
    data = report_of("lenet", *LADDER)
    spread = data["layers"]["conv1"]["sites"]["in"]["histogram"]
    bins = len(spread["counts"])
    point = """<script>
      const plot = document.querySelector("svg.histogram"), [start, end] = plot.dataset.places.split(" ").map(Number);
      const at = new DOMPoint(start + (end - start) * 10.5 / BINS, 100).matrixTransform(plot.getScreenCTM());
      plot.dispatchEvent(new MouseEvent("mousemove", { clientX: at.x, clientY: at.y, bubbles: true }));
    </script></body>""".replace("BINS", str(bins))
    text = re.sub(r"<meta http-equiv.*?>", "", page.read_text(encoding="utf-8"), count=1)
    page.write_text(text.replace("</body>", point), encoding="utf-8")
    told = re.findall(r'<div id="tip"[^>]*>([^<]*)</div>', browse(page).dom)
    assert len(told) == 1
    low, high, count = re.fullmatch(r"(\S+) … (\S+): ([\d,]+) values", told[0]).groups()  # type: ignore[union-attr]
    width = (spread["max"] - spread["min"]) / bins
    assert float(low) == pytest.approx(spread["min"] + 10 * width, rel=1e-2)
    assert float(high) == pytest.approx(spread["min"] + 11 * width, rel=1e-2)
    assert int(count.replace(",", "")) == spread["counts"][10]


@needs_browser
def test_it_can_be_seen_light_and_dark_wide_and_narrow(page: Path) -> None:
    for scheme, width in ((1, 1280), (0, 1280), (1, 420)):
        shot = page.with_name(f"{scheme}{width}.png")
        browse(
            page,
            f"--blink-settings=preferredColorScheme={scheme}",
            f"--window-size={width},1600",
            f"--screenshot={shot}",
        )
        seen = cv2.imread(str(shot))
        assert seen is not None
        assert seen.shape[:2] == (1600, width) or width < 500  # a window has a least width
        colours = np.unique(seen.reshape(-1, 3), axis=0)
        assert len(colours) > 200
        brightness = float(np.median(seen))
        assert brightness > 200 if scheme else brightness < 60


def test_quantize_writes_the_page_that_its_report_gives(capsys: Capture, tmp_path: Path) -> None:
    both = ("--report", tmp_path / "report.json", "--html", tmp_path / "report.html")
    job = command("lenet", tmp_path)
    outcome = ristretto(capsys, *job, *LADDER, *both)
    assert outcome.status == 0, outcome.err
    outcome = ristretto(capsys, "report", "--report", tmp_path / "report.json", "--html", tmp_path / "again.html")
    assert outcome.status == 0, outcome.err
    assert outcome.out == f"{tmp_path / 'again.html'}: written\n"
    assert (tmp_path / "again.html").read_bytes() == (tmp_path / "report.html").read_bytes()
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    outcome = ristretto(capsys, *job, *LADDER, "--html", tmp_path / "alone.html")
    assert outcome.status == 0, outcome.err
    assert without_times(tmp_path / "alone.html") == without_times(tmp_path / "report.html")
    for part in ("ladder", "error", "steps", "sizes", "table", "details"):
        assert f'id="{part}"' in page


def without_times(path: Path) -> str:
    return re.sub(r"\d+(\.\d+)? s\b", "", path.read_text(encoding="utf-8"))


def test_a_page_that_cannot_be_written_is_told_before_the_job(capsys: Capture, tmp_path: Path) -> None:
    job = command("lenet", tmp_path)
    outcome = ristretto(capsys, *job, *LADDER, "--html", tmp_path / "missing" / "report.html")
    assert outcome.status == 2
    assert "missing/report.html: cannot write: the folder does not exist" in outcome.message
    same = tmp_path / "same"
    outcome = ristretto(capsys, *job, *LADDER, "--html", same, "--report", same)
    assert outcome.status == 2
    assert "two results would go into this one file" in outcome.message
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"score": 1}', "this is no report of a quantization; give what ristretto quantize --report wrote"),
        ("not JSON", "this is no JSON"),
        ('{"schema": 1, "ladders": {}, "layers": {}}', "the report cannot be drawn: 'net' is missing"),
    ],
)
def test_what_is_no_report_is_a_mistake(capsys: Capture, tmp_path: Path, text: str, message: str) -> None:
    source, page = tmp_path / "report.json", tmp_path / "report.html"
    source.write_text(text)
    page.write_text("before")
    outcome = ristretto(capsys, "report", "--report", source, "--html", page)
    assert outcome.status == 2
    assert "report.json" in outcome.message
    assert message in outcome.message
    assert page.read_text() == "before"


def test_a_report_with_details_can_still_be_applied(capsys: Capture, tmp_path: Path) -> None:
    report = tmp_path / "report.json"
    report.write_text(json.dumps(report_of("lenet", *LADDER)))
    model, output = MODELS / "digits_lenet" / "deploy.prototxt", tmp_path / "applied.prototxt"
    outcome = ristretto(capsys, "apply", "--model", model, "--formats", report, "--output", output)
    assert outcome.status == 0, outcome.err
    assert output.read_text().count("quantization_param") == 4
