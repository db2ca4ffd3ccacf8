"""The two tables of layer types: what is in them and how they refuse."""

from __future__ import annotations

import pytest

import ristretto.caffe.catalogue
import ristretto.graph.layers
from ristretto.caffe.catalogue.registry import known_types, nearest_type, shape_rule
from ristretto.graph.registry import emits, emitted_types
from tests.layers.harness import complaint


def test_what_is_known_can_be_run() -> None:
    assert known_types() == emitted_types()


def test_families_are_the_same_on_both_sides() -> None:
    only_emitted = {"lrn_ristretto"}
    assert set(ristretto.graph.layers.__all__) - only_emitted == set(ristretto.caffe.catalogue.__all__)


def test_a_type_is_registered_once() -> None:
    with pytest.raises(ValueError, match="a shape rule for layer type 'ReLU' is already registered"):
        shape_rule("ReLU")(lambda *_: None)
    with pytest.raises(ValueError, match="an emitter for layer type 'ReLU' is already registered"):
        emits("ReLU")(lambda *_: None)


def test_unknown_types_are_told_with_the_nearest_known() -> None:
    assert nearest_type("Convolutoin") == "Convolution"
    assert complaint('type: "Relu"', (2, 3)) == "unknown layer type 'Relu'; the nearest known type is 'ReLU'"
    message = (
        "unknown layer type 'Xyzzy'; it is no layer type this tool knows: a plug-in can teach it (docs/plugins.md)"
    )
    assert complaint('type: "Xyzzy"', (2, 3)) == message
