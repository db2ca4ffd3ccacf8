"""The library's face: its names and signatures, its how-to, its types, and how quickly it is imported."""

from __future__ import annotations

import inspect
import os
import re
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import pytest

import ristretto
from ristretto import formats, keywords
from ristretto.pipeline.convert import ConvertOptions
from ristretto.pipeline.doctor import DoctorOptions
from ristretto.pipeline.evaluate import NetOptions
from ristretto.pipeline.export import ExportOptions
from ristretto.pipeline.finetune import FinetuneOptions
from ristretto.pipeline.init import InitOptions
from ristretto.pipeline.options import QuantizeOptions
from tests.cli.runner import MODELS

ROOT = Path(__file__).parents[1]
HOW_TO = ROOT / "docs" / "python.md"

SIGNATURES = {
    "apply": "model, formats, output, *, dialect='extended', plugins=()",
    "compare": "model, weights, against, against_weights=(), images=64, **options",
    "convert": "model, weights, output, **options",
    "convert_dialect": "model, output, to, source='auto', *, nearest=False, plugins=()",
    "doctor": "model, weights=(), **options",
    "evaluate": "model, weights=(), iterations=50, score=None, *, score_script=None, **options",
    "export_net": "model, weights, output, target='hardware', **options",
    "finetune_net": "solver, weights=(), **options",
    "fold": "model, weights, output, output_weights, *, phase='TEST', level=0, stages=()",
    "init": "model, images, output, **options",
    "inspect": "model, weights=(), *, phase='TEST', data_root=None, plugins=(), level=0, stages=()",
    "load_net": "model, weights=(), **options",
    "quantize": "model, weights, **options",
    "run": "model, weights=(), blobs=None, batch=0, **options",
    "upgrade": "model, output, weights=None, output_weights=None",
    "verify": "report, tolerance=1e-06, *, untrusted=False, data_root=None",
    "write_page": "report, path",
    "write_report": "report, path",
}
NET = {
    "run": "self, inputs=None, blobs=None, batch=0",
    "evaluate": "self, iterations=50, score=None, *, score_script=None",
    "with_formats": "self, formats",
}
NET_FACTS = {"name", "phase", "layers", "inputs", "outputs", "blobs", "formats"}
USER = """
import numpy as np

import ristretto
from ristretto import formats

report: ristretto.Report = ristretto.quantize("m", ["w"], bw_activations=8, rounding="half_up", ladder=[8, 4])
score: float = report.combined.score
net: ristretto.Net = ristretto.load_net("m", "w", phase="TEST", arithmetic="float64")
blobs = net.run({"data": np.zeros((1, 3, 4, 4))}, blobs=["prob"])
top: int = int(blobs["prob"].argmax())
rounded = formats.FixedPoint(bw=8, fl=5).quantize(np.zeros(3, np.float32))
other: ristretto.Net = net.with_formats({"conv1": formats.LayerFormats(params=formats.parse("<8, 5>"))})
evaluation: ristretto.Evaluation = ristretto.evaluate("m", "w", "all")
missing: tuple[str, ...] = ristretto.apply("m", report, "o").missing
"""
MISTAKES = (
    'ristretto.quantize("m", "w", bw_activation=8)',
    'ristretto.quantize("m", "w", rounding="up")',
    'ristretto.load_net("m", "w", threads="many")',
    'ristretto.evaluate("m", "w").scored.scor',
    "formats.FixedPoint(8)",
    'ristretto.load_net("m").run(["data"])',
)


def written(function: object) -> str:
    """A function's parameters without their types."""
    parameters = inspect.signature(function).parameters.values()  # type: ignore[arg-type]
    bare = [parameter.replace(annotation=inspect.Parameter.empty) for parameter in parameters]
    return str(inspect.Signature(bare))[1:-1]


