"""What ``ristretto doctor`` finds, as values, as lines and as JSON."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from typing import Any, Literal

from ristretto.errors import RistrettoError, one_line

Severity = Literal["error", "warning", "note"]

SEVERITIES: tuple[Severity, ...] = ("error", "warning", "note")
"""From what stops a job to what is only good to know."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that the doctor found.

    Attributes:
        severity: an error stops ``ristretto quantize`` or makes its result worthless, a warning may
            spoil it, a note is good to know.
        check: which check found it, a word for programs that read the JSON.
        what: the fault, a sentence without a full stop.
        cure: what to do about it, or "".
        file, line: where; line 0 where there is none.
        layer: the layer, or "".
    """

    severity: Severity
    check: str
    what: str
    cure: str = ""
    file: str = ""
    line: int = 0
    layer: str = ""

    @classmethod
    def of(cls, error: RistrettoError, check: str, severity: Severity = "error") -> Finding:
        """What an error says, as a finding."""
        return cls(severity, check, error.what, error.cure, error.file, error.line, error.layer)

    @property
    def place(self) -> str:
        """File and line, as compilers write them, and the layer."""
        parts = [f"{self.file}:{self.line}" if self.line else self.file]
        parts += [f"layer '{self.layer}'"] if self.layer else []
        return ": ".join(filter(None, parts))


@dataclass(frozen=True, slots=True)
class Trial:
    """The score of the same images, prepared in another way.

    Attributes:
        change: what was done otherwise.
        score: the share of right answers.
        sure: whether it is higher than that of the net as it is by more than chance explains.
    """

    change: str
    score: float
    sure: bool


@dataclass(frozen=True, slots=True)
class Measured:
    """The quick score of the float net.

    Attributes:
        images: how many were scored.
        score: the share of right answers; None where the net has no labels to compare with.
        chance: what guessing gives; None where that is not known.
        trials: the usual cures, tried.
    """

    images: int
    score: float | None
    chance: float | None
    trials: tuple[Trial, ...] = ()


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """All that was found.

    Attributes:
        model: the prototxt.
        findings: errors first, each kind in the order of the file.
        measured: the quick score; None where there was none.
    """

    model: str
    findings: tuple[Finding, ...]
    measured: Measured | None = None

    def of(self, severity: Severity) -> tuple[Finding, ...]:
        """The findings of one severity."""
        return tuple(finding for finding in self.findings if finding.severity == severity)


def in_order(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """Findings by severity; what was found twice, as in both phases, is told once and as the worse of the two."""
    kept: dict[tuple[object, ...], Finding] = {}
    for finding in findings:
        key = (finding.what, finding.file, finding.line, finding.layer)
        held = kept.get(key)
        if held is None or SEVERITIES.index(finding.severity) < SEVERITIES.index(held.severity):
            kept[key] = finding
    return tuple(sorted(kept.values(), key=lambda finding: SEVERITIES.index(finding.severity)))


def finding_lines(finding: Finding) -> tuple[str, str]:
    """A finding as a line that says what and where, and a line that says the cure or ""."""
    place = finding.place
    head = f"{place}: {finding.what}" if place else finding.what
    return one_line(head), one_line(finding.cure)


def verdict(diagnosis: Diagnosis) -> str:
    """The last line: how many findings of each severity, and whether a job would run."""
    counts = {severity: len(diagnosis.of(severity)) for severity in SEVERITIES}
    told = [f"{count} {severity}{'s' * (count != 1)}" for severity, count in counts.items() if count]
    end = "a job would fail" if counts["error"] else "nothing would fail"
    return f"{', '.join(told) or 'healthy'}: {end}"


def measured_lines(measured: Measured) -> Iterator[str]:
    """The quick score and what was tried, as lines."""
    if measured.score is None:
        yield f"ran {measured.images} images; there are no labels to compare with"
        return
    guessing = "" if measured.chance is None else f", guessing gives {measured.chance:.4g}"
    yield f"float score of {measured.images} images: {measured.score:.4g}{guessing}"
    for trial in measured.trials:
        yield f"  {trial.score:.4f}  {trial.change}{' (better, by more than chance)' if trial.sure else ''}"


def diagnosis_to_json(diagnosis: Diagnosis) -> dict[str, Any]:
    """The diagnosis as JSON values."""
    return {"schema": 1, "healthy": not diagnosis.of("error"), **asdict(diagnosis)}
