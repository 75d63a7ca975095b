"""Unicorn as a peer: real mode, which the host cannot run, and flat 32-bit code.

It is QEMU's translator: not silicon. Where it is known to be wrong a row of differences.UNICORN says so. It checks no
segment limits and its exceptions carry little, so cases that end in anything but the INT3 after the code are compared
by vector alone. x87 and SSE are left to the host.
"""

from __future__ import annotations

import numpy as np
import unicorn
from unicorn import x86_const as x86

from tests.conformance import harness
from tests.conformance.harness import CODE_BYTES, CODE_FILL, DATA_BYTES, OTHER, RESULT, TIMEOUT, Cases, Results

REGISTERS = (
    x86.UC_X86_REG_EAX, x86.UC_X86_REG_ECX, x86.UC_X86_REG_EDX, x86.UC_X86_REG_EBX, x86.UC_X86_REG_ESP,
    x86.UC_X86_REG_EBP, x86.UC_X86_REG_ESI, x86.UC_X86_REG_EDI,
)  # fmt: skip
SEGMENTS = (
    x86.UC_X86_REG_ES, x86.UC_X86_REG_CS, x86.UC_X86_REG_SS, x86.UC_X86_REG_DS, x86.UC_X86_REG_FS, x86.UC_X86_REG_GS,
)  # fmt: skip
# Unmapped, protected: a page fault.
MEMORY_ERRORS = frozenset(
    {unicorn.UC_ERR_READ_UNMAPPED, unicorn.UC_ERR_WRITE_UNMAPPED, unicorn.UC_ERR_FETCH_UNMAPPED,
     unicorn.UC_ERR_READ_PROT, unicorn.UC_ERR_WRITE_PROT, unicorn.UC_ERR_FETCH_PROT}
)  # fmt: skip
INSNS_MAX = 400_000


