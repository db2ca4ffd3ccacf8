"""Writes layer.vh, with which bench.v tests one layer, from the net.json of ``ristretto export --target hardware``.

Usage: python layer.py EXPORT_FOLDER LAYER > layer.vh
"""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path
from typing import Any

ROUNDINGS = ("half_even", "half_away", "half_up", "truncate")


def header(folder: Path, name: str) -> str:
    """The definitions of one layer."""
    manifest = json.loads((folder / "net.json").read_text())
    layer = next((entry for entry in manifest["layers"] if entry["name"] == name), None)
    if layer is None or layer["op"] not in ("fc", "conv"):
        sys.exit(f"{name} is no fully connected or convolutional layer of this net")
    if layer["accumulator"]["overflows"] or len(layer["shift"]) > 1:
        sys.exit(f"{name}: this example has an accumulator that holds every sum, and one shift for all channels")
    source = manifest["values"][layer["inputs"][0]]
    target = manifest["values"][layer["outputs"][0]]
    weights, bias = layer["weights"], layer.get("bias")

    def path(tensor: dict[str, Any]) -> str:
        return f'"{(folder / tensor["files"]["hex"]["file"]).resolve()}"'

    defined = {
        "MODULE": layer["op"],
        "GEOMETRY": ", ".join(f".{key}({value})" for key, value in geometry(layer, source, target).items()),
        "IMAGES": manifest["images"],
        "IN_LENGTH": math.prod(source["shape"][1:]),
        "OUT_LENGTH": math.prod(target["shape"][1:]),
        "IN_BITS": source["bw"],
        "IN_SIGNED": int(source["signed"]),
        "WEIGHT_BITS": weights["bw"],
        "BIAS_BITS": bias["bw"] if bias else 1,
        "HAS_BIAS": int(bias is not None),
        "ACC_BITS": layer["accumulator"]["bits_needed"],
        "SHIFT": layer["shift"][0],
        "ROUNDING": ROUNDINGS.index(layer["rounding"]),
        "OUT_BITS": target["bw"],
        "MIN": layer["min"],
        "MAX": layer["max"],
        "IN_FILE": path(source),
        "OUT_FILE": path(target),
        "WEIGHTS_FILE": path(weights),
        "BIAS_FILE": path(bias) if bias else '""',
    }
    return "".join(f"`define {key} {value}\n" for key, value in defined.items())


def geometry(layer: dict[str, Any], source: dict[str, Any], target: dict[str, Any]) -> dict[str, int]:
    """The parameters of fc.v or conv.v that are sizes."""
    if layer["op"] == "fc":
        return {"INPUTS": layer["weights"]["shape"][1], "OUTPUTS": layer["num_output"]}
    pairs = {"KERNEL": "kernel", "STRIDE": "stride", "PAD": "pad", "DILATION": "dilation"}
    sizes = {f"{key}_{axis}": layer[field][place] for key, field in pairs.items() for place, axis in enumerate("HW")}
    _, channels, height, width = source["shape"]
    _, outputs, out_height, out_width = target["shape"]
    image = {"CHANNELS": channels, "HEIGHT": height, "WIDTH": width}
    made = {"OUTPUTS": outputs, "OUT_HEIGHT": out_height, "OUT_WIDTH": out_width}
    return {**image, **made, **sizes, "GROUP": layer["group"]}


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    sys.stdout.write(header(Path(sys.argv[1]), sys.argv[2]))
