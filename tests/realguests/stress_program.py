"""The user-space stress of tests/realguests/stress as a program, and beside it in a Linux guest's root file system.

    bin/stress      the program; `checks=stress` on the kernel's command line runs it, with options from there:
                    trials=a,b  not=a,b  scale=N  verbose=1
    bin/userload    userload.sh; `checks=userload`: what the benchmarks time

They come in a second archive, behind the one of initramfs.py: a kernel unpacks all archives that it is given.
Source: Documentation/driver-api/early-userspace/buffer-format.rst.
"""

from __future__ import annotations

import gzip
import subprocess
from dataclasses import replace
from functools import cache
from pathlib import Path

from guests.builder import COMPILER, BuildFailed
from tests.realguests import fetch, iso
from tests.realguests.cache import built
from tests.realguests.initramfs import GZIP_LEVEL, Cpio
from tests.realguests.packages import PackagesUnavailable
from tests.realguests.transcript import Transcript

HERE = Path(__file__).resolve().parent
SOURCES = tuple(f"stress/{path.name}" for path in sorted((HERE / "stress").glob("*.[cSh]")))
COMPILED = tuple(source for source in SOURCES if not source.endswith(".h"))
FLAGS = (
    "-m32", "-static", "-march=i686", "-msse2", "-mtune=generic", "-O2", "-std=gnu11", "-fno-pic", "-no-pie",
    "-pthread", "-fno-strict-aliasing", "-fno-stack-protector", "-fcf-protection=none", "-Wall", "-Wextra",
)  # fmt: skip
TIMEOUT_S = 300
NAME, USERLOAD, INITRAMFS = "stress", "userload.sh", "initramfs.cpio.gz"
ALIGN = 4


class NoCompiler(PackagesUnavailable):
    """This host has no C compiler for static 32-bit programs."""


@cache
def compiler_version() -> str:
    """Raises NoCompiler unless it makes static 32-bit programs."""
    probe = "#include <pthread.h>\n#include <stdio.h>\nint main(void) { return puts(\"\"); }\n"
    try:
        done = subprocess.run(
            [COMPILER, *FLAGS, "-x", "c", "-", "-o", "/dev/null"], input=probe, capture_output=True, text=True,
            timeout=TIMEOUT_S, check=False,
        )  # fmt: skip
        if done.returncode == 0:
            return subprocess.run([COMPILER, "--version"], capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.SubprocessError) as error:
        raise NoCompiler(f"{COMPILER}: {error}") from error
    raise NoCompiler(f"{COMPILER} makes no static 32-bit program (Debian's packages gcc-multilib, libc6-dev-i386)")


def program() -> Path:
    """The static program. Raises NoCompiler; BuildFailed when the compiler refuses the sources."""

    def compile_it(into: Path) -> None:
        command = [COMPILER, *FLAGS, *(str(HERE / source) for source in COMPILED), "-o", str(into / NAME)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
        if done.returncode:
            raise BuildFailed(f"{NAME}: {done.stderr.strip()}")

    return built(NAME, " ".join([compiler_version(), *FLAGS]), SOURCES, compile_it) / NAME


def boot(flavour: str, append: str, *, stress: bool = True) -> iso.Boot:
    """fetch.boot_files with the programs in the root file system, or without `stress`, which only gcc can make.

    Raises PackagesUnavailable, BuildFailed.
    """
    plain, compiled = fetch.boot_files(flavour, append), program() if stress else None

    def build(into: Path) -> None:
        archive = Cpio()
        if compiled is not None:
            archive.file(f"bin/{NAME}", compiled.read_bytes(), 0o755)
        archive.file("bin/userload", (HERE / USERLOAD).read_bytes(), 0o755)
        first = plain.initrd.read_bytes()
        second = gzip.compress(archive.finish(), GZIP_LEVEL, mtime=0)
        (into / INITRAMFS).write_bytes(first + bytes(-len(first) % ALIGN) + second)

    name = f"stress-{flavour}" if stress else f"userload-{flavour}"
    sources = ("stress_program.py", "initramfs.py", USERLOAD)
    return replace(plain, initrd=built(name, f"{plain.initrd} {compiled}", sources, build) / INITRAMFS)


def trials() -> tuple[str, ...]:
    """The names of all trials, in their order."""
    done = subprocess.run([program(), "list"], capture_output=True, text=True, timeout=TIMEOUT_S, check=True)
    return tuple(done.stdout.split())


def sums(transcript: Transcript) -> dict[str, str]:
    """What each trial came to, by its name: a checksum, or FAIL and why."""
    return dict(line.split(maxsplit=1) for line in transcript.starting("stress"))
