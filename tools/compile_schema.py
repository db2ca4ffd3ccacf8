"""Compile proto/caffe.proto into the descriptor set that the package loads: ristretto/caffe/caffe.binpb."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TARGET = ROOT / "ristretto" / "caffe" / "caffe.binpb"


def compiled() -> bytes:
    """The schema as a serialized FileDescriptorSet."""
    from grpc_tools import protoc

    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "caffe.binpb"
        status = protoc.main(
            [
                "protoc",
                f"-I{ROOT / 'proto'}",
                f"--descriptor_set_out={target}",
                str(ROOT / "proto" / "caffe.proto"),
            ]
        )
        if status:
            sys.exit(status)
        return target.read_bytes()


if __name__ == "__main__":
    TARGET.write_bytes(compiled())
