"""What the host's processor has and the guest's lacks: under direct execution it is as undefined as when interpreted.

The guest's processor ends with SSE2. The judge of the named instructions is the manual; of the whole opcode map, the
interpreter: an encoding that the scan lets through must do on the host what it does there.
"""

from __future__ import annotations

import platform
import re
import struct
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import TypeVar

import pytest

from tests.vmm.core.test_scan import SSE, Scan
from tests.vmm.core.test_scan import scan as scan  # noqa: PLC0414 - a fixture
from tests.vmm.outer_rings import LOG_WORD, STACK_TOP, USER_CODE, USER_DATA, OuterRings, same
from vmm._core import lib
from vmm.memory import PAGE_SIZE

pytestmark = pytest.mark.skipif(platform.machine() != "x86_64", reason="direct execution is for x86-64 hosts")

BR, UD, GP, PF = 5, 6, 13, 14
CF, ZF = 1, 0x40
SLOT = 32
PAGES = 15  # of code, and one in which it ends
OPERAND = USER_DATA + 0x800

# Younger than SSE2, as an assembler that knows them writes them: ESI and EBX point to memory.
YOUNGER = {
    "vaddps": "c5f058c1", "vzeroupper": "c5f877", "vmovups": "c5f81006", "andn": "c4e270f2d0", "blsr": "c4e270f3c9",
    "rorx": "c4e37bf0c103", "vpermq": "c4e3fd00d103", "kmovw": "c5f892c0", "vaddps_zmm": "62f1744858c1",
    "vpternlogd": "62f3754825d903", "blcfill": "8fe97801c8", "vphaddbd": "8fe978c2c8", "movddup": "f20f12c1",
    "movsldup": "f30f12c1", "movshdup": "f30f16c1", "haddpd": "660f7cc1", "hsubps": "f20f7dc1", "addsubps": "f20fd0c1",
    "lddqu": "f20ff006", "fisttps": "df0e", "fisttpl": "db0e", "fisttpll": "dd0e", "pshufb_mmx": "0f3800c1",
    "pshufb": "660f3800c1", "palignr_mmx": "0f3a0fc103", "pabsd": "660f381ec1", "pmulld": "660f3840c1",
    "ptest": "660f3817c1", "roundps": "660f3a08c101", "pextrd": "660f3a16c001", "movntdqa": "660f382a06",
    "pcmpestri": "660f3a61c101", "pcmpgtq": "660f3837c1", "crc32b": "f20f38f0c1", "crc32l": "f20f38f1c1",
    "popcnt": "f30fb8c1", "movbe": "0f38f006", "movbe_store": "0f38f106", "adcx": "660f38f6c1", "adox": "f30f38f6c1",
    "aesenc": "660f38dcc1", "pclmulqdq": "660f3a44c100", "sha1nexte": "0f38c8c1", "sha256rnds2": "0f38cbc1",
    "gf2p8mulb": "660f38cfc1", "extrq": "660f79c1", "insertq": "f20f79c1", "movntss": "f30f2b06", "movntsd": "f20f2b06",
    "xgetbv": "0f01d0", "xsave": "0fae26", "xrstor": "0fae2e", "xsaveopt": "0fae36", "xsavec": "0fc726",
    "rdrand": "0fc7f0", "rdrand_16": "660fc7f0", "rdseed": "0fc7f8", "rdpid": "f30fc7f8", "clflushopt": "660fae3e",
    "clwb": "660fae36", "umonitor": "f30faef0", "umwait": "f20faef0", "tpause": "660faef0", "ptwrite": "f30faee0",
    "rdtscp": "0f01f9", "xtest": "0f01d6", "xbegin": "c7f800000000", "xabort": "c6f800", "serialize": "0f01e8",
    "rdpkru": "0f01ee", "wrpkru": "0f01ef", "clzero": "0f01fc", "rdpru": "0f01fd", "mwaitx": "0f01fb",
    "monitorx": "0f01fa", "movdiri": "0f38f906", "movdir64b": "660f38f81e", "femms": "0f0e", "pfadd": "0f0fc19e",
    "xstore": "0fa7c0", "getsec": "0f37", "syscall": "0f05",
}  # fmt: skip

