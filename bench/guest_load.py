"""A static program that a benchmark times in a Linux guest: compiled, and packed into the guest's root file system."""

from __future__ import annotations

import gzip
import hashlib
import subprocess
from pathlib import Path

from guests.builder import COMPILER, BuildFailed
from tests.realguests import stress_program
from tests.realguests.cache import built
from tests.realguests.initramfs import ALIGN, GZIP_LEVEL, Cpio

HERE = Path(__file__).parent
HEADER = HERE / "load.h"
INITRAMFS = "initramfs.cpio.gz"
TIMEOUT_S = 300.0


def program(name: str) -> Path:
    """Of NAME.c beside this file. Raises NoCompiler, BuildFailed."""
    source = HERE / f"{name}.c"
    inputs = [stress_program.compiler_version(), *stress_program.FLAGS, digest(HEADER), digest(source)]

    def compile_it(into: Path) -> None:
        command = [COMPILER, *stress_program.FLAGS, str(source), "-o", str(into / name)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
        if done.returncode:
            raise BuildFailed(f"{source.name}: {done.stderr.strip()}")

    return built(name.replace("_", "-"), " ".join(inputs), (), compile_it) / name


def digest(source: Path) -> str:
    return hashlib.sha256(source.read_bytes()).hexdigest()


def with_program(name: str, flavour: str, plain: Path) -> Path:
    """The root file system `plain` and behind it bin/NAME. Raises NoCompiler, BuildFailed."""
    compiled = program(name)

    def build(into: Path) -> None:
        archive = Cpio()
        archive.file(f"bin/{name}", compiled.read_bytes(), 0o755)
        first = plain.read_bytes()
        second = gzip.compress(archive.finish(), GZIP_LEVEL, mtime=0)  # a kernel unpacks all archives that it is given
        (into / INITRAMFS).write_bytes(first + bytes(-len(first) % ALIGN) + second)

    return built(f"{name.replace('_', '-')}-{flavour}", f"{plain} {compiled}", (), build) / INITRAMFS
