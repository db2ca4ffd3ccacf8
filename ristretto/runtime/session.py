"""Running ONNX models: the one place that touches onnxruntime."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from contextlib import redirect_stdout
from io import StringIO
from typing import Any

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from ristretto.errors import DeviceError, NetError
from ristretto.runtime.threads import usual_threads

Array = NDArray[np.float32]

_TYPES = {"tensor(float)": np.float32, "tensor(double)": np.float64, "tensor(uint8)": np.uint8}

CUDA = "CUDAExecutionProvider"

_CUDA_OPTIONS = {"use_tf32": "0", "cudnn_conv_algo_search": "DEFAULT"}
"""TF32 would cut operands to 10 bits, and the faster algorithms (Winograd, FFT) transform them: in plain products and
sums what has few bits stays exact, as on a CPU."""

_CUDA_OPTIONS_IN_GROUPS = {**_CUDA_OPTIONS, "cudnn_conv_algo_search": "HEURISTIC"}
"""cuDNN's plain algorithm computes one group after another: MobileNetV2 takes 17 times as long."""

_FLOAT32_ONLY = ("QuickGeluFusion",)
"""What onnxruntime up to 1.23 makes of float64 nodes too, and then has no kernel for: Swish."""

_MOVING = [
    "ClipQuantRewrite",
    "DoubleQDQPairsRemover",
    "EnsureUniqueDQForNodeUnit",
    "NhwcTransformer",
    "QDQFinalCleanupTransformer",
    "QDQPropagationTransformer",
    "QDQS8ToU8Transformer",
    "QDQSelectorActionTransformer",
    "ReluQuantRewrite",
    "TransposeOptimizer",
    "TransposeOptimizer_CPUExecutionProvider",
    "WeightBiasQuantization",
]
"""What onnxruntime would move or merge."""

_RUNNING = re.compile(r"running \S+ node\. Name:'(.*?)/[^/']*'")
"""Where it names the node that failed in a run."""

_AT_NODE = re.compile(r"node (?:with name '|\()(.*)/[^/]*?['):]")
"""Where onnxruntime names the node it complains about; nodes are named LAYER/OPERATION."""

_NO_DEVICE = re.compile(r"CUDA failure[^;]*|Invalid device ID[^.]*")
_NO_MEMORY = re.compile(r"Available memory of|Failed to allocate memory|out of memory")
"""What it says of a CUDA device that is not there or fails, and of one whose memory does not suffice."""


def has_cuda() -> bool:
    """Whether this onnxruntime was built for CUDA; whether there is a device is another matter."""
    return CUDA in ort.get_available_providers()


def _prepare_cuda() -> None:
    """Let CUDA libraries that came with pip be found, and what onnxruntime says of missing ones be one line of ours."""
    ort.set_default_logger_severity(4)
    preload = getattr(ort, "preload_dlls", None)  # from 1.21 on
    if preload is not None:
        with redirect_stdout(StringIO()):
            preload()


