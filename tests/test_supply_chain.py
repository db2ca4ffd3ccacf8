"""What is depended upon: pins that cover pyproject.toml, the audit's verdict, wheels that come out the same again."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.docs.pages import ROOT
from tools import audit, lock

tomllib = pytest.importorskip("tomllib", reason="Python 3.10 has no tomllib")
requirements = pytest.importorskip("packaging.requirements", reason="the package packaging is not installed")

NAME = "ristretto-fixed-point"
PROJECT: Mapping[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
LINE = re.compile(r"([a-z0-9-]+)==(\S+) --hash=sha256:([0-9a-f]{64})  # (\S+\.whl)")
LINUX = {
    "python_version": "3.11",
    "python_full_version": "3.11.2",
    "sys_platform": "linux",
    "platform_machine": "x86_64",
}


def locked(name: str) -> dict[str, str]:
    """Versions by package; every line has to be of the one form."""
    lines = [line for line in (lock.FOLDER / name).read_text().splitlines() if not line.startswith("#")]
    found = [LINE.fullmatch(line) for line in lines]
    assert all(found), [line for line, match in zip(lines, found, strict=True) if not match]
    pins = {match[1]: match[2] for match in found if match}
    assert list(pins) == sorted(pins)
    return pins


def canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def wanted(*extras: str) -> list[Any]:
    """What the project asks for with some extras, those it names in turn as well."""
    texts = [*PROJECT["dependencies"]]
    left = list(extras)
    while left:
        texts += (more := PROJECT["optional-dependencies"][left.pop()])
        for each in map(requirements.Requirement, more):
            left += each.extras if canonical(each.name) == NAME else ()
    found = [requirements.Requirement(text) for text in texts]
    return [each for each in found if canonical(each.name) != NAME and (not each.marker or each.marker.evaluate(LINUX))]


def check_pins(pinned: Mapping[str, str], asked: list[Any]) -> None:
    missing = [str(each) for each in asked if canonical(each.name) not in pinned]
    assert not missing, f"not in the lock: {missing}; python3 tools/dev.py lock"
    outside = [
        str(each) for each in asked if not each.specifier.contains(pinned[canonical(each.name)], prereleases=True)
    ]
    assert not outside, f"pinned outside the declared range: {outside}; python3 tools/dev.py lock"


def test_the_lock_covers_what_ci_installs() -> None:
    build = tomllib.loads((ROOT / "pyproject.toml").read_text())["build-system"]["requires"]
    assert list(lock.BUILD[: len(build)]) == build
    check_pins(locked("ci.txt"), [*wanted(lock.EXTRA), *map(requirements.Requirement, lock.BUILD)])
    check_pins(locked("audit.txt"), [requirements.Requirement(lock.AUDITOR)])
    check_pins(locked("torch.txt"), [each for each in wanted("finetune") if each.name == "torch"])


@pytest.mark.parametrize("text", ["numpy>=99", "not-there>=1"])
def test_a_pin_outside_its_range_is_found(text: str) -> None:
    with pytest.raises(AssertionError, match=r"tools/dev\.py lock"):
        check_pins(locked("ci.txt"), [requirements.Requirement(text)])


def test_the_pins_agree_and_their_licences_are_told() -> None:
    ci, torch = locked("ci.txt"), locked("torch.txt")
    assert {name: torch[name] for name in torch.keys() & ci.keys()} == {
        name: ci[name] for name in torch.keys() & ci.keys()
    }
    told = dict(re.findall(r"^([a-z0-9-]+) (\S+): (?!not stated)\S", (lock.FOLDER / "licences.txt").read_text(), re.M))
    assert told == {**ci, **torch}


def test_the_pinned_files_install_on_debian_12() -> None:
    for name in ("ci.txt", "torch.txt", "audit.txt"):
        for wheel in re.findall(r"# (\S+\.whl)$", (lock.FOLDER / name).read_text(), re.M):
            lock.check(wheel)
    for wheel in ("x-1-cp311-cp311-manylinux_2_39_x86_64.whl", "x-1-cp311-cp311-macosx_11_0_arm64.whl"):
        with pytest.raises(ValueError, match="Debian 12"):
            lock.check(wheel)


def test_ci_installs_from_the_lock() -> None:
    script = (ROOT / ".ci" / "run").read_text()
    assert "tools/dev.py install --locked" in script
    assert "--require-hashes --requirement requirements/torch.txt" in script
    assert not re.search(r"https?://", script)


def package(name: str, **more: Any) -> dict[str, Any]:
    return {"name": name, "version": "1.0", "vulns": [], **more}


BAD = package("b", vulns=[{"id": "PYSEC-1", "aliases": ["CVE-1"], "fix_versions": ["1.1"]}])
UNKNOWN = {"name": "c", "skip_reason": "not found"}


@pytest.mark.parametrize(
    ("packages", "accepted", "status", "last"),
    [
        ([package("a")], {}, 0, "audited: 1 packages, 0 to be seen to"),
        ([package("a"), BAD], {}, 1, "audited: 2 packages, 1 to be seen to"),
        ([BAD], {"CVE-1": "not reached"}, 0, "audited: 1 packages, 0 to be seen to"),
        ([package("a"), UNKNOWN], {}, 1, "audited: 1 packages, 1 to be seen to"),
        ([UNKNOWN], {}, 0, "NOT AUDITED: the service knows none of the 1 packages: not found"),
        ([], {}, 0, "NOT AUDITED: the service knows none of the 0 packages: no package was looked up"),
    ],
)
def test_the_verdict(packages: list[dict[str, Any]], accepted: dict[str, str], status: int, last: str) -> None:
    found, lines = audit.verdict({"dependencies": packages}, accepted)
    assert (found, lines[-1]) == (status, last)


def test_what_is_accepted_has_a_reason() -> None:
    assert audit.accepted("# nothing\nCVE-1 only on Windows\n") == {"CVE-1": "only on Windows"}
    with pytest.raises(ValueError, match="no reason for CVE-2"):
        audit.accepted("CVE-2\n")
    if audit.ACCEPTED.exists():
        audit.accepted(audit.ACCEPTED.read_text())


def test_what_is_audited_are_published_versions() -> None:
    pins = audit.pinned()
    assert f"numpy=={locked('ci.txt')['numpy']}" in pins
    assert all(re.fullmatch(r"[a-z0-9-]+==[0-9a-z.]+", pin) for pin in pins)
    assert len(pins) == len({**locked("ci.txt"), **locked("torch.txt")})


def test_no_service_is_no_silent_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    def unreachable(*_: object, **__: object) -> subprocess.CompletedProcess[str]:
        return subprocess.CompletedProcess([], 1, "", "Traceback\nConnectionError: no such host")

    monkeypatch.setattr(subprocess, "run", unreachable)
    assert audit.audit() == (0, ["NOT AUDITED: ConnectionError: no such host"])


@pytest.mark.slow
def test_sdist_and_wheel_are_the_same_bytes_again(tmp_path: Path) -> None:
    pytest.importorskip("build", reason="the package build is not installed")
    pytest.importorskip("hatchling", reason="the package hatchling is not installed")
    made = []
    for number in range(2):
        command = [sys.executable, ROOT / "tools" / "try_release.py", "--build-only", "--keep", tmp_path / str(number)]
        subprocess.run(command, check=True, capture_output=True)
        made.append({path.name: path.read_bytes() for path in (tmp_path / str(number)).iterdir()})
    assert len(made[0]) == 2
    assert made[0] == made[1]
