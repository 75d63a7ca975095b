"""The floppy disk controller, played as SeaBIOS and Linux play it. The first group passes on QEMU's too."""

from __future__ import annotations

import random
from collections.abc import Iterator
from ctypes import Structure
from pathlib import Path

import pytest

from tests.hw.floppy_pc import BUFFER, CCR, DIR, DOR, FIFO, MSR, TO_MEMORY, Driver, Image, OurPc
from tests.hw.qtest import qemu_pc

SECTOR = 512
PORTS = (DOR, MSR, FIFO, DIR, 0x04, 0x05, 0x0A, 0x0B, 0x0D, 0x08, 0x09, 0xD4, 0xD6, 0x81)
BYTES = (0xE6, 0xC5, 0x4A, 0x4D, 0x0F, 0x07, 0x08, 0x03, 0x0C, 0x1C, 0, 1, 2, 18, 0x02, 0x46, 0x4A, 0xC0, 0x03)
Access = tuple[str, int, int]


@pytest.fixture(params=["ours", "qemu"])
def driver(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Driver]:
    """A driver on a PC with the same diskette in drive 0."""
    if request.param == "ours":
        yield Driver(OurPc([Image()]))
        return
    path = tmp_path / "diskette"
    path.write_bytes(Image().data)
    with qemu_pc("-drive", f"if=floppy,format=raw,file={path}") as pc:
        yield Driver(pc)


@pytest.fixture
def empty() -> Driver:
    return Driver(OurPc([None]))


def ours(image: Image) -> tuple[Driver, OurPc]:
    pc = OurPc([image])
    driver = Driver(pc)
    driver.ready()
    return driver, pc


# what any 82077AA does


def test_reset_interrupts_and_each_drive_is_sensed(driver: Driver) -> None:
    driver.pc.outb(DOR, 0x00)
    assert not driver.pc.irq(6)
    driver.pc.outb(DOR, 0x0C)
    assert driver.pc.irq(6)
    assert driver.pc.inb(MSR) == 0x80
    assert [driver.command(0x08) for _ in range(4)] == [[0xC0, 0], [0xC1, 0], [0xC2, 0], [0xC3, 0]]
    assert not driver.pc.irq(6)
    assert driver.command(0x08) == [0x80]


def test_it_is_taken_for_a_post_1991_82077(driver: Driver) -> None:
    """The questions by which Linux tells the chips apart: DUMPREG, CONFIGURE, PERPENDICULAR, UNLOCK; then PARTID."""
    driver.reset()
    assert len(driver.command(0x0E)) == 10
    assert driver.command(0x13, 0, 0x1A, 0) == []
    driver.send(0x12)
    assert driver.pc.inb(MSR) & 0xC0 == 0x80, "it wants a parameter"
    driver.send(0)
    assert driver.command(0x14) == [0x00]
    assert driver.command(0x10) == [0x90]


def test_lock_says_what_it_set(driver: Driver) -> None:
    driver.reset()
    assert driver.command(0x94) == [0x10]
    assert driver.command(0x14) == [0x00]


def test_seek_and_recalibrate(driver: Driver) -> None:
    driver.reset()
    driver.send(0x0F, 0, 40)
    assert driver.pc.irq(6)
    assert driver.command(0x08) == [0x20, 40]
    assert not driver.pc.irq(6)
    assert driver.command(0x04, 0)[0] & 0x10 == 0, "not on track 0"
    assert driver.recalibrate() == [0x20, 0]
    assert driver.command(0x04, 0) == [0x38]


def test_the_change_line_falls_when_the_head_steps(driver: Driver) -> None:
    driver.reset()
    assert driver.pc.inb(DIR) & 0x80
    driver.seek(1)
    assert not driver.pc.inb(DIR) & 0x80


def test_sectors_are_read_by_dma(driver: Driver) -> None:
    driver.ready()
    driver.seek(40)
    result = driver.read(40, 1, 3, 2)
    assert driver.pc.peek(BUFFER, 1024) == Image().data[(81 * 18 + 2) * SECTOR : (81 * 18 + 4) * SECTOR]
    assert result == [0x04, 0, 0, 40, 1, 5, 2]


def test_the_result_phase_interrupts(driver: Driver) -> None:
    driver.ready()
    driver.program(TO_MEMORY, SECTOR)
    driver.send(0xE6, 0, 0, 0, 1, 2, 18, 0x1B, 0xFF)
    assert driver.pc.irq(6)
    assert driver.pc.inb(MSR) & 0xD0 == 0xD0
    assert len(driver.result()) == 7
    assert not driver.pc.irq(6)
    assert driver.pc.inb(0x08) & 0x04, "terminal count"


