"""Page walks against Unicorn: one access through random page tables, run by both; same fault, same tables afterwards.

Unicorn does not show the error code; test_shadow.py judges that. The random tables leave out where its processor has
other limits: address bits 36 and up, and the bits of a 4 MiB page that PSE-36 would reserve. To it a read-modify-write
is a read and then a write, so that a denied one marks the page accessed: there are none here.
"""

from __future__ import annotations

import random
import struct
from dataclasses import dataclass

import pytest

from tests.vmm.core.processor import CODE, CODE_SEL, DATA_SEL, GDT, RAM_PAGES, STACK_TOPS, Processor

unicorn = pytest.importorskip("unicorn", reason="the Unicorn emulator is not installed")
x86 = pytest.importorskip("unicorn.x86_const")

PAGE = 4096
DIRECTORY, PDPT, IDENTITY, TABLES, TABLE_COUNT, DATA, DATA_PAGES = 0x80000, 0x84000, 0x85000, 0x87000, 4, 0x90000, 16
IRET_AT, FRAME = 0x70000, 0x71000
P, W, U, A, D, PS, G, NX = 1, 2, 4, 0x20, 0x40, 0x80, 0x100, 1 << 63
PG, WP, PSE, PAE, PGE, NXE, MSR_EFER = 1 << 31, 1 << 16, 1 << 4, 1 << 5, 1 << 7, 1 << 11, 0xC0000080
ACCESSES = {"read": b"\x8b\x03", "write": b"\x89\x03", "fetch": b"\xff\xe3"}  # (%ebx), %eax
PAGES_OF_TABLES = (0, 5, 511, 512, 1023)
FIRST_PDES = (1, 256, 767, 1023)
NOP_HLT = b"\x90\xf4"


@dataclass(frozen=True)
class Case:
    """One access: the mode, all of memory, and where the access goes."""

    cr0: int
    cr4: int
    efer: int
    cpl: int
    access: str
    linear: int
    tables: bytes  # from DIRECTORY to DATA


def random_entry(rng: random.Random, pae: bool, directory: bool) -> int:
    entry = rng.getrandbits(12) & ~(P | PS)
    entry |= P if rng.random() < 0.9 else 0
    entry |= W | U if rng.random() < 0.6 else 0
    if directory and rng.random() < 0.3:
        entry |= PS | rng.randrange(2) << 21 if pae else PS
        entry |= 1 << rng.randrange(13, 21 if pae else 17) if rng.random() < 0.1 and pae else 0
        entry |= 1 << 21 if rng.random() < 0.1 and not pae else 0
    elif directory:
        entry |= TABLES + PAGE * rng.randrange(TABLE_COUNT)
    else:
        entry |= DATA + PAGE * rng.randrange(DATA_PAGES)
    if pae:
        entry |= NX if rng.random() < 0.2 else 0
        entry |= 1 << rng.randrange(52, 63) if rng.random() < 0.03 else 0
    return entry


