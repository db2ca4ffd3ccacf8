"""Reads HDF5 files as the readers do and forgets them, to see whether libhdf5 survives it. Run as a script by itself.

The arguments are folders of packages; stdin holds ``{"paths": [...], "bytes": N, "alone": true}``, N being what may be
read of a file at most, and ``alone`` whether what lies in other files is left alone. A line on stdout follows every
file that was come through, whether it can be read or not.
"""

from __future__ import annotations

import json
import sys
from typing import Any

_MOST_ITEMS = 100_000
_NUMBERS = "fiub"


def try_out(file: Any, h5py: Any, most: int, alone: bool) -> None:
    """Look at all that is in an open file, and read what is stored in pieces or is no plain array of numbers.

    An array in one piece is read by one call to the system, so its first value says enough.
    """
    seen: set[int] = set()
    waiting, left = [file], most
    items = 0
    while waiting:
        group = waiting.pop()
        for name in group:
            items += 1
            if items > _MOST_ITEMS:
                return
            if not isinstance(group.get(name, getlink=True), h5py.HardLink):
                continue
            item = group.get(name)
            if isinstance(item, h5py.Group):
                address = h5py.h5o.get_info(item.id).addr
                if address not in seen:
                    seen.add(address)
                    waiting.append(item)
            elif isinstance(item, h5py.Dataset) and not (alone and (item.external or item.is_virtual)):
                left = _try_dataset(item, left)


def _try_dataset(dataset: Any, left: int) -> int:
    """Read a dataset if no more than so many bytes; return how many are left."""
    if dataset.chunks is None and dataset.dtype.kind in _NUMBERS:
        if dataset.size:
            dataset[(0,) * dataset.ndim]
    elif dataset.nbytes <= left:
        dataset[()]
        left -= dataset.nbytes
    return left


def main() -> None:
    """Try the files that stdin names."""
    import h5py

    asked = json.load(sys.stdin)
    for path in asked["paths"]:
        try:
            with h5py.File(path, "r") as file:
                try_out(file, h5py, asked["bytes"], asked["alone"])
        except Exception:
            pass
        sys.stdout.write("\n")
        sys.stdout.flush()


if __name__ == "__main__":
    sys.path[:0] = sys.argv[1:]
    main()
