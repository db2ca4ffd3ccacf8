"""Ask for known vulnerabilities in what continuous integration installs.

    python3 tools/dev.py audit

pip-audit, from requirements/audit.txt in an environment of its own, looks up each pin of ci.txt and torch.txt (there as
the version without "+cpu", as it is published). Where the service cannot be reached nothing is audited, and the last
line says so and why: the exit status is 0 then, as that says nothing of the packages. It is 1 where a package has a
vulnerability that requirements/accepted.txt does not name (an identifier and the reason on each line), and where some
packages were looked up and others could not be.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / "requirements"
AUDITED = ("ci.txt", "torch.txt")
ACCEPTED = FOLDER / "accepted.txt"


def accepted(text: str) -> dict[str, str]:
    """Identifiers of vulnerabilities that do not matter here, and why.

    Raises:
        ValueError: a line gives no reason.
    """
    found = {}
    for line in filter(None, (line.partition("#")[0].strip() for line in text.splitlines())):
        name, _, reason = line.partition(" ")
        if not reason:
            message = f"accepted.txt gives no reason for {name}"
            raise ValueError(message)
        found[name] = reason.strip()
    return found


def verdict(told: Mapping[str, Any], known: Mapping[str, str]) -> tuple[int, list[str]]:
    """The exit status and the lines that say why.

    Args:
        told: what pip-audit printed as JSON.
        known: vulnerabilities that are accepted.
    """
    packages = told["dependencies"]
    skipped = [package for package in packages if "skip_reason" in package]
    if not packages or len(skipped) == len(packages):
        why = skipped[0]["skip_reason"] if skipped else "no package was looked up"
        return 0, [f"NOT AUDITED: the service knows none of the {len(packages)} packages: {why}"]
    lines, bad = [], len(skipped)
    lines += [f"not audited: {package['name']}: {package['skip_reason']}" for package in skipped]
    for package in packages:
        for found in package.get("vulns", ()):
            names = {found["id"], *found.get("aliases", ())}
            reason = next((known[name] for name in sorted(names) if name in known), "")
            mended = ", ".join(found.get("fix_versions", ())) or "no version"
            lines.append(f"{package['name']} {package['version']}: {found['id']}, mended in {mended}")
            lines[-1] += f" (accepted: {reason})" if reason else ""
            bad += not reason
    count = len(packages) - len(skipped)
    return int(bad > 0), [*lines, f"audited: {count} packages, {bad} to be seen to"]


def pinned() -> list[str]:
    """What is pinned, as names and published versions."""
    lines = "\n".join((FOLDER / name).read_text(encoding="utf-8") for name in AUDITED)
    return sorted(set(re.findall(r"^([a-z0-9-]+==[^\s+]+)", lines, re.MULTILINE)))


def audit() -> tuple[int, list[str]]:
    """Run pip-audit and judge what it says; where it cannot run, say why."""
    with tempfile.TemporaryDirectory(prefix="ristretto-audit-") as folder:
        listed = Path(folder, "pins.txt")
        listed.write_text("\n".join(pinned()), encoding="utf-8")
        command = [
            sys.executable,
            "-m",
            "pip_audit",
            "--format",
            "json",
            "--progress-spinner",
            "off",
            "--timeout",
            "10",
        ]
        command += ["--disable-pip", "--no-deps", "--requirement", str(listed)]
        try:
            done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=150)
        except subprocess.TimeoutExpired:
            return 0, ["NOT AUDITED: the service did not answer in time"]
    try:
        told = json.loads(done.stdout)
    except ValueError:
        said = done.stderr.strip().splitlines() or [f"pip-audit ended with status {done.returncode} and said nothing"]
        return 0, [f"NOT AUDITED: {said[-1][:300]}"]
    known = accepted(ACCEPTED.read_text(encoding="utf-8")) if ACCEPTED.exists() else {}
    return verdict(told, known)


if __name__ == "__main__":
    status, said = audit()
    print(*said, sep="\n")
    sys.exit(status)
