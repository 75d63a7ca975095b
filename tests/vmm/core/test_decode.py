"""What is an instruction and what is not: decode*.c, over the whole opcode maps.

Source: Intel SDM volume 2: "LOCK" (the list of instructions), appendix A (what the maps leave empty), 2.3.11 (length).
"""

import pytest

from tests.vmm.core.bus_processor import BusProcessor
from tests.vmm.core.processor import CODE

UD, GP = 6, 13
DATA = 0x80000
PREFIXES = {0x26, 0x2E, 0x36, 0x3E, 0x64, 0x65, 0x66, 0x67, 0xF0, 0xF2, 0xF3}
MEMORY, REGISTER = 0x03, 0xC1           # ModRM with reg field 0: (%ebx), %ecx

# SDM 2A, "LOCK": ADD ADC AND BTC BTR BTS CMPXCHG CMPXCHG8B DEC INC NEG NOT OR SBB SUB XOR XADD XCHG, to memory.
LOCKED_1 = {op + form for op in range(0, 0x38, 8) for form in (0, 1)} | {0x86, 0x87}
LOCKED_2 = {0xAB, 0xB3, 0xBB, 0xB0, 0xB1, 0xC0, 0xC1}
LOCKED_GROUPS = {
    **{(1, op): set(range(7)) for op in (0x80, 0x81, 0x82, 0x83)},
    (1, 0xF6): {2, 3}, (1, 0xF7): {2, 3}, (1, 0xFE): {0, 1}, (1, 0xFF): {0, 1},
    (2, 0xBA): {5, 6, 7}, (2, 0xC7): {1},
}  # fmt: skip
# The rest of the two-byte map is defined, in some form of its operands.
UNDEFINED_2 = {
    0x04, 0x05, 0x07, 0x0A, 0x0B, 0x0C, 0x0E, 0x0F, *range(0x24, 0x28), 0x36, 0x37, *range(0x38, 0x40),
    0xA6, 0xA7, 0xAA, 0xB8, 0xB9, 0xFF,
}  # fmt: skip


def vector_of(code: bytes) -> int | None:
    """The first event of these bytes with a HLT behind them, or None."""
    cpu = BusProcessor()
    cpu.v.cr4 |= 0x200
    cpu.v.r[3] = DATA
    cpu.write(CODE, code + b"\x90" * 8 + b"\xf4")
    cpu.v.eflags &= ~0x200
    event = cpu.resume()
    if event is None or event.eip != CODE:
        return None
    return event.vector


@pytest.mark.parametrize("opcode_map", [1, 2])
@pytest.mark.parametrize("memory", [True, False])
def test_lock_is_legal_exactly_where_the_manual_says(opcode_map: int, memory: bool) -> None:
    wrong = []
    for opcode in range(256):
        if opcode_map == 1 and (opcode in PREFIXES or opcode == 0x0F):
            continue
        groups = LOCKED_GROUPS.get((opcode_map, opcode))
        for reg in range(8) if groups else (0,):
            plain = LOCKED_1 if opcode_map == 1 else LOCKED_2
            legal = memory and (reg in groups if groups else opcode in plain)
            modrm = (MEMORY if memory else REGISTER) | reg << 3
            code = b"\xf0" + (b"\x0f" if opcode_map == 2 else b"") + bytes([opcode, modrm])
            if (vector_of(code) != UD) != legal:
                wrong.append((hex(opcode), reg))
    assert wrong == []


def test_lock_is_illegal_before_instructions_without_operands_too() -> None:
    for code in (b"\x90", b"\xf4", b"\x50", b"\x74\x00", b"\xeb\x00", b"\xcd\x80", b"\xa4", b"\xf3\xa4", b"\xc3"):
        assert vector_of(b"\xf0" + code) == UD
    assert vector_of(b"\x39\xc0\xf0\x74\x00") is None           # not fused away: it faults at its own address
    cpu = BusProcessor()
    cpu.write(CODE, b"\x39\xc0\xf0\x74\x00\xf4")
    event = cpu.resume()
    assert event is not None and (event.vector, event.eip) == (UD, CODE + 2)


def test_what_the_two_byte_map_leaves_empty_is_undefined() -> None:
    for opcode in sorted(UNDEFINED_2):
        for modrm in (MEMORY, REGISTER):
            assert vector_of(bytes([0x0F, opcode, modrm])) == UD, hex(opcode)


