"""Folding a net's BatchNorm, Scale and Bias layers, from files to files."""

from __future__ import annotations

from pathlib import Path

from ristretto.atomic import atomic_together, atomic_write_bytes, check_outputs, one_job
from ristretto.caffe.fold import Folded
from ristretto.caffe.fold import fold as fold_net
from ristretto.caffe.hdf5 import HDF5_MAGIC
from ristretto.caffe.net import read_prototxt
from ristretto.caffe.netspec import Phase
from ristretto.caffe.rules import NetState
from ristretto.caffe.view import View
from ristretto.caffe.weights import read_weights, write_caffemodel
from ristretto.errors import UsageError
from ristretto.inputs import read_input


@one_job()
def fold(
    model: Path,
    weights: tuple[Path, ...],
    output: Path,
    output_weights: Path,
    phase: Phase = "TEST",
    level: int = 0,
    stages: tuple[str, ...] = (),
) -> Folded:
    """Fold what can be folded, and write the new prototxt and the new weights, in today's form of .caffemodel.

    Where nothing can be folded both files are written all the same, equal to those given (several weights files are
    joined, HDF5 becomes .caffemodel): so a script may fold any net, and a net twice.

    Args:
        model: the net's prototxt.
        weights: its weights files; later ones override.
        output: where to write the new prototxt.
        output_weights: where to write the new weights.
        phase: of the state in which the net is to stay the same.
        level: of that state.
        stages: of that state.

    Raises:
        RistrettoError: a user's mistake.
    """
    check_outputs([output, output_weights], [model, *weights])
    if output_weights.suffix == ".h5":
        # Caffe tells the two forms apart by the name.
        what = "the weights are written as .caffemodel, which Caffe does not look for in a .h5 file"
        raise UsageError(what, file=str(output_weights), cure="give it another name")
    folded = fold_net(read_prototxt(model), read_weights(weights), NetState(phase, level, stages))
    given = b"" if folded.folded or len(weights) > 1 else _content(weights[0])
    with atomic_together():
        if given and not given.startswith(HDF5_MAGIC):
            atomic_write_bytes(output_weights, given)
        else:
            name = View.of(folded.document, "NetParameter").text("name")
            write_caffemodel(output_weights, name, folded.weights.layers)
        atomic_write_bytes(output, folded.document.to_bytes())
    return folded


def _content(path: Path) -> bytes:
    """A file's content; b"" of a pipe, which can be read only once."""
    if not path.is_file():
        return b""
    try:
        return read_input(path)
    except OSError as error:
        what = f"cannot read the weights: {error.strerror or error}"
        raise UsageError(what, file=str(path), cure="check the path given") from error
