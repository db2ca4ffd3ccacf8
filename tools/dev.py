"""Set everything up in .venv and do one thing with it; needs nothing but Python itself.

python3 tools/dev.py demo       quantize a small net that comes with the project
python3 tools/dev.py test       run the tests
python3 tools/dev.py check      linter, formatter, type checker, tests: all that continuous integration checks
python3 tools/dev.py docs       build the documentation as a site into build/site
python3 tools/dev.py install    set up for development; with --locked from the pins in requirements/, as CI does
python3 tools/dev.py lock       renew these pins
python3 tools/dev.py audit      ask whether what is pinned has known vulnerabilities
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
PYTHON = VENV / "bin" / "python"
LOCKED = ROOT / "requirements"

TESTS = ("pytest", "-n", "auto", "tests")
COMPILE = ("compileall", "-q", "ristretto")
"""Where Python is told to keep no bytecode each program that a test starts would compile all modules: a third of its
time."""
DOCS = ("mkdocs", "build", "--strict", "--quiet", "--config-file", "tools/site/mkdocs.yml")
CHECKS = (
    ("ruff", "check", "."),
    ("ruff", "format", "--check", "."),
    ("mypy",),
    ("pytest", "--doctest-modules", "ristretto"),
    COMPILE,
    TESTS,
    DOCS,
)


def make_venv(folder: Path) -> None:
    """Make a virtual environment, also on a Debian whose Python came without its venv package."""
    command = [sys.executable, "-m", "venv", str(folder)]
    if subprocess.run(command, capture_output=True, check=False).returncode == 0:
        return
    shutil.rmtree(folder, ignore_errors=True)
    if shutil.which("apt-get") and os.geteuid() == 0:
        print("python3-venv is missing: installing it", file=sys.stderr)
        subprocess.run(["apt-get", "update", "-qq"], check=True)
        subprocess.run(["apt-get", "install", "-y", "-qq", "python3-venv"], check=True, stdout=subprocess.DEVNULL)
        subprocess.run(command, check=True)
        return
    sys.exit("python3 cannot make a virtual environment; on Debian: apt install python3-venv")


def set_up(extras: str, *, locked: bool = False) -> None:
    """Install the project and what it needs, unless that was done for this very pyproject.toml.

    With ``locked`` only what is pinned, each file by its hash; the project is then built by a pinned hatchling, too.
    """
    wanted = extras + hashlib.sha256((ROOT / "pyproject.toml").read_bytes()).hexdigest()
    stamp = VENV / ".installed"
    done = stamp.read_text() if stamp.exists() else ""
    if done == wanted or (not extras and done.endswith(wanted)):
        return
    if not PYTHON.exists():
        make_venv(VENV)
    print(f"setting up {VENV}", file=sys.stderr)
    if locked:
        install(PYTHON, "--require-hashes", "--only-binary", ":all:", "--requirement", str(LOCKED / "ci.txt"))
        install(PYTHON, "--no-deps", "--no-build-isolation", "--editable", str(ROOT))
    else:
        install(PYTHON, "--editable", f"{ROOT}{extras}")
    stamp.write_text(wanted)


def install(python: Path, *what: str) -> None:
    """Let an environment's pip install something."""
    subprocess.run([str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *what], check=True)


def run_module(*command: str) -> int:
    """Run a module of the environment in the project's folder."""
    quiet = {"NO_MKDOCS_2_WARNING": "1"}  # an advertisement
    return subprocess.run([str(PYTHON), "-m", *command], cwd=ROOT, env={**os.environ, **quiet}, check=False).returncode


def aside(program: str, *what: str) -> int:
    """Run one of the tools in a new environment of its own that has nothing but what is named."""
    with tempfile.TemporaryDirectory(prefix="ristretto-") as folder:
        make_venv(Path(folder))
        python = Path(folder) / "bin" / "python"
        install(python, *what)
        return subprocess.run([str(python), str(ROOT / "tools" / program)], cwd=ROOT, check=False).returncode


def lock() -> int:
    """Pin anew; pip itself first, as an old one does not tell all licences."""
    return aside("lock.py", "--upgrade", "pip")


def audit() -> int:
    """Ask for known vulnerabilities, unless what asks cannot be installed."""
    try:
        return aside("audit.py", "--require-hashes", "--requirement", str(LOCKED / "audit.txt"))
    except subprocess.CalledProcessError:
        print("NOT AUDITED: pip-audit cannot be installed")
        return 0


def docs() -> int:
    """Write what the documentation takes from the program, then build the site."""
    for program in ("make_reference.py", "make_figures.py"):
        if subprocess.run([str(PYTHON), str(ROOT / "tools" / program)], cwd=ROOT, check=False).returncode:
            return 1
    status = run_module(*DOCS)
    if status == 0:
        print(f"open {ROOT / 'build' / 'site' / 'index.html'}")
    return status


def check() -> int:
    """Run every check and return 0 only if all passed."""
    failed = []
    for command in CHECKS:
        print("==>", " ".join(command), flush=True)
        if run_module(*command):
            failed.append(" ".join(command))
    if failed:
        print("failed:", "; ".join(failed))
    return 1 if failed else 0


def main() -> int:
    """Do what was asked for."""
    actions = {"demo": "", "test": "[dev]", "check": "[dev]", "docs": "[dev]", "install": "[dev]"}
    alone = {"lock": lock, "audit": audit}
    if len(sys.argv) < 2 or sys.argv[1] not in {*actions, *alone}:
        print(__doc__)
        return 2
    action, more = sys.argv[1], sys.argv[2:]
    if action in alone:
        return alone[action]()
    set_up(actions[action], locked="--locked" in more)
    if action == "demo":
        return run_module("ristretto", "demo", *more)
    if action == "test":
        return run_module(*COMPILE) or run_module(*TESTS, *more)
    if action == "docs":
        return docs()
    return check() if action == "check" else 0


if __name__ == "__main__":
    sys.exit(main())
