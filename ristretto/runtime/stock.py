"""onnxruntime as others run it: with its default options."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from ristretto.atomic import scratch_folder
from ristretto.errors import NetError

_SILENT = 4


class StockSession:
    """A model as onnxruntime runs it for anyone: on the CPU, all of its optimizers on."""

    def __init__(self, model: bytes) -> None:
        """Load a serialized model.

        Raises:
            NetError: onnxruntime does not take it.
        """
        with scratch_folder() as folder:
            optimized = folder / "optimized.onnx"
            options = ort.SessionOptions()
            options.log_severity_level = _SILENT
            options.optimized_model_filepath = str(optimized)  # which changes nothing of what is done
            try:
                self._session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
            except Exception as error:  # onnxruntime's own classes are not public
                reason = str(error).partition("\n")[0]
                raise NetError(f"onnxruntime does not take the exported model: {reason}") from error
            self.optimized = optimized.read_bytes()
            """The model after all optimizations: what is run."""
        self.inputs = tuple(item.name for item in self._session.get_inputs())

    def run(self, feeds: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[np.float32]]:
        """Run the model once.

        Args:
            feeds: an array for each of the model's inputs; what is not an input is left out.

        Returns:
            every output by name.
        """
        given = {name: np.asarray(feeds[name], np.float32, order="C") for name in self.inputs}
        names = [item.name for item in self._session.get_outputs()]
        try:
            results = self._session.run(names, given)
        except Exception as error:  # onnxruntime's own classes are not public
            raise NetError(f"onnxruntime cannot run the exported model: {str(error).partition(chr(10))[0]}") from error
        return dict(zip(names, results, strict=True))
