"""The import graph is what docs/architecture.md draws: who may import whom, and who alone may import what."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "ristretto"

ALLOWED = {
    "errors": set(),
    "bounds": set(),
    "interpreter": set(),
    "inputs": set(),
    "version": set(),
    "memory": set(),
    "resources": {"errors"},
    "atomic": {"errors", "inputs"},
    "numerics": {"errors"},
    "caffe": {"errors", "inputs", "atomic", "memory"},
    "data": {"errors", "inputs", "caffe"},
    "graph": {"errors", "numerics", "caffe"},
    "runtime": {"errors", "interpreter", "atomic", "numerics"},
    "decide": {"errors", "numerics", "caffe"},
    "dialects": {"errors", "numerics", "caffe", "decide"},
    "report": {"errors", "decide"},
    "finetune": {"errors", "numerics", "caffe", "graph"},
    "plugin": {"errors", "caffe", "graph", "decide", "dialects"},
    "export": {"errors", "atomic", "numerics", "caffe", "graph", "runtime", "decide", "dialects"},
    "pipeline": {
        "errors",
        "bounds",
        "inputs",
        "interpreter",
        "atomic",
        "memory",
        "numerics",
        "caffe",
        "data",
        "graph",
        "finetune",
        "runtime",
        "decide",
        "dialects",
        "report",
        "export",
        "version",
    },
    "keywords": {"numerics"},
    "formats": {"errors", "numerics"},
    "api": {"errors", "atomic", "caffe", "decide", "dialects", "pipeline", "report", "version", "keywords"},
    "cli": {
        "errors",
        "bounds",
        "interpreter",
        "atomic",
        "numerics",
        "pipeline",
        "report",
        "export",
        "resources",
        "version",
    },
}
ONLY_HERE = {
    "onnxruntime": {"runtime"},
    "onnx": {"graph", "export", "pipeline"},
    "cv2": {"data"},
    "lmdb": {"data"},
    "click": {"cli"},
    "rich": {"cli"},
    "distributed": {"runtime"},
    "torch": {"finetune"},
    "socket": {"pipeline"},
    **{name: set() for name in ("asyncio", "ftplib", "http", "requests", "smtplib", "socketserver", "ssl")},
    **{name: set() for name in ("urllib", "urllib3", "webbrowser", "xmlrpc")},
}
"""Who alone may import a package; nobody what opens connections (pipeline asks socket for the machine's name)."""


def imports(path: Path) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module)
    return names


def room(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


MODULES = sorted(path for path in PACKAGE.rglob("*.py") if room(path) not in {"__init__", "__main__"})


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_only_what_its_room_may(path: Path) -> None:
    here = room(path)
    rooms = {name.split(".")[1] for name in imports(path) if name.startswith("ristretto.")} - {here}
    assert rooms <= ALLOWED[here]
    for package, owners in ONLY_HERE.items():
        if here not in owners:
            assert package not in {name.split(".")[0] for name in imports(path)}


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_no_module_has_outgrown_its_room(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= 450
