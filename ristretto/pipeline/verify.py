"""Running the job of a report again, from what the report says of itself, and comparing what comes out."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from ristretto.atomic import check_again, scratch_folder
from ristretto.errors import FormatError, UsageError
from ristretto.numerics.arithmetic import Accumulator, Overflow
from ristretto.pipeline.evaluate import NetOptions, evaluate
from ristretto.pipeline.files import read_json
from ristretto.pipeline.finetune import FinetuneOptions, finetune
from ristretto.pipeline.given import check_names, fitted, option_names
from ristretto.pipeline.options import OUTPUTS, QuantizeOptions
from ristretto.pipeline.provenance import NEVER_TOLD, fingerprint, images_fingerprint, versions
from ristretto.pipeline.quantize import quantize
from ristretto.pipeline.untrusted import Bounds, Confined, confined_to
from ristretto.report.events import Listener, Warned, silent
from ristretto.report.jsonfile import dump, evaluation_to_json, report_to_json
from ristretto.report.provenance import InputFile
from ristretto.report.training import TrainingEvent, TrainingListener, training_to_json
from ristretto.report.verification import Difference, Verification, differences
from ristretto.version import VERSION

TOLERANCE = 1e-6
"""How far floats may be apart: another processor adds up in another order."""


def verify(
    report: Path,
    tolerance: float = TOLERANCE,
    listener: Listener = silent,
    *,
    untrusted: bool = False,
    data_root: Path | None = None,
) -> Verification:
    """Run the job of a report again and compare.

    Relative paths in the report are relative to the current folder, as they were to that of the job. What the job
    wrote is written into a folder that is removed again.

    Args:
        report: what ``quantize`` or ``test`` wrote.
        tolerance: how far floats may be apart, relative to the larger one.
        listener: hears what happens.
        untrusted: whether the report must name no code, and no file outside its folder and ``data_root``.
        data_root: a further folder for that.

    Raises:
        RistrettoError: the report cannot be read or does not say how it came about, or a mistake that the job meets.
    """
    before = read_json(report, "report")
    provenance = described(before, str(report))
    confined = confined_to(untrusted, report, data_root)
    if confined is not None:
        _check_bounds(provenance, report, confined)
        if provenance["flags"].get("data_root") is None:
            provenance["flags"]["data_root"] = data_root
    inputs = tuple(change for file in provenance["files"] for change in _changed(file, confined))
    check_again()
    now = versions(provenance["command"])
    told = provenance["versions"]
    others = tuple(
        Difference(name, told.get(name), now.get(name))
        for name in dict.fromkeys([*told, *now])
        if now.get(name) != told.get(name)
    )
    if inputs:
        return Verification(inputs, others)
    with scratch_folder() as folder:
        try:
            run = _job(provenance, folder, untrusted)
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise FormatError("what this report says of its job makes no sense", file=str(report)) from error
        except UsageError as error:
            raise UsageError(error.what, file=str(report), cure=error.cure) from error
        after = json.loads(dump(run(listener)))
    if provenance["command"] == "finetune":
        before, after = map(_without_places, (before, after))
    found = [*differences(before, after, tolerance), *_of_provenance(before, after["provenance"], tolerance)]
    score = after.get("combined", after).get("score")
    return Verification((), others, tuple(filter(None, found)), len(found), score)


def described(report: Any, file: str) -> dict[str, Any]:
    """How a report came about, if that has the form that ``provenance_to_json`` gives it.

    Raises:
        FormatError: it has not, or the report cannot be of a job that can be run again.
    """
    found = report.get("provenance") if isinstance(report, dict) else None
    if not isinstance(found, dict):
        cure = "reports of quantize, test and finetune do: run the job again with --report"
        raise FormatError("this does not say how it came about", file=file, cure=cure)
    kinds = {"flags": dict, "outputs": list, "versions": dict, "files": list}
    whole = all(isinstance(found.get(name), kind) for name, kind in kinds.items())
    files = found["files"] if whole else [None]
    if not all(isinstance(each, dict) and {"role", "path", "bytes"} <= each.keys() for each in files):
        raise FormatError("what this report says of its job makes no sense", file=file)
    if found.get("command") not in ("quantize", "test", "finetune"):
        raise FormatError(f"there is no job '{found.get('command')}' to run again", file=file)
    if report.get("interrupted"):
        cure = "let it go on with --resume, and verify the report of that"
        raise FormatError("this training was interrupted", file=file, cure=cure)
    places = [name for name in found["flags"] if name in NEVER_TOLD and name != "also"]
    if places:
        # It would name places to write to, or machines to ask.
        raise FormatError(f"no report of ours says '{places[0]}'", file=file, cure="was it changed by hand?")
    return found


def _check_bounds(provenance: Mapping[str, Any], report: Path, confined: Confined) -> None:
    bounds = Bounds(report, confined)
    try:
        bounds.check_flags(provenance["flags"])
        bounds.check_paths(Path(str(file["path"])) for file in provenance["files"])
    except UsageError as error:
        raise UsageError(error.what, file=str(report), cure=error.cure) from error


def _changed(file: Mapping[str, Any], confined: Confined | None) -> list[Difference]:
    """Whether an input is no longer what it was."""
    before = file.get("sha256", file.get("sha256_of_samples"))
    path = Path(str(file["path"]))
    place = f"{file['role']} {path}"
    folder = file.get("folder")
    found: InputFile | None = None
    try:
        if path.is_file():  # what is none, such as a device, may have no end
            role = str(file["role"])
            found = fingerprint(role, path) if folder is None else images_fingerprint(path, str(folder), confined)
    except (OSError, ValueError):
        found = None
    if found is not None and (found.sha256, found.bytes) == (before, file["bytes"]):
        return []
    return [Difference(place, before, None if found is None else found.sha256)]


def _of_provenance(report: Mapping[str, Any], now: Mapping[str, Any], tolerance: float) -> Iterator[Difference | None]:
    """Compare what a job was made from. Flags are left out: those of the report were given to the job."""
    told = report["provenance"]
    version = told["versions"].get("ristretto")
    yield from differences(report.get("version"), version, tolerance, "version")
    yield from differences(told["outputs"], now["outputs"], tolerance, "provenance.outputs")
    yield from differences(told.get("images"), now["images"], tolerance, "provenance.images")
    before, after = ({f"{each['role']} {each['path']}": each for each in side["files"]} for side in (told, now))
    yield from differences(before, after, tolerance, "provenance.files")


def _without_places(training: Mapping[str, Any]) -> dict[str, Any]:
    """The report of a training, its files named by how their names end: they lie elsewhere now."""
    ends = {}
    for name in ("weights", "state", "prototxt"):
        value = training.get(name)
        ends[name] = value[max(value.rfind("_iter_"), 0) :] if isinstance(value, str) else value
    return {**training, **ends}


def _warnings(listener: Listener) -> TrainingListener:
    """Passes on what a training warns of."""

    def hear(event: TrainingEvent) -> None:
        if isinstance(event, Warned):
            listener(event)

    return hear


def _job(provenance: Mapping[str, Any], folder: Path, untrusted: bool) -> Callable[[Listener], dict[str, Any]]:
    """What runs a job again, with results in a folder, and gives its report."""
    flags = {**provenance["flags"], "untrusted": untrusted}
    if provenance["command"] == "test":
        kinds = {"iterations": int | None, "score": str | None, "score_script": str | None}
        asked = {name: fitted(name, kind, flags.pop(name)) for name, kind in kinds.items()}
        check_names(flags, option_names(NetOptions), "test")
        register = flags["accumulator"]
        net = NetOptions(**{**flags, "accumulator": Accumulator(register["bw"], Overflow(register["overflow"]))})
        return lambda listener: evaluation_to_json(evaluate(net, listener=listener, details=True, **asked), VERSION)
    if provenance["command"] == "finetune":
        check_names(flags, option_names(FinetuneOptions), "finetune")
        training = FinetuneOptions(**{**flags, "snapshot_prefix": folder / "snapshot"})
        return lambda listener: training_to_json(finetune(training, _warnings(listener)), VERSION)
    also = fitted("also", tuple[Path, ...], flags.get("also", ()))
    flags["also"] = [(source, folder / f"also{number}") for number, source in enumerate(also)]
    flags |= {name: folder / name for name in OUTPUTS if name in provenance["outputs"]}
    check_names(flags, option_names(QuantizeOptions), "quantize")
    options = QuantizeOptions(**flags, details=True)
    return lambda listener: report_to_json(quantize(options, listener), VERSION)
