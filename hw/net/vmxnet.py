"""vmxnet: a network adapter without a wire's or a chip's ways, for drivers that know of it.

The driver shares DriverData, and rings of entries whose owner field says whose turn it is. Reading one register sends
what is in the transmit ring; an interrupt says that frames were received, or that entries for which the driver waits
are free. It is taken away by one write.
No offloads and no ring of fragments: capabilities say so, and drivers then give one buffer per frame.
Not modelled: wake-up patterns, TCP offload, power states (accepted).
Source: VMware's open-vm-tools 2008.02.13, modules/linux/vmxnet (how a driver uses it).
"""

from __future__ import annotations

from contextlib import ExitStack
from ctypes import LittleEndianStructure, addressof, c_uint8, c_uint32, memset, sizeof
from dataclasses import dataclass
from struct import Struct
from typing import Protocol

from hw.net.ethernet import BROADCAST, FRAME_MIN, GROUP, PADDING, hash_index, length_of, start_of
from hw.net.rings import EntryRing, scatter
from hw.net.vmxnet_spec import (
    ADDRESS_BYTES,
    RING_MAX,
    SG_MAX,
    VERSION_HIGH,
    VERSION_LOW,
    Capability,
    Command,
    DriverData,
    Interface,
    Owner,
    Register,
    RxEntry,
    SgElement,
    Status,
    TxEntry,
    TxFlag,
)
from hw.net.wiring import AddressFilter, Frame, Port
from hw.wiring import GuestMemory
from ringfence.errors import RingfenceError

ADDRESS_LIMIT = 1 << 32
WORD, DWORD = Struct("<H"), Struct("<I")
RX_LAYOUT, TX_LAYOUT, SG_LAYOUT = Struct("<QIIHHI"), Struct("<HHIIHH"), Struct("<IHH")
FILLED = Struct("<IHH")  # of a receive entry: actual_length, ownership, flags
RX_ENTRY_BYTES, TX_ENTRY_BYTES = sizeof(RxEntry), sizeof(TxEntry)
RX_LENGTH_AT, TX_OWNER_AT, TX_SG_AT = RxEntry.actual_length.offset, TxEntry.ownership.offset, TxEntry.sg.offset
assert (RX_LAYOUT.size, TX_LAYOUT.size, SG_LAYOUT.size) == (RX_ENTRY_BYTES, TX_SG_AT, sizeof(SgElement))
PROMISCUOUS, BROADCASTS, MULTICASTS, DIRECTED = (
    int(bit) for bit in (Interface.PROMISCUOUS, Interface.BROADCAST, Interface.MULTICAST, Interface.DIRECTED)
)  # fmt: skip
CAN_KEEP, RING_LOW, MORE = int(TxFlag.CAN_KEEP), int(TxFlag.RING_LOW), int(TxFlag.MORE)
NIC, DRIVER = int(Owner.NIC), int(Owner.DRIVER)
LONGEST = 16384  # what is longer is not even offered to the port


class VmxnetState(LittleEndianStructure):
    """All guest-visible state, without the configuration space. Bases are addresses, lengths are entries.

    `waiting`: the port has refused what is next in the transmit ring.
    """

    _fields_ = [
        ("init_address", c_uint32), ("driver_data", c_uint32), ("result", c_uint32),
        ("rx_base", c_uint32), ("rx_length", c_uint32), ("rx_next", c_uint32),
        ("tx_base", c_uint32), ("tx_length", c_uint32), ("tx_next", c_uint32),
        ("ifflags", c_uint32), ("ladrf", c_uint32 * 2),
        ("address", c_uint8 * ADDRESS_BYTES), ("aprom", c_uint8 * ADDRESS_BYTES),
        ("attached", c_uint8), ("enabled", c_uint8), ("pending", c_uint8), ("link", c_uint8), ("waiting", c_uint8),
        ("pinned", c_uint8), ("reserved", c_uint8 * 2),
    ]  # fmt: skip


