"""Sizes that only a hostile file has are refused, and edits of strange text give text that can be read."""

from __future__ import annotations

from pathlib import Path

import pytest

from ristretto.caffe.edit import Edits
from ristretto.caffe.limits import LAYERS, PROTOTXT_MB, limit, read_at_most
from ristretto.caffe.net import build_net, read_prototxt
from ristretto.caffe.shape_limits import spelled
from ristretto.caffe.shapes import infer_shapes
from ristretto.caffe.textproto import parse
from ristretto.errors import LONGEST, NetError, RistrettoError, UsageError, one_line
from ristretto.graph.nodes import NodeList


def test_a_limit_can_be_raised(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "n.prototxt"
    path.write_text('layer { name: "l" type: "ReLU" }' * 5)
    monkeypatch.setenv("RISTRETTO_MAX_LAYERS", "4")
    with pytest.raises(NetError, match=r"has more than 4 layers; .* set RISTRETTO_MAX_LAYERS to a larger number"):
        read_prototxt(path)
    monkeypatch.setenv("RISTRETTO_MAX_LAYERS", "5")
    assert len(read_prototxt(path).root.fields) == 5
    for wrong in ("many", "-1", "1" * 20, "\N{SUPERSCRIPT TWO}"):
        monkeypatch.setenv("RISTRETTO_MAX_LAYERS", wrong)
        with pytest.raises(UsageError, match="no whole number"):
            limit(LAYERS)


def test_no_more_than_the_limit_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RISTRETTO_MAX_PROTOTXT_MB", "1")
    with (tmp_path / "large").open("wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(UsageError, match="larger than 1 MB"):
        read_at_most(tmp_path / "large", PROTOTXT_MB, "prototxt")
    (tmp_path / "n").write_bytes(b" " * (1 << 20))
    assert len(read_at_most(tmp_path / "n", PROTOTXT_MB, "prototxt")) == 1 << 20


@pytest.mark.parametrize(
    ("dims", "said"),
    [
        ((2**31,), "more than 2147483647 values"),
        ((2**16, 2**15), "more than 2147483647 values"),
        ((1,) * 33, "has 33 axes; Caffe's blobs have 32 at most"),
        ((3, 0), "(3, 0) holds nothing"),
        ((-1,), "(-1,) holds nothing"),
    ],
)
def test_blobs_that_caffe_cannot_have(dims: tuple[int, ...], said: str) -> None:
    text = " ".join(f"dim: {dim}" for dim in dims)
    net = build_net(parse(f'layer {{ name: "x" type: "Input" top: "x" input_param {{ shape {{ {text} }} }} }}'))
    with pytest.raises(NetError) as caught:
        infer_shapes(net, {})
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            'layer {{ name: "x" type: "Input" top: "x" input_param {{ shape {{ {} }} }} }}',
            "layer 'x': an input has 33 axes",
        ),
        ('input: "x" input_shape {{ {} }}', "an input has 33 axes; Caffe's blobs have 32 at most"),
        ('layer {{ name: "x" type: "DummyData" top: "x" dummy_data_param {{ shape {{ {} }} }} }}', "data has 33 axes"),
    ],
)
def test_axes_are_counted_before_they_are_read(text: str, said: str) -> None:
    """No number of them is looked at: these are none."""
    with pytest.raises(NetError, match=said):
        infer_shapes(build_net(parse(text.format("dim: many " * 33))), {})


def test_prior_boxes_are_counted_before_they_are_made() -> None:
    text = 'layer { name: "x" type: "Input" top: "x" input_param { shape { dim: 1 dim: 1 dim: 1 dim: 1 } } }'
    text += 'layer { name: "p" type: "PriorBox" bottom: "x" bottom: "x" top: "p" prior_box_param { flip: false '
    ratios = "".join(f"aspect_ratio: {number} " for number in range(2, 1002))
    with pytest.raises(
        NetError, match="1000 times min_size and 1001 aspect ratios make 1001000 boxes at every position"
    ):
        infer_shapes(build_net(parse(text + ratios + "min_size: 1 " * 1000 + "} }")), {})


def test_the_largest_blob_is_allowed() -> None:
    text = 'layer { name: "x" type: "Input" top: "x" input_param { shape { dim: 2147483647 } } }'
    assert infer_shapes(build_net(parse(text)), {}).values == {"x": (2**31 - 1,)}


def test_numbers_of_many_digits_are_shortened() -> None:
    assert spelled((3, 2**100)) == "(3, 2**100 or more)"


def test_many_layers_of_one_name() -> None:
    """Each value has a short name of its own."""
    text = 'layer { name: "x" type: "Input" top: "x" input_param { shape { dim: 1 } } }'
    net = build_net(parse(text + 'layer { name: "r" type: "ReLU" bottom: "x" top: "x" }' * 5000))
    names = [value for layer in net.layers for value in layer.outputs]
    assert len(set(names)) == len(names)
    assert names[:4] == ["x@x", "x@r", "x@r'", "x@r''"]
    assert names[-1] == "x"
    assert max(map(len, names)) < 12
    nodes = NodeList()
    assert [nodes.unique("a") for _ in range(20_000)][-1] == "a_20000"


@pytest.mark.parametrize("field", ["name", "type", "top"])
def test_names_with_control_characters(field: str) -> None:
    fields = {"name": "a", "type": "ReLU", "top": "b"} | {field: "x\\033[2J"}
    text = " ".join(f'{name}: "{value}"' for name, value in fields.items())
    with pytest.raises(NetError, match=f"the {field} holds a control character"):
        build_net(parse(f"layer {{ {text} }}"))


def test_a_message_is_one_line_that_steers_no_terminal() -> None:
    assert one_line("a\n b\x1b[2J\x9b\u202e") == "a b\\x1b[2J\\x9b\\u202e"
    assert one_line("a" * 10**6 + "end") == "a" * 100 + "..." + "a" * 37 + "end"
    long = one_line("a " * 10**6 + "end")
    assert len(long) < LONGEST + 10
    assert long.endswith(" a end")
    assert str(RistrettoError("caf\udce9")) == "caf\udce9"


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("a: [ ] \r,\n", " \r\n"),
        ("a: 1\n,\nb: 2", "\nb: 2"),
        ("a: 1 # c\n  ; b: 2", " # c\n   b: 2"),
    ],
)
def test_a_separator_on_another_line_goes_too(text: str, left: str) -> None:
    document = parse(text)
    edits = Edits(document)
    edits.remove(document.root.fields[0])
    assert edits.apply().text == left


def test_a_message_in_place_of_a_value() -> None:
    document = parse("name{ } a: []")
    for name in ("name", "a"):
        edits = Edits(document)
        edits.set_scalar(document.root, name, '"set"')
        assert edits.apply().root.first(name).text == "set"  # type: ignore[union-attr]
