"""Train the digit nets in ``models/`` and write them, and the images they need, as Caffe files.

From the root of the repository, with the ``train`` extra installed (takes less than a minute):

    python -m tools.train_digits

The seeds are fixed: on one machine, with the same versions of numpy, scikit-learn and torch, each run writes
the same bytes. The prototxts are written by hand and only read here. A net is written only if its Caffe
file, run by the numpy reference below as ``train_val.prototxt`` says, gives the scores that torch gives.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import lmdb
import numpy as np
from google.protobuf import text_format
from numpy.typing import NDArray

from ristretto.caffe.schema import message_class
from ristretto.caffe.weights import LayerWeights, write_caffemodel

MODELS = Path(__file__).resolve().parent.parent / "models"
SPLIT_SEED = 0
TRAINING_SEED = 0
TEST_IMAGES = 600
BATCH = 64
SCALE = 0.00390625
"""What transform_param of the prototxts multiplies the pixels by."""
TOLERANCE = 1e-4
"""Largest difference allowed between a score by torch (float32) and by the numpy reference (float64)."""

Array = NDArray[Any]
Blobs = dict[str, list[Array]]
"""The weights of a net: the blobs of each layer in Caffe's order, by the layer's name."""


# The images ---------------------------------------------------------------------------------------


def enlarge(images: Array) -> NDArray[np.uint8]:
    """Double the size of images by linear interpolation, in integers.

    Args:
        images: (n, h, w), integers 0..16.

    Returns:
        (n, 2h, 2w), 0..255: weighted sums of four pixels, the weights adding up to 16, with 255 for 256.
    """
    for axis in (1, 2):
        last = images.shape[axis] - 1
        before = images.take([0, *range(last)], axis)
        after = images.take([*range(1, last + 1), last], axis)
        pairs = np.stack([before + 3 * images, 3 * images + after], axis + 1)
        images = pairs.reshape(*images.shape[:axis], 2 * (last + 1), *images.shape[axis + 1 :])
    return np.minimum(images, 255).astype(np.uint8)


def write_lmdb(folder: Path, images: NDArray[np.uint8], labels: Array, names: Sequence[str]) -> None:
    """Write images as Datums under the keys of Caffe's own converter, ``NNNNNNNN_name``.

    Args:
        folder: the database's folder; it gets a compact ``data.mdb`` and nothing else.
        images: (n, c, h, w).
        labels: (n,).
        names: one for each image.
    """
    datum_class = message_class("Datum")
    with tempfile.TemporaryDirectory() as scratch:
        with lmdb.open(scratch, map_size=1 << 26) as source, source.begin(write=True) as transaction:
            for number, (image, label, name) in enumerate(zip(images, labels, names, strict=True)):
                channels, height, width = image.shape
                datum = datum_class(
                    channels=channels, height=height, width=width, data=image.tobytes(), label=int(label)
                )
                transaction.put(f"{number:08d}_{name}".encode(), datum.SerializeToString(), append=True)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "data.mdb").unlink(missing_ok=True)
        with lmdb.open(scratch, readonly=True, lock=False) as source:
            source.copy(str(folder), compact=True)


def read_lmdb(folder: Path) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """All images (n, c, h, w) and labels (n,) of a database of raw Datums of one size, in key order."""
    datum_class = message_class("Datum")
    with lmdb.open(str(folder), readonly=True, lock=False) as source, source.begin() as transaction:
        datums = [datum_class.FromString(value) for _, value in transaction.cursor()]
    images = [
        np.frombuffer(datum.data, np.uint8).reshape(datum.channels, datum.height, datum.width) for datum in datums
    ]
    return np.stack(images), np.array([datum.label for datum in datums])


def write_digits(folder: Path) -> None:
    """Split scikit-learn's digits, with the same share of each digit on both sides, into two LMDBs."""
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    digits = load_digits()
    images = enlarge(digits.images.astype(np.int64))[:, np.newaxis]
    train, test = train_test_split(
        np.arange(len(images)), test_size=TEST_IMAGES, stratify=digits.target, random_state=SPLIT_SEED
    )
    for name, chosen in (("train_lmdb", train), ("test_lmdb", test)):
        # The name in the key says which of scikit-learn's images it is.
        names = [f"digit{index:04d}" for index in chosen]
        write_lmdb(folder / name, images[chosen], digits.target[chosen], names)


