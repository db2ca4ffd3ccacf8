"""Write proto/caffe.proto from a JSON description of Caffe's schema and one of the SSD branch's additions.

    python tools/make_schema.py caffe_schema.json ssd_schema_additions.json

Field numbers: Caffe's and SSD's own. Where SSD's number clashes with Caffe's, Caffe keeps it and SSD's field gets a
private number; it is then read by name, in text, only. Our own fields and those of other forks follow in OURS.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

PROTO = Path(__file__).resolve().parent.parent / "proto" / "caffe.proto"

Fields = dict[str, dict[str, Any]]

PRIVATE = 10000
"""Numbers from here up are ours alone: such fields exist in text and never in a file on the wire."""

OURS: dict[str, Fields] = {
    "QuantizationParameter": {
        "bw_bias": {"number": 100, "label": "optional", "type": "uint32", "default": "32"},
        "fl_bias": {"number": 101, "label": "optional", "type": "int32", "default": "16"},
        "unsigned_layer_in": {"number": 102, "label": "optional", "type": "bool", "default": "false"},
        "unsigned_layer_out": {"number": 103, "label": "optional", "type": "bool", "default": "false"},
        "fl_params_channel": {"number": 104, "label": "repeated", "type": "int32"},
        "keep_zero": {"number": 105, "label": "optional", "type": "bool", "default": "false"},
        "float_format": {"number": 106, "label": "optional", "type": "string"},
        "float_layer_in": {"number": 107, "label": "optional", "type": "bool", "default": "false"},
        "float_layer_out": {"number": 108, "label": "optional", "type": "bool", "default": "false"},
        "float_params": {"number": 109, "label": "optional", "type": "bool", "default": "false"},
        "float_bias": {"number": 110, "label": "optional", "type": "bool", "default": "false"},
        "float_format_layer_in": {"number": 111, "label": "optional", "type": "string"},
        "float_format_layer_out": {"number": 112, "label": "optional", "type": "string"},
        "float_format_params": {"number": 113, "label": "optional", "type": "string"},
        "float_format_bias": {"number": 114, "label": "optional", "type": "string"},
        "copy_layer_in": {"number": 115, "label": "optional", "type": "bool", "default": "false"},
        # Intel Caffe's (docs/dialects.md); its fl_* are the original's, repeated.
        "scale_in": {"number": PRIVATE, "label": "repeated", "type": "float"},
        "scale_out": {"number": PRIVATE + 1, "label": "repeated", "type": "float"},
        "scale_params": {"number": PRIVATE + 2, "label": "repeated", "type": "float"},
        "is_negative_input": {"number": PRIVATE + 3, "label": "optional", "type": "bool", "default": "false"},
        "force_u8_input": {"number": PRIVATE + 4, "label": "optional", "type": "bool", "default": "false"},
    },
    # CHaiDNN's (docs/dialects.md).
    "PrecisionParameter": {
        "bw_layer_in": {"number": 3, "label": "optional", "type": "uint32"},
        "bw_layer_out": {"number": 4, "label": "optional", "type": "uint32"},
        "bw_params": {"number": 5, "label": "optional", "type": "uint32"},
        "fl_layer_in": {"number": 6, "label": "optional", "type": "int32"},
        "fl_layer_out": {"number": 7, "label": "optional", "type": "int32"},
        "fl_params": {"number": 8, "label": "optional", "type": "int32"},
        "batchnorm_mean_fl": {"number": 9, "label": "optional", "type": "int32"},
        "batchnorm_variance_fl": {"number": 10, "label": "optional", "type": "int32"},
        "batchnorm_mean_bw": {"number": 11, "label": "optional", "type": "int32"},
        "batchnorm_variance_bw": {"number": 12, "label": "optional", "type": "int32"},
        "scale_gamma_fl": {"number": 13, "label": "optional", "type": "int32"},
        "scale_beta_fl": {"number": 14, "label": "optional", "type": "int32"},
        "scale_gamma_bw": {"number": 15, "label": "optional", "type": "int32"},
        "scale_beta_bw": {"number": 16, "label": "optional", "type": "int32"},
        "scale_gamma_by_std_fl": {"number": 17, "label": "optional", "type": "int32"},
        "scale_gamma_by_std_bw": {"number": 18, "label": "optional", "type": "int32"},
        "th_layer_in": {"number": 19, "label": "optional", "type": "float"},
        "th_layer_out": {"number": 20, "label": "optional", "type": "float"},
        "th_params": {"number": 21, "label": "repeated", "type": "float"},
        "quant_type": {"number": 22, "label": "optional", "type": "string", "default": "DynamicFixed"},
    },
    "PoolingParameter": {
        "ceil_mode": {"number": PRIVATE, "label": "optional", "type": "bool", "default": "true"},
    },
    "LayerParameter": {
        "shuffle_channel_param": {"number": PRIVATE, "label": "optional", "type": "ShuffleChannelParameter"},
        "upsample_param": {"number": PRIVATE + 1, "label": "optional", "type": "UpsampleParameter"},
        "interp_param": {"number": PRIVATE + 2, "label": "optional", "type": "InterpParameter"},
        "roi_pooling_param": {"number": PRIVATE + 3, "label": "optional", "type": "ROIPoolingParameter"},
        "psroi_pooling_param": {"number": PRIVATE + 4, "label": "optional", "type": "PSROIPoolingParameter"},
        "relu6_param": {"number": PRIVATE + 5, "label": "optional", "type": "ReLU6Parameter"},
        "max_unpool_param": {"number": PRIVATE + 6, "label": "optional", "type": "MaxUnPoolParameter"},
        "precision_param": {"number": PRIVATE + 7, "label": "optional", "type": "PrecisionParameter"},
    },
    "ShuffleChannelParameter": {"group": {"number": 1, "label": "optional", "type": "uint32", "default": "1"}},
    "UpsampleParameter": {
        "scale": {"number": 1, "label": "optional", "type": "uint32", "default": "2"},
        "scale_h": {"number": 2, "label": "optional", "type": "uint32"},
        "scale_w": {"number": 3, "label": "optional", "type": "uint32"},
        "pad_out_h": {"number": 4, "label": "optional", "type": "bool", "default": "false"},
        "pad_out_w": {"number": 5, "label": "optional", "type": "bool", "default": "false"},
        "upsample_h": {"number": 6, "label": "optional", "type": "uint32"},
        "upsample_w": {"number": 7, "label": "optional", "type": "uint32"},
    },
    "InterpParameter": {
        "height": {"number": 1, "label": "optional", "type": "int32", "default": "0"},
        "width": {"number": 2, "label": "optional", "type": "int32", "default": "0"},
        "zoom_factor": {"number": 3, "label": "optional", "type": "int32", "default": "1"},
        "shrink_factor": {"number": 4, "label": "optional", "type": "int32", "default": "1"},
        "pad_beg": {"number": 5, "label": "optional", "type": "int32", "default": "0"},
        "pad_end": {"number": 6, "label": "optional", "type": "int32", "default": "0"},
    },
    "ROIPoolingParameter": {
        "pooled_h": {"number": 1, "label": "optional", "type": "uint32", "default": "0"},
        "pooled_w": {"number": 2, "label": "optional", "type": "uint32", "default": "0"},
        "spatial_scale": {"number": 3, "label": "optional", "type": "float", "default": "1"},
    },
    "PSROIPoolingParameter": {
        "spatial_scale": {"number": 1, "label": "optional", "type": "float", "default": "1"},
        "output_dim": {"number": 2, "label": "optional", "type": "int32", "default": "0"},
        "group_size": {"number": 3, "label": "optional", "type": "int32", "default": "0"},
    },
    "MaxUnPoolParameter": {
        "dst_h": {"number": 1, "label": "optional", "type": "uint32"},
        "dst_w": {"number": 2, "label": "optional", "type": "uint32"},
    },
    "ReLU6Parameter": {"negative_slope": {"number": 1, "label": "optional", "type": "float", "default": "0"}},
}

HEADER = """\
// The schema of Caffe's files: every message, field, number and default of BVLC Caffe 1.0 with Ristretto's
// quantization_param, what the SSD branch adds, fields of other forks, and our own extension of QuantizationParameter
// from number 100 up. Written by tools/make_schema.py; numbers from 10000 up stand for fields that are read by name
// from text and never written on the wire.
syntax = "proto2";

