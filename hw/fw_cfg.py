"""Firmware configuration: named items that firmware reads from ports 510-51B.

A word written to 510 selects an item and goes to its start; bytes are read one by one from 511, or any number by DMA.
Beyond an item's end, and from an item that is not there, come zeros. No item can be written.
Items belong to the machine's configuration, not to its state: a resumed machine must be given the same ones.
DMA takes no time. A request that cannot be read is dropped; one whose data lies where no memory is gets ERROR.
Source: QEMU, docs/specs/fw_cfg.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from ctypes import LittleEndianStructure, c_uint16, c_uint32, sizeof

from hw.fw_cfg_spec import (
    DMA_SIGNATURE,
    KEY_LIMIT,
    KEY_MASK,
    NAME_BYTES,
    PORTS,
    SIGNATURE,
    DmaControl,
    DmaRequest,
    E820Entry,
    E820Type,
    Feature,
    FileEntry,
    Key,
    Offset,
)
from hw.wiring import GuestMemory
from ringfence.errors import RingfenceError

CHUNK_BYTES = 1 << 20  # zeros are stored in pieces of this size
END = 0xFFFFFFFF  # how far `offset` counts
DATA, DMA_HIGH, DMA_LOW = int(Offset.DATA), int(Offset.DMA_HIGH), int(Offset.DMA_LOW)


class FwCfgState(LittleEndianStructure):
    """All guest-visible state."""

    _fields_ = [("offset", c_uint32), ("dma_high", c_uint32), ("dma_low", c_uint32), ("key", c_uint16),
                ("reserved", c_uint16)]  # fmt: skip


assert sizeof(FwCfgState) == 16


class FwCfg:
    """The device. `add_item` and `add_file` fill it before the machine runs."""

    State = FwCfgState
    PORTS = PORTS
    WIDTH = 4

    def __init__(self, state: FwCfgState, memory: GuestMemory) -> None:
        self.state, self.memory = state, memory
        self.items: dict[int, bytes] = {
            Key.SIGNATURE: SIGNATURE,
            Key.FEATURES: little(Feature.FILES | Feature.DMA, 4),
        }
        self.files: dict[str, int] = {}
        self._list_files()

    def add_item(self, key: int, data: bytes) -> None:
        """An item at a key of its own."""
        assert key & KEY_MASK == key and key not in self.items, f"fw_cfg: key {key:#06x} is taken or does not exist"
        self.items[key] = data

    def add_file(self, name: str, data: bytes) -> None:
        """An item that is found by name (ASCII, up to 55 characters), or replaces what had that name."""
        assert name.isascii() and 0 < len(name) <= NAME_BYTES, f"fw_cfg: no file can be called {name!r}"
        key = self.files.setdefault(name, Key.FIRST_FILE + len(self.files))
        assert key < KEY_LIMIT, "fw_cfg: too many files"
        self.items[key] = data
        self._list_files()

    def _list_files(self) -> None:
        rows = [FileEntry(len(self.items[key]), key, 0, name.encode()) for name, key in self.files.items()]
        self.items[Key.DIRECTORY] = len(rows).to_bytes(4, "big") + b"".join(bytes(row) for row in rows)

    def reset(self) -> None:
        s = self.state
        s.offset = s.dma_high = s.dma_low = s.key = 0

    def sync(self) -> None:
        """Drives nothing."""

    # from the guest

    def port_read(self, offset: int, width: int) -> int:
        """The data port is a byte wide and the selector reads as nothing."""
        if offset == DATA:
            byte = self._take_byte()
            return byte if width == 1 else byte | 0xFFFFFF00
        if offset >= DMA_HIGH:
            at = offset - DMA_HIGH
            return int.from_bytes(DMA_SIGNATURE[at : at + width].ljust(width, b"\xff"), "little")
        return 0xFFFFFFFF

    def port_write(self, offset: int, width: int, value: int) -> None:
        if offset == Offset.SELECTOR and width >= 2:
            self._select(value & 0xFFFF)
        elif width == 4 and offset == DMA_HIGH:
            self.state.dma_high = swapped(value)
        elif width == 4 and offset == DMA_LOW:
            self.state.dma_low = swapped(value)
            self._transfer()

    # inside

    def _select(self, key: int) -> None:
        self.state.key, self.state.offset = key & KEY_MASK, 0

    def _item(self) -> bytes:
        return self.items.get(self.state.key, b"")

    def _advance(self, count: int) -> None:
        self.state.offset = min(self.state.offset + count, END)

    def _take_byte(self) -> int:
        item, at = self._item(), self.state.offset
        self._advance(1)
        return item[at] if at < len(item) else 0

    def _transfer(self) -> None:
        """One DMA request. The address is used up: the next one begins with its upper half 0."""
        s = self.state
        gpa = s.dma_high << 32 | s.dma_low
        s.dma_high = s.dma_low = 0
        try:
            with self.memory.dma(gpa, sizeof(DmaRequest), False) as views:
                request = DmaRequest.from_buffer_copy(b"".join(views))
        except RingfenceError:
            return
        failed = not self._obey(request)
        try:
            with self.memory.dma(gpa, DmaRequest.control.size, True) as views:
                fill(views, int(DmaControl.ERROR if failed else 0).to_bytes(4, "big"))
        except RingfenceError:
            return

    def _obey(self, request: DmaRequest) -> bool:
        """Do what it asks for, the first of READ, WRITE and SKIP that is set. Did it work?"""
        control = request.control
        if control & DmaControl.SELECT:
            self._select(control >> 16)
        if control & DmaControl.READ:
            return self._read_to(request.address, request.length)
        if control & DmaControl.WRITE:
            return request.length == 0
        if control & DmaControl.SKIP:
            self._advance(request.length)
        return True

    def _read_to(self, gpa: int, length: int) -> bool:
        """`length` bytes of the item to memory, zeros beyond its end."""
        item = memoryview(self._item())[self.state.offset :]
        done = 0
        try:
            while done < length:
                count = min(length - done, CHUNK_BYTES)
                with self.memory.dma(gpa + done, count, True) as views:
                    fill(views, item[done : done + count])
                done += count
        except RingfenceError:
            return False
        finally:
            self._advance(done)
        return True


def fill(views: Iterable[memoryview], data: bytes | memoryview) -> None:
    """`data` and then zeros into these views."""
    at = 0
    for view in views:
        part = data[at : at + len(view)]
        view[: len(part)] = part
        view[len(part) :] = bytes(len(view) - len(part))
        at += len(view)


def swapped(value: int) -> int:
    """A dword with its bytes in the other order."""
    return int.from_bytes(value.to_bytes(4, "little"), "big")


def little(value: int, size: int) -> bytes:
    return value.to_bytes(size, "little")


# what the machine tells its firmware


def e820(rows: Iterable[tuple[int, int, E820Type]]) -> bytes:
    """The file etc/e820: (address, length in bytes, type). Firmware then believes nothing else about memory."""
    return b"".join(bytes(E820Entry(*row)) for row in rows)


def boot_order(paths: Sequence[str]) -> bytes:
    """The file bootorder: one device path per line, first choice first."""
    return "\n".join(paths).encode("ascii") + b"\0"


def describe_machine(
    device: FwCfg, *, cpus: int, uuid: bytes, memory_map: bytes, menu_wait_ms: int = 0
) -> None:
    """The items without which SeaBIOS guesses: processors (it waits for exactly so many), identity, memory.

    The boot menu is offered for `menu_wait_ms`, and IRQ 0 said to reach I/O APIC input 2, as the core has it.
    """
    offered = int(menu_wait_ms > 0)
    assert len(uuid) == 16, f"a UUID of {len(uuid)} bytes"
    device.add_item(Key.UUID, uuid)
    device.add_item(Key.NOGRAPHIC, little(0, 2))
    device.add_item(Key.CPUS, little(cpus, 2))
    device.add_item(Key.MAX_CPUS, little(cpus, 2))
    device.add_item(Key.NUMA, little(0, 8))
    device.add_item(Key.BOOT_MENU, little(offered, 2))
    device.add_file("etc/e820", memory_map)
    device.add_file("etc/max-cpus", little(cpus, 2))
    device.add_file("etc/irq0-override", little(1, 1))
    device.add_file("etc/show-boot-menu", little(offered, 1))
    device.add_file("etc/boot-menu-wait", little(menu_wait_ms, 8))
