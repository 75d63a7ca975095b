"""Builds the core as an extension with AddressSanitizer and UBSan, outside the checkout, and runs guests on it."""

from __future__ import annotations

import functools
import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

from tests.conformance.harness import CORE, cache_folder

ROOT = CORE.parents[1]
SANITIZERS = "address,undefined"
# Ops are run by a loop: under a sanitizer a handler's call of the next one need not be a jump. Guest operands need no
# alignment.
CFLAGS = "-O1 -DRF_LOOP_DISPATCH -fno-sanitize=alignment"
ENVIRONMENT = {"ASAN_OPTIONS": "detect_leaks=0", "UBSAN_OPTIONS": "halt_on_error=1:print_stacktrace=1"}
# The package of the checkout, but the extension of the folder that is the first argument.
RUN = """
import sys, vmm
vmm.__path__.insert(0, sys.argv.pop(1))
from tools.ringfence import main
sys.exit(main(sys.argv[1:]))
"""


@functools.cache
def build() -> Path:
    """The folder that holds the sanitized _core extension."""
    key = hashlib.sha256(CFLAGS.encode())
    for path in [*sorted(CORE.glob("*.[chS]")), ROOT / "vmm" / "build_core.py"]:
        key.update(path.read_bytes())
    folder = cache_folder() / f"sanitized-{key.hexdigest()[:16]}"
    if not any((folder / "vmm").glob("_core*.so")):
        partial = folder.with_suffix(f".{os.getpid()}")
        command = ["-W", "ignore", "setup.py", "-q", "build_ext", "--build-lib", str(partial)]
        environment = os.environ | {"RINGFENCE_SANITIZE": SANITIZERS, "CFLAGS": CFLAGS}
        subprocess.run(
            [sys.executable, *command], cwd=ROOT, env=environment, check=True, capture_output=True, text=True
        )
        folder.mkdir(exist_ok=True)
        (partial / "vmm").rename(folder / "vmm")
        shutil.rmtree(partial)
    return folder / "vmm"


def preload() -> str:
    """The sanitizers' libraries, which must come before Python's own."""
    names = ("libasan.so", "libubsan.so")
    command = ["gcc", "-print-file-name={}"]
    return " ".join(
        subprocess.run([command[0], command[1].format(name)], capture_output=True, text=True, check=True).stdout.strip()
        for name in names
    )


def run_guest(name: str, timeout_s: int, typed: str = "") -> subprocess.CompletedProcess[str]:
    """`ringfence run NAME` on the sanitized core."""
    environment = os.environ | ENVIRONMENT | {"LD_PRELOAD": preload()}
    command = [sys.executable, "-c", RUN, str(build()), "run", name, "--engine", "interp", "--timeout", str(timeout_s)]
    return subprocess.run(
        command, cwd=ROOT, env=environment, input=typed, timeout=timeout_s + 60, capture_output=True, text=True
    )
