"""Memory of databases: pages that were read are given back, and what they held stays readable."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import lmdb
import numpy as np
import pytest

from ristretto.data.mapped import MappedFile
from tests.data.sources import database_layer, first, opened, raw_datum

RECORDS, SIDE = 400, 512
"""100 MB of images in all."""

READ = """
import sys
from tests.data.sources import database_layer, opened

def kilobytes(field):
    return int(next(line.split()[1] for line in open("/proc/self/status") if line.startswith(field)))

before = kilobytes("RssFile")
source = opened(database_layer(sys.argv[1], batch_size=10))
most, total = kilobytes("RssFile") - before, 0.0
for batch in source.single_pass():
    total += float(batch["label"].sum())
    most = max(most, kilobytes("RssFile") - before)
print(most, int(total))
"""


def written(folder: Path) -> Path:
    path = folder / "db"
    with lmdb.open(str(path), map_size=1 << 40) as environment, environment.begin(write=True) as transaction:
        for number in range(RECORDS):
            pixels = np.full((1, SIDE, SIDE), number % 251, np.uint8)
            transaction.put(b"%08d" % number, raw_datum(pixels, number))
    return path


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="this system does not tell what is mapped where")
def test_a_database_that_was_read_is_not_held(tmp_path: Path) -> None:
    path = written(tmp_path)
    done = subprocess.run([sys.executable, "-c", READ, str(path)], capture_output=True, text=True, check=True)
    most, total = map(int, done.stdout.split())
    assert total == sum(range(RECORDS))
    assert most < 64 * 1024


def test_what_was_given_back_can_be_read(tmp_path: Path) -> None:
    source = opened(database_layer(str(written(tmp_path)), batch_size=RECORDS))
    images = first(source, 1)[0]["data"]
    assert [image.min() for image in images] == [image.max() for image in images] == [n % 251 for n in range(RECORDS)]


def test_other_memory_is_left_alone() -> None:
    held = bytearray(b"x" * (1 << 20))
    MappedFile(memoryview(held)).give_back()
    assert held == b"x" * (1 << 20)
