"""vmxnet, on its own and as what a vlance becomes, played as VMware's drivers play it."""

from __future__ import annotations

from itertools import product

import pytest

from tests.hw.net.nic_rig import ADDRESS, BROADCAST, OTHER, PORTS, RAM_BYTES, frame_of
from tests.hw.net.pcnet_driver import RAP, RDP, PcnetRig
from tests.hw.net.vmxnet_driver import (
    APROM,
    BROADCASTS,
    CAN_KEEP,
    CAPABILITIES,
    CHECK_TX_DONE,
    DATA,
    DIRECTED,
    DRIVER,
    FEATURES,
    GET_RX,
    GET_TX,
    HIGH,
    INIT_ADDR,
    INIT_LENGTH,
    INT_ENABLE,
    INTR_ACK,
    INTR_DISABLE,
    INTR_ENABLE,
    LOW,
    MAC,
    MAGIC,
    MORE,
    MULTICASTS,
    NIC,
    PIN_TX,
    PROMISCUOUS,
    RING_LOW,
    RX_BUFFERS,
    STATUS,
    TX_BUFFERS,
    UPDATE_IFF,
    UPDATE_LADRF,
    VmxnetRig,
)

MORPH = PORTS + 0x20
LANCE, VMXNET = 0x2934, 0x4392
GROUP, GROUP_BIT = bytes.fromhex("01005e000001"), 54
TX_STOPPED = 0x34


@pytest.fixture(params=product((False, True), (1, 3)), ids=lambda p: f"{'vlance' if p[0] else 'own'}, {p[1]} views")
def new(request: pytest.FixtureRequest) -> VmxnetRig:
    morphed, pieces = request.param
    return VmxnetRig(morphed=morphed, pieces=pieces)


@pytest.fixture
def rig(new: VmxnetRig) -> VmxnetRig:
    new.start()
    return new


def test_identification() -> None:
    nic = VmxnetRig().nic
    assert nic.config_read(0, 4) == 0x072015AD and nic.config_read(8, 4) >> 8 == 0x020000
    nic.config_write(0x10, 4, 0xFFFFFFFF)
    assert nic.config_read(0x10, 4) == 0xFFFFFFC1 and nic.config_read(0x3D, 1) == 1


def test_a_driver_recognises_it(new: VmxnetRig) -> None:
    assert new.get(LOW) >> 16 == 0xBABE and new.get(LOW) <= MAGIC <= new.get(HIGH)
    assert [new.command(command) for command in (FEATURES, CAPABILITIES, GET_RX, GET_TX)] == [0, 0x80, 0, 0]
    for place in (MAC, APROM):
        assert bytes(new.get(place + index, 1) for index in range(6)) == ADDRESS
    assert new.get(STATUS) == 1


def test_the_station_address_can_be_changed(rig: VmxnetRig) -> None:
    for index, byte in enumerate(OTHER):
        rig.put(MAC + index, byte, 1)
    assert bytes(rig.get(MAC + index, 1) for index in range(6)) == OTHER
    assert bytes(rig.get(APROM + index, 1) for index in range(6)) == ADDRESS
    assert rig.wire.filter.address == OTHER
    rig.receive(frame_of(60, ADDRESS))
    rig.receive(frame_of(60, OTHER))
    assert rig.received(0).data[:6] == OTHER


@pytest.mark.parametrize(
    ("field", "value"),
    [
        (0x00, 0xBABE864E), (0x00, 0), (0x04, 0), (0x28, 0), (0x04, 513), (0x04, 0xFFFFFFFF), (0x6C, 0xFFFFFFF0),
        (0x74, 700), (0x28, 9),
    ],
)  # fmt: skip
def test_what_cannot_be_is_not_attached(new: VmxnetRig, field: int, value: int) -> None:
    new.prepare()
    new.field(field, value)
    new.put(INIT_ADDR, DATA)
    new.put(INIT_LENGTH, new.length)
    assert new.get(STATUS) == 1
    new.put_frame(0, frame_of())
    new.kick()
    assert new.wire.frames == [] and new.receive(frame_of(60, ADDRESS))


def test_driver_data_that_is_nowhere_is_not_attached(new: VmxnetRig) -> None:
    for address, length in ((RAM_BYTES, new.length), (RAM_BYTES - 8, new.length), (0xFFFFFF00, 0xFFFFFFFF)):
        new.put(INIT_ADDR, address)
        new.put(INIT_LENGTH, length)
        assert new.get(STATUS) == 1