def test_names_and_signatures_stay() -> None:
    others = {"Evaluation", "Net", "Report", "RistrettoError", "__version__", "formats"}
    assert set(ristretto.__all__) == set(SIGNATURES) | others
    assert {name: written(getattr(ristretto, name)) for name in SIGNATURES} == SIGNATURES
    assert {name: written(getattr(ristretto.Net, name)) for name in NET} == NET
    public = {name for name in vars(ristretto.Net) if not name.startswith("_")}
    assert public == set(NET) | NET_FACTS | {"load"}
    assert set(formats.__all__) == {
        "NAMED", "ChannelFixedPoint", "FixedPoint", "Format", "LayerFormats", "Minifloat", "PowerOfTwo", "Rounding",
        "ValueFormat", "describe", "parse",
    }  # fmt: skip
    assert set(ristretto.__all__) <= set(dir(ristretto))
    with pytest.raises(AttributeError, match="no attribute 'quantise'"):
        ristretto.quantise  # type: ignore[attr-defined]  # noqa: B018


@pytest.mark.parametrize("name", [*SIGNATURES, "Net"])
def test_every_name_is_documented(name: str) -> None:
    found = getattr(ristretto, name)
    assert found.__doc__
    if name in SIGNATURES:
        assert "Raises:" in found.__doc__
        for parameter in inspect.signature(found).parameters:
            assert re.search(rf"^ +(\*\*)?{parameter}: ", found.__doc__, re.MULTILINE), parameter
    assert f"{name}(" in HOW_TO.read_text() or f"`{name}`" in HOW_TO.read_text() or name == "Net"


@pytest.mark.parametrize(
    ("typed", "options", "first", "apart"),
    [
        (keywords.QuantizeKeywords, QuantizeOptions, 2, set()),
        (keywords.NetKeywords, NetOptions, 2, set()),
        (keywords.ConvertKeywords, ConvertOptions, 3, {"version"}),
        (keywords.DoctorKeywords, DoctorOptions, 2, set()),
        (keywords.FinetuneKeywords, FinetuneOptions, 2, set()),
        (keywords.ExportKeywords, ExportOptions, 3, {"target", "version"}),
        (keywords.InitKeywords, InitOptions, 3, set()),
    ],
)
def test_keywords_are_the_options(typed: type, options: type, first: int, apart: set[str]) -> None:
    """Whoever adds an option adds it to ristretto/keywords.py too."""
    names = [field.name for field in fields(options)]
    given = [name for name in names[first:] if name not in apart]
    assert set(typed.__annotations__) == {*given}
    assert len(given) == len(names) - first - len(apart)


def test_importing_it_is_quick() -> None:
    code = "import sys, ristretto; print({'numpy', 'onnx', 'onnxruntime', 'google', 'cv2', 'click'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"


def test_the_how_to_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    for entry in MODELS.iterdir():
        (tmp_path / entry.name).symlink_to(entry)
    monkeypatch.chdir(tmp_path)
    scope: dict[str, object] = {}
    blocks = re.findall(r"^```python\n(.*?)^```$", HOW_TO.read_text(), re.DOTALL | re.MULTILINE)
    assert len(blocks) == HOW_TO.read_text().count("```python")
    for block in blocks:
        exec(compile(block, str(HOW_TO), "exec"), scope)
    told = capsys.readouterr().out
    assert "0.985 -> 0.97" in told
    assert "gone.caffemodel: cannot read the weights" in told
    for name in ("quantized.prototxt", "report.json", "deploy_quantized.prototxt", "net.onnx"):
        assert (tmp_path / name).stat().st_size


@pytest.mark.slow
def test_a_users_program_is_checked_strictly(tmp_path: Path) -> None:
    program = tmp_path / "user.py"
    program.write_text(USER + "\n".join(MISTAKES) + "\n")
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "--no-error-summary", "--cache-dir", tmp_path / "cache", program],
        cwd=tmp_path,
        env={**os.environ, "MYPYPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    found = [int(line.split(":")[1]) for line in done.stdout.splitlines() if ": error:" in line and "user.py" in line]
    first = USER.count("\n") + 1
    assert sorted(set(found)) == list(range(first, first + len(MISTAKES))), done.stdout + done.stderr


def test_the_marker_of_types_is_in_the_wheel() -> None:
    hatch = pytest.importorskip("hatchling.builders.wheel", reason="hatchling is not installed")
    packed = {file.distribution_path for file in hatch.WheelBuilder(str(ROOT)).recurse_included_files()}
    assert "ristretto/py.typed" in packed
