"""Register banks: every bit does what its mask says, at every width and alignment."""

import pytest

from ringfence.registers import Reg, RegBank

BANK = RegBank(
    "t", 16,
    Reg(0, "CTRL", 2, reset=0x1234, rw=0x00FF, on_write="ctrl_written"),
    Reg(4, "STAT", 4, reset=0x80000001, rw=0x0000FF00, w1c=0xF0000000, w1s=0x0000000F),
    Reg(8, "ID", 1, reset=0x5A),
    hole=0xFF,
)  # fmt: skip


@pytest.fixture
def store() -> bytearray:
    values = bytearray(BANK.size)
    BANK.reset(values)
    return values


def test_reset_values_and_holes(store: bytearray) -> None:
    assert BANK.read(store, 0, 2) == 0x1234
    assert BANK.read(store, 4, 4) == 0x80000001
    assert BANK.read(store, 2, 2) == 0xFFFF


@pytest.mark.parametrize("bit", range(32))
@pytest.mark.parametrize("before", [0, 0xFFFFFFFF])
def test_each_bit_does_what_its_mask_says(store: bytearray, bit: int, before: int) -> None:
    one = 1 << bit
    for written in (0, one):
        BANK.put(store, "STAT", before)
        BANK.write(store, 4, 4, written)
        row = BANK.by_name["STAT"]
        if row.rw & one:
            expected = bool(written)
        elif row.w1c & one:
            expected = bool(before & one) and not written
        elif row.w1s & one:
            expected = bool(before & one) or bool(written)
        else:
            expected = bool(before & one)
        assert bool(BANK.get(store, "STAT") & one) == expected


def test_a_partial_write_changes_its_bytes_only(store: bytearray) -> None:
    BANK.write(store, 5, 1, 0xAB)
    assert BANK.get(store, "STAT") == 0x8000AB01


def test_a_straddling_write_touches_both_registers_once(store: bytearray) -> None:
    touched = BANK.write(store, 1, 4, 0xFFFFFFFF)
    assert [row.name for row in touched] == ["CTRL", "STAT"]


def test_reads_beyond_the_bank_are_ones_and_writes_are_dropped(store: bytearray) -> None:
    before = bytes(store)
    assert BANK.read(store, 14, 4) == 0xFFFFFFFF
    assert BANK.write(store, 16, 4, 0) == []
    assert bytes(store) == before


def test_dispatch_calls_the_named_handler(store: bytearray) -> None:
    class Chip:
        calls = 0

        def ctrl_written(self) -> None:
            self.calls += 1

    chip = Chip()
    BANK.dispatch(chip, BANK.write(store, 0, 4, 0))
    assert chip.calls == 1


@pytest.mark.parametrize(
    "rows",
    [
        (Reg(0, "A", 4), Reg(2, "B", 2)),
        (Reg(0, "A", 1), Reg(1, "A", 1)),
        (Reg(0, "A", 1, rw=1, w1c=1),),
        (Reg(0, "A", 1, rw=0x100),),
        (Reg(15, "A", 2),),
    ],
)
def test_what_cannot_be_true_is_refused(rows: tuple[Reg, ...]) -> None:
    with pytest.raises(AssertionError):
        RegBank("bad", 16, *rows)
