"""Pin, with hashes, what continuous integration installs: the files in requirements/.

    python3 tools/dev.py lock                    look everything up anew

Needs Python 3.11 on Linux x86_64, as what is pinned is what pip takes there. Packages come from pip's usual index,
whatever this machine's pip is set to; torch alone, whose build without CUDA is not there, from where pip's settings
say, and if they name no place that has it, its file stays as it is. The licences of all of it are written beside.
"""

from __future__ import annotations

import json
import os
import platform
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / "requirements"
CI, TORCH, AUDIT, LICENCES = (FOLDER / name for name in ("ci.txt", "torch.txt", "audit.txt", "licences.txt"))

EXTRA = "dev"
BUILD = ("hatchling>=1.24", "editables>=0.5")
"""What the project is built and installed in place with; the first is pyproject.toml's build system."""

TORCH_WANTED = "torch==2.13.0+cpu"
AUDITOR = "pip-audit>=2.7"

IN_ITS_FILE = {"atheris": "Apache-2.0"}
"""Licences that the package's LICENSE file has, and its metadata has not."""

GLIBC = (2, 36)
"""Debian 12's; wheels for a newer one would not install there."""

HEAD = "# {what}\n# For Linux x86_64 and Python 3.11. Written by tools/lock.py: python3 tools/dev.py lock\n"
ELSEWHERE = ("PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL", "PIP_FIND_LINKS", "PIP_CONSTRAINT", "PIP_NO_INDEX")
"""Settings that lead pip away from its usual index."""


@dataclass(frozen=True)
class Pin:
    """One package: what pip would install of it.

    Attributes:
        name: as it is compared, in small letters with hyphens.
        wheel: the file's name.
        sha256: the file's.
        licence: by its own metadata, in one line.
    """

    name: str
    version: str
    wheel: str
    sha256: str
    licence: str

    @property
    def line(self) -> str:
        """What stands in the lock file."""
        return f"{self.name}=={self.version} --hash=sha256:{self.sha256}  # {self.wheel}"


def usual() -> dict[str, str]:
    """The environment in which pip looks at its usual index and nowhere else."""
    kept = {name: value for name, value in os.environ.items() if name not in ELSEWHERE}
    return {**kept, "PIP_CONFIG_FILE": os.devnull}


def resolve(wanted: Iterable[str], environment: Mapping[str, str], constraints: Iterable[Pin] = ()) -> list[Pin]:
    """What pip would install for some requirements, dependencies included, in order of their names.

    Raises:
        subprocess.CalledProcessError: pip finds no such packages; it has said so.
    """
    with tempfile.TemporaryDirectory(prefix="ristretto-lock-") as folder:
        report, given = Path(folder, "report.json"), Path(folder, "constraints.txt")
        given.write_text("".join(f"{pin.name}=={pin.version}\n" for pin in constraints), encoding="utf-8")
        command = [sys.executable, "-m", "pip", "install", "--dry-run", "--ignore-installed", "--quiet"]
        command += ["--disable-pip-version-check", "--only-binary", ":all:", "--constraint", str(given)]
        command += ["--report", str(report), *wanted]
        subprocess.run(command, cwd=ROOT, env=dict(environment), check=True)
        return pins(json.loads(report.read_text(encoding="utf-8")))


def pins(report: Mapping[str, Any]) -> list[Pin]:
    """The packages of pip's installation report, without the project itself.

    Raises:
        ValueError: pip took a wheel that would not install on Debian 12.
    """
    found = []
    for item in report["install"]:
        told = item["download_info"]
        if "dir_info" in told:
            continue
        data = item["metadata"]
        name = re.sub(r"[-_.]+", "-", data["name"]).lower()
        wheel = told["url"].rpartition("/")[2].partition("#")[0].replace("%2B", "+")
        check(wheel)
        found.append(Pin(name, data["version"], wheel, told["archive_info"]["hashes"]["sha256"], licence_of(data)))
    return sorted(found, key=lambda pin: pin.name)


def check(wheel: str) -> None:
    """Refuse a wheel that is for something else than Linux x86_64 with Debian 12's glibc.

    Raises:
        ValueError: it is.
    """
    platforms = wheel.removesuffix(".whl").rpartition("-")[2].split(".")
    least = [tuple(map(int, tag.split("_")[1:3])) for tag in platforms if re.match(r"manylinux_\d", tag)]
    old = any(re.match(r"manylinux(1|2010|2014)_", tag) for tag in platforms)
    if "any" not in platforms and not old and not any(glibc <= GLIBC for glibc in least):
        message = f"{wheel} would not install on Debian 12"
        raise ValueError(message)


def licence_of(data: Mapping[str, Any]) -> str:
    """What a package says of its licence: the expression, else classifiers, else the first line of the text."""
    if data.get("license_expression"):
        return str(data["license_expression"])
    classified = [c.rpartition(" :: ")[2] for c in data.get("classifier", ()) if c.startswith("License ::")]
    told = str(data.get("license") or "").strip().splitlines()
    return ", ".join(c for c in classified if c != "OSI Approved") or (
        told[0] if told else IN_ITS_FILE.get(str(data.get("name")), "not stated")
    )


def write(path: Path, what: str, found: Iterable[Pin]) -> None:
    """Write a lock file."""
    lines = [HEAD.format(what=what), *(pin.line + "\n" for pin in found)]
    path.write_text("".join(lines), encoding="utf-8")
    print(f"{path.relative_to(ROOT)}: {len(lines) - 1} packages")


def main() -> int:
    """Look everything up and write the files."""
    here = sys.version_info[:2], sys.platform, platform.machine()
    if here != ((3, 11), "linux", "x86_64"):
        sys.exit("the lock is for Python 3.11 on Linux x86_64: make it there")
    FOLDER.mkdir(exist_ok=True)
    locked = resolve([f".[{EXTRA}]", *BUILD], usual())
    write(CI, "What continuous integration installs: the project's dependencies and those of its extra dev.", locked)
    auditor = resolve([AUDITOR], usual())
    write(
        AUDIT,
        "What tools/audit.py asks with, in an environment of its own.",
        auditor,
    )
    try:
        torch = resolve([TORCH_WANTED], os.environ, locked)
    except subprocess.CalledProcessError:
        torch = []
        print(f"{TORCH_WANTED} is nowhere that pip looks: {TORCH.relative_to(ROOT)} stays as it is", file=sys.stderr)
    if torch:
        write(TORCH, "What the tests of training need; torch is not on pip's usual index.", torch)
    licences = {pin.name: f"{pin.name} {pin.version}: {pin.licence}\n" for pin in (*locked, *torch)}
    if torch:
        text = HEAD.format(what="The licences of what is pinned in ci.txt and torch.txt, as the packages state them.")
        LICENCES.write_text(text + "".join(licences[name] for name in sorted(licences)), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