# The nets in torch: layers by their Caffe names, and how data flows through them ------------------

Net = tuple[Any, Callable[[Any], Any]]
"""A torch ModuleDict, and the function from images to scores that uses it."""


def lenet() -> Net:
    from torch import nn
    from torch.nn import functional as fn

    layers = nn.ModuleDict(
        {
            "conv1": nn.Conv2d(1, 16, 5),
            "conv2": nn.Conv2d(16, 32, 3),
            "ip1": nn.Linear(32 * 2 * 2, 64),
            "drop1": nn.Dropout(0.25),
            "ip2": nn.Linear(64, 10),
        }
    )

    def scores(images: Any) -> Any:
        pool1 = fn.max_pool2d(fn.relu(layers["conv1"](images)), 3, 2, ceil_mode=True)
        pool2 = fn.max_pool2d(fn.relu(layers["conv2"](pool1)), 2, 2)
        return layers["ip2"](layers["drop1"](fn.relu(layers["ip1"](pool2.flatten(1)))))

    return layers, scores


def resnet() -> Net:
    from torch import nn
    from torch.nn import functional as fn

    layers = nn.ModuleDict()

    def add(name: str, norm: str, inputs: int, outputs: int, kernel: int, stride: int = 1) -> None:
        layers[name] = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False)
        layers[norm] = nn.BatchNorm2d(outputs, eps=1e-5)

    add("conv1", "bn_conv1", 1, 16, 3)
    add("res2a_branch2a", "bn2a_branch2a", 16, 16, 3)
    add("res2a_branch2b", "bn2a_branch2b", 16, 16, 3)
    add("res3a_branch1", "bn3a_branch1", 16, 32, 1, stride=2)
    add("res3a_branch2a", "bn3a_branch2a", 16, 32, 3, stride=2)
    add("res3a_branch2b", "bn3a_branch2b", 32, 32, 3)
    add("res3b_branch2a", "bn3b_branch2a", 32, 32, 3)
    add("res3b_branch2b", "bn3b_branch2b", 32, 32, 3)
    layers["fc10"] = nn.Linear(32, 10)

    def branch(block: str, part: str, values: Any) -> Any:
        return layers[f"bn{block}_{part}"](layers[f"res{block}_{part}"](values))

    def residual(block: str, values: Any) -> Any:
        skip = branch(block, "branch1", values) if f"res{block}_branch1" in layers else values
        hidden = fn.relu(branch(block, "branch2a", values))
        return fn.relu(skip + branch(block, "branch2b", hidden))

    def scores(images: Any) -> Any:
        values = fn.relu(layers["bn_conv1"](layers["conv1"](images)))
        for block in ("2a", "3a", "3b"):
            values = residual(block, values)
        return layers["fc10"](values.mean((2, 3)))

    return layers, scores