def test_multi_track_goes_on_on_the_other_side(driver: Driver) -> None:
    driver.ready()
    assert driver.read(0, 0, 17, 4)[:3] == [0x04, 0, 0]
    assert driver.pc.peek(BUFFER, 4 * SECTOR) == Image().data[16 * SECTOR : 20 * SECTOR]


def test_a_whole_cylinder_is_read(driver: Driver) -> None:
    driver.ready()
    assert driver.read(0, 0, 1, 36)[1:3] == [0, 0]
    assert driver.pc.peek(BUFFER, 36 * SECTOR) == Image().data[: 36 * SECTOR]


def test_what_is_written_is_read_back(driver: Driver) -> None:
    driver.ready()
    driver.seek(7)
    data = bytes(range(256)) * 4
    assert driver.write(7, 0, 5, data) == [0x00, 0, 0, 7, 0, 7, 2]
    assert driver.read(7, 0, 4, 4)[:3] == [0, 0, 0]
    first = (7 * 36 + 3) * SECTOR
    expected = Image().data[first : first + SECTOR] + data + Image().data[first + 3 * SECTOR : first + 4 * SECTOR]
    assert driver.pc.peek(BUFFER, 4 * SECTOR) == expected


def test_invalid_commands_answer_80(driver: Driver) -> None:
    driver.reset()
    for opcode in (0x00, 0x01, 0x0B, 0x15, 0x1F, 0x47):
        assert driver.command(opcode) == [0x80]
    assert driver.pc.inb(MSR) == 0x80


# more than QEMU's tells


def test_it_has_no_part_id(empty: Driver) -> None:
    """QEMU's is an 82078 in this."""
    empty.reset()
    assert empty.command(0x18) == [0x80]


def test_nothing_is_ready_in_reset(empty: Driver) -> None:
    empty.pc.outb(DOR, 0)
    assert empty.pc.inb(MSR) == 0
    empty.pc.outb(FIFO, 0x10)
    empty.pc.outb(DOR, 0x0C)
    assert empty.pc.inb(MSR) == 0x80


def test_undriven_bits_are_ones(empty: Driver) -> None:
    assert [empty.pc.inb(0x3F0), empty.pc.inb(0x3F1), empty.pc.inb(0x3F3)] == [0xFF, 0xFF, 0xFC]
    assert empty.pc.inb(DIR) == 0xFF
    empty.pc.outb(DOR, 0x0D)
    assert empty.pc.inb(DIR) == 0x7F, "there is no drive 1"


def test_the_gate_keeps_the_interrupt_off_the_bus(empty: Driver) -> None:
    empty.pc.outb(DOR, 0x00)
    empty.pc.outb(DOR, 0x04)
    assert not empty.pc.irq(6)
    empty.pc.outb(DOR, 0x0C)
    assert empty.pc.irq(6)


def test_dsr_resets_by_itself(empty: Driver) -> None:
    empty.reset()
    empty.pc.outb(MSR, 0x80)
    assert empty.command(0x08) == [0xC0, 0]


def test_without_polling_reset_is_silent(empty: Driver) -> None:
    empty.reset()
    empty.command(0x94)
    empty.command(0x13, 0, 0x57, 9)
    empty.pc.outb(MSR, 0x80)
    assert empty.command(0x0E)[8] == 0x07, "LOCK keeps the threshold, not POLL and EIS"
    assert empty.command(0x08) == [0xC0, 0]
    empty.command(0x13, 0, 0x10, 0)
    empty.command(0x14)
    empty.pc.outb(MSR, 0x80)
    assert empty.command(0x0E)[8:] == [0x20, 0]


def test_dumpreg(empty: Driver) -> None:
    empty.reset()
    empty.command(0x03, 0xDF, 0x03)
    empty.seek(12)
    empty.command(0x12, 0x87)
    empty.command(0x12, 0x38)
    empty.command(0x13, 0, 0x4A, 20)
    assert empty.command(0x0E) == [12, 0, 0, 0, 0xDF, 0x03, 0, 0x04, 0x4A, 20]


def test_an_empty_drive_says_so_and_does_not_hang(empty: Driver) -> None:
    empty.ready()
    assert empty.pc.inb(DIR) & 0x80, "a step does not help"
    assert empty.read(0, 0, 1, 1)[:3] == [0x40, 1, 0]
    assert empty.command(0x4A, 0)[:3] == [0x40, 1, 0]
    assert empty.command(0x04, 0) == [0x78]
    assert empty.pc.irq(6) is False