def test_detached_it_leaves_memory_alone(rig: VmxnetRig) -> None:
    rig.receive(frame_of(60, ADDRESS))
    assert rig.line
    rig.put(INIT_ADDR, 0)
    before = bytes(rig.ram)
    assert rig.get(STATUS) == 1 and not rig.line
    rig.kick()
    rig.receive(frame_of(60, ADDRESS))
    rig.command(UPDATE_IFF)
    assert rig.ram == before and not rig.line and not rig.wire.filter.receiving


# transmit


@pytest.mark.parametrize("length", [14, 60, 1514])
def test_frames_are_sent_at_the_kick(rig: VmxnetRig, length: int) -> None:
    frames = [frame_of(length), frame_of(100), frame_of(61)]
    for index, frame in enumerate(frames):
        rig.put_frame(index, frame)
    assert rig.wire.frames == []
    rig.kick()
    assert rig.wire.frames == frames and rig.memory.open == 0
    assert [rig.tx_owner(index) for index in range(3)] == [DRIVER] * 3
    assert not rig.line, "the driver finds them itself"
    rig.kick()
    assert len(rig.wire.frames) == 3


def test_the_ring_goes_around(rig: VmxnetRig) -> None:
    for index in range(20):
        rig.put_frame(index % 8, frame_of(60 + index))
        rig.kick()
    assert rig.wire.frames == [frame_of(60 + index) for index in range(20)]


def test_a_frame_in_pieces(rig: VmxnetRig) -> None:
    frame = frame_of(300)
    rig.ram[TX_BUFFERS : TX_BUFFERS + 300] = frame
    rig.tx(0, [(TX_BUFFERS, 14), (TX_BUFFERS + 14, 0), (TX_BUFFERS + 14, 86)], CAN_KEEP | MORE)
    rig.tx(1, [(TX_BUFFERS + 100, 200)])
    rig.kick()
    assert rig.wire.frames == [frame]
    assert [rig.tx_owner(index) for index in range(2)] == [DRIVER] * 2


def test_a_frame_that_goes_on_waits_for_its_end(rig: VmxnetRig) -> None:
    rig.tx(0, [(TX_BUFFERS, 60)], CAN_KEEP | MORE)
    rig.kick()
    assert rig.wire.frames == [] and rig.tx_owner(0) == NIC
    for index in range(8):
        rig.tx(index, [(TX_BUFFERS, 60)], CAN_KEEP | MORE)
    rig.kick()
    assert rig.wire.frames == []


@pytest.mark.parametrize("pieces", [[(RAM_BYTES, 60)], [(1 << 40, 60)], [], [(TX_BUFFERS, 0)], [(TX_BUFFERS, 0xFFFF)]])
def test_frames_that_make_no_sense_are_given_back(rig: VmxnetRig, pieces: list[tuple[int, int]]) -> None:
    rig.tx(0, pieces)
    rig.put_frame(1, frame_of())
    rig.tx(2, [(TX_BUFFERS, 60)], count=7)
    rig.kick()
    assert rig.wire.frames == [frame_of()]
    assert [rig.tx_owner(index) for index in range(3)] == [DRIVER] * 3


def test_a_driver_that_is_short_of_entries_is_told(rig: VmxnetRig) -> None:
    rig.put_frame(0, frame_of(), CAN_KEEP | RING_LOW)
    rig.kick()
    assert rig.line
    rig.command(INTR_ACK)
    assert not rig.line
    rig.field(TX_STOPPED, 1)
    rig.kick()
    assert not rig.line, "nothing was given back"
    rig.put_frame(1, frame_of())
    rig.kick()
    assert rig.line


def test_a_refused_frame_waits_if_it_may_be_kept(rig: VmxnetRig) -> None:
    rig.wire.accepts = False
    rig.put_frame(0, frame_of(60), 0)
    rig.put_frame(1, frame_of(61))
    rig.kick()
    assert [rig.tx_owner(index) for index in range(2)] == [DRIVER, NIC]
    rig.wire.accepts = True
    rig.nic.port_ready()
    assert rig.wire.frames == [frame_of(61)] and rig.tx_owner(1) == DRIVER
    rig.put_frame(2, frame_of(62))
    rig.command(CHECK_TX_DONE)
    assert rig.wire.frames == [frame_of(61), frame_of(62)]