@pytest.mark.parametrize(
    ("opcode", "undefined_reg", "memory"),
    [
        (b"\x8e", {1, 6, 7}, False), (b"\x8c", {6, 7}, False), (b"\x8f", set(range(1, 8)), True),
        (b"\xc6", set(range(1, 8)), True), (b"\xc7", set(range(1, 8)), True), (b"\xfe", set(range(2, 8)), True),
        (b"\xff", {7}, True), (b"\xff", {3, 5, 7}, False), (b"\x8d", set(range(8)), False),
        (b"\x62", set(range(8)), False), (b"\xc4", set(range(8)), False), (b"\xc5", set(range(8)), False),
        (b"\x0f\xb2", set(range(8)), False), (b"\x0f\xb4", set(range(8)), False), (b"\x0f\xb5", set(range(8)), False),
        (b"\x0f\x00", {6, 7}, True), (b"\x0f\x01", {5}, True), (b"\x0f\x01", {0, 1, 2, 3, 5, 7}, False),
        (b"\x0f\xba", {0, 1, 2, 3}, True), (b"\x0f\xc7", set(range(8)) - {1}, True),
        (b"\x0f\xc7", set(range(8)), False), (b"\x0f\x20", {1, 5, 6, 7}, False), (b"\x0f\x22", {1, 5, 6, 7}, False),
    ],
)  # fmt: skip
def test_groups_have_the_members_of_the_manual(opcode: bytes, undefined_reg: set[int], memory: bool) -> None:
    base = MEMORY if memory else REGISTER
    for reg in range(8):
        if opcode in {b"\x0f\x22", b"\x8e", b"\x8f", b"\xff", b"\x0f\x00", b"\x0f\x01"} and reg not in undefined_reg:
            continue            # these go elsewhere or fault in other ways
        found = vector_of(opcode + bytes([base | reg << 3]) + b"\0\0\0\0")
        assert (found == UD) == (reg in undefined_reg), (opcode.hex(), reg)


@pytest.mark.parametrize("prefix", [b"\x66", b"\x2e", b"\xf3", b"\x67"])
def test_fifteen_bytes_are_an_instruction_and_sixteen_are_gp(prefix: bytes) -> None:
    assert vector_of(prefix * 14 + b"\x90") is None
    assert vector_of(prefix * 15 + b"\x90") == GP
    # Behind another instruction of its block, and over a page's edge.
    cpu = BusProcessor()
    cpu.write(DATA + 0xFF8, b"\x40" + prefix * 15 + b"\x90\xf4")
    cpu.v.eip, cpu.v.r[0] = DATA + 0xFF8, 0
    event = cpu.resume()
    assert event is not None and (event.vector, event.error, event.eip) == (GP, 0, DATA + 0xFF9)
    assert cpu.v.r[0] == 1


def test_the_length_limit_comes_before_the_next_page() -> None:
    """The sixteenth byte is not fetched: its page may be absent."""
    cpu = BusProcessor()
    cpu.map(DATA + 0x1000, 0)
    cpu.write(DATA + 0xFF1, b"\x66" * 15)
    cpu.v.eip = DATA + 0xFF1
    event = cpu.resume()
    assert event is not None and event.vector == GP


def test_the_last_of_several_prefixes_of_a_kind_counts() -> None:
    cpu = BusProcessor()
    cpu.hidden("fs", 0x10, 0x100, 0xFFFFFFFF, 0xC093)
    cpu.write32(DATA, 1)
    cpu.write32(DATA + 0x100, 2)
    cpu.v.r[3] = DATA
    cpu.write(CODE, b"\x64\x3e\x8b\x03" + b"\x3e\x64\x8b\x0b" + b"\x66\x66\xb8\x34\x12" + b"\xf4")
    cpu.resume()
    assert (cpu.v.r[0], cpu.v.r[1]) == (0x1234, 2)


def test_prefixes_cut_addresses_and_targets_to_16_bits() -> None:
    cpu = BusProcessor()
    cpu.write32(0x6010, 0xCAFE)
    cpu.v.r[3] = 0xABCD6000
    cpu.run("addr16 mov 0x10(%bx), %eax; hlt")
    assert cpu.v.r[0] == 0xCAFE
    cpu = BusProcessor()
    cpu.write(CODE, b"\x66\xeb\x10")                    # jmp: EIP cut to 16 bits
    cpu.write(0x0013, b"\xf4")
    cpu.resume()
    assert cpu.v.eip == 0x14
    cpu = BusProcessor()
    cpu.write(CODE, b"\x39\xc0\x66\x74\x10")            # cmp; je with the prefix: not fused
    cpu.write(0x0015, b"\xf4")
    cpu.resume()
    assert cpu.v.eip == 0x16


def test_a_condition_that_is_false_does_not_cut_eip() -> None:
    cpu = BusProcessor()
    cpu.write(CODE, b"\x39\xc0\x66\x75\x10\xf4")
    cpu.resume()
    assert cpu.v.eip == CODE + 6
