"""Parts of ring-3 programs that random instructions seldom make.

Traps, system calls, privileged instructions, flags that the monitor must mind, page tables that are read and written,
code that changes itself, segments.

A part leaves the segments, the direction flag and the stack as they were, unless it faults: then the kernel restores
them. PARTS may stand anywhere; ASIDE is what shows the host's descriptors unless it is caught.
"""

from __future__ import annotations

from tests.conformance import harness
from tests.conformance.harness import CODE_BASE, DATA_BASE
from tests.conformance.ring3 import ALIAS, GOOD_PAGES, STACK_PAGES, Maker, Part, Ring3Generator
from tests.conformance.ring3_machine import (
    DATA_AT,
    DATA_PAGES,
    DATA_TABLE,
    FLAT_CODE,
    FLAT_DATA,
    KERNEL,
    ROOT_AT,
    TABLES_AT,
    TABLES_SEEN,
    TABLES_WRITABLE,
    A,
    D,
    P,
    Program,
    U,
    W,
)  # fmt: skip
from vmm.memory import PAGE_SIZE

PUSH_IMM, POPF, PUSHF, INT80, REP = b"\x68", b"\x9d", b"\x9c", b"\xcd\x80", b"\xf3"
TF, NT, AC, ID, IF, IOPL, DF = 0x100, 0x4000, 0x40000, 0x200000, 0x200, 0x3000, 0x400
CALL_FLUSH, CALL_TS = 1, 2
PRIVILEGED = tuple(bytes.fromhex(text) for text in (
    "f4", "0f06", "0f20c0", "0f20d9", "0f22c0", "0f22d8", "0f21f8", "0f23f8", "0f08", "0f09", "0f32", "0f30", "0f35",
    "0f0138", "0f01f0", "0f00d0", "0f00d8", "0f0110", "0f0118", "0fc7c8", "0faa", "0f33",
))  # fmt: skip
TABLES = tuple(bytes.fromhex(text) for text in ("0f00c0", "0f00c8", "0f01e0", "660f00c0", "660f01e0"))
SELECTORS = (
    0, 1, 2, 3, 0x07, 0x0F, 0x17, 0x1F, 0x27, 0x2F, 0x3F, 0x4F, 0x57, 0x67, 0x6F, 0x77, 0x7F, 0x60, 0x68, 0x6B, 0x70,
    0x73, 0x78, 0x7B, 0x81, 0x83, 0x89, 0x8B, 0x91, 0x99, 0x9A, 0xA0, 0xA8, 0xA3, 0xB3, 0xC3, 0x23, 0x2B, 0x33, 0x200,
    0xFFFF,
)  # fmt: skip
STACKS16 = frozenset({0x0F, 0x27})  # IRET to one keeps half of the kernel's ESP: a timer would show
FAR_SELECTORS = (0x2F, 0x2F, 0x47, 0x5F, 0x4F, 0x07, 0, 3, 0x60, 0x70, 0xA0, 0xA8, 0x23, 0x33, 0x2C, 0x100)
PAGE_HERE = DATA_BASE + GOOD_PAGES[0] * PAGE_SIZE  # where parts keep what is theirs
RDTSC_MASKED = b"\x0f\x31\x31\xc0\x31\xd2"


def word(value: int) -> bytes:
    return (value & 0xFFFF).to_bytes(2, "little")


def mov(register: int, value: int) -> bytes:
    return bytes([0xB8 + register]) + (value & 0xFFFFFFFF).to_bytes(4, "little")


def absolute(address: int) -> bytes:
    return (address & 0xFFFFFFFF).to_bytes(4, "little")


# ---- traps and faults ------------------------------------------------------------------------------------------------


def privileged(g: Ring3Generator, make: Maker) -> None:
    """At CPL 1 to 3 they are #GP(0) or #UD, whatever their operands."""
    make.emit(mov(1, g.random.choice((0x10, 0x174, 0x1B, 0x4321))), mov(0, DATA_BASE), g.random.choice(PRIVILEGED))