def test_a_drive_that_is_not_there_never_finds_track_0(empty: Driver) -> None:
    empty.reset()
    empty.send(0x07, 1)
    assert empty.command(0x08) == [0x71, 0]
    assert empty.command(0x04, 1) == [0x29]
    assert empty.read(0, 0, 1, 1)[1] == 1


def test_two_seeks_are_sensed_one_by_one() -> None:
    pc = OurPc([None, None])
    driver = Driver(pc)
    driver.reset()
    edges = pc.edges
    driver.send(0x0F, 1, 5)
    driver.send(0x0F, 0, 9)
    assert driver.command(0x08) == [0x20, 9]
    assert pc.level
    assert driver.command(0x08) == [0x21, 5]
    assert not pc.level
    assert pc.edges == edges + 2


def test_recalibrate_gives_up_after_79_steps() -> None:
    driver, _ = ours(Image())
    driver.seek(80)
    assert driver.recalibrate() == [0x70, 0]
    assert driver.recalibrate() == [0x20, 0]


def test_relative_seek() -> None:
    driver, _ = ours(Image())
    driver.send(0xCF, 0, 10)
    assert driver.command(0x08) == [0x20, 10]
    driver.send(0x8F, 0, 4)
    assert driver.command(0x08) == [0x20, 6]
    assert driver.read(6, 0, 1, 1)[1] == 0


def test_implied_seek_moves_the_head() -> None:
    driver, pc = ours(Image())
    driver.command(0x13, 0, 0x40, 0)
    assert driver.read(33, 0, 1, 1)[:3] == [0, 0, 0]
    assert pc.fdc.drives[0].state.track == 33
    assert pc.peek(BUFFER, 4) == (33 * 36).to_bytes(4, "big")


def test_read_id_sees_the_sectors_come_by() -> None:
    driver, _ = ours(Image())
    ids = [driver.command(0x4A, 4) for _ in range(19)]
    assert ids[0][:5] == [0x04, 0, 0, 0, 1]
    assert [result[5] for result in ids] == [*range(1, 19), 1]
    assert {result[6] for result in ids} == {2}


@pytest.mark.parametrize(
    ("blocks", "rate", "st1"), [(2880, 0, 0), (2880, 2, 1), (1440, 2, 0), (1440, 0, 1), (2880, 3, 1)]
)
def test_only_the_right_data_rate_reads_anything(blocks: int, rate: int, st1: int) -> None:
    pc = OurPc([Image(blocks)])
    driver = Driver(pc)
    driver.ready(rate)
    assert driver.command(0x4A, 0)[1] == st1
    assert driver.read(0, 0, 1, 1, eot=9)[1] == st1


@pytest.mark.parametrize(
    ("command", "status"),
    [
        ((0xE6, 0, 5, 0, 1, 2, 18, 27, 255), [0x40, 0x04, 0x10]),  # another cylinder
        ((0xE6, 0, 0, 1, 1, 2, 18, 27, 255), [0x40, 0x04, 0x00]),  # another head
        ((0xE6, 0, 0, 0, 19, 2, 21, 27, 255), [0x40, 0x04, 0x00]),  # no such sector
        ((0xE6, 0, 0, 0, 0, 2, 18, 27, 255), [0x40, 0x04, 0x00]),
        ((0xE6, 0, 0, 0, 1, 3, 18, 27, 255), [0x40, 0x04, 0x00]),  # sectors of 1024 bytes
        ((0x86, 0, 0, 0, 1, 2, 18, 27, 255), [0x40, 0x01, 0x00]),  # FM
    ],
)
def test_a_sector_that_is_not_there(command: tuple[int, ...], status: list[int]) -> None:
    driver, _ = ours(Image())
    driver.program(TO_MEMORY, SECTOR)
    assert driver.command(*command)[:3] == status


def test_without_terminal_count_the_track_ends_the_command() -> None:
    driver, pc = ours(Image())
    driver.program(TO_MEMORY, 8 * SECTOR)
    assert driver.command(0x66, 0, 0, 0, 16, 2, 18, 27, 255) == [0x40, 0x80, 0, 1, 0, 1, 2]
    assert pc.peek(BUFFER, 3 * SECTOR) == Image().data[15 * SECTOR : 18 * SECTOR]


def test_a_bad_sector_is_a_data_error() -> None:
    image = Image()
    image.bad.add(2)
    driver, pc = ours(image)
    assert driver.read(0, 0, 1, 4) == [0x40, 0x20, 0x20, 0, 0, 3, 2]
    assert pc.peek(BUFFER, 2 * SECTOR) == image.data[: 2 * SECTOR]
    assert driver.write(0, 0, 3, bytes(SECTOR))[:3] == [0x40, 0x20, 0x20]


