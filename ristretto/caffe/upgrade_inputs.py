"""Old fields of modern nets: a net's ``input``, BatchNorm's learned parameters, a solver's ``solver_type``."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from ristretto.caffe.edit import UNIT, Edits
from ristretto.caffe.shape_limits import read_dims
from ristretto.caffe.textproto import Document
from ristretto.caffe.view import View

SOLVER_TYPES: Mapping[str, str] = MappingProxyType(
    {
        "SGD": "SGD",
        "NESTEROV": "Nesterov",
        "ADAGRAD": "AdaGrad",
        "RMSPROP": "RMSProp",
        "ADADELTA": "AdaDelta",
        "ADAM": "Adam",
    }
)
"""The enum of old solvers in today's words (UpgradeSolverType)."""

_INPUT_FIELDS = ("input", "input_dim", "input_shape")
_LEGACY_AXES = 4


def upgrade_inputs(document: Document) -> Document:
    """Turn ``input`` with ``input_dim`` or ``input_shape`` into an Input layer (UpgradeNetInput).

    The layer comes to stand where the first of these fields stood, before all other layers.

    Raises:
        NetError: an input without a shape. (Caffe lets it pass and then misses the blob.)
    """
    root = View.of(document, "NetParameter")
    if not root.has("input"):
        return document
    lines = _input_layer(root)
    edits = Edits(document)
    old = [entry for entry in document.root.fields if entry.name in _INPUT_FIELDS]
    first_layer = next((entry for entry in document.root.fields if entry.name in ("layer", "layers")), None)
    if first_layer is None or old[0].start < first_layer.start:
        edits.replace_field(old[0], lines)
        old = old[1:]
    else:
        edits.insert_before(first_layer, lines)
    for entry in old:
        edits.remove(entry)
    return edits.apply()


def _input_layer(root: View) -> list[str]:
    """The lines of the Input layer that stands for a net's inputs."""
    root.texts("input")  # all of them strings
    tops, dims = root.message.all("input"), root.integers("input_dim")
    shapes = [read_dims(shape, "an input") for shape in root.children("input_shape")]
    if not shapes:
        shapes = [dims[at : at + _LEGACY_AXES] for at in range(0, len(dims), _LEGACY_AXES)]
        if any(len(shape) != _LEGACY_AXES for shape in shapes):
            what = f"{len(dims)} input_dim fields make no whole number of inputs"
            raise root.error(what, field="input_dim", cure=f"give {_LEGACY_AXES} for each input")
    if len(shapes) < len(tops):
        what = f"the net has {len(tops)} inputs and {len(shapes)} shapes"
        raise root.error(what, field="input", cure="give each input an input_shape { dim: ... }")
    content = ['name: "input"', 'type: "Input"']
    content += [f"top: {root.document.text[top.start : top.end]}" for top in tops]
    bodies = [" ".join(["shape {", *(f"dim: {size}" for size in shape), "}"]) for shape in shapes[: len(tops)]]
    content += ["input_param {", *(UNIT + body for body in bodies), "}"]
    return ["layer {", *(UNIT + line for line in content), "}"]


def upgrade_batch_norm(document: Document) -> Document:
    """Keep BatchNorm's three blobs from being learned where a net asks for that (UpgradeNetBatchNorm)."""
    edits = Edits(document)
    for layer in View.of(document, "NetParameter").children("layer"):
        params = layer.children("param")
        if layer.text("type") != "BatchNorm" or len(params) != 3:
            continue
        for param in params:
            for name in ("lr_mult", "decay_mult"):
                if param.number(name) != 0:
                    edits.set_scalar(param.message, name, "0")
    return edits.apply()


def upgrade_solver(document: Document) -> Document:
    """Turn a solver's ``solver_type: ADAM`` into ``type: "Adam"`` (UpgradeSolverType).

    Raises:
        NetError: the solver has both fields.
    """
    solver = View.of(document, "SolverParameter")
    if not solver.has("solver_type"):
        return document
    if solver.has("type"):
        what = "the solver has both solver_type and type"
        raise solver.error(what, field="solver_type", cure="keep type")
    edits = Edits(document)
    for entry in document.root.named("solver_type"):
        edits.replace(entry.start, entry.end, f'type: "{SOLVER_TYPES[solver.text("solver_type")]}"')
    return edits.apply()