def train(net: Net, images: Array, labels: Array, *, epochs: int, rate: float) -> int:
    """Train with AdamW on the cross entropy, the rate falling along a cosine; returns the number of steps."""
    import torch
    from torch.nn import functional as fn

    layers, scores = net
    inputs, targets = torch.from_numpy(images), torch.from_numpy(labels)
    steps = epochs * -(-len(inputs) // BATCH)
    optimizer = torch.optim.AdamW(layers.parameters(), lr=rate, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    layers.train()
    for _ in range(epochs):
        for chosen in torch.randperm(len(inputs)).split(BATCH):
            optimizer.zero_grad()
            fn.cross_entropy(scores(inputs[chosen]), targets[chosen]).backward()
            optimizer.step()
            schedule.step()
    layers.eval()
    return steps


# From torch to Caffe ------------------------------------------------------------------------------


def settled_scale_factor() -> np.float32:
    """The third blob of a BatchNorm layer after long training with moving_average_fraction 0.999.

    Each step multiplies the stored sums (of means, of variances and, in this blob, of ones) by the fraction
    and adds the new value. In float32 the sum of ones settles just below 1000.
    """
    before, after = np.float32(-1), np.float32(0)
    while before != after:
        before, after = after, np.float32(after * np.float32(0.999) + np.float32(1))
    return after


def caffe_blobs(layers: Any) -> Blobs:
    """The weights of torch layers as Caffe stores them; a BatchNorm2d becomes BatchNorm and Scale."""
    from torch import nn

    def arrays(*tensors: Any) -> list[Array]:
        return [tensor.detach().numpy().astype(np.float32) for tensor in tensors if tensor is not None]

    factor = settled_scale_factor()
    blobs = {}
    for name, layer in layers.items():
        if isinstance(layer, nn.BatchNorm2d):
            mean, variance = arrays(layer.running_mean, layer.running_var)
            blobs[name] = [mean * factor, variance * factor, np.array([factor])]
            blobs[f"scale{name.removeprefix('bn')}"] = arrays(layer.weight, layer.bias)
        elif isinstance(layer, nn.Conv2d | nn.Linear):
            blobs[name] = arrays(layer.weight, layer.bias)
    return blobs


# Caffe's forward pass in numpy, phase TEST, for the layers that these nets have -------------------


def read_prototxt(file: Path) -> Any:
    """The NetParameter message of a prototxt."""
    return text_format.Parse(file.read_text(encoding="utf-8"), message_class("NetParameter")())


def write_net(file: Path, net: Any, blobs: Blobs) -> None:
    """Write the layers of phase TRAIN with their blobs, as Caffe does at the end of training."""
    train_phase = 0
    layers = [
        LayerWeights(layer.name, layer.type, tuple(blobs.get(layer.name, ())), tuple(layer.bottom), tuple(layer.top))
        for layer in net.layer
        if all(rule.phase == train_phase for rule in layer.include)
    ]
    write_caffemodel(file, net.name, layers)


def read_blobs(file: Path) -> Blobs:
    """The blobs of a .caffemodel, read by protobuf's own decoder."""
    net = message_class("NetParameter").FromString(file.read_bytes())
    return {
        layer.name: [np.array(blob.data, np.float32).reshape(blob.shape.dim) for blob in layer.blobs]
        for layer in net.layer
        if layer.blobs
    }


def forward(net: Any, weights: Blobs, data: Array) -> dict[str, Array]:
    """All blobs of a net, as they are after a forward pass.

    Args:
        net: a NetParameter message.
        weights: the net's weights.
        data: what is in the blob "data" (n, c, h, w).
    """
    values: dict[str, Array] = {"data": data}
    for layer in net.layer:
        if layer.type in {"Data", "Input", "Accuracy", "SoftmaxWithLoss"}:
            continue
        bottoms = [values[name] for name in layer.bottom]
        blobs = [blob.astype(np.float64) for blob in weights.get(layer.name, [])]
        values[layer.top[0]] = _FORWARD[layer.type](layer, blobs, *bottoms)
    return values


def _convolution(layer: Any, blobs: list[Array], bottom: Array) -> Array:
    param = layer.convolution_param
    (kernel,), (stride,), (pad,) = param.kernel_size, param.stride or [1], param.pad or [0]
    padded = np.pad(bottom, ((0, 0), (0, 0), (pad, pad), (pad, pad)))
    height, width = ((size - kernel) // stride + 1 for size in padded.shape[2:])
    top = np.zeros((len(bottom), param.num_output, height, width))
    for y in range(kernel):
        for x in range(kernel):
            seen = padded[:, :, y:, x:][:, :, : stride * height : stride, : stride * width : stride]
            top += np.einsum("oc,nchw->nohw", blobs[0][:, :, y, x], seen, optimize=True)
    if param.bias_term:
        top += blobs[1].reshape(-1, 1, 1)
    return top


def _batch_norm(layer: Any, blobs: list[Array], bottom: Array) -> Array:
    factor = blobs[2][0]
    mean, variance = ((blob / factor).reshape(-1, 1, 1) for blob in blobs[:2])
    top: Array = (bottom - mean) / np.sqrt(variance + layer.batch_norm_param.eps)
    return top


def _scale(layer: Any, blobs: list[Array], bottom: Array) -> Array:
    gain, shift = blobs
    return bottom * gain.reshape(-1, 1, 1) + shift.reshape(-1, 1, 1)


def _pooling(layer: Any, blobs: list[Array], bottom: Array) -> Array:
    param = layer.pooling_param
    reduce: Callable[..., Array] = np.max if param.pool == param.MAX else np.mean
    if param.global_pooling:
        return reduce(bottom, axis=(2, 3), keepdims=True)
    # Without padding: the number of windows is rounded up, and what hangs over the edge does not count.
    kernel, stride = param.kernel_size, param.stride
    height, width = (-(-(size - kernel) // stride) + 1 for size in bottom.shape[2:])
    top = np.zeros((*bottom.shape[:2], height, width))
    for y in range(height):
        for x in range(width):
            window = bottom[:, :, y * stride :, x * stride :][:, :, :kernel, :kernel]
            top[:, :, y, x] = reduce(window, axis=(2, 3))
    return top


def _inner_product(layer: Any, blobs: list[Array], bottom: Array) -> Array:
    return bottom.reshape(len(bottom), -1) @ blobs[0].T + blobs[1]


def _softmax(layer: Any, blobs: list[Array], bottom: Array) -> Array:
    powers: Array = np.exp(bottom - bottom.max(axis=1, keepdims=True))
    shares: Array = powers / powers.sum(axis=1, keepdims=True)
    return shares


_FORWARD: dict[str, Callable[..., Array]] = {
    "Convolution": _convolution,
    "BatchNorm": _batch_norm,
    "Scale": _scale,
    "ReLU": lambda layer, blobs, bottom: np.maximum(bottom, 0),
    "Pooling": _pooling,
    "Eltwise": lambda layer, blobs, first, second: first + second,
    "InnerProduct": _inner_product,
    "Dropout": lambda layer, blobs, bottom: bottom,
    "Softmax": _softmax,
}


def reference_scores(net: Any, weights: Blobs, images: NDArray[np.uint8]) -> Array:
    """The scores (n, 10) that go into the loss of a net."""
    blob = next(layer.bottom[0] for layer in net.layer if layer.type == "SoftmaxWithLoss")
    batches: Iterator[Array] = (images[at : at + BATCH] * SCALE for at in range(0, len(images), BATCH))
    return np.concatenate([forward(net, weights, batch)[blob] for batch in batches])


# The program --------------------------------------------------------------------------------------

NETS: dict[str, tuple[Callable[[], Net], int, float]] = {
    "digits_lenet": (lenet, 60, 2e-3),
    "digits_resnet": (resnet, 30, 5e-3),
}
"""By the net's folder: the torch net, the epochs and the learning rate."""


def main() -> None:
    parser = argparse.ArgumentParser(description="Train the digit nets and write them as Caffe files.")
    parser.add_argument("--models", type=Path, default=MODELS, help="the folder with the prototxts (%(default)s)")
    models = parser.parse_args().models

    import torch

    torch.use_deterministic_algorithms(True)
    torch.set_num_threads(1)
    write_digits(models / "digits_data")
    images, labels = read_lmdb(models / "digits_data" / "train_lmdb")
    test_images, test_labels = read_lmdb(models / "digits_data" / "test_lmdb")
    for name, (build, epochs, rate) in NETS.items():
        torch.manual_seed(TRAINING_SEED)
        trained = build()
        steps = train(trained, (images * SCALE).astype(np.float32), labels, epochs=epochs, rate=rate)
        with torch.no_grad():
            expected = trained[1](torch.from_numpy((test_images * SCALE).astype(np.float32))).numpy()

        unproved = models / name / f"{name}.caffemodel.unproved"
        net = read_prototxt(models / name / "train_val.prototxt")
        write_net(unproved, net, caffe_blobs(trained[0]))
        found = reference_scores(net, read_blobs(unproved), test_images)
        difference = float(np.abs(found - expected).max())
        if difference > TOLERANCE:
            message = f"{name}: the Caffe net's scores differ from torch's by {difference:g}; see {unproved}"
            raise SystemExit(message)
        unproved.replace(unproved.with_suffix(""))
        accuracy = float((found.argmax(axis=1) == test_labels).mean())
        print(
            f"{name}: {steps} steps, accuracy {accuracy:.4f} on {len(test_labels)} test images, "
            f"scores within {difference:.1e} of torch's"
        )


if __name__ == "__main__":
    main()
