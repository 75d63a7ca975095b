"""The committed inputs, and what the fuzzer found in the past, run through the core under ASan and UBSan."""

from __future__ import annotations

import os
import shutil
import subprocess

import pytest

from tests.fuzz import build_fuzzer
from tests.fuzz.build_fuzzer import ENVIRONMENT

TIMEOUT_S = 120


def test_every_input_runs_clean() -> None:
    if shutil.which("gcc") is None:
        pytest.skip("gcc is needed to build the harness")
    inputs = sorted(path for path in build_fuzzer.CORPUS.iterdir() if path.name != "README.md")
    assert inputs
    program = build_fuzzer.build(build_fuzzer.REPLAY)
    done = subprocess.run(
        [program, *inputs], env=os.environ | ENVIRONMENT, timeout=TIMEOUT_S, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"{len(inputs)} inputs\n"
