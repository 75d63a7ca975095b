"""What `make run` shows when nobody is there to type."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

MAKEFILE = Path(__file__).resolve().parents[2] / "Makefile"
RINGFENCE = [sys.executable, "-m", "tools.ringfence"]


def demonstration() -> str:
    """The lines that the Makefile types into minios."""
    found = re.search(r"^DEMO := ((?:.*\\\n)*.*)$", MAKEFILE.read_text(), re.M)
    assert found
    return "".join(f"{line}\n" for line in shlex.split(found[1].replace("\\\n", " ")))


def test_the_demonstration_runs_to_its_end() -> None:
    command = [*RINGFENCE, "run", "minios", "--timeout", "60"]
    done = subprocess.run(command, input=demonstration(), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr
    for fact in ("hello from ring 3", "there are 2262 below 20000", "page fault", "general protection", "Power off"):
        assert fact in done.stdout