# receive


def test_frames_go_into_the_buffers(rig: VmxnetRig) -> None:
    frames = [frame_of(60, ADDRESS), frame_of(1514, BROADCAST), frame_of(20, ADDRESS)]
    for index, frame in enumerate(frames):
        assert rig.receive(frame, index + 1)
        found = rig.received(index)
        assert (found.owner, found.flags, found.data) == (DRIVER, 0, frame.ljust(60, b"\0"))
    assert rig.line and rig.memory.open == 0
    rig.command(INTR_ACK)
    assert not rig.line and rig.wire.readiness
    rig.receive(frames[0])
    assert rig.line


def test_without_a_free_buffer_a_frame_is_missed(rig: VmxnetRig) -> None:
    rig.rx(0, owner=DRIVER)
    assert not rig.offer(frame_of(60, ADDRESS)) and not rig.receive(frame_of(60, ADDRESS)) and not rig.line
    rig.rx(0)
    assert rig.offer(frame_of(60, ADDRESS)) and rig.line


def test_a_frame_that_does_not_fit_is_lost(rig: VmxnetRig) -> None:
    rig.rx(0, 100)
    assert rig.receive(frame_of(101, ADDRESS)) and rig.received(0).owner == NIC
    assert rig.receive(frame_of(100, ADDRESS)) and rig.received(0).length == 100


def test_a_buffer_that_is_nowhere_ends_it(rig: VmxnetRig) -> None:
    rig.rx(0, address=RAM_BYTES)
    assert rig.receive(frame_of(60, ADDRESS))
    assert rig.get(STATUS) == 1 and not rig.line


@pytest.mark.parametrize(
    ("destination", "flags", "hashes", "taken"),
    [
        (ADDRESS, DIRECTED, 0, True), (ADDRESS, BROADCASTS, 0, False), (OTHER, DIRECTED, 0, False),
        (OTHER, PROMISCUOUS, 0, True), (BROADCAST, BROADCASTS, 0, True), (BROADCAST, DIRECTED, 0, False),
        (GROUP, MULTICASTS, 1 << GROUP_BIT, True), (GROUP, MULTICASTS, ~(1 << GROUP_BIT) & (1 << 64) - 1, False),
        (GROUP, DIRECTED | BROADCASTS, (1 << 64) - 1, False),
    ],
)  # fmt: skip
def test_who_is_listened_to(destination: bytes, flags: int, hashes: int, taken: bool) -> None:
    rig = VmxnetRig()
    rig.start(flags, hashes)
    rig.receive(frame_of(60, destination))
    assert (rig.received(0).owner == DRIVER) == taken
    wanted = rig.wire.filter
    assert wanted.hashes == (hashes if flags & MULTICASTS else 0)
    assert (wanted.promiscuous, wanted.broadcast) == (bool(flags & PROMISCUOUS), bool(flags & BROADCASTS))


@pytest.mark.parametrize("command", [UPDATE_IFF, UPDATE_LADRF])
def test_a_changed_filter_counts_once_it_is_announced(rig: VmxnetRig, command: int) -> None:
    rig.field(0x18, PROMISCUOUS)
    rig.receive(frame_of(60, OTHER))
    assert rig.received(0).owner == NIC
    rig.command(command)
    rig.receive(frame_of(60, OTHER))
    assert rig.received(0).owner == DRIVER and rig.wire.filter.promiscuous


# interrupts, link, saved positions


def test_interrupts_can_be_disabled(rig: VmxnetRig) -> None:
    rig.command(INTR_DISABLE)
    rig.receive(frame_of(60, ADDRESS))
    assert not rig.line
    rig.command(INTR_ENABLE)
    assert rig.line
    rig.put(INT_ENABLE, 0)
    assert not rig.line
    rig.put(INT_ENABLE, 1)
    assert rig.line


def test_status_shows_link_and_pinned_buffers(rig: VmxnetRig) -> None:
    rig.command(PIN_TX)
    assert rig.get(STATUS) == 7
    rig.nic.set_link(False)
    assert rig.get(STATUS) == 6


