"""Plug-ins: layer types that the tool learns from a user's code, and how it refuses bad ones."""

from __future__ import annotations

import doctest
import re
from collections.abc import Iterator
from contextlib import suppress
from importlib.metadata import EntryPoint
from pathlib import Path

import numpy as np
import pytest

import ristretto
import ristretto.plugin
from ristretto.caffe.catalogue.registry import known_types
from ristretto.caffe.net import build_net, read_prototxt
from ristretto.caffe.textproto import parse
from ristretto.caffe.weights import LayerWeights, read_weights, write_caffemodel
from ristretto.decide.plan import QuantPlan, group_of
from ristretto.dialects.fields import read_plan
from ristretto.dialects.prototxt import write_plan
from ristretto.errors import NetError, UsageError
from ristretto.graph.registry import emitted_types
from ristretto.numerics.formats import DynamicFixedPoint
from ristretto.numerics.layer_formats import LayerFormats
from ristretto.pipeline import plugins
from ristretto.pipeline.plugins import load_plugins, registrations_undone_on_error
from tests.cli.runner import ristretto as program

HOW_TO = Path(__file__).parents[2] / "docs" / "plugins.md"
Capture = pytest.CaptureFixture[str]


class _UndoError(Exception):
    pass


@pytest.fixture(autouse=True)
def unplugged(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Whatever a test registers is taken away after it."""
    monkeypatch.setattr(plugins, "_loaded", {})
    with suppress(_UndoError), registrations_undone_on_error():
        yield
        raise _UndoError


def blocks_of_the_how_to() -> list[str]:
    return re.findall(r"^```\w*\n(.*?)^```$", HOW_TO.read_text(), re.DOTALL | re.MULTILINE)


def write_plugin(folder: Path, code: str, name: str = "mine.py") -> Path:
    path = folder / name
    path.write_text(code)
    return path


@pytest.fixture
def example(tmp_path: Path) -> Path:
    """The how-to's plug-in, and around its layer a net, weights and data."""
    code, layer, *_ = blocks_of_the_how_to()
    write_plugin(tmp_path, code)
    (tmp_path / "net.prototxt").write_text(
        'layer { name: "in" type: "Input" top: "data" input_param { shape { dim: 2 dim: 3 dim: 4 dim: 4 } } }\n'
        + layer
        + 'layer { name: "fc" type: "InnerProduct" bottom: "mine" top: "fc" inner_product_param { num_output: 5 } }\n'
        + 'layer { name: "prob" type: "Softmax" bottom: "fc" top: "prob" }\n'
    )
    rng = np.random.default_rng(0)
    shapes = {"mine": [(8, 3), (8,)], "fc": [(5, 128), (5,)]}
    weights = [
        LayerWeights(name, "", tuple(rng.standard_normal(shape, np.float32) for shape in wanted))
        for name, wanted in shapes.items()
    ]
    write_caffemodel(tmp_path / "net.caffemodel", "net", weights)
    np.savez(tmp_path / "data.npz", data=rng.standard_normal((2, 3, 4, 4), np.float32))
    return tmp_path


def my_conv(folder: Path) -> np.ndarray:
    """What the how-to's layer makes of the data, in numpy."""
    data = np.load(folder / "data.npz")["data"]
    weight, bias = ristretto_weights(folder)
    return 0.5 * (np.einsum("nchw,oc->nohw", data, weight) + bias[:, None, None])


def ristretto_weights(folder: Path) -> tuple[np.ndarray, ...]:
    return read_weights([folder / "net.caffemodel"]).get("mine")


def test_the_docstring_runs() -> None:
    result = doctest.testmod(ristretto.plugin)
    assert result.attempted > 0
    assert result.failed == 0
    assert "Gate" in known_types() & emitted_types()


def test_the_how_to_runs_in_the_library(example: Path) -> None:
    options = {"inputs": example / "data.npz", "plugins": [example / "mine.py"]}
    for _ in range(2):  # a plug-in is imported once, whoever asks
        result = ristretto.run(example / "net.prototxt", example / "net.caffemodel", blobs=["mine"], **options)
        np.testing.assert_allclose(result["mine"], my_conv(example), rtol=0, atol=1e-5)


def test_the_how_to_is_quantized_and_run_by_the_program(example: Path, capsys: Capture) -> None:
    net = ("--weights", example / "net.caffemodel", "--inputs", example / "data.npz")
    plugin = ("--plugin", example / "mine.py")
    output = example / "q.prototxt"
    widths = ("--bw_conv_params", 6, "--bw_fc_params", 7, "--bw_activations", 9)
    outcome = program(
        capsys, "quantize", "--model", example / "net.prototxt", *net, *plugin, *widths,
        "--model_quantized", output, "--trimming_mode", "dynamic_fixed_point", "--report", example / "r.json",
    )  # fmt: skip
    assert outcome.status == 0, outcome.err
    assert "not known" not in outcome.err
    plan = read_plan(build_net(read_prototxt(output))).layers
    assert (plan["mine"].params.bw, plan["mine"].output.bw, plan["fc"].params.bw) == (6, 9, 7)
    assert 'type: "MyConv"' in output.read_text()

    outcome = program(
        capsys, "run", "--model", output, *net, *plugin, "--blobs", "mine", "--outputs", example / "o.npz"
    )
    assert outcome.status == 0, outcome.err
    weight, bias = ristretto_weights(example)
    weight, bias = plan["mine"].params.quantize(weight), plan["mine"].bias.quantize(bias)
    data = plan["mine"].input.quantize(np.load(example / "data.npz")["data"])
    float_top = np.float32(0.5) * (np.einsum("nchw,oc->nohw", data, weight) + bias[:, None, None])
    np.testing.assert_allclose(
        np.load(example / "o.npz")["mine"], plan["mine"].output.quantize(float_top), rtol=0, atol=1e-6
    )
    assert np.abs(float_top - my_conv(example)).max() > 1e-3

    again = example / "again.prototxt"
    outcome = program(
        capsys,
        "apply",
        "--model",
        example / "net.prototxt",
        "--formats",
        example / "r.json",
        "--output",
        again,
        *plugin,
    )
    assert outcome.status == 0, outcome.err
    assert again.read_text() == output.read_text()
    for arguments in (
        ("convert", "--model", output, *net[:2], *plugin, "--output", example / "net.onnx"),
        ("inspect", "--model", output, *net[:2], *plugin),
    ):
        outcome = program(capsys, *arguments)
        assert outcome.status == 0, outcome.err
        assert "mine" in outcome.out or "input data: N x 3 x 4 x 4" in outcome.out


PYTHON_LAYER = (
    'layer { name: "in" type: "Input" top: "data" input_param { shape { dim: 2 dim: 3 } } }\n'
    'layer { name: "p" type: "Python" bottom: "data" top: "p" '
    'python_param { module: "layers.double" layer: "Double" param_str: "3" } }\n'
)
DOUBLE = """
from ristretto.plugin import LayerShapes, emits, parameters, shape_rule

@shape_rule({names})
def shapes(layer, inputs):
    return LayerShapes(inputs)

@emits({names})
def emit(context):
    factor = float(parameters(context.layer, "python_param")["param_str"])
    return [context.op("Mul", context.inputs[0], context.nodes.floats(factor))]
"""


@pytest.mark.parametrize("name", ["Double", "Python:Double"])
def test_a_layer_of_python_code_is_plugged_in_by_its_class(tmp_path: Path, name: str) -> None:
    model, plugin = tmp_path / "net.prototxt", write_plugin(tmp_path, DOUBLE.format(names=f'"{name}"'))
    model.write_text(PYTHON_LAYER)
    np.savez(tmp_path / "data.npz", data=np.ones((2, 3), np.float32))
    result = ristretto.run(model, inputs=tmp_path / "data.npz", plugins=plugin)
    np.testing.assert_array_equal(result["p"], np.full((2, 3), 3.0, np.float32))


def test_a_layer_of_python_code_alone_says_how_to_plug_it_in(tmp_path: Path, capsys: Capture) -> None:
    model = tmp_path / "net.prototxt"
    model.write_text(PYTHON_LAYER)
    outcome = program(capsys, "convert", "--model", model, "--output", tmp_path / "net.onnx")
    assert outcome.status == 2
    assert outcome.message.endswith(
        "layer 'p': the layer is Python code that this tool does not run: class Double of module layers.double; "
        "write a plug-in for type 'Python:Double' and give it with --plugin (docs/plugins.md)"
    )


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("1 / 0", "the module '{}' fails on import: ZeroDivisionError: division by zero; mend it"),
        ("import no_such_thing", "there is no Python module 'no_such_thing'"),
        ("def", "the module '{}' fails on import: SyntaxError: invalid syntax (mine.py, line 1)"),
        (DOUBLE.format(names='"ReLU"'), "a shape rule for layer type 'ReLU' is already registered"),
        (DOUBLE.format(names='"Double"') * 2, "a shape rule for layer type 'Double' is already registered"),
        (
            "from ristretto.plugin import quantizable\nquantizable('InnerProduct', group='fc')",
            "layer type 'InnerProduct' is quantized already",
        ),
        (
            "from ristretto.plugin import quantizable\nquantizable('A', group='CONV')",
            "the group of 'A' is \"conv\" or \"fc\", not 'CONV'",
        ),
    ],
)
def test_a_bad_plugin_is_told_in_one_line_and_leaves_nothing(
    tmp_path: Path, capsys: Capture, code: str, message: str
) -> None:
    path = write_plugin(tmp_path, code)
    before = known_types(), emitted_types()
    outcome = program(capsys, "inspect", "--model", tmp_path / "net.prototxt", "--plugin", path)
    assert outcome.status == 2
    assert message.format(path) in outcome.message
    assert (known_types(), emitted_types()) == before