class UnicornPeer:
    """`code` and `data` are the linear addresses of the two regions of native/batch.h."""

    def __init__(self, template: bytes, real: bool, code: int, data: int) -> None:
        self.real, self.code, self.data = real, code, data
        self.uc = unicorn.Uc(unicorn.UC_ARCH_X86, unicorn.UC_MODE_16 if real else unicorn.UC_MODE_32)
        self.template = template
        self.before = np.frombuffer(template, "<u8")
        self.fill = bytes([CODE_FILL]) * (0x10000 if real else CODE_BYTES)
        if real:
            self.uc.mem_map(0, 0x120000)
        else:
            self.uc.mem_map(code, CODE_BYTES)
            self.uc.mem_map(data, DATA_BYTES)
            self.uc.mem_protect(data + harness.READ_ONLY_PAGE * 4096, 4096, unicorn.UC_PROT_READ)
            self.uc.mem_unmap(data + harness.ABSENT_PAGE * 4096, 4096)
        self.vector = -1
        self.uc.hook_add(unicorn.UC_HOOK_INTR, self._interrupted)
        self._fill()

    def _fill(self) -> None:
        self.uc.mem_write(self.code, self.fill)
        self._write_data(0, self.template)

    def _write_data(self, offset: int, data: bytes) -> None:
        """All of data memory, or a part that lies in one of its pieces."""
        absent = harness.ABSENT_PAGE * 4096
        if self.real or len(data) < DATA_BYTES:
            self.uc.mem_write(self.data + offset, data)
            return
        self.uc.mem_write(self.data, data[:absent])
        self.uc.mem_write(self.data + absent + 4096, data[absent + 4096 :])

    def _interrupted(self, uc: unicorn.Uc, vector: int, _: object) -> None:
        self.vector = vector
        uc.emu_stop()

    def run(self, cases: Cases) -> Results:
        results = np.zeros(len(cases), RESULT)
        for case, result in zip(cases, results, strict=True):
            self._one(case, result)
        return results

    def _one(self, case: np.void, result: np.void) -> None:
        uc, code = self.uc, bytes(case["code"])[: int(case["code_length"])]
        code += b"\0" * (int(case["code_length"]) - len(code))
        start = self.code + int(case["code_at"])
        uc.mem_write(start, code)
        uc.ctl_remove_cache(self.code, self.code + CODE_BYTES)
        if self.real:
            for register, selector in zip(SEGMENTS, case["sel"].tolist(), strict=True):
                uc.reg_write(register, selector)
        for register, value in zip(REGISTERS, case["r"].tolist(), strict=True):
            uc.reg_write(register, value)
        uc.reg_write(x86.UC_X86_REG_EFLAGS, int(case["eflags"]))
        self.vector = -1
        trap = TIMEOUT
        try:
            uc.emu_start(start, 0xFFFFFFFF, count=INSNS_MAX)
        except unicorn.UcError as error:
            trap = 14 if error.errno in MEMORY_ERRORS else 6 if error.errno == unicorn.UC_ERR_INSN_INVALID else OTHER
        result["trap"] = self.vector if self.vector >= 0 else trap
        for index, register in enumerate(REGISTERS):
            result["r"][index] = uc.reg_read(register)
        for index, register in enumerate(SEGMENTS):
            result["sel"][index] = uc.reg_read(register)
        result["eip"] = uc.reg_read(x86.UC_X86_REG_EIP)
        result["eflags"] = uc.reg_read(x86.UC_X86_REG_EFLAGS)
        self._collect(start, code, result)

    def _collect(self, start: int, code: bytes, result: np.void) -> None:
        """Put memory back and list what had changed, as collect() of native/batch.h does."""
        uc, absent = self.uc, harness.ABSENT_PAGE * 512
        expected = bytearray([CODE_FILL]) * CODE_BYTES
        expected[start - self.code : start - self.code + len(code)] = code
        live = np.frombuffer(self._read_data(), "<u8")
        changed = live != self.before
        if not self.real:
            changed[absent : absent + 512] = False
        where = np.nonzero(changed)[0].tolist()
        found = [(index * 8, int(live[index])) for index in where]
        for index in where:
            self._write_data(index * 8, self.before[index].tobytes())
        text = np.frombuffer(bytes(uc.mem_read(self.code, CODE_BYTES)), "<u8")
        written = np.nonzero(text != np.frombuffer(bytes(expected[:CODE_BYTES]), "<u8"))[0].tolist()
        found += [(0x100000 + index * 8, int(text[index])) for index in written]
        uc.mem_write(self.code, self.fill)  # all of it: without limits a store may have gone astray
        result["changes"] = len(found)
        for slot, (offset, value) in enumerate(found[: harness.CHANGES]):
            result["change"][slot] = offset, 0, value

    def _read_data(self) -> bytes:
        if self.real:
            return bytes(self.uc.mem_read(self.data, DATA_BYTES))
        absent = harness.ABSENT_PAGE * 4096
        rest = absent + 4096
        return (
            bytes(self.uc.mem_read(self.data, absent))
            + bytes(4096)
            + bytes(self.uc.mem_read(self.data + rest, DATA_BYTES - rest))
        )


def comparable(ours: Results, theirs: Results, real: bool) -> tuple[Results, Results]:
    """Both sides as far as they mean the same: after a fault, or a jump out of the code, only the vector."""
    ours, theirs = ours.copy(), theirs.copy()
    for results in (ours, theirs):
        results["error"] = results["cr2"] = 0
        results["fx"] = 0
        results["eflags"] &= np.uint32(0xFFFF)  # all that a real-mode frame holds; RF is not modelled there
        if real:
            results["eip"] &= np.uint32(0xFFFF)  # Unicorn does not wrap it at once
        else:
            results["sel"] = 0
    ended = (ours["trap"] != 3) | (theirs["trap"] != 3)
    for name in ("r", "eip", "eflags", "sel", "changes", "change", "digest"):
        ours[name][ended] = 0
        theirs[name][ended] = 0
    if real:
        forgive_frames(ours, theirs)
    return ours, theirs


def forgive_frames(ours: Results, theirs: Results) -> None:
    """The INT3 that ends a real-mode case pushes over the 6 bytes below its stack: stores there are not compared."""

    def outside(result: np.void, sp: int) -> list[tuple[int, int]]:
        listed = result["change"][: min(int(result["changes"]), harness.CHANGES)]
        frame = range((sp - 6) & 0xFFF8, sp)
        return [(int(one["offset"]), int(one["value"])) for one in listed if int(one["offset"]) not in frame]

    for index in np.nonzero((ours["change"] != theirs["change"]).any(axis=1))[0].tolist():
        sp = int(ours["r"][index][4]) & 0xFFFF
        if outside(ours[index], sp) == outside(theirs[index], sp):
            for name in ("change", "changes"):
                theirs[name][index] = ours[name][index]