package caffe;
"""


def merge(*sources: dict[str, Fields]) -> dict[str, Fields]:
    """Join the messages of several sources; a number that is taken gives way to a private one."""
    merged: dict[str, Fields] = {}
    for source in sources:
        for message, fields in source.items():
            mine = merged.setdefault(message, {})
            for name, field in fields.items():
                taken = {other["number"] for other in mine.values()}
                number = field["number"]
                while number in taken:
                    number = max(PRIVATE + 100, number + 1)
                mine[name] = {**field, "number": number}
    return merged


def default_text(field: dict[str, Any]) -> str:
    """A default as .proto text."""
    default = field["default"]
    return json.dumps(default) if field["type"] in ("string", "bytes") else str(default)


def field_line(name: str, field: dict[str, Any]) -> str:
    """One field as .proto text."""
    options = []
    if "default" in field:
        options.append(f"default = {default_text(field)}")
    if field.get("packed"):
        options.append("packed = true")
    suffix = f" [{', '.join(options)}]" if options else ""
    return f"  {field['label']} {field['type']} {name} = {field['number']}{suffix};"


def enum_lines(name: str, values: dict[str, int], indent: str) -> list[str]:
    """An enum as .proto text."""
    inner = [f"{indent}  {value} = {number};" for value, number in values.items()]
    return [f"{indent}enum {name} {{", *inner, f"{indent}}}"]


def render(messages: dict[str, Fields], enums: dict[str, dict[str, int]]) -> str:
    """The whole file."""
    blocks = [HEADER]
    for name, values in enums.items():
        if "." not in name:
            blocks.append("\n".join(enum_lines(name, values, "")))
    for message, fields in messages.items():
        lines = [f"message {message} {{"]
        for name, values in enums.items():
            if name.startswith(message + "."):
                lines += enum_lines(name.split(".")[1], values, "  ")
        lines += [field_line(*item) for item in sorted(fields.items(), key=lambda item: item[1]["number"])]
        blocks.append("\n".join([*lines, "}"]))
    return "\n\n".join(blocks) + "\n"


def main() -> None:
    """Read the JSON files given and write the schema."""
    sources = [json.loads(Path(argument).read_text()) for argument in sys.argv[1:]]
    messages = merge(*(source["messages"] for source in sources), OURS)
    enums = {name: values for source in sources for name, values in source["enums"].items()}
    PROTO.parent.mkdir(exist_ok=True)
    PROTO.write_text(render(messages, enums))


if __name__ == "__main__":
    main()
