"""Build what a release consists of and use it as its users do: not from the checkout, in empty environments.

    python tools/try_release.py [PYTHON ...]      python3.12, say; without any, the Python that runs this

Builds the sdist, and from it the wheel; checks what they hold; installs the wheel into an empty environment
of each Python and runs the demo there. With --keep FOLDER both files are left in that folder; with --build-only they
are built and checked, and not installed.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

IN_WHEEL = (
    "ristretto/py.typed",
    "ristretto/caffe/caffe.binpb",
    "ristretto/_data/proto/caffe.proto",
    "ristretto/_data/models/README.md",
    "ristretto/_data/models/digits_lenet/train_val.prototxt",
    "ristretto/_data/models/digits_lenet/digits_lenet.caffemodel",
    "ristretto/_data/models/digits_resnet/digits_resnet.caffemodel",
    "ristretto/_data/models/digits_data/test_lmdb/data.mdb",
)
IN_SDIST = (
    "LICENSE",
    "README.md",
    "CHANGELOG.md",
    "pyproject.toml",
    "proto/caffe.proto",
    "docs/index.md",
    "tools/dev.py",
)
LARGEST = 3 << 20
"""Bytes that a wheel may have."""

CODE = "import ristretto; net = ristretto.load_net({0!r}, {1!r}); print(net.run(batch=0)['accuracy'].shape, flush=True)"


def build(folder: Path) -> tuple[Path, Path]:
    """The sdist, and the wheel that is made of it."""
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(folder), str(ROOT)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"the build fails:\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}")
    (sdist,), (wheel,) = folder.glob("*.tar.gz"), folder.glob("*.whl")
    return sdist, wheel


def faults(sdist: Path, wheel: Path) -> Iterator[str]:
    """What is missing, and what does not belong there."""
    with zipfile.ZipFile(wheel) as archive:
        held = set(archive.namelist())
        (info,) = {name.split("/")[0] for name in held if ".dist-info/" in name}
        metadata = archive.read(f"{info}/METADATA").decode()
    modules = {path.relative_to(ROOT).as_posix() for path in (ROOT / "ristretto").rglob("*.py")}
    wanted = modules | set(IN_WHEEL) | {f"{info}/licenses/LICENSE", f"{info}/entry_points.txt"}
    yield from (f"the wheel lacks {name}" for name in sorted(wanted - held))
    for name in sorted(held):
        if not name.startswith(("ristretto/", f"{info}/")) or "__pycache__" in name or "/tests/" in name:
            yield f"the wheel holds {name}"
    if wheel.stat().st_size > LARGEST:
        yield f"the wheel has {wheel.stat().st_size} bytes"
    for minor in range(10, 14):
        if f"Classifier: Programming Language :: Python :: 3.{minor}\n" not in metadata:
            yield f"the wheel does not declare Python 3.{minor}"
    with tarfile.open(sdist) as tar:
        names = {name.partition("/")[2] for name in tar.getnames()}
    yield from (f"the sdist lacks {name}" for name in IN_SDIST if name not in names)
    yield from (
        f"the sdist holds {name}" for name in sorted(names) if "__pycache__" in name or name.startswith("build/")
    )


def use(wheel: Path, python: str, folder: Path) -> None:
    """Install the wheel into an empty environment and do with it what its user does first.

    Raises:
        subprocess.CalledProcessError: something fails.
    """
    subprocess.run([python, "-m", "venv", str(folder / "venv")], check=True)
    programs = folder / "venv" / "bin"
    run([programs / "python", "-m", "pip", "install", "--quiet", "--disable-pip-version-check", str(wheel)], folder)
    version = run([programs / "ristretto", "--version"], folder)
    assert wheel.name.split("-")[1] in version, version
    told = run([programs / "ristretto", "demo", "--output", "demo"], folder)
    assert "score" in told, told
    assert (folder / "demo" / "quantized.prototxt").stat().st_size
    where = run([programs / "python", "-c", "from ristretto import resources as r; print(r.models_folder())"], folder)
    models = Path(where.strip())
    assert folder.resolve() in models.resolve().parents, models
    net = models / "digits_lenet"
    code = CODE.format(str(folder / "net.prototxt"), str(net / "digits_lenet.caffemodel"))
    text = (net / "train_val.prototxt").read_text(encoding="utf-8")
    (folder / "net.prototxt").write_text(text.replace("digits_data", f"{models}/digits_data"), encoding="utf-8")
    run([programs / "python", "-c", code], folder)
    run([programs / "ristretto", "convert", "--model", str(net / "deploy.prototxt"), "--output", "net.onnx",
         "--weights", str(net / "digits_lenet.caffemodel")], folder)  # fmt: skip


def run(command: list[str | Path], folder: Path) -> str:
    """What a program prints, run in a folder; its stderr is shown only where it fails."""
    done = subprocess.run(list(map(str, command)), cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.stderr.write(done.stdout[-2000:] + done.stderr[-4000:])
        done.check_returncode()
    return done.stdout


def main() -> int:
    """Build, check, and use with each Python."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("python", nargs="*", default=[sys.executable])
    parser.add_argument("--build-only", action="store_true", help="do not install the wheel")
    parser.add_argument("--keep", type=Path, help="where the sdist and the wheel are to be left")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="ristretto-release-") as name:
        folder = Path(name)
        target = given.keep or folder / "dist"
        target.mkdir(parents=True, exist_ok=True)
        sdist, wheel = build(target)
        found = list(faults(sdist, wheel))
        print(f"{sdist.name}, {wheel.name} ({wheel.stat().st_size} bytes)", *found, sep="\n", flush=True)
        for number, python in enumerate(() if given.build_only else given.python):
            place = folder / str(number)
            place.mkdir()
            use(wheel, python, place)
            print(f"{python}: installed, demo and library run", flush=True)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
