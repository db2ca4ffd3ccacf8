"""A net that is loaded once: running, scoring, other formats."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import ristretto
from ristretto import formats
from ristretto.errors import DataError, FormatError, UsageError
from ristretto.pipeline.options import QuantizeOptions
from tests.cli.runner import MODELS

LENET = MODELS / "digits_lenet"
WEIGHTS = LENET / "digits_lenet.caffemodel"


@pytest.fixture(scope="module")
def trained() -> ristretto.Net:
    return ristretto.load_net(LENET / "train_val.prototxt", WEIGHTS, data_root=MODELS)


@pytest.fixture(scope="module")
def deployed() -> ristretto.Net:
    return ristretto.load_net(str(LENET / "deploy.prototxt"), [str(WEIGHTS)])


def test_what_a_net_is_made_of(trained: ristretto.Net, deployed: ristretto.Net) -> None:
    assert (trained.name, trained.phase) == ("DigitsLeNet", "TEST")
    assert trained.inputs == {"data": None, "label": None}
    assert deployed.inputs == {"data": (1, 1, 16, 16)}
    assert (deployed.outputs, deployed.formats) == (("prob",), {})
    conv1 = next(layer for layer in deployed.layers if layer.name == "conv1")
    assert (conv1.type, conv1.bottoms, conv1.tops) == ("Convolution", ("data",), ("conv1",))
    assert {top for layer in deployed.layers for top in layer.tops} == set(deployed.blobs)
    assert repr(deployed) == "<Net DigitsLeNet, phase TEST: 12 layers, 0 with formats>"
    with pytest.raises(TypeError):
        deployed.inputs["x"] = None  # type: ignore[index]
    with pytest.raises(TypeError):
        deployed.formats["x"] = formats.LayerFormats()  # type: ignore[index]


def test_arrays_and_own_data_agree(trained: ristretto.Net, deployed: ristretto.Net) -> None:
    own = trained.run(blobs=["data", "ip2"], batch=2)
    fed = deployed.run({"data": own["data"].astype(np.float64), "label": 0}, blobs=("ip2",))
    np.testing.assert_allclose(fed["ip2"], own["ip2"], rtol=1e-4, atol=1e-4)
    one = deployed.run({"data": own["data"][:1].tolist()}, blobs="ip2")
    np.testing.assert_allclose(one["ip2"], own["ip2"][:1], rtol=1e-4, atol=1e-4)
    assert set(deployed.run({"data": own["data"]}, "all")) == set(deployed.blobs)
    assert fed["ip2"].dtype == np.float32


def test_the_session_is_kept(deployed: ristretto.Net, monkeypatch: pytest.MonkeyPatch) -> None:
    image = {"data": np.zeros((2, 1, 16, 16), np.float32)}
    first = deployed.run(image)

    def refuse(*arguments: object, **more: object) -> None:
        raise AssertionError

    monkeypatch.setattr("ristretto.pipeline.runner.Session", refuse)
    np.testing.assert_array_equal(deployed.run(image)["prob"], first["prob"])
    with pytest.raises(AssertionError):
        deployed.run({"data": np.zeros((3, 1, 16, 16))})


def test_many_choices_of_blobs_keep_few_sessions(deployed: ristretto.Net) -> None:
    for blob in deployed.blobs:
        deployed.run({"data": np.zeros((1, 1, 16, 16))}, [blob])
    assert len(deployed._sessions) == 4


def test_mistakes(trained: ristretto.Net, deployed: ristretto.Net) -> None:
    with pytest.raises(DataError, match=r"layer 'data': no array for blob 'data'; given are image"):
        deployed.run({"image": np.zeros((1, 1, 16, 16))})
    with pytest.raises(DataError, match=r"array 'data' has shape \[1, 16\], the net declares \[1, 1, 16, 16\]"):
        deployed.run({"data": np.zeros((1, 16))})
    with pytest.raises(DataError, match="array 'data' holds <U1, numbers are needed"):
        deployed.run({"data": "x"})
    with pytest.raises(UsageError, match="the net has no blob 'porb'"):
        deployed.run({"data": np.zeros((1, 1, 16, 16))}, ["porb"])
    with pytest.raises(UsageError, match="inputs take its place; give one of the two"):
        deployed.run({"data": np.zeros((1, 1, 16, 16))}, batch=1)
    with pytest.raises(UsageError, match="the source holds 600 images, 12 batches; use 0 to 11"):
        trained.run(batch=12)
    with pytest.raises(UsageError, match="layers of type Input have no data of their own"):
        deployed.evaluate()
    with pytest.raises(FormatError, match="the net has no layer 'conv9'"):
        deployed.with_formats({"conv9": formats.LayerFormats()})
    with pytest.raises(FormatError, match="layers of type Input take no formats"):
        deployed.with_formats({"data": formats.LayerFormats()})
    with pytest.raises(UsageError, match="layer 'conv1': the formats of a layer cannot be"):
        deployed.with_formats({"conv1": {"bw": 8}})  # type: ignore[dict-item]


def test_other_formats_make_another_net(trained: ristretto.Net) -> None:
    crude = trained.with_formats({"conv2": formats.LayerFormats(params=formats.FixedPoint(1, 0))})
    assert trained.formats == {}
    assert crude.evaluate("all").scored.score < trained.evaluate("all").scored.score
    rounded = trained.with_formats({"ip2": formats.LayerFormats(output=formats.FixedPoint(6, 0))}).run(blobs=["ip2"])
    exact = trained.run(blobs=["ip2"])["ip2"]
    np.testing.assert_array_equal(rounded["ip2"], np.clip(np.rint(exact), -32, 31))
    again = crude.with_formats({})
    np.testing.assert_array_equal(again.run(blobs="ip2")["ip2"], exact)


def test_a_report_its_file_and_the_net_it_wrote_are_the_same_formats(trained: ristretto.Net, tmp_path: Path) -> None:
    output, path = tmp_path / "q.prototxt", tmp_path / "r.json"
    report = ristretto.quantize(
        LENET / "train_val.prototxt", WEIGHTS, model_quantized=output, iterations=2, data_root=MODELS, report=str(path)
    )
    quantized = ristretto.load_net(output, WEIGHTS, data_root=MODELS)
    for source in (report, path, report.plan, quantized.formats):
        net = trained.with_formats(source)
        assert net.formats == quantized.formats
        assert net.evaluate(2).scored.score == report.combined.score
    written = []
    for number, source in enumerate((report, path, quantized.formats)):
        target = tmp_path / f"{number}.prototxt"
        assert ristretto.apply(LENET / "train_val.prototxt", source, target).missing == ()
        written.append(target.read_bytes())
    assert set(written) == {output.read_bytes()}
    ristretto.write_report(report, tmp_path / "again.json")
    assert (tmp_path / "again.json").read_bytes() == path.read_bytes()


def test_options_are_checked_whoever_makes_them() -> None:
    options = QuantizeOptions("m", ["w"], rounding="half_up", ladder=[8, 4], only="conv*", gpu=0)  # type: ignore[arg-type]
    assert options == QuantizeOptions(
        Path("m"), (Path("w"),), rounding=formats.Rounding.HALF_UP, ladder=(8, 4), only=("conv*",), gpu="0"
    )
    for name, value, cure in (
        ("rounding", "up", "half_even, half_away, half_up, truncate, stochastic"),
        ("trimming_mode", "fixed", "dynamic_fixed_point, minifloat, integer_power_of_2_weights"),
        ("iterations", 2.5, "a whole number or None"),
        ("error_margin", "1", "a number"),
        ("fast", "yes", "True or False"),
        ("ladder", 8, "a list"),
        ("also", [("a",)], "a tuple of 2"),
        ("stages", 5, "a list"),
    ):
        with pytest.raises(UsageError) as caught:
            ristretto.quantize("m", "w", **{name: value})  # type: ignore[misc]
        assert str(caught.value) == f"{name} cannot be {value!r}; use {cure}"


def test_unknown_options_name_the_nearest() -> None:
    with pytest.raises(UsageError, match="quantize has no option 'bw_activation'; is 'bw_activations' meant"):
        ristretto.quantize("m", "w", bw_activation=8)  # type: ignore[call-arg]
    with pytest.raises(UsageError, match="evaluate has no option 'data-root'; is 'data_root' meant"):
        ristretto.evaluate("m", **{"data-root": "x"})  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="convert has no option 'version'; its options are converter, phase"):
        ristretto.convert("m", (), "o", version="1")  # type: ignore[call-arg]
    with pytest.raises(UsageError, match="load_net has no option 'xyzzy'; its options are phase, level"):
        ristretto.load_net("m", xyzzy=1)  # type: ignore[call-arg]
    with pytest.raises(UsageError, match="phase cannot be 'test'; use TRAIN, TEST"):
        ristretto.inspect("m", phase="test")  # type: ignore[arg-type]
