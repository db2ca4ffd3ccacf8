"""The score: which blob will decide, and whether it is one that should."""

from __future__ import annotations

from collections.abc import Iterator

from ristretto.caffe.net import is_loss
from ristretto.caffe.netspec import LayerSpec, NetSpec
from ristretto.report.findings import Finding


def deciding_blob(net: NetSpec, asked: str | None) -> str | None:
    """The blob that ``ristretto quantize`` takes for the score, or None."""
    if asked is not None:
        return asked if asked in net.finals else None
    return net.outputs[0] if net.outputs else None


def accuracies(net: NetSpec) -> list[LayerSpec]:
    """The Accuracy layers, that of the main classifier's top-1 first: it is the last one of those in the net."""
    layers = [layer for layer in net.layers if layer.type == "Accuracy" and layer.tops]
    return sorted(reversed(layers), key=top_k)


def top_k(layer: LayerSpec) -> int:
    """How many of the best classes may hold the right one, for an Accuracy layer."""
    return layer.view.child("accuracy_param").integer("top_k")


def score_findings(net: NetSpec, asked: str | None) -> Iterator[Finding]:
    """Whether the blob that decides is there, and is an accuracy."""
    blob = deciding_blob(net, asked)
    if blob is None:
        if asked is not None:
            cure = f"the net's outputs are {', '.join(net.outputs) or 'none'}"
            yield Finding("error", "score", f"there is no blob '{asked}' to score", cure, net.file)
        else:
            cure = "name a blob with --score"
            yield Finding("error", "score", "the net has no output blob to score", cure, net.file)
        return
    maker = net.producer(net.finals[blob])
    others = [other for other in net.outputs if other != blob]
    best = accuracies(net)
    line, name = (maker.view.line, maker.name) if maker is not None else (0, "")
    how = "" if asked is not None else ", the first output in alphabetical order"
    better = best[0].tops[0] if best else ""
    named = f"--score {better}" if better else "--score_script, or an Accuracy layer"
    if maker is not None and is_loss(maker.type) and (best or any(not _is_loss(net, other) for other in others)):
        what = f"the score is the loss '{blob}'{how}: a smaller one is better, the search takes a larger one for better"
        yield Finding("warning", "score", what, f"name an accuracy: {named}", net.file, line, name)
    elif maker is not None and maker.type == "Accuracy" and top_k(maker) > 1 and top_k(best[0]) == 1:
        what = f"the score is the top-{top_k(maker)} accuracy '{blob}'{how}"
        yield Finding("warning", "score", what, f"for the top-1: {named}", net.file, line, name)
    elif maker is not None and maker.type == "Accuracy" and maker is not best[0] and top_k(maker) == top_k(best[0]):
        what = f"the score is '{blob}'{how}; the net has another accuracy further down, '{better}'"
        cure = f"if '{blob}' belongs to a side branch: {named}"
        yield Finding("warning", "score", what, cure, net.file, line, name)
    elif maker is None or maker.type != "Accuracy":
        what = f"no Accuracy layer decides: the score is agreement with the float net, or what blob '{blob}' holds"
        cure = "add an Accuracy layer, or give a metric of your own with --score_script, if there are labels"
        yield Finding("note", "score", what, cure, net.file, line, name)
    if others:
        what = f"blob '{blob}' decides{how}; the other outputs are {', '.join(others)}"
        yield Finding("note", "outputs", what, "another one is chosen with --score", net.file)


def _is_loss(net: NetSpec, blob: str) -> bool:
    maker = net.producer(net.finals[blob])
    return maker is not None and is_loss(maker.type)
