"""The interp engine: the C core's interpreter, called through cffi in this process, without the GIL."""

from __future__ import annotations

import mmap
import platform
from contextlib import suppress
from typing import Any

from ringfence.errors import EngineFailed, HostRefused
from vmm._core import ffi, lib
from vmm.engines.contract import EngineMap

# Guest loads and stores are the host's own, so several vCPUs need a host that keeps an x86's order of them.
ORDERED_HOSTS = frozenset({"x86_64", "amd64", "AMD64"})
ARENA_BYTES = 64 << 20  # decoded blocks and shadow page tables; only what is used is backed by memory, 2 MiB at a time


class Interp:
    """One vCPU's interpreter. `model` is a cffi `struct cpu_model *`."""

    name = "interp"

    def __init__(self, where: EngineMap, vcpu: int, model: Any) -> None:
        if len(where.vcpus) > 1 and platform.machine() not in ORDERED_HOSTS:
            raise HostRefused(f"{len(where.vcpus)} virtual CPUs: expected 1 on a {platform.machine()} host")
        try:
            self._mapping = mmap.mmap(-1, ARENA_BYTES, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        except OSError as error:
            raise HostRefused(f"no room for the interpreter's {ARENA_BYTES >> 20} MiB: {error.strerror}") from error
        with suppress(AttributeError, OSError):  # a host need not have large pages
            self._mapping.madvise(mmap.MADV_HUGEPAGE)
        self._buffer = ffi.from_buffer(self._mapping)
        self._arena = ffi.cast("void *", self._buffer)
        self._control = ffi.cast("struct control *", where.controls[vcpu])
        table = ffi.new("struct engine_map *")
        for field in ("ram", "dev", "pages", "interrupts"):
            setattr(table, field, ffi.cast("void *", getattr(where, field)))
        table.vcpu = ffi.cast("void *", where.vcpus[vcpu])
        table.control = ffi.cast("void *", where.controls[vcpu])
        for index, (state, control) in enumerate(zip(where.vcpus, where.controls, strict=True)):
            table.vcpu_of[index] = ffi.cast("void *", state)
            table.control_of[index] = ffi.cast("void *", control)
        table.ram_bytes, table.dev_bytes, table.pages_bytes = where.ram_bytes, where.dev_bytes, where.pages_bytes
        status = lib.engine_init(self._arena, ARENA_BYTES, table, model)
        if status != 0:
            raise EngineFailed(f"the interpreter refused its arena or maps: reason {-status}")

    def run(self, quantum_us: int) -> int:
        kind: int = lib.engine_run(self._arena, quantum_us)
        return kind

    def kick(self, bits: int) -> None:
        lib.control_kick(self._control, bits)

    def flush(self) -> None:
        lib.engine_flush(self._arena)

    def translate(self, linear: int) -> int | None:
        gpa = ffi.new("uint64_t *")
        return int(gpa[0]) if lib.engine_translate(self._arena, linear, gpa) == 0 else None

    def set_breakpoint(self, linear: int, length: int, kind: int) -> bool:
        return bool(lib.engine_set_breakpoint(self._arena, linear, length, kind) == 0)

    def clear_breakpoint(self, linear: int, length: int, kind: int) -> bool:
        return bool(lib.engine_clear_breakpoint(self._arena, linear, length, kind) == 0)

    def arena(self) -> Any:
        return self._arena

    def why(self) -> str:
        return ""

    def rest(self) -> None:
        """Nothing of the thread's was changed."""

    def close(self) -> None:
        ffi.release(self._buffer)
        self._mapping.close()
