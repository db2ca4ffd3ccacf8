"""The gradient of every layer type against differences of its values, in float64."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest

import ristretto.finetune.layers  # noqa: F401  (registers the lowerings)
from ristretto.caffe.netspec import Shape
from ristretto.finetune.backend import torch
from ristretto.finetune.registry import LayerPass, lowering_of, trained_types
from tests.finetune.needed import needs_torch
from tests.layers.harness import read

IMAGE: Shape = (2, 3, 5, 4)
ROWS: Shape = (4, 5)


@dataclass(frozen=True)
class Case:
    """One layer.

    Attributes:
        type: its type.
        fields: the rest of its text.
        inputs: shapes of bottoms whose gradient is checked.
        fixed: bottoms behind them without a gradient, such as labels.
        tops: how many.
        phase: TRAIN unless the layer cannot be run there.
        low, high: between what the inputs lie.
        first: whether only the first top has a gradient.
    """

    type: str
    fields: str = ""
    inputs: tuple[Shape, ...] = (IMAGE,)
    fixed: tuple[Any, ...] = ()
    tops: int = 1
    phase: str = "TRAIN"
    low: float = -2.0
    high: float = 2.0
    frozen: bool = False
    first: bool = False
    blobs: tuple[Any, ...] = field(default=())


LABELS = np.array([0, 4, 2, 2])
CONV = "num_output: 4 kernel_size: 3 stride: 2 pad: 1"
UNPOOLED = np.array([[0, 5, 10, 15], [1, 4, 11, 14], [3, 6, 8, 13]] * 2).reshape(2, 3, 2, 2)
CASES = [
    *(Case(name) for name in ("ReLU", "PReLU", "TanH", "Sigmoid", "ELU", "Swish", "AbsVal", "BNLL", "Softmax")),
    Case("ReLU", "relu_param { negative_slope: 0.1 }"),
    Case("PReLU", "prelu_param { channel_shared: true }"),
    Case("ReLU6", "relu6_param { negative_slope: 0.1 }", low=-8, high=8),
    Case("Clip", "clip_param { min: -1 max: 0.7 }"),
    Case("Power", "power_param { power: 2.5 scale: 0.5 shift: 2 }"),
    Case("Exp", "exp_param { base: 2 scale: 0.5 shift: 0.1 }"),
    Case("Log", "log_param { base: 3 scale: 0.5 shift: 2 }"),
    Case("Dropout", "dropout_param { dropout_ratio: 0.4 }"),
    Case("Dropout", phase="TEST"),
    *(
        Case(name, f"convolution_param {{ {CONV} }}", ((1, 2, 5, 5),))
        for name in ("Convolution", "ConvolutionRistretto", "Deconvolution", "DeconvolutionRistretto")
    ),
    Case("Convolution", "convolution_param { num_output: 4 kernel_size: 2 group: 2 dilation: 2 bias_term: false }",
         ((1, 4, 5, 5), (1, 4, 5, 5)), tops=2),
    Case("Convolution", "convolution_param { num_output: 2 kernel_size: 2 }", ((1, 2, 3, 3, 3),)),
    *(Case(name, "convolution_param { kernel_size: 3 }", ((1, 2, 4, 4),))
      for name in ("ConvolutionDepthwise", "DepthwiseConvolution")),
    Case("Im2col", "convolution_param { kernel_size: 3 stride: 2 pad: 1 }"),
    *(Case(name, "inner_product_param { num_output: 3 }", (IMAGE,)) for name in ("InnerProduct", "FcRistretto")),
    Case("InnerProduct", "inner_product_param { num_output: 3 axis: 2 transpose: true bias_term: false }"),
    Case("Embed", "embed_param { num_output: 3 input_dim: 5 }", (), (LABELS,)),
    *(Case("Eltwise", f"eltwise_param {{ operation: {name} }}", (IMAGE,) * 3) for name in ("SUM", "PROD", "MAX")),
    Case("Eltwise", "eltwise_param { coeff: 0.5 coeff: -2 }", (IMAGE,) * 2),
    Case("Concat", "", (IMAGE, (2, 1, 5, 4))),
    Case("Slice", "slice_param { slice_point: 1 }", tops=2),
    Case("Split", tops=2),
    Case("Filter", "", (ROWS,), (np.array([1, 0, 2, 0]),)),
    Case("BatchReindex", "", (ROWS,), (np.array([3, 0, 0]),)),
    Case("Flatten"),
    Case("Reshape", "reshape_param { shape { dim: 0 dim: -1 dim: 2 } }"),
    Case("Permute", "permute_param { order: 0 order: 2 order: 3 order: 1 }"),
    Case("Crop", "crop_param { axis: 2 offset: 1 }", (IMAGE,), (np.zeros((2, 3, 3, 2)),)),
    Case("Tile", "tile_param { axis: 1 tiles: 2 }"),
    Case("ShuffleChannel", "shuffle_channel_param { group: 2 }", ((1, 4, 2, 3),)),
    Case("BatchNorm"),
    Case("BatchNorm", inputs=((5,),)),
    Case("BatchNorm", "batch_norm_param { use_global_stats: true }"),
    Case("BatchNorm", frozen=True),
    Case("LRN", "lrn_param { local_size: 3 alpha: 0.5 beta: 0.75 k: 2 }"),
    Case("LRN", "lrn_param { norm_region: WITHIN_CHANNEL local_size: 3 alpha: 0.5 }"),
    Case("MVN"),
    Case("MVN", "mvn_param { across_channels: true normalize_variance: false }"),
    Case("Normalize", "norm_param { across_spatial: false }"),
    Case("Normalize", "norm_param { channel_shared: true }"),
    Case("Pooling", "pooling_param { pool: MAX kernel_size: 3 stride: 2 }", ((1, 2, 6, 5),)),
    Case("Pooling", "pooling_param { pool: AVE kernel_size: 3 stride: 2 pad: 1 }", ((1, 2, 6, 5),)),
    Case("Pooling", "pooling_param { pool: AVE global_pooling: true }"),
    Case("Pooling", "pooling_param { pool: MAX kernel_size: 2 stride: 2 }", tops=2, first=True),
    Case("Pooling", "pooling_param { pool: STOCHASTIC kernel_size: 2 stride: 2 }", phase="TEST", low=0.1),
    Case("SPP", "spp_param { pyramid_height: 2 }"),
    Case("Scale", "scale_param { bias_term: true }"),
    Case("Scale", "scale_param { axis: 0 }", (IMAGE, (2, 3))),
    Case("Bias"),
    Case("Axpy", "", ((2, 3, 1, 1), IMAGE, IMAGE)),
    *(Case("Reduction", f"reduction_param {{ operation: {name} axis: 1 coeff: 3 }}")
      for name in ("SUM", "ASUM", "SUMSQ", "MEAN")),
    Case("Upsample", "upsample_param { scale: 2 }"),
    Case("Upsample", "upsample_param { scale: 2 }", ((2, 3, 2, 2),), (UNPOOLED,)),
    *(Case(name, "", ((2, 3, 2, 2),), (UNPOOLED,)) for name in ("MaxUnpool", "MaxUnPool")),
    Case("Interp", "interp_param { height: 7 width: 6 pad_beg: -1 }"),
    Case("RNN", "recurrent_param { num_output: 2 }", ((3, 2, 4),), (np.array([[0, 1], [1, 1], [1, 0]]),)),
    Case("LSTM", "recurrent_param { num_output: 2 }", ((3, 2, 4),), (np.array([[0, 1], [1, 1], [1, 0]]),)),
    Case("Parameter", "parameter_param { shape { dim: 2 dim: 3 } }", ()),
    Case("SoftmaxWithLoss", "", (ROWS,), (LABELS,), tops=2),
    Case("SoftmaxWithLoss", "loss_param { ignore_label: 2 normalization: BATCH_SIZE }", (ROWS,), (LABELS,)),
    Case("InfogainLoss", "", (ROWS,), (LABELS, np.arange(25.0).reshape(5, 5) / 25)),
    Case("MultinomialLogisticLoss", "", (ROWS,), (LABELS,), low=0.1),
    Case("HingeLoss", "", (ROWS,), (LABELS,)),
    Case("HingeLoss", "hinge_loss_param { norm: L2 }", (ROWS,), (LABELS,)),
    Case("EuclideanLoss", "", (IMAGE, IMAGE)),
    Case("SigmoidCrossEntropyLoss", "", (ROWS,), (np.linspace(0, 1, 20).reshape(ROWS),)),
    Case("ContrastiveLoss", "contrastive_loss_param { margin: 4 }", (ROWS, ROWS), (np.array([1, 0, 0, 1]),)),
    Case("ContrastiveLoss", "contrastive_loss_param { margin: 4 legacy_version: true }", (ROWS, ROWS),
         (np.array([1, 0, 0, 1]),)),
]  # fmt: skip
FLAT = {"Threshold", "Accuracy", "DummyData", "Silence", "HDF5Output"}
"""Types without a gradient, or without a top."""


def test_every_type_is_checked() -> None:
    assert {case.type for case in CASES} == trained_types() - FLAT


@needs_torch
@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.type} {case.fields}".strip())
def test_gradients_are_those_of_differences(case: Case) -> None:
    rng = np.random.default_rng(len(case.fields))
    inputs = [rng.uniform(case.low, case.high, shape) for shape in case.inputs]
    fixed = [np.asarray(array, np.float64) for array in case.fixed]
    shapes = [array.shape for array in (*inputs, *fixed)]
    net, inferred = read(f'type: "{case.type}" {case.fields}', shapes, case.tops, case.phase)
    layer = net.layers[-1]
    blobs = [rng.uniform(0.3, 1.0, shape) for shape in inferred.layers[-1].blobs]
    learned = case.type != "BatchNorm"
    free = [torch.tensor(array, requires_grad=True) for array in inputs]
    weights = [torch.tensor(blob, requires_grad=learned) for blob in blobs]
    others = [torch.tensor(array) for array in fixed]
    lowering = lowering_of(case.type)
    assert lowering is not None

    def run(*tensors: Any) -> tuple[Any, ...]:
        bottoms = (*tensors[: len(free)], *others)
        given = LayerPass(layer, bottoms, tensors[len(free) :], rng=np.random.default_rng(3), frozen=case.frozen)
        made = tuple(lowering(given))
        for top, shape in zip(made, inferred.layers[-1].outputs, strict=True):
            assert tuple(top.shape) == shape or case.type == "Filter"
        return made[:1] if case.first else made

    assert torch.autograd.gradcheck(run, (*free, *weights), eps=1e-6, atol=1e-5, rtol=1e-4)


@needs_torch
def test_types_without_a_gradient_stop_it() -> None:
    x = torch.randn(3, 4, requires_grad=True)
    for text, more in (('type: "Threshold"', ()), ('type: "Accuracy"', (torch.zeros(3),))):
        net, _ = read(text, [(3, 4), *(tuple(tensor.shape) for tensor in more)])
        lowering = lowering_of(net.layers[-1].type)
        assert lowering is not None
        assert not lowering(LayerPass(net.layers[-1], (x, *more)))[0].requires_grad


@needs_torch
def test_gradients_of_labels_are_not_asked_for() -> None:
    """A label that follows from a weight (a soft target's number) does not pull the gradient along."""
    scores, labels = torch.randn(3, 4, requires_grad=True), torch.tensor([0.0, 1.0, 2.0], requires_grad=True)
    net, _ = read('type: "SoftmaxWithLoss"', [(3, 4), (3,)])
    lowering = lowering_of("SoftmaxWithLoss")
    assert lowering is not None
    lowering(LayerPass(net.layers[-1], (scores, labels)))[0].backward()
    assert scores.grad is not None
    assert labels.grad is None
