"""Running ONNX models: the one place that touches onnxruntime."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from ristretto.errors import NetError

Array = NDArray[np.float32]

_TYPES = {"tensor(float)": np.float32, "tensor(double)": np.float64}

_AT_NODE = re.compile(r"node (?:with name '|\()(.*)/[^/]*?['):]")
"""Where onnxruntime names the node it complains about; nodes are named LAYER/OPERATION."""


class Session:
    """A loaded model that maps named arrays to named arrays."""

    def __init__(self, model: bytes, *, threads: int = 0) -> None:
        """Load a serialized model.

        Args:
            model: the ONNX model.
            threads: threads for one run; 0 lets onnxruntime take one per core.

        Raises:
            NetError: onnxruntime does not take the model: it has no kernel for an operation on these types, or a
                plug-in made an operation that cannot be.
        """
        options = ort.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = 3
        try:
            self._session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # onnxruntime's own classes are not public
            raise _refused(error) from error
        self.inputs = tuple(item.name for item in self._session.get_inputs())
        self._types = {item.name: np.dtype(_TYPES[item.type]) for item in self._session.get_inputs()}

    def run(self, feeds: Mapping[str, Array], outputs: Sequence[str]) -> dict[str, Array]:
        """Run the model once.

        Args:
            feeds: an array for each of the model's inputs; what is not an input is left out.
            outputs: the outputs wanted.
        """
        given = {name: np.asarray(feeds[name], self._types[name], order="C") for name in self.inputs}
        try:
            results = self._session.run(list(outputs), given)
        except Exception as error:  # onnxruntime's own classes are not public
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise NetError(f"onnxruntime cannot run the net: {reason}", cure="do the inputs suit the net?") from error
        return dict(zip(outputs, results, strict=True))


def _refused(error: Exception) -> NetError:
    """What onnxruntime says when it loads a model, with the layer where it names a node."""
    reason = re.sub(r"^\[ONNXRuntimeError\] : \d+ : ", "", str(error).partition("\n")[0])
    node = _AT_NODE.search(reason)
    cure = "if the layer is a plug-in's, let it use other nodes; for float64 there are fewer than for float32"
    return NetError(f"onnxruntime does not take the net: {reason}", layer=node[1] if node else "", cure=cure)
