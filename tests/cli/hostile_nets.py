"""Prototxts made to crash, hang or eat memory."""

from __future__ import annotations


def fed(*dims: object) -> str:
    """An Input layer that makes blob x."""
    shape = " ".join(f"dim: {dim}" for dim in dims)
    return f'layer {{ name: "x" type: "Input" top: "x" input_param {{ shape {{ {shape} }} }} }}\n'


def after(text: str, name: str = "l", bottoms: str = 'bottom: "x"', tops: str = 'top: "y"') -> str:
    """A layer that reads x."""
    return f'layer {{ name: "{name}" {bottoms} {tops} {text} }}\n'


SMALL = fed(2, 3, 8, 8)


def on_small(text: str) -> str:
    """A net of an Input layer and one more."""
    return SMALL + after(text)


def chain(layer: str, count: int) -> str:
    """A net of many layers, one after the other."""
    layers = (after(layer, f"l{n}", f'bottom: "{f"b{n - 1}" if n else "x"}"', f'top: "b{n}"') for n in range(count))
    return SMALL + "".join(layers)


CONV = 'type: "Convolution" convolution_param {{ num_output: 2 kernel_size: 1 {} }}'
POOL = 'type: "Pooling" pooling_param {{ {} }}'
LONG = "n" * 3_000_000

