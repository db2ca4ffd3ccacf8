"""Solver prototxts: how a net is trained (caffe.proto, SolverParameter)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from ristretto.caffe.confined import Confined
from ristretto.caffe.net import read_prototxt
from ristretto.caffe.rules import NetState
from ristretto.caffe.textproto import Document
from ristretto.caffe.upgrade import upgrade_solver
from ristretto.caffe.view import View

TYPES = ("SGD", "Nesterov", "AdaGrad", "RMSProp", "AdaDelta", "Adam")
POLICIES = ("fixed", "step", "exp", "inv", "multistep", "poly", "sigmoid")

_SPELT = {name.lower(): name for name in TYPES}
_NEEDS = {
    "step": ("gamma", "stepsize"),
    "exp": ("gamma",),
    "inv": ("gamma", "power"),
    "multistep": ("gamma", "stepvalue"),
    "poly": ("power",),
    "sigmoid": ("gamma", "stepsize"),
}
"""What a policy cannot do without: 0, the default, would make the rate 0, constant or infinite."""


@dataclass(frozen=True, slots=True)
class RatePolicy:
    """How the learning rate follows from the iteration (sgd_solver.cpp, GetLearningRate).

    Attributes:
        name: one of ``POLICIES``.
        base_lr: the rate that the policy starts from.
        gamma, power, stepsize, stepvalues: what the policy needs.
        max_iter: where poly reaches 0.
    """

    name: str
    base_lr: float
    gamma: float = 0.0
    power: float = 0.0
    stepsize: int = 0
    stepvalues: tuple[int, ...] = ()
    max_iter: int = 0


@dataclass(frozen=True, slots=True)
class UpdateRule:
    """How a gradient changes a weight.

    Attributes:
        type: one of ``TYPES``.
        momentum, momentum2, rms_decay, delta: what the type needs.
        weight_decay: factor of the regularization.
        regularization: L1 or L2.
        clip_gradients: the greatest length of all gradients together; negative for none.
        iter_size: batches whose gradients are added up for one step.
    """

    type: str = "SGD"
    momentum: float = 0.0
    momentum2: float = 0.999
    rms_decay: float = 0.99
    delta: float = 1e-8
    weight_decay: float = 0.0
    regularization: str = "L2"
    clip_gradients: float = -1.0
    iter_size: int = 1


@dataclass(frozen=True, slots=True)
class TestNet:
    """A net to score while another one is trained: its prototxt as the solver names it, its state, its batches."""

    __test__ = False  # no test of pytest's

    path: str
    state: NetState
    iterations: int


@dataclass(frozen=True, slots=True)
class SolverConfig:
    """A solver prototxt.

    Attributes:
        file: where it was read from.
        net: the prototxt to train, as the solver names it.
        state: the state to build it in.
        tests: the nets to score, every ``test_interval`` iterations, the first time before training if
            ``test_initialization``.
        rate, rule: how weights are changed.
        max_iter: iterations.
        display: every how many iterations the loss is logged; 0 for never.
        average_loss: over how many iterations the logged loss is averaged.
        snapshot: every how many iterations a snapshot is written; 0 for none but the last.
        snapshot_after_train: whether the last is written.
        snapshot_prefix: what its files' names begin with.
        hdf5: whether it is written as HDF5.
        seed: of everything random; None where the solver leaves it to chance.
        weights: weights files to start from.
        unknown: fields that the schema does not know.
    """

    file: str
    net: str
    state: NetState
    tests: tuple[TestNet, ...]
    test_interval: int
    test_initialization: bool
    rate: RatePolicy
    rule: UpdateRule
    max_iter: int
    display: int
    average_loss: int
    snapshot: int
    snapshot_after_train: bool
    snapshot_prefix: str
    hdf5: bool
    seed: int | None
    weights: tuple[str, ...]
    unknown: tuple[str, ...]


def read_solver(path: Path, confined: Confined | None = None) -> SolverConfig:
    """Read a solver prototxt.

    Args:
        path: the file.
        confined: the folders that paths in it must not leave; None where it is trusted.

    Raises:
        UsageError: the file cannot be read.
        PrototxtError: it is not well-formed, or a value does not suit its field.
        NetError: it makes no sense.
    """
    return parse_solver(read_prototxt(path, confined))


def parse_solver(document: Document) -> SolverConfig:
    """The solver in a document; see ``read_solver``."""
    view = View.of(upgrade_solver(document), "SolverParameter")
    if not view.has("base_lr") and any(True for name in ("layer", "layers", "input") if view.raw(name)):
        raise view.error("this is a net, not a solver", cure="give the solver.prototxt that names the net as net:")
    return SolverConfig(
        document.file,
        *_train_net(view),
        _test_nets(view),
        _at_least(view, "test_interval", 0),
        view.flag("test_initialization"),
        _rate(view),
        _rule(view),
        _at_least(view, "max_iter", 1),
        _at_least(view, "display", 0),
        _at_least(view, "average_loss", 1),
        _at_least(view, "snapshot", 0),
        view.flag("snapshot_after_train"),
        _prefix(view, document.file),
        view.text("snapshot_format") == "HDF5",
        view.integer("random_seed") if view.integer("random_seed") >= 0 else None,
        tuple(name.strip() for names in view.texts("weights") for name in names.split(",") if name.strip()),
        view.unknown,
    )


def _finite(view: View, field: str) -> float:
    """A number that is one."""
    value = view.number(field)
    if not math.isfinite(value):
        raise view.error(f"{field} is {value}", field=field, cure="give a number that float32 holds")
    return value


def _share(view: View, field: str, usual: str) -> float:
    """What a mean keeps of what was before: from 1 on roots of negative numbers or divisions by 0 would come of it."""
    value = view.number(field)
    if not 0.0 <= value < 1.0:
        raise view.error(f"{field} {value:g} is not in [0, 1)", field=field, cure=f"{usual} is usual")
    return value


def _at_least(view: View, field: str, least: int) -> int:
    value = view.integer(field)
    if value < least:
        what = f"{field} must be at least {least}, it is {value}" if view.has(field) else f"the solver needs {field}"
        raise view.error(what, field=field, cure=f"set {field}")
    return value


def _state(view: View, phase: str) -> NetState:
    """The state that the solver asks for; the phase follows from what the net is for (Solver::InitTrainNet)."""
    return NetState("TRAIN" if phase == "TRAIN" else "TEST", view.integer("level"), view.texts("stage"))


def _train_net(view: View) -> tuple[str, NetState]:
    for field in ("net_param", "train_net_param", "test_net_param"):
        if view.has(field):
            cure = 'put the net into a file of its own and name it: net: "train_val.prototxt"'
            raise view.error(f"{field}: a net inside the solver is not read", field=field, cure=cure)
    named = [field for field in ("net", "train_net") if view.has(field)]
    if not named:
        raise view.error("the solver names no net to train", cure='add net: "train_val.prototxt"')
    if len(named) > 1:
        raise view.error("net and train_net are both given", field="train_net", cure="keep one of them")
    return view.text(named[0]), _state(view.child("train_state"), "TRAIN")


def _test_nets(view: View) -> tuple[TestNet, ...]:
    """The nets to score (Solver::InitTestNets): those of test_net, then ``net`` as often as test_iter is left."""
    named, counts = view.texts("test_net"), view.integers("test_iter")
    if len(counts) < len(named) or (view.integer("test_interval") > 0 and not counts):
        what = "the solver tests and does not say over how many batches: test_iter is missing"
        cure = "add test_iter, the batches of the test data, or take test_interval away"
        raise view.error(what, field="test_net" if named else "test_interval", cure=cure)
    if len(counts) > len(named) and not view.has("net"):
        what = f"{len(counts)} times test_iter for {len(named)} test nets"
        raise view.error(what, field="test_iter", cure="name a test_net for each")
    if counts and view.integer("test_interval") < 1:
        what = "test_iter is given and test_interval is not: the net would never be tested"
        raise view.error(what, field="test_iter", cure="add test_interval, or take test_iter away")
    if min(counts, default=1) < 1:
        raise view.error("test_iter must be at least 1", field="test_iter", cure="give the batches of the test data")
    states = view.children("test_state")
    if states and len(states) != len(counts):
        what = f"{len(states)} times test_state for {len(counts)} test nets"
        raise view.error(what, field="test_state", cure="give one for each, or none")
    paths = [*named, *[view.text("net")] * (len(counts) - len(named))]
    asked = [_state(state, "TEST") for state in states] or [NetState("TEST")] * len(counts)
    return tuple(TestNet(*each) for each in zip(paths, asked, counts, strict=True))


def _rate(view: View) -> RatePolicy:
    policy = view.text("lr_policy")
    if not view.has("base_lr"):
        raise view.error("the solver has no learning rate: base_lr is missing", cure="add base_lr")
    if policy not in POLICIES:
        what = f"there is no lr_policy '{policy}'" if policy else "lr_policy is missing"
        field = "lr_policy" if policy else "base_lr"
        raise view.error(what, field=field, cure=f"use one of {', '.join(POLICIES)}")
    for field in _NEEDS.get(policy, ()):
        if not view.has(field):
            raise view.error(f"lr_policy '{policy}' needs {field}", field="lr_policy", cure=f"add {field}")
    stepvalues = view.integers("stepvalue")
    if any(before >= after for before, after in pairwise(stepvalues)):
        raise view.error("the stepvalues must rise", field="stepvalue", cure="sort them")
    stepsize = view.integer("stepsize")
    if policy == "step" and stepsize < 1:
        raise view.error("stepsize must be at least 1", field="stepsize", cure="give a number of iterations")
    gamma, last = _finite(view, "gamma"), _at_least(view, "max_iter", 1) - 1
    if policy == "inv" and 1.0 + gamma * last <= 0.0:
        what = (
            f"lr_policy 'inv' with gamma {gamma:g} has no rate at iteration {last}: 1 + gamma * {last} is not positive"
        )
        raise view.error(what, field="gamma", cure="give a gamma of at least 0")
    return RatePolicy(
        policy,
        _finite(view, "base_lr"),
        gamma,
        _finite(view, "power"),
        stepsize,
        stepvalues,
        last + 1,
    )


def _rule(view: View) -> UpdateRule:
    """The update rule; type names are told apart by letters alone, as people write "ADAM" too."""
    name = _SPELT.get(view.text("type").lower())
    if name is None:
        raise view.error(f"there is no solver of type '{view.text('type')}'", field="type", cure=_one_of(TYPES))
    if name in ("AdaGrad", "RMSProp") and view.number("momentum"):
        raise view.error(f"{name} has no momentum", field="momentum", cure="take momentum away")
    delta = _finite(view, "delta")
    if delta < 0.0:
        raise view.error(f"delta {delta:g} is negative", field="delta", cure="1e-8 is usual")
    kind = view.text("regularization_type")
    if kind not in ("L1", "L2"):
        raise view.error(
            f"there is no regularization '{kind}'", field="regularization_type", cure=_one_of(("L1", "L2"))
        )
    return UpdateRule(
        name,
        _share(view, "momentum", "0.9"),
        _share(view, "momentum2", "0.999") if name == "Adam" else view.number("momentum2"),
        _share(view, "rms_decay", "0.99") if name == "RMSProp" else view.number("rms_decay"),
        delta,
        _finite(view, "weight_decay"),
        kind,
        _finite(view, "clip_gradients"),
        _at_least(view, "iter_size", 1),
    )


def _one_of(names: tuple[str, ...]) -> str:
    return f"use one of {', '.join(names)}"


def _prefix(view: View, file: str) -> str:
    """What snapshots' names begin with: as given, else the solver's own (UpgradeSnapshotPrefixProperty)."""
    given = view.text("snapshot_prefix")
    own = Path(file).with_suffix("")
    if not given:
        return str(own)
    return str(Path(given) / own.name) if Path(given).is_dir() else given
