"""Which layers run: include and exclude rules against phase, level and stages (BVLC/caffe net.cpp)."""

from __future__ import annotations

from dataclasses import dataclass

from ristretto.caffe.netspec import Phase
from ristretto.caffe.view import View


@dataclass(frozen=True, slots=True)
class NetState:
    """The state a net is built in (caffe.proto, NetState)."""

    phase: Phase = "TEST"
    level: int = 0
    stages: tuple[str, ...] = ()


def net_state(net: View, given: NetState | None) -> NetState:
    """The state to build a net in: the one given, joined with the net's own ``state`` (Net::Net).

    A phase that is given overrides the net's, stages add up, and the net's level counts where none is given.
    """
    own = net.child("state")
    stages = own.texts("stage")
    if given is None:
        return NetState("TRAIN" if own.text("phase") == "TRAIN" else "TEST", own.integer("level"), stages)
    return NetState(given.phase, given.level or own.integer("level"), (*stages, *given.stages))


def meets_rule(state: NetState, rule: View) -> bool:
    """Whether a state satisfies every condition of a NetStateRule (Net::StateMeetsRule)."""
    if rule.has("phase") and rule.text("phase") != state.phase:
        return False
    if rule.has("min_level") and state.level < rule.integer("min_level"):
        return False
    if rule.has("max_level") and state.level > rule.integer("max_level"):
        return False
    if not set(rule.texts("stage")) <= set(state.stages):
        return False
    return not set(rule.texts("not_stage")) & set(state.stages)


def is_included(layer: View, state: NetState) -> bool:
    """Whether a layer runs in a state (Net::FilterNet).

    Raises:
        NetError: the layer has both include and exclude rules.
    """
    include, exclude = layer.children("include"), layer.children("exclude")
    if include and exclude:
        raise layer.error("a layer may have include rules or exclude rules, not both", field="exclude")
    if include:
        return any(meets_rule(state, rule) for rule in include)
    return not any(meets_rule(state, rule) for rule in exclude)
