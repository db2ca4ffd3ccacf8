"""The digits LeNet in a folder of its own, with changes; and the program called there."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from ristretto.caffe.weights import LayerWeights, read_weights, write_caffemodel
from tests.cli.runner import MODELS, Outcome, ristretto

LENET = MODELS / "digits_lenet"
WEIGHTS = LENET / "digits_lenet.caffemodel"
NET, DEPLOY = "train_val.prototxt", "deploy.prototxt"
FIXED = ("--trimming_mode", "dynamic_fixed_point")
EIGHT = ("--bw_conv_params", 8, "--bw_fc_params", 8, "--bw_activations", 8)

Change = Callable[[NDArray[np.float32]], None]


@dataclass(frozen=True)
class Place:
    """A folder with the net, its weights and its data.

    Attributes:
        folder: it.
        capsys: hears the program.
    """

    folder: Path
    capsys: pytest.CaptureFixture[str]

    def call(self, *words: object) -> Outcome:
        """Run the program here."""
        return ristretto(self.capsys, *words)

    def weights(self, layer: str, blob: int, change: Change) -> None:
        """Change a blob of the weights."""
        found: list[LayerWeights] = []
        for each in read_weights([WEIGHTS]).layers:
            blobs = [array.copy() for array in each.blobs]
            if each.name == layer:
                change(blobs[blob])
            found.append(LayerWeights(each.name, each.type, tuple(blobs)))
        write_caffemodel(self.folder / "net.caffemodel", "changed", found)

    def edit(self, *edits: tuple[str, str], net: str = NET) -> None:
        """Replace words of the prototxt; each has to be there."""
        path = self.folder / net
        text = path.read_text()
        for old, new in edits:
            assert old in text, old
            text = text.replace(old, new)
        path.write_text(text)

    def quantize(self, *more: object, net: str = NET) -> Outcome:
        """Run ``quantize``; its report is r.json."""
        where = ("--model", net, "--weights", "net.caffemodel", "--model_quantized", "q.prototxt", "--report", "r.json")
        few = () if "--iterations" in more else ("--iterations", 2)
        return self.call("quantize", *where, *FIXED, *EIGHT, *few, *more)

    def test(self, *more: object, net: str = NET) -> Outcome:
        """Run ``test``; its report is t.json."""
        few = () if "--iterations" in more else ("--iterations", 2)
        return self.call("test", "--model", net, "--weights", "net.caffemodel", "--report", "t.json", *few, *more)

    def report(self, name: str = "r.json") -> dict[str, Any]:
        """A report, which has to be strict JSON."""
        found: dict[str, Any] = json.loads((self.folder / name).read_text(), parse_constant=_refused)
        return found


def _refused(word: str) -> float:
    message = f"{word} is no JSON"
    raise ValueError(message)


def place(folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Place:
    """Make the folder and go there."""
    folder.mkdir(exist_ok=True)
    shutil.copytree(MODELS / "digits_data", folder / "digits_data", dirs_exist_ok=True)
    for name in (NET, DEPLOY):
        shutil.copy(LENET / name, folder / name)
    shutil.copy(WEIGHTS, folder / "net.caffemodel")
    monkeypatch.chdir(folder)
    return Place(folder, capsys)
