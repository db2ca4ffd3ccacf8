"""Small nets and solvers to begin from, and the words that files of ours are made of."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

MODELS = Path(__file__).resolve().parents[2] / "models"

LAYERS = """
Convolution convolution_param { num_output: 2 kernel_size: 3 pad: 1 stride: 2 dilation: 1 group: 1 bias_term: false }
Deconvolution convolution_param { num_output: 2 kernel_h: 2 kernel_w: 3 }
Im2col convolution_param { kernel_size: 2 }
InnerProduct inner_product_param { num_output: 3 axis: 1 transpose: true }
Embed embed_param { num_output: 3 input_dim: 4 }
Pooling pooling_param { pool: MAX kernel_size: 3 stride: 2 round_mode: FLOOR }
Pooling pooling_param { pool: AVE global_pooling: true }
SPP spp_param { pyramid_height: 2 }
LRN lrn_param { local_size: 3 alpha: 1e-4 norm_region: WITHIN_CHANNEL }
BatchNorm batch_norm_param { eps: 1e-3 use_global_stats: true }
Scale scale_param { axis: 1 num_axes: 1 bias_term: true }
MVN mvn_param { across_channels: true }
Normalize norm_param { channel_shared: true }
PReLU prelu_param { channel_shared: true }
ReLU relu_param { negative_slope: 0.1 }
ELU elu_param { alpha: 2 }
Power power_param { power: 2 scale: 0.5 shift: -1 }
Exp exp_param { base: 2 }
Log log_param { base: 10 }
Clip clip_param { min: -1 max: 1 }
Dropout dropout_param { dropout_ratio: 0.5 }
Flatten flatten_param { axis: 1 end_axis: -1 }
Reshape reshape_param { shape { dim: 0 dim: -1 } axis: 0 num_axes: -1 }
Permute permute_param { order: 0 order: 2 }
Tile tile_param { axis: 1 tiles: 2 }
ShuffleChannel shuffle_channel_param { group: 2 }
Upsample upsample_param { scale: 2 }
Interp interp_param { zoom_factor: 2 }
Reduction reduction_param { operation: MEAN axis: 1 }
ArgMax argmax_param { top_k: 2 axis: 1 }
Softmax softmax_param { axis: 1 }
Slice slice_param { axis: 1 slice_point: 1 }
ConvolutionRistretto convolution_param { num_output: 2 kernel_size: 1 } quantization_param { precision: DYNAMIC_FIXED_POINT bw_layer_in: 8 bw_layer_out: 8 bw_params: 8 fl_layer_in: 5 fl_layer_out: 4 fl_params: 7 }
FcRistretto inner_product_param { num_output: 3 } quantization_param { precision: MINIFLOAT mant_bits: 3 exp_bits: 4 rounding_scheme: STOCHASTIC }
Convolution convolution_param { num_output: 2 kernel_size: 1 } precision_param { bw_layer_in: 8 bw_layer_out: 8 bw_params: 8 th_layer_in: 4 th_layer_out: 4 th_params: 1 }
Python python_param { module: "m" layer: "L" }
"""  # noqa: E501
"""A layer of one bottom in each line: its type, and its parameters."""

PAIRS = """
Eltwise eltwise_param { operation: SUM coeff: 1 coeff: -1 }
Concat concat_param { axis: 1 }
Crop crop_param { axis: 2 offset: 0 }
Scale scale_param { axis: 0 }
PriorBox prior_box_param { min_size: 3 max_size: 6 aspect_ratio: 2 flip: true variance: 0.1 step: 2 offset: 0.5 }
EuclideanLoss loss_param { normalize: true }
BatchReindex
ROIPooling roi_pooling_param { pooled_h: 2 pooled_w: 2 spatial_scale: 0.5 }
PSROIPooling psroi_pooling_param { output_dim: 1 group_size: 2 spatial_scale: 1 }
RNN recurrent_param { num_output: 2 }
LSTM recurrent_param { num_output: 2 expose_hidden: false }
Filter
SoftmaxWithLoss loss_param { ignore_label: 0 normalization: VALID }
Accuracy accuracy_param { top_k: 1 }
InfogainLoss infogain_loss_param { source: "x.binaryproto" }
"""
"""A layer of two bottoms in each line."""

WHOLE = (
    """name: "n" input: "data" input_dim: 1 input_dim: 3 input_dim: 8 input_dim: 8
layers { name: "c" type: CONVOLUTION bottom: "data" top: "c" blobs_lr: 1 weight_decay: 1
  convolution_param { num_output: 2 kernel_size: 3 } include { phase: TEST not_stage: "x" } }""",
    """layers { layer { name: "data" type: "data" source: "l" meanfile: "m" batchsize: 2 cropsize: 4 } top: "data" }
layers { layer { name: "p" type: "padding" pad: 1 } bottom: "data" top: "p" }
layers { layer { name: "c" type: "conv" num_output: 2 kernelsize: 3 biasterm: false } bottom: "p" top: "c" }""",
    """layer { name: "d" type: "DummyData" top: "d" dummy_data_param { num: 2 channels: 3 height: 4 width: 4
  data_filler { type: "gaussian" std: 0.1 } } exclude { phase: TRAIN min_level: 1 } }
layer { name: "m" type: "MemoryData" top: "m" memory_data_param { batch_size: 1 channels: 1 height: 2 width: 2 } }
layer { name: "q" type: "Parameter" top: "q" parameter_param { shape { dim: [2, 3] } } }
layer { name: "r" type: "ReLU" bottom: "d" top: "d" param { name: "w" lr_mult: 0 } } state { phase: TEST level: 0 }""",
    """layer { name: "data" type: "Data" top: "data" top: "label" data_param { source: "a" backend: LMDB batch_size: 4 }
  transform_param { scale: 0.0039 mirror: true crop_size: 8 mean_value: 1 mean_file: "m" } }
