"""LOCK and its like: atomic.c. One update of memory each, flags and registers from what was there."""

import pytest

from tests.vmm.core.bus_processor import PAGE, BusProcessor

NEAR = 0x80000
MASK = 0xFFFFFFFF


@pytest.mark.parametrize("size", [1, 2, 4])
@pytest.mark.parametrize("name", ["add", "or", "adc", "sbb", "and", "sub", "xor", "inc", "dec", "not", "neg", "xadd"])
@pytest.mark.parametrize("carry", ["clc", "stc"])
def test_lock_changes_nothing_of_the_result(name: str, size: int, carry: str) -> None:
    """The same instruction on a register is the model."""
    suffix, register = {1: ("b", "cl"), 2: ("w", "cx"), 4: ("l", "ecx")}[size]
    accumulator = {1: "al", 2: "ax", 4: "eax"}[size]
    for old, operand in [(0, 0), (0x80808080, 0x80808080), (0x7F7F7F7F, 0x01010101), (MASK, 1), (0x12345678, MASK)]:
        operand_text = "" if name in {"inc", "dec", "not", "neg"} else f"%{accumulator}, "
        model, cpu = BusProcessor(), BusProcessor()
        for one in (model, cpu):
            one.v.r[0], one.v.r[1], one.v.r[3] = operand, old, NEAR
            one.write32(NEAR, old)
        model.run(f"{carry}; {name}{suffix} {operand_text}%{register}; hlt")
        cpu.run(f"{carry}; lock; {name}{suffix} {operand_text}(%ebx); hlt")
        assert (cpu.read32(NEAR), cpu.v.r[0], cpu.v.eflags) == (model.v.r[1], model.v.r[0], model.v.eflags)


@pytest.mark.parametrize("offset", [0, 3, PAGE - 5, PAGE - 1])
@pytest.mark.parametrize("equal", [False, True])
def test_cmpxchg8b_anywhere(offset: int, equal: bool) -> None:
    cpu = BusProcessor()
    at, old, new = NEAR + offset, 0x1122334455667788, 0x99AABBCCDDEEFF00
    cpu.write(at, old.to_bytes(8, "little"))
    cpu.v.r[0], cpu.v.r[2] = (old & MASK if equal else 1), old >> 32
    cpu.v.r[3], cpu.v.r[1], cpu.v.r[7] = new & MASK, new >> 32, at
    cpu.run("stc; lock; cmpxchg8b (%edi); hlt")
    assert int.from_bytes(cpu.memory.read(at, 8), "little") == (new if equal else old)
    assert (cpu.v.r[0], cpu.v.r[2]) == (old & MASK, old >> 32)
    assert cpu.v.eflags & 0x8D5 == (0x41 if equal else 0x01)


def test_an_unequal_compare_writes_the_page_too() -> None:
    for source in ("cmpxchg %ecx, (%ebx)", "cmpxchg8b (%ebx)"):
        cpu = BusProcessor()
        cpu.map(NEAR, NEAR | 5)
        cpu.v.r[0], cpu.v.r[3] = 1, NEAR
        event = cpu.run(f"lock; {source}")
        assert event is not None and (event.vector, event.error) == (14, 3), source
        assert cpu.v.r[0] == 1


def test_xchg_and_xadd_with_one_register_twice() -> None:
    cpu = BusProcessor()
    cpu.v.r[0], cpu.v.r[1] = 5, 0x80
    cpu.run("xadd %eax, %eax; xchg %ecx, %ecx; xchg %cl, %ch; hlt")
    assert (cpu.v.r[0], cpu.v.r[1]) == (10, 0x8000)