def test_a_plugin_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"nowhere\.py: there is no such Python file; check the path given"):
        load_plugins([str(tmp_path / "nowhere.py")])
    with pytest.raises(UsageError, match="there is no Python module 'no_such_plugin'; name a module that can be"):
        load_plugins(["no_such_plugin"])


def test_a_plugin_by_module_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_plugin(tmp_path, DOUBLE.format(names='"Double"'), "plugin_by_name.py")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    load_plugins(["plugin_by_name"])
    assert "Double" in known_types()


class _Point(EntryPoint):
    def load(self) -> object:
        return exec(self.value)


def test_installed_plugins_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    good = _Point("a", DOUBLE.format(names='"Double"'), plugins.GROUP)
    monkeypatch.setattr(plugins, "entry_points", lambda group: [good] if group == plugins.GROUP else [])
    load_plugins()
    load_plugins()
    assert {"Double", "Python:Double"} <= known_types()
    monkeypatch.setattr(plugins, "entry_points", lambda group: [_Point("b", "1 / 0", group)])
    with pytest.raises(UsageError) as caught:
        load_plugins()
    assert str(caught.value) == (
        "the plug-in '1 / 0' of an installed package fails on import: ZeroDivisionError: division by zero; "
        "mend an installed package, or uninstall it"
    )