assert sizeof(VmxnetState) == 48 + 12 + 8


@dataclass(slots=True)
class VmxnetStats:
    """Counters; never saved."""

    sent: int = 0
    sent_octets: int = 0
    received: int = 0
    received_octets: int = 0
    filtered: int = 0
    missed: int = 0
    dropped: int = 0
    refused: int = 0


class Function(Protocol):
    """The PCI function around it."""

    @property
    def may_master(self) -> bool: ...

    def interrupt_changed(self) -> None:
        """The interrupt may have."""

    def filter_changed(self) -> None:
        """What is received may have."""


class Vmxnet:
    """The registers and the rings, without a configuration space."""

    def __init__(self, state: VmxnetState, bus: Function, memory: GuestMemory, port: Port, address: bytes) -> None:
        """Wire only. `address` is the permanent station address."""
        self.state, self.bus, self.memory, self.port, self.address = state, bus, memory, port, address
        self.stats = VmxnetStats()
        self._sending = False

    def reset(self) -> None:
        """As after power-on. The cable stays plugged in, or not."""
        state = self.state
        memset(addressof(state), 0, VmxnetState.link.offset)
        state.waiting = state.pinned = 0
        state.address[:] = state.aprom[:] = list(self.address)
        self.bus.filter_changed()
        self.bus.interrupt_changed()

    # from the guest

    def read(self, offset: int, width: int) -> int:
        """Reading TX_ADDR sends."""
        if offset == Register.TX_ADDR:
            self._transmit()
            return 0
        for first, place in ((Register.MAC_ADDR, self.state.address), (Register.APROM_ADDR, self.state.aprom)):
            if first <= offset and offset + width <= first + ADDRESS_BYTES:
                return int.from_bytes(bytes(place[offset - first : offset - first + width]), "little")
        if offset == Register.COMMAND:
            return int(self.state.result)
        if offset == Register.STATUS:
            return self._status()
        return VERSIONS.get(offset, 0)

    def write(self, offset: int, width: int, value: int) -> None:
        state = self.state
        if offset == Register.INIT_ADDR:
            state.init_address = value
            if not value:
                self.detach()
        elif offset == Register.INIT_LENGTH:
            self._attach(value)
        elif offset == Register.COMMAND:
            self._command(value)
        elif offset == Register.INT_ENABLE:
            state.enabled = value & 1
        elif offset >= Register.MAC_ADDR and offset + width <= Register.MAC_ADDR + ADDRESS_BYTES:
            at = offset - Register.MAC_ADDR
            state.address[at : at + width] = list(value.to_bytes(width, "little"))
            self.bus.filter_changed()
        self.bus.interrupt_changed()

    def _status(self) -> int:
        value = Status.CONNECTED if self.state.link else Status(0)
        if self.state.attached:
            value |= Status.ENABLED
        if self.state.pinned:
            value |= Status.TX_PINNED
        return int(value)

    def _command(self, value: int) -> None:
        """Unknown ones do nothing."""
        state = self.state
        state.result = 0
        if value == Command.INTR_ACK:
            state.pending = 0
            self.port.ready()
        elif value == Command.INTR_DISABLE:
            state.enabled = 0
        elif value == Command.INTR_ENABLE:
            state.enabled = 1
        elif value in (Command.UPDATE_LADRF, Command.UPDATE_IFF):
            self._update_filter()
        elif value == Command.CHECK_TX_DONE:
            self._transmit()
        elif value == Command.PIN_TX_BUFFERS:
            state.pinned = state.attached
        elif value == Command.GET_CAPABILITIES:
            state.result = int(Capability.APROM)

    # DriverData

    def _fetch(self) -> DriverData:
        """A copy. Raises RingfenceError."""
        with self.memory.dma(self.state.driver_data, sizeof(DriverData), False) as views:
            return DriverData.from_buffer_copy(b"".join(views))

    def _attach(self, length: int) -> None:
        """If what INIT_ADDR names can be a DriverData; STATUS says whether it was."""
        state = self.state
        self.detach()
        state.driver_data = state.init_address
        if not state.driver_data or not self.bus.may_master:
            return
        try:
            data = self._fetch()
        except RingfenceError:
            return
        if not VERSION_LOW <= data.magic <= VERSION_HIGH or state.driver_data + length > ADDRESS_LIMIT:
            return
        rings = (
            (data.rx_ring_offset, data.rx_ring_length, RX_ENTRY_BYTES),
            (data.tx_ring_offset, data.tx_ring_length, TX_ENTRY_BYTES),
        )
        if any(not 0 < count <= RING_MAX or offset + count * size > length for offset, count, size in rings):
            return
        state.rx_base, state.rx_length = state.driver_data + data.rx_ring_offset, data.rx_ring_length
        state.tx_base, state.tx_length = state.driver_data + data.tx_ring_offset, data.tx_ring_length
        state.rx_next = data.saved_rx_nic_next % data.rx_ring_length
        state.tx_next = data.saved_tx_nic_next % data.tx_ring_length
        state.attached = state.enabled = 1
        self._take_filter(data)

    def detach(self) -> None:
        """From here on memory is the driver's alone."""
        state = self.state
        state.attached = state.pending = state.waiting = state.pinned = 0
        self.bus.filter_changed()
        self.bus.interrupt_changed()

    def _update_filter(self) -> None:
        if self.state.attached and self.bus.may_master:
            try:
                self._take_filter(self._fetch())
            except RingfenceError:
                self.detach()

    def _take_filter(self, data: DriverData) -> None:
        self.state.ifflags = data.ifflags
        self.state.ladrf[:] = data.ladrf[:]
        self.bus.filter_changed()

    def filter(self) -> AddressFilter:
        state = self.state
        on, flags = bool(state.attached), int(state.ifflags)
        return AddressFilter(
            bytes(state.address), on, on and bool(flags & DIRECTED), on and bool(flags & BROADCASTS),
            on and bool(flags & PROMISCUOUS), self._hashes() if on and flags & MULTICASTS else 0,
        )  # fmt: skip

    def _hashes(self) -> int:
        return int(self.state.ladrf[0]) | int(self.state.ladrf[1]) << 32

    def asserted(self) -> bool:
        """The interrupt's level."""
        return bool(self.state.pending and self.state.enabled)

    # transmit

    def _transmit(self) -> None:
        """Send what is in the ring, each entry at most once. Once at a time: a port may call back."""
        state = self.state
        if not state.attached or self._sending or not self.bus.may_master:
            return
        self._sending = True
        state.waiting = 0
        try:
            with ExitStack() as held:
                length = min(max(state.tx_length, 1), RING_MAX)
                ring = EntryRing(self.memory, held, state.tx_base, TX_ENTRY_BYTES, length)
                before = state.tx_next
                low = self._send_ring(ring)
            if low or (state.tx_next != before and self._driver_waits()):
                state.pending = 1
        except RingfenceError:
            self.detach()
        finally:
            self._sending = False
        self.bus.interrupt_changed()

    def _driver_waits(self) -> bool:
        """Has it stopped because its ring was full? Asked after entries were given back."""
        with self.memory.dma(self.state.driver_data + DriverData.tx_stopped.offset, DWORD.size, False) as views:
            return any(b"".join(views))

    def _send_ring(self, ring: EntryRing) -> bool:
        """Whether the driver wants to know soon of entries that it gets back."""
        state, low, left = self.state, False, ring.length
        index = state.tx_next % ring.length
        while left:
            with ExitStack() as pinned:
                taken, views, flags = self._gather(ring, index, left, pinned)
                if not taken:
                    break
                if views and not self.port.transmit(views):
                    self.stats.refused += 1
                    if flags & CAN_KEEP:
                        state.waiting = 1
                        break
                elif views:
                    self.stats.sent += 1
                    self.stats.sent_octets += length_of(views)
                else:
                    self.stats.dropped += 1
            for _ in range(taken):
                at = ring.find(index) + TX_OWNER_AT
                WORD.pack_into(ring.bytes, at, DRIVER)
                ring.stored(at, WORD.size)
                index = ring.after(index)
            low, left = low or bool(flags & RING_LOW), left - taken
        state.tx_next = index
        return low

    def _gather(self, ring: EntryRing, index: int, left: int, pinned: ExitStack) -> tuple[int, list[memoryview], int]:
        """A frame: its entries, bytes and flags. No entries: the next is the driver's. No bytes: it makes no sense."""
        views: list[memoryview] = []
        good, taken, flags, length = True, 0, MORE, 0
        while flags & MORE:
            at = ring.find(index)
            flags, owner, _, _, _, count = TX_LAYOUT.unpack_from(ring.bytes, at)
            if owner != NIC or taken == left:
                return 0, [], 0
            taken, index = taken + 1, ring.after(index)
            good = good and count <= SG_MAX
            for element in range(count if good else 0):
                low, high, size = SG_LAYOUT.unpack_from(ring.bytes, at + TX_SG_AT + element * SG_LAYOUT.size)
                length += size
                if length > LONGEST:
                    good = False
                elif size:
                    try:
                        views += pinned.enter_context(self.memory.dma(low | high << 32, size, False))
                    except RingfenceError:
                        good = False
        return taken, views if good else [], flags

    def port_ready(self) -> None:
        if self.state.waiting:
            self._transmit()

    # receive

    def receive(self, frame: Frame) -> bool:
        taken = self.offer(frame)
        if not taken:
            self.stats.missed += 1
        return taken

    def offer(self, frame: Frame) -> bool:
        state, length = self.state, length_of(frame)
        if not state.attached or not length or not self._wanted(start_of(frame, ADDRESS_BYTES)):
            self.stats.filtered += 1
            return True
        pieces: list[memoryview | bytes] = list(frame)
        if length < FRAME_MIN:
            pieces.append(PADDING[length:])
            length = FRAME_MIN
        try:
            if not self.bus.may_master or not self._fill(pieces, length):
                return False
        except RingfenceError:
            self.detach()
            return True
        self.bus.interrupt_changed()
        return True

    def _wanted(self, destination: bytes) -> bool:
        flags = int(self.state.ifflags)
        if flags & PROMISCUOUS:
            return True
        if destination == BROADCAST:
            return bool(flags & BROADCASTS)
        if destination[0] & GROUP:
            return bool(flags & MULTICASTS and self._hashes() >> hash_index(destination) & 1)
        return bool(flags & DIRECTED) and destination == bytes(self.state.address)

    def _fill(self, pieces: list[memoryview | bytes], length: int) -> bool:
        """The next empty buffer of the ring. One that is too small loses the frame, and stays."""
        state = self.state
        with ExitStack() as held:
            count = min(max(state.rx_length, 1), RING_MAX)
            ring = EntryRing(self.memory, held, state.rx_base, RX_ENTRY_BYTES, count)
            index = state.rx_next % count
            at = ring.find(index)
            address, room, _, owner, _, _ = RX_LAYOUT.unpack_from(ring.bytes, at)
            if owner != NIC:
                return False
            if length > room:
                self.stats.dropped += 1
                return True
            with self.memory.dma(address, length, True) as views:
                scatter(pieces, views)
            FILLED.pack_into(ring.bytes, at + RX_LENGTH_AT, length, DRIVER, 0)
            ring.stored(at + RX_LENGTH_AT, FILLED.size)
            state.rx_next = ring.after(index)
        state.pending = 1
        self.stats.received += 1
        self.stats.received_octets += length
        return True

    def set_link(self, up: bool) -> None:
        self.state.link = up


VERSIONS = {int(Register.LOW_VERSION): VERSION_LOW, int(Register.HIGH_VERSION): VERSION_HIGH}
