"""The examination: all checks in order, each as far as what came before lets it."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from ristretto.caffe.confined import Confined, confined_to
from ristretto.caffe.net import modernise, read_prototxt
from ristretto.caffe.netspec import NetSpec, Phase
from ristretto.caffe.rules import NetState
from ristretto.caffe.textproto import Document
from ristretto.caffe.weights import Weights, read_weights
from ristretto.data import Cache
from ristretto.decide.plan import group_of
from ristretto.errors import RistrettoError
from ristretto.pipeline.doctor.measure import Say, measure
from ristretto.pipeline.doctor.params import weight_findings
from ristretto.pipeline.doctor.scoring import deciding_blob, score_findings
from ristretto.pipeline.doctor.sources import count_findings, open_sources, phase_findings, source_findings
from ristretto.pipeline.doctor.text import text_findings
from ristretto.pipeline.doctor.wiring import Shapes, layer_findings, partial_shapes, type_findings, wired
from ristretto.pipeline.feed import Feed
from ristretto.pipeline.given import coerce
from ristretto.pipeline.plugins import load_plugins
from ristretto.pipeline.runnable import runnable
from ristretto.pipeline.runner import Runner
from ristretto.report.findings import Diagnosis, Finding, Measured, in_order

_CACHE_BYTES = 256 << 20


@dataclass(frozen=True, slots=True)
class DoctorOptions:
    """What to look at.

    Attributes:
        model: the prototxt.
        weights: its weights files, later ones override; none leaves out what needs them.
        score: the blob that is to decide; None takes the first output.
        inputs: an npz file in place of the net's own data.
        data_root: a folder for relative sources.
        untrusted: whether paths that the files name must lie in their folder or in data_root (docs/robustness.md).
        calibration_phase: the phase whose data ranges are to be measured on.
        quick_score: whether to run the float net.
        iterations: on how many batches; None for about a hundred images.
        level, stages: of the state to build the net in.
        threads: threads per run; 0 for one per core.
        plugins: modules that teach layer types.
    """

    model: Path
    weights: tuple[Path, ...] = ()
    score: str | None = None
    inputs: Path | None = None
    data_root: Path | None = None
    untrusted: bool = False
    calibration_phase: Literal["TRAIN", "TEST"] = "TRAIN"
    quick_score: bool = True
    iterations: int | None = None
    level: int = 0
    stages: tuple[str, ...] = ()
    threads: int = 0
    plugins: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        coerce(self)


def _silent(what: str) -> None:
    """Hear nothing."""


def diagnose(options: DoctorOptions, say: Say = _silent) -> Diagnosis:
    """Find all that would go wrong; a user's mistake is a finding, not an exception.

    Args:
        options: what to look at.
        say: hears what is being done.
    """
    return _Examination(options, say).diagnosis()


@dataclass
class _Phase:
    """One phase of the net, as far as it could be opened."""

    net: NetSpec
    shapes: Shapes
    feed: Feed | None


@dataclass
class _Examination:
    options: DoctorOptions
    say: Say
    findings: list[Finding] = field(default_factory=list)
    cache: Cache = field(default_factory=lambda: Cache(_CACHE_BYTES))
    measured: Measured | None = None

    def diagnosis(self) -> Diagnosis:
        weights = self._weights()
        document = self._document()
        if document is not None:
            self._net(document, weights)
        return Diagnosis(str(self.options.model), in_order(self.findings), self.measured)

    def _confined(self) -> Confined | None:
        return confined_to(self.options.untrusted, self.options.model, self.options.data_root)

    def _weights(self) -> Weights | None:
        if not self.options.weights:
            what = "no weights are given: what needs them was not looked at"
            self.findings.append(Finding("note", "no_weights", what, "give them after the prototxt, or with --weights"))
            return None
        try:
            return read_weights(self.options.weights, untrusted=self.options.untrusted)
        except RistrettoError as error:
            self.findings.append(Finding.of(error, "weights"))
            return None

    def _document(self) -> Document | None:
        """The prototxt in today's form, with its own text looked at."""
        try:
            load_plugins(self.options.plugins)
            document = read_prototxt(self.options.model, self._confined())
        except RistrettoError as error:
            self.findings.append(Finding.of(error, "syntax"))
            return None
        self.findings += text_findings(document)
        if any(finding.check == "solver" for finding in self.findings):
            return None
        try:
            return modernise(document)
        except RistrettoError as error:
            self.findings.append(Finding.of(error, "syntax"))
            return None

    def _net(self, document: Document, weights: Weights | None) -> None:
        start = len(self.findings)
        test = self._phase(document, "TEST")
        if test is not None:
            self._test(test, weights)
        broken = any(finding.severity == "error" for finding in self.findings[start:])
        train = None
        if self.options.inputs is None and self.options.calibration_phase == "TRAIN":
            train = self._phase(document, "TRAIN")
        if train is not None and test is not None:
            self._calibration(train, test)
        if test is not None and test.feed is not None and weights is not None and not broken:
            self._run(test, test.feed, weights)
        if document.text != _text_of(self.options.model):
            # Lines of a net that was upgraded are not those of the file.
            self.findings[start:] = [
                replace(finding, line=0) if finding.file == document.file else finding
                for finding in self.findings[start:]
            ]

    def _phase(self, document: Document, phase: Phase) -> _Phase | None:
        options = self.options
        net = wired(document, NetState(phase, options.level, options.stages), self.findings)
        if net is None:
            return None
        self.findings += type_findings(net, self._needed(net))
        self.say(f"opening the data of phase {phase}")
        feed = open_sources(net, options.inputs, options.data_root, self.cache, self.findings)
        fed = feed.shapes if feed is not None else {}
        shapes = partial_shapes(net, fed, self.findings)
        if feed is not None:
            self.findings += source_findings(net, feed, shapes)
        return _Phase(net, shapes, feed)

    def _needed(self, net: NetSpec) -> frozenset[str]:
        """The values that a job needs: the score, and what is quantized."""
        blob = deciding_blob(net, self.options.score) if net.phase == "TEST" else None
        quantized = [layer for layer in net.layers if group_of(layer.type) is not None]
        values = [value for layer in quantized for value in (*layer.inputs, *layer.outputs)]
        return frozenset([*values, *([net.finals[blob]] if blob is not None else [])])

    def _test(self, test: _Phase, weights: Weights | None) -> None:
        self.findings += score_findings(test.net, self.options.score)
        self.findings += layer_findings(test.net)
        if test.feed is not None:
            self.findings += count_findings(test.net, test.feed, test.shapes)
        if weights is not None:
            self.findings += weight_findings(test.net, test.shapes, weights)

    def _calibration(self, train: _Phase, test: _Phase) -> None:
        names = {layer.name for layer in train.net.layers}
        for layer in test.net.layers:
            if group_of(layer.type) is not None and layer.name not in names:
                what = "the layer is quantized and does not run in phase TRAIN, where ranges are measured"
                cure = "use --calibration_phase TEST"
                line = layer.view.line
                self.findings.append(Finding("error", "calibration", what, cure, test.net.file, line, layer.name))
        if train.feed is not None and test.feed is not None:
            self.findings += phase_findings(test.feed, train.feed, train.net)

    def _run(self, test: _Phase, feed: Feed, weights: Weights) -> None:
        """Build the net as a job does, and score it."""
        blob = deciding_blob(test.net, self.options.score)
        assert blob is not None  # or there was an error
        try:
            if self.options.quick_score:
                iterations, threads = self.options.iterations, self.options.threads
                self.measured, findings = measure(test.net, feed, weights, blob, iterations, threads, self.say)
                self.findings += findings
            else:
                net, _ = runnable(test.net, [test.net.finals[blob]])
                Runner(net, weights, [net.finals[blob]]).prepare(feed.shapes)
        except RistrettoError as error:
            self.findings.append(Finding.of(error, "run"))


def _text_of(path: Path) -> str:
    return read_prototxt(path).text