layer { name: "l" type: "SoftmaxWithLoss" bottom: "data" bottom: "label" loss_weight: 1 }""",
)

SOLVERS = (
    """net: "train_val.prototxt" test_iter: 10 test_interval: 5 base_lr: 0.01 lr_policy: "step" gamma: 0.1 stepsize: 10
momentum: 0.9 weight_decay: 1e-4 max_iter: 20 display: 1 snapshot: 5 snapshot_prefix: "s" solver_mode: CPU""",
    """train_net: "a" test_net: "b" test_iter: 1 test_interval: 1 test_state { stage: "x" level: 1 } base_lr: 1e-3
lr_policy: "multistep" gamma: 0.5 stepvalue: [1, 2] max_iter: 3 solver_type: ADAM random_seed: 7 weights: "w,v"
snapshot_format: HDF5 regularization_type: "L1" clip_gradients: 35 iter_size: 2 train_state { level: 1 }""",
    'net: "a" base_lr: 1 lr_policy: "poly" power: 2 max_iter: 9 type: "Nesterov" average_loss: 3 debug_info: false',
)

FORMATS = b"""{"layers": {"conv1": {"in": {"bw": 8, "fl": 5}, "out": {"bw": 8, "fl": 4, "signed": false},
"params": {"bw": 8, "fls": [7, 5]}, "bias": null, "rounding": "half_away", "in_place": false},
"ip": {"in": {"exp_bits": 5, "mant_bits": 10}, "out": {"float_format": "half"},
"params": {"exp_min": -8, "exp_max": -1, "keep_zero": true}}}}"""

RANGES = b"""{"layers": {"conv1": {"ranges": {"in": {"min": -1, "max": 1.5}, "out": {"min": 0, "max": 9e3}},
"fitted_lengths": {"8": {"in": 3, "out": 4}}}}}"""


def _input(name: str, *dims: int) -> str:
    shape = " ".join(f"dim: {dim}" for dim in dims)
    return f'layer {{ name: "{name}" type: "Input" top: "{name}" input_param {{ shape {{ {shape} }} }} }}\n'


def nets() -> Iterator[bytes]:
    """Nets: one for each kind of layer, old ones, and those that come with the project."""
    for line in filter(None, LAYERS.split("\n")):
        kind, _, rest = line.partition(" ")
        tops = 'top: "y" top: "z"' if kind == "Slice" else 'top: "y"'
        body = f'layer {{ name: "l" type: "{kind}" bottom: "x" {tops} {rest} }}'
        yield (_input("x", 2, 4, 5, 6) + body).encode()
    for line in filter(None, PAIRS.split("\n")):
        kind, _, rest = line.partition(" ")
        second = {"SoftmaxWithLoss": (2, 1, 5, 6), "Accuracy": (2, 1, 5, 6), "RNN": (2, 4), "LSTM": (2, 4)}
        second |= {"ROIPooling": (3, 5), "PSROIPooling": (3, 5), "BatchReindex": (2,), "Filter": (2,), "Scale": (2, 4)}
        body = f'layer {{ name: "l" type: "{kind}" bottom: "x" bottom: "b" top: "y" {rest} }}'
        yield (_input("x", 2, 4, 5, 6) + _input("b", *second.get(kind, (2, 4, 5, 6))) + body).encode()
    yield from (text.encode() for text in WHOLE)
    for name in ("digits_lenet", "digits_resnet"):
        for path in sorted((MODELS / name).glob("*.prototxt")):
            lines = (line for line in path.read_text(encoding="utf-8").split("\n") if not line.startswith("#"))
            yield " ".join(" ".join(lines).split()).encode()[:4000]


def solvers() -> Iterator[bytes]:
    """Solvers."""
    yield from (text.encode() for text in SOLVERS)


def schema_words(*messages: str) -> Iterator[str]:
    """The names of all fields and enum values that messages of Caffe's schema hold, those inside them too."""
    from ristretto.caffe import schema

    seen: set[str] = set()
    waiting = [schema.descriptor(name) for name in messages]
    words: dict[str, None] = {}
    while waiting:
        message = waiting.pop()
        if message.name in seen:
            continue
        seen.add(message.name)
        for field in message.fields:
            if field.message_type is not None:
                waiting.append(field.message_type)
                words[f"{field.name} {{ "] = None
            else:
                words[f"{field.name}: "] = None
            if field.enum_type is not None:
                words |= dict.fromkeys(value.name for value in field.enum_type.values)
    yield from words


NUMBERS = (
    "0", "-1", "1", "2147483647", "2147483648", "4294967295", "4294967296", "-2147483648", "9223372036854775807",
    "18446744073709551616", "1e400", "-1e400", "1e-50", "nan", "inf", "-inf", "0x7fffffff", "017", "1f", "1.5", "true",
)  # fmt: skip
"""Numbers at the ends of types."""

JSON_WORDS = (
    *NUMBERS, '"layers"', '"in"', '"out"', '"params"', '"bias"', '"bw"', '"fl"', '"fls"', '"signed"', '"float_format"',
    '"exp_bits"', '"mant_bits"', '"exp_min"', '"exp_max"', '"keep_zero"', '"rounding"', '"in_place"', '"ranges"',
    '"min"', '"max"', '"fitted_lengths"', "null", "NaN", "Infinity", "1e999", "[[[[", '{"a":', '"\\ud800"', '"half"',
)  # fmt: skip
"""What JSON files of formats and ranges are made of."""
