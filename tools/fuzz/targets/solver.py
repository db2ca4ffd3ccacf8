"""Solver prototxts."""

from __future__ import annotations

from collections.abc import Iterable

from text_seeds import NUMBERS, schema_words, solvers

from ristretto.caffe.solver import parse_solver
from ristretto.caffe.textproto import parse
from ristretto.errors import RistrettoError
from ristretto.finetune.rates import current_step, learning_rate


def seeds() -> Iterable[bytes]:
    yield from solvers()


def words() -> Iterable[str]:
    yield from schema_words("SolverParameter")
    yield from NUMBERS
    yield from ('"step"', '"fixed"', '"inv"', '"poly"', '"sigmoid"', '"exp"', '"multistep"')


def one_input(data: bytes) -> None:
    try:
        solver = parse_solver(parse(data, "solver.prototxt"))
        for iteration in (0, 1, solver.max_iter):
            learning_rate(solver.rate, iteration)
            current_step(solver.rate, iteration)
    except RistrettoError:
        pass