def random_case(rng: random.Random) -> Case:
    cr4 = rng.choice((0, PSE)) | rng.choice((0, PAE)) | rng.choice((0, PGE))
    pae = bool(cr4 & PAE)
    code, size = ("<Q", 8) if pae else ("<I", 4)
    image = bytearray(DATA - DIRECTORY)

    def put(at: int, value: int) -> None:
        struct.pack_into(code, image, at - DIRECTORY, value)

    for index in range((TABLES - DIRECTORY) // size):
        if not PDPT <= DIRECTORY + index * size < TABLES:
            put(DIRECTORY + index * size, random_entry(rng, pae, True))
    for index in range(TABLE_COUNT * PAGE // size):
        put(TABLES + index * size, random_entry(rng, pae, False))
    for page in range(1024):  # the processor's own tables and code; 8 KiB with PAE
        put(IDENTITY + page * size, page << 12 | P | W | U | A | D)
    put(DIRECTORY, IDENTITY | P | W | U | A)
    if pae:
        put(DIRECTORY + 8, IDENTITY + PAGE | P | W | U | A)
        for index in range(4):
            put(PDPT + 8 * index, DIRECTORY + PAGE * index | P if index == 0 or rng.random() < 0.9 else 0)
    return Case(
        cr0=0x11 | PG | rng.choice((0, WP)),
        cr4=cr4,
        efer=rng.choice((0, NXE)),
        cpl=rng.choice((0, 3)),
        access=rng.choice(list(ACCESSES)),
        linear=rng.choice(FIRST_PDES) << 22 | rng.choice(PAGES_OF_TABLES) << 12,
        tables=bytes(image),
    )


def root(case: Case) -> int:
    return PDPT if case.cr4 & PAE else DIRECTORY


def prepare(processor: Processor, case: Case) -> None:
    processor.write(DIRECTORY, case.tables)
    for page in (*range(DATA, DATA + DATA_PAGES * PAGE, PAGE), *(PAGE * page for page in PAGES_OF_TABLES)):
        processor.write(page, NOP_HLT)
    processor.write(CODE, ACCESSES[case.access] + b"\xf4")
    processor.ring(case.cpl)
    v = processor.v
    v.cr0, v.cr3, v.cr4, v.efer, v.cr2, v.r[0], v.r[3] = case.cr0, root(case), case.cr4, case.efer, 0, 0, case.linear
    for index in range(4):
        v.pdpte[index] = int.from_bytes(processor.memory.read(PDPT + 8 * index, 8), "little")
    processor.vcpu.engine.flush()


def run_ours(processor: Processor) -> tuple[int | None, bytes]:
    """CR2 when the access faulted, and the tables and data afterwards."""
    event = processor.resume()
    fault = int(processor.v.cr2) if event is not None and event.vector == 14 else None
    return fault, processor.memory.read(DIRECTORY, DATA + DATA_PAGES * PAGE - DIRECTORY)


def run_unicorn(memory: bytes, case: Case) -> tuple[int | None, bytes]:
    """The same in Unicorn, which enters CPL 3 by an IRET of its own."""
    uc = unicorn.Uc(unicorn.UC_ARCH_X86, unicorn.UC_MODE_32)
    uc.mem_map(0, RAM_PAGES * PAGE)
    uc.mem_write(0, memory)
    uc.mem_write(IRET_AT, b"\xcf")
    uc.mem_write(FRAME, struct.pack("<5I", CODE, CODE_SEL[case.cpl], 2, STACK_TOPS[3], DATA_SEL[case.cpl]))
    uc.reg_write(x86.UC_X86_REG_GDTR, (0, GDT, 0xFFF, 0))
    for name in ("SS", "DS", "ES"):
        uc.reg_write(getattr(x86, f"UC_X86_REG_{name}"), DATA_SEL[0])
    uc.reg_write(x86.UC_X86_REG_CS, CODE_SEL[0])
    uc.reg_write(x86.UC_X86_REG_DS, DATA_SEL[3])
    uc.reg_write(x86.UC_X86_REG_ESP, FRAME)
    uc.reg_write(x86.UC_X86_REG_EAX, 0)
    uc.reg_write(x86.UC_X86_REG_EBX, case.linear)
    uc.reg_write(x86.UC_X86_REG_MSR, (MSR_EFER, case.efer))
    uc.reg_write(x86.UC_X86_REG_CR3, root(case))
    uc.reg_write(x86.UC_X86_REG_CR4, case.cr4)
    uc.reg_write(x86.UC_X86_REG_CR0, case.cr0)
    seen: list[int] = []

    def exception(engine: object, vector: int, _: object) -> None:
        seen.append(vector)
        uc.emu_stop()

    uc.hook_add(unicorn.UC_HOOK_INTR, exception)
    uc.emu_start(IRET_AT, CODE + PAGE - 1, count=3 if case.access == "fetch" else 2)
    assert seen in ([], [14]), seen
    fault = int(uc.reg_read(x86.UC_X86_REG_CR2)) if seen else None
    return fault, bytes(uc.mem_read(DIRECTORY, DATA + DATA_PAGES * PAGE - DIRECTORY))


def compare(seed: int, cases: int) -> int:
    rng = random.Random(seed)
    processor = Processor()
    faults = 0
    for number in range(cases):
        case = random_case(rng)
        prepare(processor, case)
        theirs = run_unicorn(processor.memory.read(0, RAM_PAGES * PAGE), case)
        ours = run_ours(processor)
        modes = f"cpl {case.cpl} cr0 {case.cr0:#x} cr4 {case.cr4:#x} efer {case.efer:#x}"
        where = f"seed {seed} case {number}: {case.access} {case.linear:#x} {modes}"
        assert ours[0] == theirs[0], where
        if ours[1] != theirs[1]:
            pytest.fail(f"{where}: {[hex(DIRECTORY + n) for n, byte in enumerate(ours[1]) if byte != theirs[1][n]]}")
        faults += ours[0] is not None
    return faults


def test_walks_agree_with_unicorn() -> None:
    assert 60 < compare(seed=1, cases=250) < 220


@pytest.mark.long
@pytest.mark.parametrize("seed", range(2, 12))
def test_many_walks_agree_with_unicorn(seed: int) -> None:
    compare(seed, cases=1000)
