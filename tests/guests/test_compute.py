"""The checksums that `compute` expects, computed by other means; and its two other hosts."""

from __future__ import annotations

import hashlib
import platform
import re
import struct
import subprocess

import pytest

from guests import build_flat, build_native
from guests.builder import HERE

HEADER = struct.Struct("<8s4I")
WORKLOAD = struct.Struct("<16s4I")
MASK = 0xFFFFFFFF


def lcg(x: int) -> int:
    """The generator of workloads.c (Numerical Recipes' constants)."""
    return (x * 1664525 + 1013904223) & MASK


def generated(seed: int, count: int) -> list[int]:
    numbers = []
    for _ in range(count):
        seed = lcg(seed)
        numbers.append(seed)
    return numbers


def sieve() -> int:
    return sum(all(n % p for p in range(2, int(n**0.5) + 1)) for n in range(2, 100000))


def sha256() -> int:
    return int.from_bytes(hashlib.sha256(bytes((i * 7 + 3) & 0xFF for i in range(4096))).digest()[:4], "big")


def quicksort() -> int:
    return sum(value * (i + 1) for i, value in enumerate(sorted(generated(1, 4096)))) & MASK


def matrix() -> int:
    size = range(32)
    return sum((i + 2 * k) * (3 * k - j) for i in size for j in size for k in size) & MASK


def search() -> int:
    text = "".join("abc"[(x >> 16) % 3] for x in generated(7, 16384))
    return sum(match.start() for match in re.finditer("(?=abcab)", text)) & MASK


def bytecode() -> int:
    steps = 0
    for start in range(1, 100):
        value = start
        while value != 1:
            value = 3 * value + 1 if value % 2 else value // 2
            steps += 1
    return steps


EXPECTED = {
    "sieve": sieve, "sha256": sha256, "quicksort": quicksort, "matrix_x87": matrix, "matrix_sse2": matrix,
    "search": search, "bytecode": bytecode,
}  # fmt: skip


def test_the_flat_image_describes_itself() -> None:
    image = build_flat("compute").read_bytes()
    magic, load, end, count, table = HEADER.unpack_from(image)
    assert magic == b"RFFLAT01"
    assert load == 0x400000
    assert end - load >= len(image)
    checksums = {}
    for i in range(count):
        name, run, rounds, ops, checksum = WORKLOAD.unpack_from(image, table - load + WORKLOAD.size * i)
        assert load < run < load + len(image)
        assert rounds > 0 and ops > 0
        checksums[name.rstrip(b"\0").decode()] = checksum
    assert checksums == {name: compute() for name, compute in EXPECTED.items()}


def test_the_native_program_agrees() -> None:
    if platform.machine() not in ("x86_64", "i686"):
        pytest.skip("the host does not run i686 code")
    try:
        done = subprocess.run(
            [build_native("compute"), "scale=1"], capture_output=True, text=True, timeout=60, check=False
        )
    except OSError as error:
        pytest.skip(f"the host does not run 32-bit programs: {error}")
    assert done.returncode == 0
    rows = [line.split() for line in done.stdout.splitlines()]
    assert {row[1]: int(row[2], 16) for row in rows} == {name: compute() for name, compute in EXPECTED.items()}


def test_the_native_program_runs_only_what_is_asked() -> None:
    if platform.machine() not in ("x86_64", "i686"):
        pytest.skip("the host does not run i686 code")
    done = subprocess.run(
        [build_native("compute"), "scale=1", "only=sieve"], capture_output=True, text=True, timeout=60, check=False
    )
    assert [line.split()[1] for line in done.stdout.splitlines()] == ["sieve"]


def test_the_workloads_are_the_same_source() -> None:
    """Guest, native program and flat image all link the one workloads.c."""
    assert {path.name for path in (HERE / "compute").glob("*.c")} == {"flat.c", "main.c", "native.c", "workloads.c"}