def test_a_protected_diskette_is_not_written() -> None:
    image = Image(writable=False)
    driver, _ = ours(image)
    assert driver.command(0x04, 0) == [0x78]
    assert driver.write(0, 0, 1, bytes(SECTOR))[:3] == [0x40, 0x02, 0]
    assert driver.command(0x4D, 0, 2, 18, 0x54, 0xF6)[:3] == [0x40, 0x02, 0]
    assert image.data == Image().data


def test_a_short_write_is_padded_with_zeros() -> None:
    image = Image()
    driver, _ = ours(image)
    assert driver.write(0, 0, 1, b"x" * 700)[:3] == [0, 0, 0]
    assert image.data[: 2 * SECTOR] == b"x" * 700 + bytes(324)


def test_format_fills_the_track() -> None:
    image = Image()
    driver, pc = ours(image)
    driver.seek(3)
    ids = b"".join(bytes([3, 1, r, 2]) for r in range(1, 19))
    pc.poke(BUFFER, ids)
    driver.program(0x4A, len(ids))
    assert driver.command(0x4D, 4, 2, 18, 0x54, 0xF6)[:3] == [0x04, 0, 0]
    first = 7 * 18 * SECTOR
    assert image.data[first : first + 18 * SECTOR] == b"\xf6" * 18 * SECTOR
    assert image.data[:first] == Image().data[:first]
    assert image.data[first + 18 * SECTOR :] == Image().data[first + 18 * SECTOR :]


def test_verify_moves_nothing() -> None:
    image = Image()
    driver, pc = ours(image)
    driver.program(TO_MEMORY, SECTOR)
    assert driver.command(0x56, 0, 0, 0, 1, 2, 18, 27, 255)[:3] == [0, 0, 0]
    assert driver.command(0x56, 0x80, 0, 0, 4, 2, 18, 27, 3) == [0, 0, 0, 0, 0, 7, 2]
    image.bad.add(9)
    assert driver.command(0x56, 0, 0, 0, 1, 2, 18, 27, 255)[:3] == [0x40, 0x20, 0x20]
    assert pc.peek(BUFFER, SECTOR) == bytes(SECTOR)


def test_deleted_data() -> None:
    driver, pc = ours(Image())
    driver.program(TO_MEMORY, 2 * SECTOR)
    assert driver.command(0x4C, 0, 0, 0, 5, 2, 18, 27, 255)[:3] == [0, 0, 0x40]
    assert pc.peek(BUFFER, 2 * SECTOR) == Image().data[4 * SECTOR : 5 * SECTOR] + bytes(SECTOR)
    assert driver.command(0x6C, 0, 0, 0, 5, 2, 18, 27, 255)[:3] == [0x40, 0x04, 0x40]


def test_data_waits_for_its_channel_and_for_the_gate() -> None:
    driver, pc = ours(Image())
    driver.program(TO_MEMORY, SECTOR)
    pc.outb(0x0A, 0x06)
    driver.send(0xE6, 0, 0, 0, 1, 2, 18, 27, 255)
    assert (pc.inb(MSR), pc.level) == (0x10, False)
    assert pc.inb(0x08) & 0x40, "the request is pending"
    pc.outb(DOR, 0x14)
    pc.outb(0x0A, 0x02)
    assert pc.inb(MSR) == 0x10
    pc.outb(DOR, 0x1C)
    assert (pc.inb(MSR), pc.level) == (0xD0, True)
    assert driver.result()[:3] == [0, 0, 0]
    assert pc.peek(BUFFER, 4) == bytes(4) and not pc.inb(0x08) & 0x40


def test_data_by_hand_without_dma() -> None:
    image = Image()
    driver, pc = ours(image)
    driver.command(0x03, 0xDF, 0x03)
    edges = pc.edges
    driver.send(0x46, 0, 0, 0, 17, 2, 18, 27, 255)
    data = bytearray()
    while pc.inb(MSR) & 0x20:
        assert (pc.inb(MSR), pc.level) == (0xF0, True)
        data.append(pc.inb(FIFO))
    assert data == image.data[16 * SECTOR : 18 * SECTOR]
    assert driver.result()[:3] == [0x40, 0x80, 0], "only DMA gives a terminal count"
    assert pc.edges == edges + 3
    driver.send(0x45, 0, 0, 0, 18, 2, 18, 27, 255)
    for _ in range(SECTOR):
        assert pc.inb(MSR) == 0xB0
        pc.outb(FIFO, 0x5A)
    assert driver.result()[:3] == [0x40, 0x80, 0]
    assert image.data[17 * SECTOR : 18 * SECTOR] == b"\x5a" * SECTOR