class Session:
    """A loaded model that maps named arrays to named arrays."""

    def __init__(
        self,
        model: bytes,
        *,
        threads: int = 0,
        keep_layout: bool = False,
        device: int | None = None,
        in_groups: bool = False,
    ) -> None:
        """Load a serialized model.

        Args:
            model: the ONNX model.
            keep_layout: leave transpositions and roundings where they are: the model has them in the best places, and
                moving a rounding before another operation would change values on the way.
            threads: threads for one run; 0 takes what RISTRETTO_THREADS says, or lets onnxruntime take one per core.
            device: number of the CUDA device that does what it has kernels for; None for the CPU alone.
            in_groups: whether it has convolutions in groups (``graph.groups``), which a CUDA device does otherwise.

        Raises:
            DeviceError: the device cannot be used.
            UsageError: RISTRETTO_THREADS is no number of threads.
            NetError: onnxruntime does not take the model: it has no kernel for an operation on these types, or a
                plug-in made an operation that cannot be.
        """
        options = ort.SessionOptions()
        options.intra_op_num_threads = threads or usual_threads()
        options.log_severity_level = 4  # what it raises as an error it would print as well
        # It would round weights between quantized values once more, to other formats than ours.
        options.add_session_config_entry("session.disable_quant_qdq", "1")
        # Threads of one session that wait in a loop for more work would slow down what runs next, in Python or in
        # another session.
        options.add_session_config_entry("session.force_spinning_stop", "1")
        providers: list[str | tuple[str, dict[str, str]]] = ["CPUExecutionProvider"]
        if device is not None:
            choice = _CUDA_OPTIONS_IN_GROUPS if in_groups else _CUDA_OPTIONS
            providers.insert(0, (CUDA, {"device_id": str(device), **choice}))
            _prepare_cuda()
        try:
            self._session = ort.InferenceSession(
                model,
                options,
                providers=providers,
                disabled_optimizers=[*(_MOVING if keep_layout else ()), *_FLOAT32_ONLY],
                # It would print why it cannot use a device and take the CPU, also in the middle of a job.
                enable_fallback=0,
            )
        except Exception as error:  # onnxruntime's own classes are not public
            raise _of_device(error, device) or _refused(error) from error
        # Where its libraries are missing, or there is no such device, onnxruntime takes the CPU.
        if device is not None and CUDA not in self._session.get_providers():
            what = f"onnxruntime cannot use GPU {device}"
            raise DeviceError(what, cure="do its driver and CUDA libraries suit onnxruntime-gpu?")
        self._device = device
        self.inputs = tuple(item.name for item in self._session.get_inputs())
        self._types = {item.name: np.dtype(_TYPES[item.type]) for item in self._session.get_inputs()}

    def run(self, feeds: Mapping[str, NDArray[Any]], outputs: Sequence[str]) -> dict[str, Array]:
        """Run the model once.

        Args:
            feeds: an array for each of the model's inputs; what is not an input is left out.
            outputs: the outputs wanted.

        Raises:
            DeviceError: the device has too little memory, or fails.
            NetError: an operation cannot take what comes to it.
        """
        given = {name: np.asarray(feeds[name], self._types[name], order="C") for name in self.inputs}
        try:
            results = self._session.run(list(outputs), given)
        except Exception as error:  # onnxruntime's own classes are not public
            raise _of_device(error, self._device) or _not_run(error) from error
        return dict(zip(outputs, results, strict=True))


def _of_device(error: Exception, device: int | None) -> DeviceError | None:
    """What is the matter with the device rather than with the net; None if nothing is."""
    if device is None:
        return None
    reason = _reason(error)
    if _NO_MEMORY.search(reason):
        what = f"GPU {device} has too little memory for the net"
        return DeviceError(what, cure="give its data layer a smaller batch_size")
    found = _NO_DEVICE.search(reason)
    if found is None:
        return None
    return DeviceError(
        f"onnxruntime cannot use GPU {device}: {found[0].strip()}", cure="is it one that nvidia-smi -L lists?"
    )


def _not_run(error: Exception) -> NetError:
    """What onnxruntime says when it runs a model, with the layer where it names a node."""
    reason = _reason(error)
    node = _RUNNING.search(reason)
    what = f"onnxruntime cannot run the net: {reason}"
    return NetError(what, layer=node[1] if node else "", cure="do the inputs suit the net?")


def _refused(error: Exception) -> NetError:
    """What onnxruntime says when it loads a model, with the layer where it names a node."""
    reason = _reason(error)
    node = _AT_NODE.search(reason)
    cure = "if the layer is a plug-in's, let it use other nodes; for float64 there are fewer than for float32"
    return NetError(f"onnxruntime does not take the net: {reason}", layer=node[1] if node else "", cure=cure)


def _reason(error: Exception) -> str:
    """The first line of what onnxruntime says."""
    line = str(error).strip().partition("\n")[0]
    return re.sub(r"^\[ONNXRuntimeError\] : \d+ : ", "", line) or type(error).__name__
