"""Which layers of a net may be folded into which: who reads what, in which phases, under which name."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable

from ristretto.caffe.fold_weights import AFFINE_TYPES, LINEAR_TYPES, CannotFoldError
from ristretto.caffe.net import build_net
from ristretto.caffe.netspec import LayerSpec
from ristretto.caffe.rules import NetState
from ristretto.caffe.textproto import Document, Field, Scalar
from ristretto.caffe.view import View

_QUANTIZED_TYPES = frozenset({"ConvolutionRistretto", "DeconvolutionRistretto", "FcRistretto"})
_PASSING_TYPES = frozenset({"ReLU", "PReLU", "ELU", "Sigmoid", "TanH", "Clip", "Dropout"}) | AFFINE_TYPES


class Wiring:
    """A net in one state, and the whole file that it is part of.

    Attributes:
        document: the file, a net in today's form.
        net: its layers in the state.
        file_layers: all layers of the file with their fields, whatever their phase.
    """

    def __init__(self, document: Document, state: NetState | None) -> None:
        self.document = document
        self.net = build_net(document, state)
        root = View.of(document, "NetParameter")
        fields = [entry for entry in document.root.named("layer") for _ in entry.values]
        self.file_layers: list[tuple[View, Field]] = list(zip(root.children("layer"), fields, strict=True))
        # For build_net a net's input fields are one more layer, its first.
        self._offset = int(root.has("input"))
        self._makers = {value: layer for layer in self.net.layers for value in layer.outputs}
        self._readers: dict[str, list[LayerSpec]] = {}
        for layer in self.net.layers:
            for value in layer.inputs:
                self._readers.setdefault(value, []).append(layer)
        self._names = Counter(view.text("name") for view, _ in self.file_layers)
        present = {layer.index - self._offset for layer in self.net.layers}
        self._absent = [
            (number + self._offset, view) for number, (view, _) in enumerate(self.file_layers) if number not in present
        ]

    def in_file(self, layer: LayerSpec) -> tuple[View, Field]:
        """A layer of the net as it stands in the file."""
        return self.file_layers[layer.index - self._offset]

    def before(self, layer: LayerSpec) -> LayerSpec:
        """The layer that makes what a layer reads first."""
        return self._makers[layer.inputs[0]]

    def check_follower(self, layer: LayerSpec) -> None:
        """Refuse a BatchNorm, Scale or Bias that follows no linear layer.

        Raises:
            CannotFoldError: what it follows instead; where a linear layer comes after it, that one is named too.
        """
        before = self.before(layer)
        if before.type in AFFINE_TYPES:
            raise CannotFoldError(f"it follows '{before.name}', which is kept")
        if before.type not in LINEAR_TYPES | _QUANTIZED_TYPES:
            after = self._linear_after(layer)
            more = f"; '{after.name}' comes after it and cannot take it in" if after is not None else ""
            what = f"it follows '{before.name}' ({before.type}), no convolution, deconvolution or inner product{more}"
            raise CannotFoldError(what)

    def check_layer(self, layer: LayerSpec) -> None:
        """Refuse a layer that cannot be changed or taken away by itself.

        Raises:
            CannotFoldError: it is quantized, has several bottoms or tops, shares its weights, or is part of the loss.
        """
        view, entry = self.in_file(layer)
        what = ""
        if layer.type in _QUANTIZED_TYPES or view.has("quantization_param"):
            what = f"is quantized already ({layer.type})"
        elif len(layer.bottoms) != 1 and layer.type in AFFINE_TYPES:
            what = f"has a second bottom, '{layer.bottoms[1]}', in place of weights"
        elif len(layer.bottoms) != 1 or len(layer.tops) != 1:
            what = f"has {len(layer.bottoms)} bottoms and {len(layer.tops)} tops"
        elif any(param.text("name") for param in view.children("param")):
            what = "shares its weights (its param has a name)"
        elif self._names[layer.name] > 1:
            what = f"has the name and so the weights of {self._names[layer.name]} layers in the file"
        elif view.has("loss_weight"):
            what = "has a loss_weight"
        elif len(entry.values) > 1:
            what = "stands in a list of layers, layer: [ ... ]"
        if what:
            raise CannotFoldError(f"'{layer.name}' {what}")

    def check_link(self, before: LayerSpec, layer: LayerSpec) -> None:
        """Refuse two layers of which the second is not the only one that ever reads the first, or not always.

        Raises:
            CannotFoldError: their rules differ, or the blob between them has another user, in this state or another.
        """
        if _rules(before.view) != _rules(layer.view):
            what = f"'{before.name}' and '{layer.name}' run under different include or exclude rules"
            raise CannotFoldError(what)
        blob = before.tops[0]
        others = [reader for reader in self._readers[before.outputs[0]] if reader is not layer]
        if others:
            raise CannotFoldError(f"'{others[0].name}' reads the blob '{blob}' between them too")
        end = layer.index if layer.tops[0] == blob else len(self.file_layers) + self._offset
        for number, view in self._absent:
            if not before.index < number < end or not _phases(view) & _phases(layer.view):
                continue
            if blob in (*view.texts("bottom"), *view.texts("top")):
                what = f"'{view.text('name')}', which runs in another state, uses the blob '{blob}' between them too"
                raise CannotFoldError(what)

    def _linear_after(self, layer: LayerSpec) -> LayerSpec | None:
        """The first linear layer that reads what a layer makes, straight or through activations."""
        values = list(layer.outputs)
        for value in values:
            for reader in self._readers.get(value, []):
                if reader.type in LINEAR_TYPES:
                    return reader
                if reader.type in _PASSING_TYPES:
                    values += reader.outputs
        return None


def _rules(layer: View) -> frozenset[Hashable]:
    """A layer's include and exclude rules, to be compared."""
    return frozenset(
        (kind, frozenset((entry.name, _texts(entry)) for entry in rule.message.fields))
        for kind in ("include", "exclude")
        for rule in layer.children(kind)
    )


def _texts(entry: Field) -> tuple[str, ...]:
    return tuple(value.text for value in entry.values if isinstance(value, Scalar))


def _phases(layer: View) -> set[str]:
    """The phases that a layer may run in."""
    both = {"TRAIN", "TEST"}
    include = layer.children("include")
    if include:
        return {phase for rule in include for phase in ([rule.text("phase")] if rule.has("phase") else both)}
    plain = [rule for rule in layer.children("exclude") if [entry.name for entry in rule.message.fields] == ["phase"]]
    return both - {rule.text("phase") for rule in plain}