FAULTS = """
from ristretto.plugin import LayerShapes, emits, shape_rule

@shape_rule("Faulty")
def shapes(layer, inputs):
    {shapes}

@emits("Faulty")
def emit(context):
    {emit}
"""


@pytest.mark.parametrize(
    ("shapes", "emit", "message"),
    [
        (
            "return inputs[7]",
            "pass",
            "the plug-in's shape rule for 'Faulty' fails: IndexError: tuple index out of range",
        ),
        ("return inputs", "pass", "the plug-in's shape rule for 'Faulty' returns no LayerShapes; mend the plug-in"),
        ("return LayerShapes(inputs)", "{}['a']", "the plug-in's emitter for 'Faulty' fails: KeyError: 'a'"),
        ("return LayerShapes(inputs)", "return 'a'", "the plug-in's emitter for 'Faulty' returns no list of 1 names"),
        ("return LayerShapes(inputs)", "return []", "the plug-in's emitter for 'Faulty' returns no list of 1 names"),
    ],
)
def test_faults_of_a_plugins_functions_are_its_own(tmp_path: Path, shapes: str, emit: str, message: str) -> None:
    model, plugin = tmp_path / "net.prototxt", write_plugin(tmp_path, FAULTS.format(shapes=shapes, emit=emit))
    model.write_text(PYTHON_LAYER.replace('"Python"', '"Faulty"'))
    np.savez(tmp_path / "data.npz", data=np.ones((2, 3), np.float32))
    with pytest.raises(NetError) as caught:
        ristretto.run(model, inputs=tmp_path / "data.npz", plugins=[plugin])
    assert message in str(caught.value)
    assert caught.value.line == 2


def test_a_quantized_type_of_its_own(tmp_path: Path) -> None:
    ristretto.plugin.quantizable("Mine", group="fc", quantized_type="MineRistretto")
    assert [group_of(kind) for kind in ("Mine", "MineRistretto", "Python:Mine")] == ["fc", None, "fc"]
    fmt = DynamicFixedPoint(8, 4)
    plan = QuantPlan({"m": LayerFormats(fmt, fmt, fmt, fmt)})
    written = write_plan(parse('layer { name: "m" type: "Mine" bottom: "x" top: "y" }'), plan)
    assert 'type: "MineRistretto"' in written.text
    assert write_plan(written, plan).text == written.text


def test_parameters_of_a_message_nobody_knows() -> None:
    net = build_net(
        parse(
            'layer { name: "in" type: "Input" top: "x" mine_param { a: 1 b: -2.5 c: true d: MAX e: "1" f: 1 f: 2 '
            "g { h: inf } i: [3, 4] } other_param: 3 }"
        )
    )
    layer = net.layers[0]
    wanted = {"a": 1, "b": -2.5, "c": True, "d": "MAX", "e": "1", "f": [1, 2], "g": {"h": float("inf")}, "i": [3, 4]}
    assert ristretto.plugin.parameters(layer, "mine_param") == wanted
    assert ristretto.plugin.parameters(layer, "no_param") == {}
    with pytest.raises(NetError, match="other_param is one message; write other_param"):
        ristretto.plugin.parameters(layer, "other_param")
