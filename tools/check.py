"""All that continuous integration checks, in one command: linter, formatter, type checker, tests."""

from __future__ import annotations

import subprocess
import sys

CHECKS = (
    ("ruff", "check", "."),
    ("ruff", "format", "--check", "."),
    ("mypy",),
    ("pytest", "-n", "auto", "--doctest-modules", "ristretto", "tests"),
)


def main() -> int:
    """Run every check and return 0 only if all passed."""
    failed = []
    for check in CHECKS:
        print("==>", " ".join(check), flush=True)
        if subprocess.run([sys.executable, "-m", *check], check=False).returncode:
            failed.append(check[0])
    if failed:
        print("failed:", ", ".join(failed))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