# Handlers that note where and which, and go on in the next slot.
SKIP = LOG_WORD + f"""
    .macro skip vector, error
    pushl %eax
    pushl %ebx
    movl 8 + \\error(%esp), %eax
    andl ${-SLOT}, %eax
    orl $\\vector, %eax
    log_word %eax
    andl ${-SLOT}, %eax
    addl ${SLOT}, %eax
    movl %eax, 8 + \\error(%esp)
    popl %ebx
    popl %eax
    addl $\\error, %esp
    iret
    .endm
"""


T = TypeVar("T")


def batched(items: Iterable[T], size: int) -> Iterator[list[T]]:
    left = iter(items)
    while part := list(islice(left, size)):
        yield part


def slot(code: bytes) -> bytes:
    """An encoding with its pointers and the x87 set anew, and NOPs."""
    pointers = b"\xbe" + struct.pack("<I", OPERAND) + b"\xbb" + struct.pack("<I", OPERAND + 64)
    stack = b"\xbc" + struct.pack("<I", STACK_TOP - 256)
    fninit = b"\xdb\xe3"
    whole = pointers + stack + fninit + code
    assert len(whole) <= SLOT
    return whole.ljust(SLOT, b"\x90")


# A page is interpreted at first, until it is known to be there.
WARM = b"\xb9\x00\x02\x00\x00\xe2\xfe".ljust(SLOT, b"\x90")


def run_pages(pages: list[bytes]) -> tuple[OuterRings, list[tuple[int, int]]]:
    """Each page's slots under both engines. Where exceptions came, by page and slot, and which."""

    def prepare(p: OuterRings) -> None:
        for vector, error in ((BR, 0), (UD, 0), (GP, 4), (PF, 4)):
            p.handler(vector, SKIP + f"skip {vector}, {error}")
        for number, page in enumerate(pages):
            at = USER_CODE + number * PAGE_SIZE
            jump = b"\xe9" + struct.pack("<i", PAGE_SIZE - 5 - len(page))
            p.write(p.frame(at), page + jump)
        p.code("xorl %ebx, %ebx\nfninit\nxorl %eax, %eax\nint $0x90", USER_CODE + len(pages) * PAGE_SIZE)

    p = same(prepare)
    event = p._event()
    assert event is not None and event.vector == 0x90
    return p, [(word - USER_CODE & -SLOT, word & (SLOT - 1)) for word in p.log()]


def test_what_the_guests_processor_lacks_is_undefined() -> None:
    for names in batched(YOUNGER, PAGES):
        _, faults = run_pages([WARM + slot(bytes.fromhex(YOUNGER[name])) for name in names])
        seen = dict(faults)
        vectors = {name: seen.get(number * PAGE_SIZE + SLOT) for number, name in enumerate(names)}
        assert vectors == dict.fromkeys(names, UD)


# ---- the opcode map --------------------------------------------------------------------------------------------------

GROUPS = {0x00, 0x01, 0x0D, 0x18, 0x1A, 0x1B, 0x1C, 0x1E, 0x71, 0x72, 0x73, 0xAE, 0xBA, 0xC7}
ONE_BYTE_GROUPS = (0x62, 0x8F, 0xC4, 0xC5, 0xC6, 0xC7, 0xD8, 0xD9, 0xDA, 0xDB, 0xDC, 0xDD, 0xDE, 0xDF, 0xFE)
JUMPS = range(0x80, 0x90)
TIME = {0x31}
PREFIX_LIKE = 6  # of ModRM: where an opcode has none, 36h and F2h are prefixes of the NOP that follows
TWO_BYTE = [opcode for opcode in range(256) if opcode not in JUMPS and opcode not in TIME]
PREFIXES = (b"", b"\x66", b"\xf2", b"\xf3")
# Images that tell which selectors the host has, and loads that would unmask exceptions: FXSAVE, FXRSTOR, LDMXCSR;
# FLDENV, FLDCW, FSTENV; FRSTOR, FSAVE.
LEFT_OUT_OF_0F = {(0xAE, 0), (0xAE, 1), (0xAE, 2)}
LEFT_OUT = {(0xD9, 4), (0xD9, 5), (0xD9, 6), (0xDD, 4), (0xDD, 6)}


