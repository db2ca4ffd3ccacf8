"""Where nets run: what is asked of onnxruntime for a GPU, and one line where there is none. No GPU is needed."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import onnxruntime
import pytest

import ristretto as library
from ristretto.caffe.weights import LayerWeights, write_caffemodel
from ristretto.errors import DeviceError, NetError, UsageError
from ristretto.graph.build import BuiltNet, build
from ristretto.pipeline import runner
from ristretto.pipeline.device import _try, current_device, find_device, on_device
from ristretto.pipeline.kernels import exact_integer_kernels
from ristretto.pipeline.options import QuantizeOptions
from ristretto.pipeline.quantize import quantize
from ristretto.report.events import DeviceChosen, Event
from ristretto.runtime.session import CUDA
from tests.cli.runner import MODELS, ristretto

Capture = pytest.CaptureFixture[str]

LENET = MODELS / "digits_lenet"
NET = (LENET / "train_val.prototxt", LENET / "digits_lenet.caffemodel")
COMMAND = ("--model", NET[0], "--weights", NET[1], "--data-root", MODELS)
JOB = (*COMMAND, "--trimming_mode", "dynamic_fixed_point", "--iterations", 1, "--ladder", 8)


class Asked(NamedTuple):
    """What a session was asked for."""

    device: str | None
    options: dict[str, str]


class Machine:
    """An onnxruntime that says it has CUDA, and runs on the CPU.

    Attributes:
        devices: how many there are; -1 for CUDA libraries that are missing.
        asked: what each session was asked for.
    """

    def __init__(self, devices: int) -> None:
        self.devices = devices
        self.asked: list[Asked] = []

    def session(self, model: bytes, options: object, providers: Sequence[Any], **rest: Any) -> Any:
        """A session of the CPU that says it has what was asked for."""
        wanted: dict[str, dict[str, str]] = dict(item if isinstance(item, tuple) else (item, {}) for item in providers)
        assert list(wanted)[-1] == "CPUExecutionProvider"
        cuda = dict(wanted.get(CUDA, {}))
        device = cuda.pop("device_id", None)
        self.asked.append(Asked(device, cuda))
        if device is not None and int(device) >= self.devices >= 0:
            message = f"[ONNXRuntimeError] : 1 : FAIL : CUDA failure 101: invalid device ordinal ; GPU={device}"
            raise RuntimeError(message)
        real = _Session(model, options, providers=["CPUExecutionProvider"], **rest)
        if device is not None and self.devices >= 0:
            real.get_providers = lambda: list(wanted)
        return real


_Session = onnxruntime.InferenceSession


def machine(monkeypatch: pytest.MonkeyPatch, devices: int) -> Machine:
    exact_integer_kernels()  # its models are tried once and for the CPU
    made = Machine(devices)
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: [CUDA, "CPUExecutionProvider"])
    monkeypatch.setattr(onnxruntime, "InferenceSession", made.session)
    return made


@pytest.fixture
def kernels(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The kernels that each net was built with."""
    seen: list[str] = []

    def watched(*arguments: Any, **named: Any) -> BuiltNet:
        seen.append(named["kernels"])
        return build(*arguments, **named)

    monkeypatch.setattr(runner, "build", watched)
    return seen


def options(gpu: str) -> QuantizeOptions:
    return QuantizeOptions(NET[0], (NET[1],), iterations=2, ladder=(8, 2), data_root=MODELS, gpu=gpu)


def test_a_job_asks_for_the_device_and_for_plain_kernels(monkeypatch: pytest.MonkeyPatch, kernels: list[str]) -> None:
    plain = quantize(options(""))
    assert set(kernels) > {"plain"}, "on a CPU the quantized nets get others"
    kernels.clear()
    made = machine(monkeypatch, devices=2)
    events: list[Event] = []
    report = quantize(options("1"), events.append)
    assert DeviceChosen("1", 1) in events
    assert len(made.asked) > 8
    assert {each.device for each in made.asked} == {"1"}
    assert all(each.options == {"use_tf32": "0", "cudnn_conv_algo_search": "DEFAULT"} for each in made.asked)
    assert set(kernels) == {"plain"}
    assert {group: ladder.chosen for group, ladder in report.ladders.items()} == {
        group: ladder.chosen for group, ladder in plain.ladders.items()
    }
    assert report.combined.score == plain.combined.score
    assert current_device() is None, "the next job of the process is not on it"


