"""The command in this process: what a shell would see of it, without the time that a process takes to start."""

from __future__ import annotations

import io
import subprocess
from contextlib import redirect_stderr, redirect_stdout

from tools.ringfence import main


def ringfence_here(*words: str) -> subprocess.CompletedProcess[str]:
    """Its status and what it wrote. What a guest writes to standard output does not go through Python's streams."""
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        status = main(words)
    return subprocess.CompletedProcess(words, status, out.getvalue(), err.getvalue())