def trap(g: Ring3Generator, make: Maker) -> None:
    rnd = g.random
    which = rnd.randrange(8)
    if which == 0:
        make.emit(b"\xcc")
    elif which == 1:
        make.emit(b"\xb0\x7f\x04", bytes([rnd.choice((0, 1))]), b"\xce")  # INTO
    elif which == 2:
        bounds = DATA_BASE + g.spot()
        make.emit(mov(2, rnd.choice((0, 5, 0xFFFFFFFF, 0x80000000))), b"\x62\x15", bounds)
    elif which == 3:
        make.emit(b"\x31\xc9\xf7\xf1")  # DIV by zero
    elif which == 4:
        make.emit(rnd.choice((b"\x0f\x0b", b"\x0f\xff\xc0", b"\xf0\x90", b"\xf0\x89\xc0", b"\x8d\xc0", b"\xfe\xf8")))
    elif which == 5:  # an unmasked division by zero: #MF at the next x87 instruction
        make.emit(b"\xdb\xe3\x68", 0x37B, b"\xd9\x2c\x24\x58\xd9\xe8\xd9\xee\xde\xf9\x90")
        make.emit(rnd.choice((b"\x9b", b"\xd9\xe8")))
    elif which == 6:  # the same of SSE: #XM
        make.emit(b"\x68", 0x1D80, b"\x0f\xae\x14\x24\x58\x0f\x57\xc0", mov(0, 0x3F800000))
        make.emit(b"\x66\x0f\x6e\xc8\x0f\x5e\xc8")
    else:
        make.emit(mov(0, rnd.getrandbits(32)), b"\xd4", bytes([rnd.choice((0, 10))]), b"\x3c\x11")  # AAM


def interrupt(g: Ring3Generator, make: Maker) -> None:
    rnd = g.random
    vector = rnd.choice((0x80, 0x80, 0x80, 0x2E, 0x20, 0x81, 0x82, 0xFF, 0, 1, 2, 3, 4, 13, 14, rnd.randrange(256)))
    make.emit(mov(0, rnd.choice((0, CALL_FLUSH, CALL_TS, 4))), b"\xcd", bytes([vector]))


def system_call_loop(g: Ring3Generator, make: Maker) -> None:
    """INT 80h, over and over from one place."""
    make.emit(mov(1, g.random.choice((3, 20))), mov(0, 0), INT80, b"\x49\x75\xfb")


def fast_system_call(g: Ring3Generator, make: Maker) -> None:
    """SYSENTER: EDX and ECX say where to return. Elsewhere, and SYSCALL: #GP or #UD."""
    if g.random.getrandbits(2) == 0:
        make.emit(b"\x0f\x05")
    else:
        back = CODE_BASE + make.aside_at + 14
        make.emit(mov(1, g.pointer(harness.USER_DATA)), b"\x89\xcc", mov(2, back), b"\x0f\x34")


def ports(g: Ring3Generator, make: Maker) -> None:
    """The I/O bitmap leaves port 80h open; with IOPL all are."""
    rnd = g.random
    port = rnd.choice((0x80, 0x80, 0x81, 0xED, 0x3F9, 0x1234))
    make.emit(mov(2, port), rnd.choice((b"\xee", b"\xec", b"\x66\xed", b"\xef", b"\xe6\x80", b"\x66\xe5\x80")))


def interrupt_flag(g: Ring3Generator, make: Maker) -> None:
    make.emit(g.random.choice((b"\xfa\x90\xfb", b"\xfb", b"\xfa\x9c\x58\xfb")))


# ---- flags -----------------------------------------------------------------------------------------------------------


def pop_flags(g: Ring3Generator, make: Maker) -> None:
    """IF and IOPL, which the ring may not change; NT, ID, AC, which it may; read back, and taken away again."""
    rnd = g.random
    flags = 0x202
    for bit in (NT, ID, AC, IF, IOPL, DF, 1, 0x80, 0x800):
        flags ^= bit if rnd.getrandbits(2) == 0 else 0
    make.emit(b"\x3c\x11", PUSH_IMM, flags, POPF, PUSHF, b"\x58")
    if rnd.getrandbits(1):
        make.emit(b"\xa1", PAGE_HERE + rnd.randrange(0x100))  # maybe misaligned
    if rnd.getrandbits(2) == 0:
        make.emit(mov(0, 0), INT80)
    make.emit(PUSH_IMM, 0x202, POPF)


def pop_flags16(g: Ring3Generator, make: Maker) -> None:
    make.emit(b"\x3c\x11\x66\x68", word(g.random.choice((0x202, 0x4202, 0x3002, 0x202 | IOPL, 0xA02))))
    make.emit(b"\x66\x9d\x66\x9c\x66\x58", PUSH_IMM, 0x202, POPF)