@pytest.mark.parametrize(("group", "choice"), [(1, "DEFAULT"), (4, "HEURISTIC")])
def test_how_to_convolve_in_groups_is_left_to_cudnn(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, group: int, choice: str
) -> None:
    """One group after another takes too long; without groups plain sums of products are asked for, which are exact."""
    made = machine(monkeypatch, devices=1)
    file = tmp_path / "net.prototxt"
    file.write_text(
        'layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 1 dim: 4 dim: 5 dim: 5 } } }\n'
        f'layer {{ name: "conv" type: "Convolution" bottom: "data" top: "conv" convolution_param {{ num_output: 4 '
        f'kernel_size: 3 group: {group} weight_filler {{ type: "constant" value: 1 }} }} }}'
    )
    weights = [
        LayerWeights("conv", "Convolution", (np.ones((4, 4 // group, 3, 3), np.float32), np.zeros(4, np.float32)))
    ]
    write_caffemodel(tmp_path / "net.caffemodel", "net", weights)
    net = library.load_net(file, tmp_path / "net.caffemodel", gpu="0")
    out = net.run({"data": np.ones((1, 4, 5, 5))}, ["conv"])["conv"]
    assert np.all(out == 9 * 4 // group)
    assert made.asked[-1].options["cudnn_conv_algo_search"] == choice


def test_without_gpu_no_device_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    made = machine(monkeypatch, devices=1)
    library.evaluate(*NET, iterations=1, data_root=MODELS)
    assert {each.device for each in made.asked} == {None}


@pytest.mark.parametrize("command", ["test", "run", "compare", "quantize"])
def test_each_command_that_runs_nets_takes_a_device(
    monkeypatch: pytest.MonkeyPatch, capsys: Capture, tmp_path: Path, command: str
) -> None:
    made = machine(monkeypatch, devices=1)
    more = {
        "test": (*COMMAND, "--iterations", 1),
        "run": (*COMMAND, "--outputs", tmp_path / "out.npz"),
        "compare": (*COMMAND, "--against", NET[0], "--images", 2),
        "quantize": (*JOB, "--model_quantized", tmp_path / "q.prototxt", "--report", tmp_path / "r.json"),
    }[command]
    outcome = ristretto(capsys, command, *more, "--gpu", 0)
    assert outcome.status == 0, outcome.err
    on_it = [each for each in made.asked if each.device == "0"]
    assert len(on_it) >= 2, "one that tries the device, and the net"
    assert "CPU" not in outcome.err
    assert ("Use GPU with device ID 0" in outcome.err) == (command in ("test", "quantize"))
    if command == "quantize":
        assert len(on_it) == len(made.asked), "and in what the report compares"
        assert json.loads((tmp_path / "r.json").read_text())["margin_met"]


@pytest.mark.parametrize("command", ["test", "run", "compare"])
@pytest.mark.parametrize(
    ("devices", "reason"),
    [(None, "this onnxruntime has no CUDA"), (1, "invalid device ordinal"), (-1, "onnxruntime cannot use GPU 3")],
)
def test_one_line_says_that_everything_runs_on_the_cpu(
    monkeypatch: pytest.MonkeyPatch,
    capsys: Capture,
    tmp_path: Path,
    command: str,
    devices: int | None,
    reason: str,
) -> None:
    if devices is None:
        monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CPUExecutionProvider"])
    else:
        machine(monkeypatch, devices)
    more = {
        "test": (*COMMAND, "--iterations", 1),
        "run": (*COMMAND, "--outputs", tmp_path / "out.npz"),
        "compare": (*COMMAND, "--against", NET[0], "--images", 2),
    }[command]
    outcome = ristretto(capsys, command, *more, "--gpu", 3)
    assert outcome.status == 0, outcome.err
    (line,) = [line for line in outcome.err.splitlines() if "--gpu=3 was asked for" in line]
    assert reason in line
    assert line.endswith("everything runs on the CPU")


@pytest.mark.parametrize(
    ("asked", "number"),
    [("", None), ("-1", None), ("0", 0), ("2", 2), ("all", 0), ("1,0", 1), (" 1 ", 1)],
)
def test_what_gpu_may_say(monkeypatch: pytest.MonkeyPatch, asked: str, number: int | None) -> None:
    machine(monkeypatch, devices=8)
    assert find_device(asked).number == number
    assert find_device(asked).reason == ""
    with on_device(asked):
        assert current_device() == number
    assert current_device() is None


def test_nonsense_is_refused(capsys: Capture, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--gpu fast: expected the number of a device"):
        find_device("fast")
    outcome = ristretto(capsys, "quantize", *JOB, "--model_quantized", tmp_path / "q.prototxt", "--gpu", "fast")
    assert outcome.status == 2
    assert "--gpu fast" in outcome.message


def test_a_session_does_not_fall_back_in_silence(monkeypatch: pytest.MonkeyPatch) -> None:
    """onnxruntime itself would."""
    made = machine(monkeypatch, devices=-1)
    with pytest.raises(DeviceError, match="onnxruntime cannot use GPU 0; do its driver"):
        _try(0)
    assert [each.device for each in made.asked] == ["0"]


_TOO_LITTLE = "GPU 5 has too little memory for the net; give its data layer a smaller batch_size"
_ARENA = "/onnxruntime_src/bfc_arena.cc:360 void* onnxruntime::BFCArena::AllocateRawInternal(size_t, bool)"
SAID = {
    "number": (
        "/onnxruntime_src/info.cc:63 static onnxruntime::FromProviderOptions(const onnxruntime::ProviderOptions&) "
        "[ONNXRuntimeError] : 1 : FAIL : provider_options_utils.h:187 Parse Failed to parse provider option "
        '"device_id": info.cc:71 operator() Invalid device ID: 5, must be between 0 (inclusive) and 1 (exclusive).',
        "onnxruntime cannot use GPU 5: Invalid device ID: 5, must be between 0 (inclusive) and 1 (exclusive); "
        "is it one that nvidia-smi -L lists?",
    ),
    "memory at the start": (
        f"[ONNXRuntimeError] : 1 : FAIL : Exception during initialization: {_ARENA} "
        "Available memory of 0 is smaller than requested bytes of 18432",
        _TOO_LITTLE,
    ),
    "memory in a run": (
        "[ONNXRuntimeError] : 6 : RUNTIME_EXCEPTION : Non-zero status code returned while running Conv node. "
        f"Name:'conv1/Conv' Status Message: {_ARENA} Failed to allocate memory for requested buffer of size 4000000000",
        _TOO_LITTLE,
    ),
}
"""What onnxruntime says of a device, and what the tool makes of it."""


@pytest.mark.parametrize("case", SAID)
@pytest.mark.parametrize("running", [False, True])
def test_what_is_the_matter_with_a_device_is_one_line_about_the_device(
    monkeypatch: pytest.MonkeyPatch, case: str, running: bool
) -> None:
    said, line = SAID[case]
    machine(monkeypatch, devices=9)

    def fails(*_: object, **__: object) -> None:
        raise RuntimeError(said)

    if running:
        monkeypatch.setattr(_Session, "run", fails)
    else:
        monkeypatch.setattr(onnxruntime, "InferenceSession", fails)
    with pytest.raises(DeviceError) as raised:
        _try(5)
    assert str(raised.value) == line


def test_the_same_words_on_the_cpu_are_about_the_net(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object, **__: object) -> None:
        raise RuntimeError(SAID["memory in a run"][0])

    monkeypatch.setattr(_Session, "run", fails)
    net = library.load_net(*NET, data_root=MODELS)
    with pytest.raises(NetError, match=r"cannot run the net.*Failed to allocate memory"):
        net.run()


def test_cuda_libraries_of_pip_are_looked_for(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    loaded: list[bool] = []

    def preload() -> None:
        sys.stdout.write("Failed to load libcublas.so")
        loaded.append(True)

    machine(monkeypatch, 1)
    monkeypatch.setattr(onnxruntime, "preload_dlls", preload, raising=False)
    assert find_device("0").number == 0
    assert loaded
    assert capsys.readouterr() == ("", "")
    assert find_device("").number is None
    assert len(loaded) == 1
