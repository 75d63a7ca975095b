"""The firmware configuration device, played as SeaBIOS plays it: signature, directory, bytes and DMA."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from hw.bus import PortBus
from hw.fw_cfg import FwCfg, FwCfgState, boot_order, describe_machine, e820
from hw.fw_cfg_spec import SELECTOR_PORT, E820Type
from ringfence.errors import RingfenceError

READ, SKIP, SELECT, WRITE, ERROR = 2, 4, 8, 16, 1
RAM_BYTES = 0x300000


class NoMemory(RingfenceError):
    """Nothing answers there."""


class Board:
    def __init__(self) -> None:
        self.ram = bytearray(b"\xcc" * RAM_BYTES)
        self.pinned = 0
        self.device = FwCfg(FwCfgState(), self)
        self.bus = PortBus()
        self.bus.claim(SELECTOR_PORT, FwCfg.PORTS, self.device, width=FwCfg.WIDTH)
        self.device.reset()

    @contextmanager
    def dma(self, gpa: int, length: int, write: bool) -> Iterator[list[memoryview]]:
        if gpa + length > len(self.ram):
            raise NoMemory("nothing there")
        self.pinned += 1
        cut = min(gpa + 7, gpa + length)
        yield [memoryview(self.ram)[gpa:cut], memoryview(self.ram)[cut : gpa + length]]
        self.pinned -= 1

    def take(self, key: int, count: int) -> bytes:
        self.bus.write(0x510, 2, key)
        return bytes(self.bus.read(0x511, 1) for _ in range(count))

    def transfer(self, control: int, length: int, address: int, request: int = 0x100) -> int:
        """One DMA request; its control word afterwards."""
        self.ram[request : request + 16] = struct.pack(">IIQ", control, length, address)
        self.bus.write(0x514, 4, 0)
        self.bus.write(0x518, 4, int.from_bytes(request.to_bytes(4, "big"), "little"))
        assert self.pinned == 0
        return int.from_bytes(self.ram[request : request + 4], "big")


@pytest.fixture
def board() -> Board:
    return Board()


def test_the_signature_and_the_features(board: Board) -> None:
    assert board.take(0, 6) == b"QEMU\0\0"
    assert board.take(1, 4) == b"\3\0\0\0"
    assert board.take(0x7777, 3) == bytes(3)


def test_only_a_word_write_selects_and_it_starts_over(board: Board) -> None:
    assert board.take(0, 2) == b"QE"
    board.bus.write(0x510, 1, 1)
    assert board.bus.read(0x511, 1) == ord("M")
    assert board.take(0, 1) == b"Q"
    assert board.bus.read(0x510, 2) == 0xFFFF


def test_the_directory_lists_files_big_endian(board: Board) -> None:
    board.device.add_file("etc/one", b"1")
    board.device.add_file("bootorder", b"22")
    count = int.from_bytes(board.take(0x19, 4), "big")
    rows = [struct.unpack(">IHH56s", bytes(board.bus.read(0x511, 1) for _ in range(64))) for _ in range(count)]
    assert [(size, name.rstrip(b"\0")) for size, _, _, name in rows] == [(1, b"etc/one"), (2, b"bootorder")]
    assert [board.take(key, 3) for _, key, _, _ in rows] == [b"1\0\0", b"22\0"]


def test_a_file_is_replaced_under_its_key(board: Board) -> None:
    board.device.add_file("x", b"old")
    board.device.add_file("x", b"newer")
    assert board.take(0x20, 6) == b"newer\0"
    assert board.take(0x19, 4) == b"\0\0\0\1"


@pytest.mark.parametrize("name", ["", "n" * 56, "naïve"])
def test_a_name_that_cannot_be_is_refused(board: Board, name: str) -> None:
    with pytest.raises(AssertionError):
        board.device.add_file(name, b"")


def test_the_dma_address_reads_as_its_signature(board: Board) -> None:
    assert board.bus.read(0x514, 4).to_bytes(4, "little") == b"QEMU"
    assert board.bus.read(0x518, 4).to_bytes(4, "little") == b" CFG"
    assert board.bus.read(0x51A, 4).to_bytes(4, "little") == b"FG\xff\xff"


def test_dma_selects_and_reads_and_goes_on_where_it_stopped(board: Board) -> None:
    board.device.add_file("data", bytes(range(100)))
    assert board.transfer(0x20 << 16 | SELECT | READ, 10, 0x2000) == 0
    assert board.ram[0x2000:0x200B] == bytes(range(10)) + b"\xcc"
    assert board.transfer(READ, 5, 0x2000) == 0
    assert board.ram[0x2000:0x2005] == bytes(range(10, 15))
    assert board.bus.read(0x511, 1) == 15


def test_dma_skips(board: Board) -> None:
    board.device.add_file("data", bytes(range(100)))
    assert board.transfer(0x20 << 16 | SELECT | SKIP, 42, 0) == 0
    assert board.bus.read(0x511, 1) == 42
    assert board.transfer(SKIP, 0xFFFFFFFF, 0) == 0
    assert board.bus.read(0x511, 1) == 0


def test_beyond_the_end_come_zeros(board: Board) -> None:
    board.device.add_file("data", b"\xff" * (1 << 20))
    assert board.transfer(0x20 << 16 | SELECT | READ, (1 << 20) + 100, 0x10000) == 0
    assert board.ram[0x10000 : 0x10000 + (1 << 20)] == b"\xff" * (1 << 20)
    assert board.ram[0x110000 : 0x110000 + 101] == bytes(100) + b"\xcc"


def test_what_cannot_be_done_is_an_error(board: Board) -> None:
    assert board.transfer(READ, 16, 1 << 40) == ERROR
    assert board.transfer(0x0000 << 16 | SELECT | WRITE, 4, 0x2000) == ERROR
    assert board.transfer(READ, 0xFFFFFFFF, 0x1000, request=0x200) in {ERROR, 0}


def test_a_request_outside_memory_is_dropped_and_the_address_used_up(board: Board) -> None:
    before = bytes(board.ram)
    board.bus.write(0x514, 4, 0x01000000)
    board.bus.write(0x518, 4, 0)
    assert bytes(board.ram) == before
    assert board.device.state.dma_high == 0


def test_a_machine_is_described(board: Board) -> None:
    rows = [(0, 0x9FC00, E820Type.RAM), (0xFFFC0000, 0x40000, E820Type.RESERVED)]
    describe_machine(board.device, cpus=4, uuid=bytes(range(16)), memory_map=e820(rows))
    assert board.take(5, 2) == board.take(15, 2) == b"\4\0"
    assert board.take(2, 16) == bytes(range(16))
    assert board.take(board.device.files["etc/e820"], 40) == struct.pack("<QQIQQI", *rows[0], *rows[1])
    assert board.take(board.device.files["etc/irq0-override"], 1) == b"\1"


def test_boot_order_is_lines_with_a_zero_at_the_end() -> None:
    assert boot_order(["/pci@i0cf8/*@7,1/drive@1/disk@0", "HALT"]) == b"/pci@i0cf8/*@7,1/drive@1/disk@0\nHALT\0"