NETS: dict[str, str] = {
    "deep": "a {" * 10_000 + "}" * 10_000,
    "deep-angles": "layer <" * 10_000,
    "deep-lists": "a: [" * 10_000,
    "deep-unclosed": 'layer { name: "x" ' + "a { " * 10_000,
    "dim-2-40": fed(2**40) + after('type: "ReLU"'),
    "dims-overflow": fed(2**31 - 1, 2**31 - 1, 2**31 - 1, 2**31 - 1) + after('type: "ReLU"'),
    "dims-2-33": fed(2**11, 2**11, 2**11, 1) + after('type: "ReLU"'),
    "dim-negative": fed(-1, 3, 8, 8) + after('type: "ReLU"'),
    "dim-zero": fed(2, 0, 8, 8) + after('type: "ReLU"'),
    "dims-many": fed(*[1] * 100_000) + after('type: "ReLU"'),
    "batch-2-30": fed(2**30, 3, 224, 224) + after('type: "ReLU"'),
    "num-output-0": on_small(CONV.replace("num_output: 2", "num_output: 0").format("")),
    "num-output-negative": on_small(CONV.replace("num_output: 2", "num_output: -3").format("")),
    "num-output-2-32": on_small(CONV.replace("num_output: 2", "num_output: 4294967295").format("")),
    "kernel-0": on_small(CONV.replace("kernel_size: 1", "kernel_size: 0").format("")),
    "kernel-2-31": on_small(CONV.replace("kernel_size: 1", "kernel_size: 2147483648").format("pad: 2147483647")),
    "stride-0": on_small(CONV.format("stride: 0")),
    "pad-2-31": on_small(CONV.format("pad: 2147483647")),
    "pad-negative": on_small(CONV.format("pad: -1")),
    "group-0": on_small(CONV.format("group: 0")),
    "group-7": on_small(CONV.format("group: 7")),
    "dilation-0": on_small(CONV.format("dilation: 0")),
    "dilation-2-32": on_small(CONV.replace("kernel_size: 1", "kernel_size: 2").format("dilation: 4294967295")),
    "axis-large": on_small(CONV.format("axis: 1000000000")),
    "ip-axis": on_small('type: "InnerProduct" inner_product_param { num_output: 2 axis: -2147483648 }'),
    "pool-kernel-0": on_small(POOL.format("kernel_size: 0")),
    "pool-stride-0": on_small(POOL.format("kernel_size: 2 stride: 0")),
    "pool-huge": on_small(POOL.format("pool: AVE kernel_size: 4294967295 pad: 4294967294 stride: 4294967295")),
    "pool-pad": on_small(POOL.format("pool: AVE kernel_size: 100000 pad: 99999 stride: 7")),
    "tile": on_small('type: "Tile" tile_param { tiles: 2147483647 }'),
    "tiles": chain('type: "Tile" tile_param { tiles: 1000 }', 12),
    "upsample": on_small('type: "Upsample" upsample_param { scale: 2147483647 }'),
    "interp": on_small('type: "Interp" interp_param { height: 2147483647 width: 2147483647 }'),
    "interp-tall": fed(1, 1, 2, 1) + after('type: "Interp" interp_param { height: 536870912 width: 1 }'),
    "reshape-dims": on_small(f'type: "Reshape" reshape_param {{ shape {{ {"dim: 9223372036854775807 " * 1000} }} }}'),
    "reshape-negative": on_small('type: "Reshape" reshape_param { shape { dim: -5 dim: -1 } }'),
    "slice-points": on_small(f'type: "Slice" slice_param {{ {"slice_point: 1 " * 50_000} }}'),
    "spp": on_small('type: "SPP" spp_param { pyramid_height: 4294967295 }'),
    "prior-boxes": fed(1, 1, 10_000, 10_000)
    + after(
        f'type: "PriorBox" prior_box_param {{ min_size: 1 {"".join(f"aspect_ratio: {n} " for n in range(2, 500))} }}',
        bottoms='bottom: "x" bottom: "x"',
    ),
    "prior-zero": on_small('type: "PriorBox" prior_box_param { min_size: nan aspect_ratio: 0 }').replace(
        'bottom: "x"', 'bottom: "x" bottom: "x"'
    ),
    "prior-ratios": on_small(
        f'type: "PriorBox" prior_box_param {{ min_size: 1 aspect_ratio: [{", ".join(map(str, range(2, 100_000)))}] }}'
    ).replace('bottom: "x"', 'bottom: "x" bottom: "x"'),
    "detection-classes": SMALL
    + after(
        'type: "DetectionOutput" detection_output_param { num_classes: 4294967295 }',
        bottoms='bottom: "x" bottom: "x" bottom: "x"',
    ),
    "lstm-long": fed(100_000, 1, 1)
    + after('type: "Flatten"', "c", tops='top: "c"').replace("Flatten", "Reduction")
    + after('type: "LSTM" recurrent_param { num_output: 1 }', bottoms='bottom: "x" bottom: "c"'),
    "im2col": fed(1, 64, 512, 512) + after('type: "Im2col" convolution_param { kernel_size: 200 }'),
    "lrn": on_small('type: "LRN" lrn_param { local_size: 4294967295 norm_region: WITHIN_CHANNEL }'),
    "dummy": 'layer { name: "d" type: "DummyData" top: "x" dummy_data_param { shape { dim: 1099511627776 } } }\n'
    + after('type: "ReLU"'),
    "dummy-negative": 'layer { name: "d" type: "DummyData" top: "x" dummy_data_param { shape { dim: -4 } } }\n'
    + after('type: "ReLU"'),
    "data-batch": 'layer { name: "x" type: "Data" top: "x" data_param { source: "." batch_size: 4294967295 } }\n'
    + after('type: "ReLU"'),
    "data-zero": 'layer { name: "x" type: "Data" top: "x" data_param { source: "." batch_size: 0 } }\n'
    + after('type: "ReLU"'),
    "memory-data": 'layer { name: "x" type: "MemoryData" top: "x" memory_data_param { batch_size: 4294967295 '
    "channels: 4294967295 height: 4294967295 width: 4294967295 } }\n" + after('type: "ReLU"'),
    "own-bottom": after('type: "ReLU"', bottoms='bottom: "y"'),
    "cycle": after('type: "ReLU"', "a", 'bottom: "b"', 'top: "a"')
    + after('type: "ReLU"', "b", 'bottom: "a"', 'top: "b"'),
    "dangling": on_small('type: "ReLU"').replace('bottom: "x"', 'bottom: "nobody"'),
    "twice-top": SMALL + after('type: "ReLU"', "a") + after('type: "ReLU"', "b"),
    "twice-name": SMALL + after('type: "ReLU"', "a") + after('type: "ReLU"', "a", 'bottom: "y"', 'top: "z"'),
    "float-1e400": on_small('type: "Power" power_param { power: 1e400 scale: -1e400 shift: nan }'),
    "int-2-64": on_small(CONV.replace("num_output: 2", "num_output: 18446744073709551617").format("")),
    "int-digits": on_small(CONV.replace("num_output: 2", "num_output: " + "9" * 10_000).format("")),
    "int-hex": on_small(CONV.replace("num_output: 2", "num_output: 0x" + "f" * 5000).format("")),
    "enum": on_small(POOL.format("kernel_size: 2 pool: 17")),
    "repeated": on_small(CONV.format("num_output: 3")),
    "long-name": SMALL + after('type: "Nobody"', LONG),
    "long-type": on_small(f'type: "{LONG}"'),
    "long-bottom": on_small('type: "ReLU"').replace('bottom: "x"', f'bottom: "{LONG}"'),
    "long-number": on_small(CONV.replace("num_output: 2", f"num_output: {'1' * 3_000_000}").format("")),
    "long-word": LONG,
    "escapes": SMALL + after('type: "Nobody\\033[2J\\007"', "\\033]0;x\\007\\n"),
    "no-utf8": SMALL + after('type: "ReLU"', "\\377\\376", tops='top: "\\377"'),
    "layers-100000": chain('type: "ReLU"', 100_000),
    "layers-one-name": SMALL + "".join(after('type: "ReLU"', "r", tops='top: "x"') for _ in range(9_000)),
    "layers-one-line": chain('type: "ReLU"', 9_000).replace("\n", " "),
    "layers-old": "".join(
        f'layers {{ name: "l{n}" type: RELU bottom: "b{n}" top: "b{n + 1}" blobs_lr: 1 }} ' for n in range(9_000)
    ),
    "types-unknown": SMALL + "".join(after(f'type: "Unknown{n}"', f"l{n}", tops=f'top: "t{n}"') for n in range(5_000)),
    "splits": SMALL + after('type: "Split"', tops=" ".join(f'top: "t{n}"' for n in range(100_000))),
    "fields-unknown": on_small('type: "ReLU" ' + "".join(f"strange{n}: 1 " for n in range(50_000))),
    "fields-nested": SMALL + after("a {" * 99 + "b: 1" + "}" * 99 + ' type: "ReLU"'),
    "nul": SMALL + "\0" * 100,
    "empty": "",
    "python": on_small('type: "Python" python_param { module: "os" layer: "system" param_str: "rm" }'),
}