def encodings() -> list[bytes]:
    """The two-byte opcodes with each prefix, a register and memory at ESI, and all that is in groups."""
    found = []
    for prefix in PREFIXES:
        for opcode in TWO_BYTE:
            for reg in range(8) if opcode in GROUPS else (PREFIX_LIKE,):
                if (opcode, reg) not in LEFT_OUT_OF_0F:
                    found += [prefix + bytes([0x0F, opcode, reg << 3 | rm]) for rm in (0x06, 0xC2)]
        for opcode in ONE_BYTE_GROUPS:
            for reg in range(8):
                if (opcode, reg) not in LEFT_OUT:
                    found += [prefix + bytes([opcode, reg << 3 | rm]) for rm in (0x06, 0xC2)]
    return found


def test_what_the_scan_lets_through_is_the_guests_own(scan: Scan) -> None:
    harmless = [code for code in encodings() if not scan.class_of(code.ljust(15, b"\x90")) & ~SSE]
    assert len(harmless) > 1500
    pages = [b"".join(slot(code) for code in part) for part in batched(harmless, PAGE_SIZE // SLOT - 1)]
    for some in batched(pages, PAGES):
        p, faults = run_pages(some)
        assert p.vcpu.stats.direct_declines[lib.DECLINE_CODE] == 0
        assert p.stays[3] >= len(faults) > 100


# ---- TZCNT and LZCNT -------------------------------------------------------------------------------------------------

SOURCES = (0, 1, 2, 0x80000000, 0x10000, 0xFF00, 0xFFFFFFFF)


def count_all(instruction: bytes) -> tuple[OuterRings, list[int]]:
    """EDX of 0x55555555 and EFLAGS behind each, 32 bits and 16, register and memory."""
    code = f"movl ${USER_DATA + 0x4000}, %edi\n"
    for source in SOURCES:
        for prefix in ("", ".byte 0x66\n"):
            for modrm in ("0xd1", "0x16"):  # ECX; at ESI
                opcode = ", ".join(f"{byte:#x}" for byte in instruction)
                code += f"movl ${source}, %ecx\nmovl ${OPERAND}, %esi\nmovl %ecx, (%esi)\nmovl $0x55555555, %edx\n"
                code += f"testl %esp, %esp\n{prefix}.byte {opcode}, {modrm}\npushfl\npopl %eax\nandl ${CF | ZF}, %eax\n"
                code += "movl %edx, (%edi)\nmovl %eax, 4(%edi)\naddl $8, %edi\n"
    p = same(lambda p: p.code(code + "int $0x90"))
    pairs = len(SOURCES) * 4
    return p, [p.read32(p.frame(USER_DATA) + 0x4000 + 4 * i) for i in range(2 * pairs)]


def trailing_zeros(value: int, bits: int) -> int:
    value &= (1 << bits) - 1
    return (value & -value).bit_length() - 1 if value else bits


def test_tzcnt_counts_and_is_the_hosts_where_it_has_it() -> None:
    p, seen = count_all(b"\xf3\x0f\xbc")
    expected = []
    for source in SOURCES:
        for bits in (32, 32, 16, 16):
            count = trailing_zeros(source, bits)
            expected += [count if bits == 32 else 0x55550000 | count]
            expected += [CF if count == bits else ZF if count == 0 else 0]
    assert seen == expected
    if re.search(r"\bbmi1\b", Path("/proc/cpuinfo").read_text()):
        assert p.stays[3] > 0 and p.vcpu.stats.direct_declines[lib.DECLINE_CODE] == 0
    else:
        assert p.vcpu.stats.direct_declines[lib.DECLINE_CODE] > 0


def test_lzcnt_is_bsr() -> None:
    p, seen = count_all(b"\xf3\x0f\xbd")
    results = [(value, flags & ZF) for value, flags in batched(seen, 2)]
    expected = []
    for source in SOURCES:
        for bits in (32, 32, 16, 16):
            value = source & (1 << bits) - 1
            high = 0 if bits == 32 else 0x55550000
            expected.append((high | value.bit_length() - 1, 0) if value else (0x55555555, ZF))
    assert results == expected
    assert p.vcpu.stats.direct_declines[lib.DECLINE_CODE] > 0