def single_step(g: Ring3Generator, make: Maker) -> None:
    """Every instruction is #DB, a store to a page not yet dirty among them."""
    rnd = g.random
    make.emit(b"\x3c\x11", PUSH_IMM, 0x202 | TF, POPF)
    for _ in range(rnd.randrange(1, 4)):
        make.emit(rnd.choice((b"\x90", b"\x40", b"\x83\xc3\x05", b"\xb1\x07")))
    make.emit(b"\xa3", DATA_BASE + g.spot(), PUSH_IMM, 0x202, POPF, b"\x90")


# ---- memory ----------------------------------------------------------------------------------------------------------


def long_string(g: Ring3Generator, make: Maker) -> None:
    """A string instruction over several pages, up or down, faulting on its way."""
    rnd = g.random
    opcode = rnd.choice((0xA4, 0xA5, 0xAA, 0xAB, 0xAC, 0xAE, 0xA4, 0xA5))
    count = rnd.choice((0x300, 0xFFF, 0x1001, 0x1800))
    source, target = DATA_BASE + g.spot(), DATA_BASE + g.spot()
    if rnd.getrandbits(1):
        target = DATA_BASE + rnd.randrange(8, 14) * PAGE_SIZE + rnd.randrange(0x1000)
        source = DATA_BASE + rnd.randrange(2, 4) * PAGE_SIZE
    make.emit(b"\xfd" if rnd.getrandbits(3) == 0 else b"", mov(6, source), mov(7, target), mov(1, count), mov(0, 0x5A))
    make.emit(rnd.choice((REP, REP, b"\xf2")) if opcode == 0xAE else REP, bytes([opcode]), b"\xfc")


def stack_walk(g: Ring3Generator, make: Maker) -> None:
    """Pushes and pops wherever, calls on such a stack."""
    rnd = g.random
    at = DATA_BASE + g.spot() & ~3
    walk = rnd.choice((b"\x50\x51\x59\x58", b"\xe8\x00\x00\x00\x00\x58", b"\x6a\x01\x58", b"\x9c\x58"))
    make.emit(b"\x89\xe3", mov(4, at), walk, b"\x89\xdc")


def read_own_tables(g: Ring3Generator, make: Maker) -> None:
    """A and D as they are now, of a page of data."""
    rnd = g.random
    page = rnd.randrange(DATA_PAGES)
    size = 8 if make.program.pae else 4
    there = absolute(DATA_BASE + page * PAGE_SIZE + 8)
    touch = rnd.choice((b"", b"\xa1" + there, b"\xa3" + there))
    seen = TABLES_SEEN + TABLES_AT - ROOT_AT + DATA_TABLE * PAGE_SIZE + page * size
    make.emit(b"\x31\xc0", touch, b"\x8b\x0d", seen, b"\x89\x0d", PAGE_HERE + rnd.randrange(64) * 4)


def write_own_tables(g: Ring3Generator, make: Maker) -> None:
    """Another frame or other rights for a page, by a store of its own; then a call that drops the translations."""
    rnd = g.random
    page = rnd.choice([page for page in range(DATA_PAGES) if page not in STACK_PAGES])
    bits = rnd.choice((P | W | U, P | W | U, P | W | U | A | D, P | U, P | W, 0))
    entry = DATA_AT + rnd.randrange(DATA_PAGES) * PAGE_SIZE | bits
    at = TABLES_WRITABLE + page * (8 if make.program.pae else 4)
    make.emit(b"\xc7\x05", at, entry, mov(0, CALL_FLUSH), INT80)
    make.emit(rnd.choice((b"\xa1", b"\xa3")), DATA_BASE + page * PAGE_SIZE + rnd.randrange(0x400) * 4)


def astray(g: Ring3Generator, make: Maker) -> None:
    """A jump or an access to where nothing is, or nothing for this ring."""
    rnd = g.random
    target = rnd.choice((0, 0x1000, 0x50000000, 0xFFFFF000, 0x08048000, 0x0FFFFFFE, KERNEL - 4, 0x7FFF0000))
    if make.program.ring == 3:
        target = rnd.choice((target, KERNEL + 0x5000, KERNEL + 0x1000))
    if rnd.getrandbits(1):
        make.emit(mov(0, target), b"\xff\xe0")
    else:
        make.emit(rnd.choice((b"\xa1", b"\xa3", b"\xff\x05")), target)