def test_it_goes_on_where_the_driver_says_it_was(new: VmxnetRig) -> None:
    new.prepare()
    new.field(0x5C, 3)
    new.field(0x64, 5)
    new.put(INIT_ADDR, DATA)
    new.put(INIT_LENGTH, new.length)
    new.put_frame(5, frame_of())
    new.kick()
    new.receive(frame_of(60, ADDRESS))
    assert new.wire.frames == [frame_of()] and new.received(3).owner == DRIVER


def test_without_bus_mastering_nothing_moves(rig: VmxnetRig) -> None:
    rig.nic.config_write(4, 2, 3)
    rig.put_frame(0, frame_of())
    rig.kick()
    assert rig.wire.frames == [] and not rig.receive(frame_of(60, ADDRESS))
    rig.put(INIT_ADDR, DATA)
    rig.put(INIT_LENGTH, rig.length)
    assert rig.get(STATUS) == 1


# a vlance that becomes one


def test_a_vlance_says_what_it_is_and_changes() -> None:
    rig = PcnetRig()
    assert rig.ports.read(MORPH, 2) == LANCE
    rig.ports.write(MORPH, 2, 0x1234)
    assert rig.ports.read(MORPH, 2) == LANCE
    rig.ports.write(MORPH, 2, VMXNET)
    assert rig.ports.read(MORPH, 2) == VMXNET
    assert rig.nic.config_read(0, 4) == 0x20001022
    assert rig.ports.read(PORTS + 0x24 + LOW, 4) == MAGIC
    assert rig.ports.read(PORTS, 4) == int.from_bytes(ADDRESS[:4], "little"), "the address PROM stays"
    assert rig.get(RDP) == 0xFFFF
    rig.ports.write(MORPH, 2, LANCE)
    assert rig.get(RDP) == 4 and rig.ports.read(PORTS + 0x24 + LOW, 4) == 0xFFFFFFFF


def test_the_pcnet_stands_still_meanwhile() -> None:
    rig = PcnetRig()
    rig.start()
    rig.put_frame(0, frame_of())
    rig.kick()
    assert rig.line and rig.nic.wants_poll
    rig.ports.write(MORPH, 2, VMXNET)
    assert not rig.line and not rig.nic.wants_poll and not rig.wire.filter.receiving
    before = bytes(rig.ram)
    rig.put(RAP, 0)
    rig.put(RDP, 0x004B)
    rig.nic.poll()
    rig.nic.port_ready()
    assert rig.receive(frame_of(60, ADDRESS)) and rig.ram == before
    rig.ports.write(MORPH, 2, LANCE)
    rig.start()
    rig.put_frame(0, frame_of())
    rig.kick()
    assert rig.wire.frames == [frame_of()]


def test_the_vmxnet_forgets_its_memory_when_it_is_a_vlance_again() -> None:
    rig = VmxnetRig(morphed=True)
    rig.start()
    rig.receive(frame_of(60, ADDRESS))
    assert rig.line
    rig.ports.write(MORPH, 2, LANCE)
    assert not rig.line
    before = bytes(rig.ram)
    rig.receive(frame_of(60, ADDRESS))
    rig.ports.write(MORPH, 2, VMXNET)
    rig.receive(frame_of(60, ADDRESS))
    assert rig.get(STATUS) == 1 and rig.ram == before
    rig.start()
    rig.receive(frame_of(60, ADDRESS))
    assert rig.received(0).owner == DRIVER


def test_a_reset_makes_a_vlance_of_it() -> None:
    rig = VmxnetRig(morphed=True)
    rig.start()
    rig.receive(frame_of(60, ADDRESS))
    rig.nic.reset()
    rig.nic.config_write(0x10, 4, PORTS)
    rig.nic.config_write(0x04, 2, 7)
    assert rig.ports.read(MORPH, 2) == LANCE and not rig.line


def test_accesses_do_not_reach_from_one_part_into_the_next() -> None:
    rig = VmxnetRig(morphed=True)
    for offset, width in ((0x1E, 4), (0x20, 4), (0x20, 1), (0x22, 2), (0x64, 4), (0x7C, 4)):
        assert rig.ports.read(PORTS + offset, width) == (1 << 8 * width) - 1, f"{offset:#x}"
        rig.ports.write(PORTS + offset, width, 0)
    assert rig.ports.read(MORPH, 2) == VMXNET
    assert rig.ram[RX_BUFFERS] == 0
