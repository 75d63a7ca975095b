"""The host processor's x87, MMX and SSE unit, one instruction at a time: the oracle for ours.

An instruction runs in 64-bit mode between FXRSTOR and FXSAVE; every encoding used by the tests means the same there as
in 32-bit code, given a memory operand [ESI]. EAX, ECX, EDX, EBX and EFLAGS go in and out too. FXSAVE does not wait, so
an unmasked x87 exception shows as FSW.ES and raises nothing; an unmasked SIMD exception would end the test process.
"""

from __future__ import annotations

import ctypes
import mmap
import platform
from ctypes import LittleEndianStructure, c_uint8, c_uint16, c_uint32, c_uint64

AVAILABLE = platform.machine() == "x86_64"
GPRS = (0, 1, 2, 3, 6, 7)
OPERAND_BYTES = 128


class FxImage(LittleEndianStructure):
    """The FXSAVE image of 32-bit code. Source: Intel SDM volume 1, 10.5.1."""

    _fields_ = [
        ("fcw", c_uint16),
        ("fsw", c_uint16),
        ("ftw", c_uint8),
        ("reserved0", c_uint8),
        ("fop", c_uint16),
        ("fip", c_uint32),
        ("fcs", c_uint16),
        ("reserved1", c_uint16),
        ("fdp", c_uint32),
        ("fds", c_uint16),
        ("reserved2", c_uint16),
        ("mxcsr", c_uint32),
        ("mxcsr_mask", c_uint32),
        ("st", c_uint8 * 16 * 8),
        ("xmm", c_uint8 * 16 * 8),
        ("reserved3", c_uint8 * 224),
    ]

    def registers(self) -> tuple[object, ...]:
        """All that an instruction may change, but for the pointers to the last instruction."""
        st = tuple(bytes(slot)[:10] for slot in self.st)
        return self.fcw, self.fsw, self.ftw, self.mxcsr, st, tuple(bytes(xmm) for xmm in self.xmm)

    def pending(self) -> bool:
        """An unmasked x87 exception is flagged."""
        return bool(self.fsw & ~self.fcw & 0x3F)


class Context(LittleEndianStructure):
    """What the trampoline loads and stores; its address is in R15 meanwhile."""

    _fields_ = [
        ("before", FxImage),
        ("after", FxImage),
        ("r", c_uint64 * 8),
        ("eflags", c_uint64),
        ("host_mxcsr", c_uint32),
        ("padding", c_uint32),
        ("operand", c_uint8 * OPERAND_BYTES),
    ]


assert ctypes.sizeof(FxImage) == 512
assert Context.r.offset == 1024


def _r15(opcode: str, reg: int, field: int) -> bytes:
    """An instruction with operands reg and [r15 + field]."""
    return bytes.fromhex(opcode) + bytes([0x87 | reg << 3]) + field.to_bytes(4, "little")


def _moves(opcode: str) -> bytes:
    return b"".join(_r15(opcode, reg, Context.r.offset + 8 * reg) for reg in GPRS)


_PROLOGUE = (
    bytes.fromhex("53 55 41 54 41 55 41 56 41 57 49 89 ff")     # push rbx rbp r12-r15; mov r15, rdi
    + _r15("41 0f ae", 3, Context.host_mxcsr.offset)            # stmxcsr
    + _r15("41 0f ae", 1, Context.before.offset)                # fxrstor
    + _r15("41 ff", 6, Context.eflags.offset) + b"\x9d"         # push; popfq
    + _moves("49 8b")
)  # fmt: skip
_EPILOGUE = (
    _moves("49 89")
    + b"\x9c" + _r15("41 8f", 0, Context.eflags.offset)         # pushfq; pop
    + _r15("41 0f ae", 0, Context.after.offset)                 # fxsave
    + bytes.fromhex("db e3 fc")                                 # fninit; cld
    + _r15("41 0f ae", 2, Context.host_mxcsr.offset)            # ldmxcsr
    + bytes.fromhex("41 5f 41 5e 41 5d 41 5c 5d 5b c3")
)  # fmt: skip


class HostUnit:
    """Executes instructions on `context`, whose FXSAVE images lie at 16-byte boundaries."""

    def __init__(self) -> None:
        self._memory = ctypes.create_string_buffer(ctypes.sizeof(Context) + 16)
        start = -ctypes.addressof(self._memory) % 16
        self.context = Context.from_buffer(self._memory, start)
        self._code = mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
        self._address = ctypes.addressof(self.context)
        entry = ctypes.addressof(ctypes.c_char.from_buffer(self._code))
        self._call = ctypes.CFUNCTYPE(None, ctypes.c_void_p)(entry)

    def execute(self, instruction: bytes) -> None:
        """context.before, r, eflags and operand to context.after, r, eflags and operand."""
        context = self.context
        context.r[6] = self._address + Context.operand.offset
        context.r[7] = context.r[6] + 32
        self._code.seek(0)
        self._code.write(_PROLOGUE + instruction + _EPILOGUE)
        self._call(self._address)