def test_another_diskette_shows_on_the_change_line() -> None:
    driver, pc = ours(Image())
    assert pc.inb(DIR) == 0x7F
    pc.fdc.remove(0)
    assert pc.inb(DIR) == 0xFF
    driver.seek(1)
    assert pc.inb(DIR) == 0xFF
    pc.fdc.insert(0, Image(1440))
    assert pc.inb(DIR) == 0xFF
    driver.seek(0)
    assert pc.inb(DIR) == 0x7F
    pc.outb(CCR, 2)
    assert driver.read(0, 0, 9, 1, eot=9)[1] == 0




# from any state, and from a copy of one


def accesses(seed: int, count: int) -> list[Access]:
    """What drivers do, and what none would."""
    source = random.Random(seed)
    pick, bits = source.choice, source.getrandbits
    script: list[Access] = []
    while len(script) < count:
        what = source.randrange(8)
        if what == 0:
            script += [("write", port, value) for port, value in ((DOR, 0), (DOR, 0x1C), (0xD6, 0xC0), (0xD4, 0))]
            script += [("write", FIFO, value) for value in (3, 0xAF, pick([2, 2, 3]))] + [("write", CCR, 0)]
        elif what == 1:
            script += [("write", port, value) for port, value in ((0x0C, 0), (0x0B, pick([0x46, 0x4A, 0x56, 0x66])))]
            script += [("write", port, bits(8)) for port in (0x04, 0x04, 0x05)]
            script += [("write", 0x05, pick([0, 1, 7])), ("write", 0x81, pick([0, 1, 0x7F])), ("write", 0x0A, 2)]
        elif what < 4:
            op = pick([0xE6, 0xC5, 0x42, 0x56, 0x4C, 0x6C, 0x49])
            script += [("write", FIFO, value) for value in (op, pick([0, 4, 1]), 0, 0, pick([1, 17]), 2, 18, 27, 255)]
        elif what == 4:
            script += [("write", FIFO, value) for value in (0x4D, 0, 2, pick([18, bits(8)]), 27, 0xF6)]
        elif what == 5:
            script += [("read", FIFO, 0)] * pick([1, 7, 512])
        elif what == 6:
            script += [("write", FIFO, pick(BYTES))] * pick([1, 4, 512])
        else:
            script += [(pick(["read", "write", "change"]), pick(PORTS), pick([*BYTES, bits(8)]))]
    return script[:count]


def play(pc: OurPc, script: list[Access]) -> list[object]:
    seen: list[object] = []
    for what, port, value in script:
        if what == "read":
            seen.append(pc.inb(port))
        elif what == "write":
            pc.outb(port, value)
        else:
            pc.fdc.remove(0)
            pc.fdc.insert(0, Image())
        seen.append((pc.inb(MSR), pc.level))
    return seen


def load(pc: OurPc, states: list[Structure]) -> OurPc:
    """A PC with these bytes as its devices' states."""
    for device, state in zip((pc.dma, pc.fdc), states, strict=True):
        raw = memoryview(device.state).cast("B")  # type: ignore[arg-type]
        raw[:] = bytes(state)
    pc.dma.sync()
    pc.fdc.sync()
    return pc


def test_state_is_complete() -> None:
    for seed in range(12):
        script = accesses(seed, 3000)
        first = Image()
        a = OurPc([first])
        play(a, script[:1500])
        second = Image()
        second.data[:] = first.data
        b = load(OurPc([second]), [a.dma.state, a.fdc.state])
        b.ram[:] = a.ram
        assert play(a, script[1500:]) == play(b, script[1500:])
        assert (a.ram, bytes(a.fdc.state)) == (b.ram, bytes(b.fdc.state))


def test_from_any_state_no_access_raises() -> None:
    for seed in range(60):
        source = random.Random(seed)
        pc = OurPc([Image(), None])
        states = [type(state).from_buffer_copy(source.randbytes(len(bytes(state)))) for state in
                  (pc.dma.state, pc.fdc.state)]  # fmt: skip
        play(load(pc, states), accesses(seed, 600))


@pytest.mark.long
def test_a_million_accesses_from_any_state() -> None:
    for seed in range(1000, 1050):
        source = random.Random(seed)
        pc = OurPc([Image(), None])
        states = [type(state).from_buffer_copy(source.randbytes(len(bytes(state)))) for state in
                  (pc.dma.state, pc.fdc.state)]  # fmt: skip
        play(load(pc, states), accesses(seed, 20_000))
