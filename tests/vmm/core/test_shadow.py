"""The shadow page table against an independent model of the paging rules, on random page tables.

shadow_model.c and shadow_driver.c are compiled with the core's files into a library of their own: they stand for the
rest of the engine, and judge every answer: translations, rights, error codes, A and D bits, what a flush must forget.
"""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest
from cffi import FFI

from vmm.build_core import CODE_FLAGS, CORE, compiler

HERE = Path(__file__).parent
COUNTS = ("checked", "faults", "stale", "missing", "from_micro", "kept", "dropped", "recycled")
CDEF = f"""
struct model_counts {{ uint64_t {", ".join(COUNTS)}; }};
int model_run(uint64_t seed, uint32_t worlds, uint32_t steps, uint64_t shadow_bytes, uint32_t vcpus,
    struct model_counts *counts, char *why, size_t why_size);
int model_race(uint32_t fills);
"""
# 4 spaces and a handful of leaves: always recycling; the least that the engine accepts; ample.
TINY, SMALL, AMPLE = 0x1A000, 0x2C000, 4 << 20

ffi = FFI()
ffi.cdef(CDEF)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Any:
    library = tmp_path_factory.mktemp("shadow") / "model.so"
    sources = [CORE / name for name in ("shadow.c", "walk.c", "shadow_api.c")]
    sources += [HERE / name for name in ("shadow_model.c", "shadow_driver.c", "shadow_race.c")]
    command = [*compiler(), "-std=gnu11", *CODE_FLAGS, "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC", "-pthread"]
    subprocess.run([*command, "-I", CORE, "-o", library, *sources], check=True)
    return ffi.dlopen(str(library))


def run(model: Any, seed: int, worlds: int, shadow_bytes: int, vcpus: int = 1) -> dict[str, int]:
    counts, why = ffi.new("struct model_counts *"), ffi.new("char[]", 1024)
    if model.model_run(seed, worlds, 2000, shadow_bytes, vcpus, counts, why, 1024) != 0:
        pytest.fail(ffi.string(why).decode())
    return {name: int(getattr(counts, name)) for name in COUNTS}


@pytest.mark.parametrize("shadow_bytes", [TINY, SMALL, AMPLE])
@pytest.mark.parametrize("vcpus", [1, 2])
def test_answers_are_the_manuals(model: Any, shadow_bytes: int, vcpus: int) -> None:
    counts = run(model, seed=shadow_bytes + 3 * vcpus, worlds=240, shadow_bytes=shadow_bytes, vcpus=vcpus)
    assert counts["checked"] > 300_000
    # The random guests reach every kind of answer.
    assert all(counts[name] > 50 for name in ("faults", "stale", "missing", "from_micro", "kept", "dropped"))
    assert (counts["recycled"] > 1000) == (shadow_bytes != AMPLE)


def test_a_and_d_never_undo_another_processors_store(model: Any) -> None:
    assert model.model_race(1_000_000) == 0


@pytest.mark.long
@pytest.mark.parametrize("seed", range(40))
def test_answers_are_the_manuals_for_long(model: Any, seed: int) -> None:
    for shadow_bytes in (TINY, SMALL, AMPLE):
        run(model, seed=1000 + seed, worlds=400, shadow_bytes=shadow_bytes)