def into_data(g: Ring3Generator, make: Maker) -> None:
    """A jump into data: not executable with PAE; without, to a RET there."""
    page = g.random.choice(GOOD_PAGES[1:3]) if not make.program.pae else g.random.randrange(DATA_PAGES)
    at = DATA_BASE + page * PAGE_SIZE + 0x10
    make.emit(b"\xc6\x05" + absolute(at) + b"\xc3" if not make.program.pae else b"", mov(0, at), b"\xff\xd0")


def segment_override(g: Ring3Generator, make: Maker) -> None:
    """Through FS or GS as the program got them: bases, limits, rights."""
    rnd = g.random
    offset = rnd.choice((0, 4, 0x12, 0x7FFC, 0x7FFD, 0x8000, 0xFFFC, 0xFFFD, 0x10000, 0xFFFFFFFC, DATA_BASE + 0x2000))
    make.emit(rnd.choice((b"\x64", b"\x65")), rnd.choice((b"\xa1", b"\xa3", b"\xa0")), offset)


def own_code(g: Ring3Generator, make: Maker) -> None:
    """Change the next instruction: its immediate, in the very page, if that is writable."""
    rnd = g.random
    make.emit(b"\xc6\x05", make.here + 7 + 1, bytes([rnd.getrandbits(8)]), mov(0, 0x11223344))
    if rnd.getrandbits(1):  # a loop whose step grows
        make.emit(mov(1, rnd.choice((5, 300))))
        at = make.here
        make.emit(b"\x05", 1, b"\xff\x05", at + 1, b"\x49\x75", bytes([-(5 + 6 + 3) & 0xFF]))


def code_by_alias(g: Ring3Generator, make: Maker) -> None:
    """The store goes to another linear address; a call in between makes it be seen."""
    offset = make.here - CODE_BASE
    store, call = 7, 7
    target = offset + store + call + 1
    if target >= PAGE_SIZE:
        return make.emit(b"\x90")
    make.emit(b"\xc6\x05", ALIAS + target, bytes([g.random.getrandbits(8)]), mov(0, 0), INT80, mov(3, 0x55667788))
    return None


def clock(g: Ring3Generator, make: Maker) -> None:
    """Not across pages: a fault between its instructions would show the time."""
    make.emit(RDTSC_MASKED if make.here % PAGE_SIZE < PAGE_SIZE - 16 else b"\x90")


# ---- what shows the host's descriptors -------------------------------------------------------------------------------


def load_segment(g: Ring3Generator, make: Maker) -> None:
    """MOV, POP, LxS; an access through it; and back."""
    rnd = g.random
    register = rnd.choice((0, 3, 3, 4, 5, 2))  # ES SS DS FS GS
    chosen = rnd.choice([one for one in SELECTORS if register != 2 or one not in STACKS16])
    pop = {0: b"\x07", 2: b"\x17", 3: b"\x1f", 4: b"\x0f\xa1", 5: b"\x0f\xa9"}[register]
    load = {0: b"\xc4", 2: b"\x0f\xb2", 3: b"\xc5", 4: b"\x0f\xb4", 5: b"\x0f\xb5"}[register]
    prefix = {0: b"\x26", 2: b"\x36", 3: b"\x3e", 4: b"\x64", 5: b"\x65"}[register]
    offset = rnd.choice((0, 8, 0x12, 0x7FFE, 0x8000, 0xFFFF, 0x10000, DATA_BASE + 0x2010))
    where = PAGE_HERE + 0x200 + rnd.randrange(16) * 8
    ring = make.program.ring
    how = rnd.randrange(3) if register != 2 else 0
    if how == 0:
        make.emit(mov(0, rnd.getrandbits(16) << 16 | chosen), bytes([0x8E, 0xC0 | register << 3]))
    elif how == 1:
        make.emit(PUSH_IMM, chosen, pop)
    else:
        make.emit(b"\xc7\x05", where, offset, b"\x66\xc7\x05", where + 4, word(chosen), load, b"\x0d", where)
    if register != 2:
        make.emit(prefix, rnd.choice((b"\xa1", b"\xa3", b"\xa0")), offset)
    make.emit(mov(0, FLAT_DATA[ring]), bytes([0x8E, 0xC0 | register << 3]))


