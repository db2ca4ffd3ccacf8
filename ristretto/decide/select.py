"""Which sites of a net are quantized, as the user says it: ``conv1``, ``InnerProduct:params``, ``res*:in,out``."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase

from ristretto.decide.plan import QuantPlan
from ristretto.errors import UsageError
from ristretto.numerics.layer_formats import ROLES, LayerFormats, Role

_WORDS: Mapping[str, tuple[Role, ...]] = {
    "in": ("in",),
    "out": ("out",),
    "activations": ("in", "out"),
    "params": ("params", "bias"),
    "weights": ("params",),
    "bias": ("bias",),
    "all": ROLES,
}
_FIELDS: Mapping[Role, str] = {"in": "input", "out": "output", "params": "params", "bias": "bias"}


@dataclass(frozen=True, slots=True)
class Selector:
    """Some roles of some layers.

    Attributes:
        pattern: a layer's name or its type; ``*``, ``?`` and ``[abc]`` as in a shell.
        roles: what of them.
        text: how the user wrote it.
    """

    pattern: str
    roles: tuple[Role, ...]
    text: str

    def names(self, name: str, layer_type: str) -> bool:
        """Whether a layer is meant."""
        return fnmatchcase(name, self.pattern) or fnmatchcase(layer_type, self.pattern)

    def takes(self, name: str, layer_type: str, role: Role) -> bool:
        """Whether a site is meant."""
        return role in self.roles and self.names(name, layer_type)


def parse_selector(text: str) -> Selector:
    """Read ``PATTERN`` or ``PATTERN:ROLE,ROLE``.

    ``params`` means weights and bias.

    >>> parse_selector("InnerProduct:params").roles
    ('params', 'bias')
    >>> parse_selector("conv*").roles
    ('in', 'out', 'params', 'bias')

    Raises:
        UsageError: there is no pattern.
    """
    # A layer's name may hold a colon; what follows the last one counts as roles only if every word is a role.
    pattern, colon, tail = text.rpartition(":")
    words = [word.strip() for word in tail.split(",")]
    if not colon or not all(word in _WORDS for word in words):
        pattern, words = text, ["all"]
    if not pattern:
        raise UsageError(f"'{text}' names no layer", cure="write a layer's name or type, such as conv1 or 'fc*:params'")
    wanted = {role for word in words for role in _WORDS[word]}
    return Selector(pattern, tuple(role for role in ROLES if role in wanted), text)


@dataclass(frozen=True, slots=True)
class Selection:
    """What is quantized: everything, or only what ``only`` names; less what ``skip`` names."""

    only: tuple[Selector, ...] = ()
    skip: tuple[Selector, ...] = ()

    def takes(self, name: str, layer_type: str, role: Role) -> bool:
        """Whether a site is quantized."""
        wanted = not self.only or any(selector.takes(name, layer_type, role) for selector in self.only)
        return wanted and not any(selector.takes(name, layer_type, role) for selector in self.skip)

    def check(self, layers: Mapping[str, str]) -> None:
        """Refuse a selector that names none of the layers (name to type).

        Raises:
            UsageError: one does.
        """
        for selector in (*self.only, *self.skip):
            if not any(selector.names(name, kind) for name, kind in layers.items()):
                cure = f"the layers are {_listed(layers)}"
                if ":" in selector.pattern:
                    cure += f"; the parts that may follow a colon are {', '.join(_WORDS)}"
                raise UsageError(f"no layer to quantize has the name or type '{selector.pattern}'", cure=cure)

    def restrict(self, plan: QuantPlan, types: Mapping[str, str]) -> QuantPlan:
        """A plan with the sites that are not selected left in float."""
        if not self.only and not self.skip:
            return plan
        layers = {}
        for name, formats in plan.layers.items():
            kept = self._restricted(name, types[name], formats)
            if any(kept.at(role) is not None for role in ROLES):
                layers[name] = kept
        return QuantPlan(layers)

    def _restricted(self, name: str, layer_type: str, formats: LayerFormats) -> LayerFormats:
        left_out = {field: None for role, field in _FIELDS.items() if not self.takes(name, layer_type, role)}
        return replace(formats, **left_out)  # type: ignore[arg-type]


def overridden(plan: QuantPlan, overrides: QuantPlan) -> QuantPlan:
    """A plan in which the formats of ``overrides`` take the place of those of the same layer and role."""
    layers = dict(plan.layers)
    for name, given in overrides.layers.items():
        own = layers.get(name, LayerFormats(in_place=given.in_place))
        named = {field: given.at(role) for role, field in _FIELDS.items() if given.at(role) is not None}
        layers[name] = replace(own, **named)  # type: ignore[arg-type]
    return QuantPlan(layers)


def _listed(names: Collection[str], most: int = 12) -> str:
    shown = list(names)[:most]
    return ", ".join(shown) + (f" and {len(names) - most} more" if len(names) > most else "")
