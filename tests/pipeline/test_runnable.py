"""A layer of a type that nobody knows stops a job only where the job needs it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from ristretto.caffe.net import build_net
from ristretto.caffe.prune import without_unknown
from ristretto.caffe.textproto import parse
from ristretto.pipeline import runner
from tests.cli.runner import MODELS, ristretto

Capture = pytest.CaptureFixture[str]

NET = """
layer { name: "in" type: "Input" top: "x" input_param { shape { dim: 2 dim: 3 } } }
layer { name: "good" type: "Power" bottom: "x" top: "y" }
layer { name: "odd" type: "Odd" bottom: "y" top: "z" }
layer { name: "after" type: "Power" bottom: "z" top: "z" }
layer { name: "joined" type: "Eltwise" bottom: "z" bottom: "y" top: "w" }
"""


def test_what_follows_from_an_unknown_layer_goes_with_it() -> None:
    net = build_net(parse(NET))
    pruned = without_unknown(net, {"Input", "Power", "Eltwise"}, ["y"])
    assert [layer.name for layer in pruned.net.layers] == ["in", "good"]
    assert [layer.name for layer in pruned.dropped] == ["odd", "after", "joined"]
    assert set(pruned.net.finals) == {"x", "y"}
    assert pruned.net.outputs == ()
    assert without_unknown(net, {"Input", "Power", "Eltwise"}, ["w"]).net is net
    assert without_unknown(net, {"Input", "Power", "Eltwise", "Odd"}).net is net


def test_run_asks_for_blobs_before_the_unknown_layer(capsys: Capture, tmp_path: Path) -> None:
    (tmp_path / "net.prototxt").write_text(NET)
    np.savez(tmp_path / "in.npz", x=np.ones((2, 3), np.float32))
    flags = ("--model", tmp_path / "net.prototxt", "--inputs", tmp_path / "in.npz", "--outputs", tmp_path / "o.npz")
    outcome = ristretto(capsys, "run", *flags, "--blobs", "y")
    assert (outcome.status, outcome.out) == (0, "y: 2 x 3\n")
    outcome = ristretto(capsys, "run", *flags, "--blobs", "w")
    assert outcome.status == 2
    assert "unknown layer type 'Odd'" in outcome.message


def test_a_loss_of_a_fork_in_phase_train_does_not_hinder_the_job(capsys: Capture, tmp_path: Path) -> None:
    lenet = MODELS / "digits_lenet"
    text = (lenet / "train_val.prototxt").read_text()
    text += """
layer { name: "own_loss" type: "FocalLoss" bottom: "ip2" bottom: "label" top: "focal" include { phase: TRAIN } }
layer { name: "own_scale" type: "Power" bottom: "focal" top: "focal" include { phase: TRAIN } }
"""
    (tmp_path / "net.prototxt").write_text(text)
    outcome = ristretto(
        capsys, "quantize", "--model", tmp_path / "net.prototxt", "--weights", lenet / "digits_lenet.caffemodel",
        "--model_quantized", tmp_path / "q.prototxt", "--trimming_mode", "dynamic_fixed_point", "--iterations", 1,
        "--data-root", MODELS,
    )  # fmt: skip
    assert outcome.status == 0, outcome.err
    assert "layer 'own_loss' of phase TRAIN is left out: its type 'FocalLoss' is not known" in outcome.err
    assert "layer 'own_scale' of phase TRAIN is left out with the layer that it reads from" in outcome.err
    assert "FocalLoss" in (tmp_path / "q.prototxt").read_text()


def test_a_layer_that_memory_cannot_hold_is_named(
    capsys: Capture, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two times 2 x 3 values of four bytes fit 100 bytes, what three of them make together with them does not."""
    text = NET[: NET.index('layer { name: "odd"')]
    text += 'layer { name: "wide" type: "Concat" bottom: "y" bottom: "y" bottom: "x" top: "w" }\n'
    (tmp_path / "net.prototxt").write_text(text)
    np.savez(tmp_path / "in.npz", x=np.ones((2, 3), np.float32))
    flags = (
        "--model",
        tmp_path / "net.prototxt",
        "--inputs",
        tmp_path / "in.npz",
        "--outputs",
        tmp_path / "o.npz",
        "--quiet",
    )
    monkeypatch.setattr(runner, "memory_bytes", lambda: 100)
    assert ristretto(capsys, "run", *flags, "--blobs", "y").status == 0
    outcome = ristretto(capsys, "run", *flags)
    assert outcome.status == 2
    said = (
        "layer 'wide': its inputs and outputs take 0 MB, there is no such memory; make the batch or the image smaller"
    )
    assert said in outcome.message


def test_blobs_that_memory_cannot_hold_together(
    capsys: Capture, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each layer takes 48 of 60 bytes, its blobs together 96."""
    text = NET[: NET.index('layer { name: "good"')]
    for bottom, top in ("xa", "ab", "bc"):
        text += f'layer {{ name: "{top}" type: "Power" bottom: "{bottom}" top: "{top}" power_param {{ shift: 1 }} }}\n'
    (tmp_path / "net.prototxt").write_text(text)
    np.savez(tmp_path / "in.npz", x=np.ones((2, 3), np.float32))
    flags = ("--model", tmp_path / "net.prototxt", "--inputs", tmp_path / "in.npz", "--outputs", tmp_path / "o.npz")
    monkeypatch.setattr(runner, "memory_bytes", lambda: 60)
    assert ristretto(capsys, "run", *flags).status == 0
    outcome = ristretto(capsys, "run", *flags, "--blobs", "all")
    assert outcome.status == 2
    said = "the 4 blobs that are asked for take 0 MB, there is no such memory; ask for fewer, or make the batch or the"
    assert said in outcome.message