def read_segments(g: Ring3Generator, make: Maker) -> None:
    rnd = g.random
    for _ in range(rnd.randrange(1, 4)):
        register = rnd.randrange(6)
        where = PAGE_HERE + rnd.randrange(64) * 4
        make.emit(rnd.choice((
            bytes([0x8C, 0xC0 | register << 3 | 1]), bytes([0x8C, 0x05 | register << 3]) + absolute(where),
            b"\x1e\x07", b"\x0f\xa0\x59", b"\x0f\xa8\x59", b"\x16\x17", b"\x0e\x5a",
        )))  # fmt: skip


def descriptor_rights(g: Ring3Generator, make: Maker) -> None:
    """LAR, LSL, VERR, VERW."""
    rnd = g.random
    query = rnd.choice((b"\x0f\x02\xc1", b"\x0f\x03\xc1", b"\x0f\x00\xe1", b"\x0f\x00\xe9"))
    make.emit(mov(1, rnd.choice(SELECTORS)), query)


def system_tables(g: Ring3Generator, make: Maker) -> None:
    """SLDT, STR, SMSW; SGDT and SIDT to memory."""
    rnd = g.random
    where = absolute(DATA_BASE + g.spot())
    make.emit(rnd.choice((*TABLES, b"\x0f\x01\x05" + where, b"\x0f\x01\x0d" + where, b"\x0f\x01\x25" + where)))


def identify(g: Ring3Generator, make: Maker) -> None:
    make.emit(mov(0, g.random.choice((0, 1, 2, 0x80000000, 0x80000002, 0x40000000, 0xFFFFFFFF))), b"\x31\xc9\x0f\xa2")


def far_transfer(g: Ring3Generator, make: Maker) -> None:
    """JMP, CALL and RET far: to the code segment that has a base, and to what is no code for this ring."""
    rnd = g.random
    ring = make.program.ring
    good = rnd.getrandbits(1)
    landing = CODE_BASE + make.aside_at  # this part's own start: what follows is 7 bytes on
    chosen = FLAT_CODE[ring] if good else rnd.choice((*FAR_SELECTORS, *FLAT_CODE))
    far = landing + 7 if chosen not in {0x2F, 0x47} else landing + 7 - CODE_BASE
    which = rnd.randrange(3)
    if which == 0:
        make.emit(b"\xea", far, word(chosen))
    elif which == 1:
        make.emit(b"\x9a", far, word(chosen), b"\x83\xc4\x08")
    else:
        make.emit(PUSH_IMM, chosen, PUSH_IMM, far + 4, b"\xcb")
    if chosen in {0x2F, 0x47} and ring == 3:  # back to the flat one
        here = landing + len(make.one.code)
        make.emit(b"\xea", here + 7, word(FLAT_CODE[ring]))


def interrupt_return(g: Ring3Generator, make: Maker) -> None:
    """IRET to the same ring; with NT it is a task's return, to none."""
    rnd = g.random
    ring = make.program.ring
    if rnd.getrandbits(2) == 0:
        make.emit(b"\x3c\x11", PUSH_IMM, 0x202 | NT, POPF)
    landing = CODE_BASE + make.aside_at + len(make.one.code) + 16
    chosen = FLAT_CODE[ring] if rnd.getrandbits(2) else rnd.choice((*FLAT_CODE, *FAR_SELECTORS))
    make.emit(PUSH_IMM, 0x202 | rnd.choice((0, ID, 0x8D5, IOPL)), PUSH_IMM, chosen, PUSH_IMM, landing, b"\xcf")


PARTS: tuple[Part, ...] = (
    privileged, trap, trap, interrupt, interrupt, system_call_loop, ports, interrupt_flag, pop_flags,
    pop_flags, pop_flags16, single_step, long_string, long_string, stack_walk, read_own_tables, read_own_tables,
    write_own_tables, write_own_tables, astray, into_data, segment_override, segment_override, own_code, own_code,
    code_by_alias, clock,
)  # fmt: skip
ASIDE: tuple[Part, ...] = (
    fast_system_call, fast_system_call, load_segment, load_segment, load_segment, read_segments,
    descriptor_rights, system_tables, identify, far_transfer, far_transfer, interrupt_return,
)  # fmt: skip


def program(seed: int) -> Program:
    return Ring3Generator(seed, PARTS, ASIDE).program()
