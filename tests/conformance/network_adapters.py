"""The network adapters as specimens; and what drivers do to them, half of which makes sense."""

from __future__ import annotations

import random
import struct
from typing import Any

from hw.net import pcnet_spec, vmxnet_spec
from hw.net.vlance import Vlance, VlanceState
from hw.net.vmxnet_pci import VmxnetPci, VmxnetPciState
from hw.net.wiring import AddressFilter
from tests.conformance.board import CONFIG_WINDOW, Access, Board
from tests.conformance.scsi_adapters import pokes
from tests.conformance.specimen import Bank, Script, Specimen, out

PORTS, MEMORY = 0x6000, 0x80001000
ADDRESS = bytes.fromhex("000c29d1b969")
SETUP = (
    out(CONFIG_WINDOW + 0x10, 4, PORTS), out(CONFIG_WINDOW + 0x14, 4, MEMORY), out(CONFIG_WINDOW + 0x04, 2, 7),
    Access("event", 4, 4, 1),  # the link is up
)  # fmt: skip
BLOCK, RX_RING, TX_RING, DATA = 0x0800, 0x1000, 0x2000, 0x4000
DRIVER_DATA, ENTRIES, HEADER, RX_ENTRY, TX_ENTRY = 0x1000, 3, 176, 24, 64
LENGTHS = (0, 1, 13, 60, 64, 590, 1514, 4091, 5000)
DESTINATIONS = (ADDRESS, b"\xff" * 6, bytes.fromhex("01005e000001"), bytes.fromhex("005056010203"))


class NoisyPort:
    """Logs frames; refuses while the board's world says so."""

    def __init__(self, board: Board) -> None:
        self.board, self.ready = board, board.act("ready")

    def transmit(self, frame: list[memoryview]) -> bool:
        self.board.acts.append(("sent", b"".join(frame)))
        return not self.board.world.get("busy")

    def set_filter(self, wanted: AddressFilter) -> None:
        self.board.levels["filter"] = wanted


def add_far_side(board: Board, nic: Vlance | VmxnetPci) -> None:
    """What happens at the other end of the cable."""

    def arrive(value: int) -> None:
        length, destination = LENGTHS[value % len(LENGTHS)], DESTINATIONS[value >> 4 & 3]
        frame = memoryview((destination + bytes(index & 0xFF for index in range(length)))[:length])
        cut = value >> 8 & 0x3F
        board.acts.append(("taken", nic.receive([frame[:cut], frame[cut:]])))

    def be_busy(value: int) -> None:
        board.world["busy"] = value & 1
        if not value & 1:
            nic.port_ready()

    board.events += [
        arrive, arrive, arrive, be_busy,
        lambda value: nic.set_link(bool(value & 7)),
        lambda value: board.acts.append(("offered", nic.offer([memoryview(DESTINATIONS[value & 3] + bytes(70))]))),
        lambda value: nic.poll(),
    ]  # fmt: skip


def build_vlance(board: Board, state: Any) -> Vlance:
    pin = board.links.pin(17, 1)
    nic = Vlance(state, board.buses, pin, board.ram, NoisyPort(board), ADDRESS, bytes(range(256)) * 8)
    board.config(nic)
    add_far_side(board, nic)
    return nic


def build_vmxnet(board: Board, state: Any) -> VmxnetPci:
    nic = VmxnetPci(state, board.buses, board.links.pin(17, 1), board.ram, NoisyPort(board), ADDRESS)
    board.config(nic)
    add_far_side(board, nic)
    return nic


# scripts


def place(source: random.Random) -> int:
    """Seldom nowhere, for that ends it all."""
    return source.choice([*[DATA, DATA + 0x1001, 0x18000] * 10, 0xFF00, 0x1FF80, 0x11000, source.getrandbits(32)])


def pcnet_script(source: random.Random, count: int) -> list[Access]:
    """Initialization in all styles, rings half of which make sense, and a vmxnet now and then."""
    script: list[Access] = []
    style = 2
    while len(script) < count:
        what = source.randrange(24)
        if what < 4 or not script:
            style = source.choice([0, 1, 2, 2, 3])
            script += initialize(source, style)
            script += descriptors(source, source.choice([RX_RING, TX_RING]), style)
        elif what < 10:
            script += descriptors(source, RX_RING, style) * source.choice([0, 1])
            script += [Access("event", source.choice([0, 7, 14]), 4, source.getrandbits(16)) for _ in range(3)]
        elif what < 16:
            script += descriptors(source, TX_RING, style)
            script += csr(0, source.choice([0x48, 0x48, 0x48, 0x08, 0x4A]))
        elif what < 19:
            number = source.choice([0, 3, 4, 5, 15, 58, 72, 74, 76, 78, 112, source.randrange(128)])
            script += csr(number, source.choice([0, 1, 4, source.getrandbits(16), source.getrandbits(16)]))
            script += [Access("in", PORTS + 0x10, 2, 0)]
        elif what < 21:
            script += [out(PORTS + 0x12, 2, source.randrange(24)), out(PORTS + 0x16, 2, source.getrandbits(16)),
                       Access("in", PORTS + 0x16, 2, 0)]  # fmt: skip
        elif what == 21:
            width = source.choice([2, 4])
            script += [out(PORTS + 0x10, 4, 0), Access("in", PORTS + source.choice([0x10, 0x14, 0x18, 0x1C]), 4, 0),
                       out(PORTS + 0x14, width, source.randrange(128)), Access("in", PORTS + 0x18, 4, 0),
                       Access("in", PORTS + 0x14, 2, 0)]  # fmt: skip
        elif what == 22:
            for _ in range(8):
                script += [Access("store", MEMORY + 0x12, 2, source.choice([0, 0, 4, source.randrange(128)])),
                           Access("load", MEMORY + source.randrange(32), source.choice([1, 2, 4]), 0),
                           Access("store", MEMORY + 0x10, 2, source.choice([0x48, 0x42, source.getrandbits(16)]))]
        else:
            script += [out(PORTS + 0x20, 2, 0x4392), *vmxnet_pieces(source, PORTS + 0x24, 140)]
            script += [out(PORTS + 0x20, 2, 0x2934)]
    return script[:count]


def csr(number: int, value: int) -> list[Access]:
    return [out(PORTS + 0x12, 2, number), out(PORTS + 0x10, 2, value)]


def initialize(source: random.Random, style: int) -> list[Access]:
    """STOP, style, block, INIT and STRT."""
    mode = source.choice([0, 0, 0, 0x8000, 0x8000, 0x0044, 0x004C, 0x0054, 0x0004, 0x0008, source.getrandbits(16)])
    log = source.choice([2, 2, 2, 2, 0, 9, source.randrange(16)])
    rings = source.choice([(RX_RING, TX_RING)] * 20 + [(0xFFF0, TX_RING), (RX_RING, place(source))])
    if style:
        block = struct.pack("<HBB6sHQII", mode, log << 4, log << 4, ADDRESS, 0, source.getrandbits(64), *rings)
    else:
        block = struct.pack("<H6sQII", mode, ADDRESS, source.getrandbits(64),
                            *((log & 7) << 29 | ring & 0xFFFFFF for ring in rings))  # fmt: skip
    block_at = source.choice([BLOCK] * 9 + [place(source)])
    features = source.choice([0x0915, 0x0115, 0x0511, 0x1D00])
    return [
        *SETUP, out(PORTS + 0x20, 2, 0x2934), Access("in", PORTS + 0x18, 4, 0), Access("in", PORTS + 0x14, 2, 0),
        *csr(0, 4), *csr(58, style), *pokes(BLOCK, block), *csr(1, block_at & 0xFFFF), *csr(2, block_at >> 16 & 0xFFFF),
        *csr(3, source.choice([0, 0, 0x20, 0x40, 0x5F00])), *csr(4, features),
        *csr(5, source.choice([0, 0, 0x4000, 0x8000, 0x0400, 0x0508])), *csr(0, 1), *csr(0, 0x42),
    ]  # fmt: skip


def descriptors(source: random.Random, ring: int, style: int) -> list[Access]:
    """The first four anew, or one."""
    script: list[Access] = []
    for index in source.choice([range(4), [source.randrange(4)]]):
        status = source.choice([*[0x8300] * 6, 0x8200, 0x8000, 0x8100, 0, source.getrandbits(16)])
        length = source.choice([64, 64, 600, 1600, 1, 4096, source.getrandbits(12)])
        count = source.choice([0xF000, 0]) | -length & 0xFFF
        size, at = (16, ring) if style else (8, ring)
        if style == 0:
            high = source.choice([0, 0, 0, 1, 0xFF])
            data = struct.pack("<HBBHH", place(source) & 0xFFFF, high, status >> 8, count, 0)
        elif style == 3:
            data = struct.pack("<IHHII", source.getrandbits(32), count, status, place(source), 0)
        else:
            data = struct.pack("<IHHII", place(source), count, status, source.getrandbits(32), 0)
        script += pokes(at + index * size, data)
    return script


def vmxnet_script(source: random.Random, count: int) -> list[Access]:
    return vmxnet_pieces(source, PORTS, count)


def vmxnet_pieces(source: random.Random, base: int, count: int) -> list[Access]:
    """DriverData and its rings, kicks and commands."""
    script: list[Access] = []
    while len(script) < count:
        what = source.randrange(16)
        if what < 3 or not script:
            script += [*SETUP, *attach(source, base)]
        elif what < 6:
            script += rx_entries(source) * source.choice([0, 1])
            script += [Access("event", source.choice([0, 7, 14]), 4, source.getrandbits(16)) for _ in range(3)]
        elif what < 11:
            script += tx_entries(source)
            script += [Access("in", base + 0x08, 4, 0)]
        elif what < 14:
            command = source.choice([1, 1, 2, 4, 0x20, 0x40, 0x100, 0x200, 0x800, 0x1000, source.getrandbits(16)])
            script += [out(base + 0x0C, 4, command), Access("in", base + 0x0C, 4, 0), Access("in", base + 0x20, 4, 0)]
        else:
            script += [out(base + source.randrange(0x40), source.choice([1, 2, 4]), source.getrandbits(8))]
            script += [Access("in", base + source.randrange(0x40), source.choice([1, 2, 4]), 0)]
    return script


def attach(source: random.Random, base: int) -> list[Access]:
    """Most of the time everything fits."""
    odd = source.randrange(8) == 0
    fields = {
        0x00: 0xBABE864F, 0x04: ENTRIES, 0x0C: 1, 0x18: source.choice([15, 10, 1, 0]), 0x1C: source.getrandbits(32),
        0x20: source.getrandbits(32), 0x28: ENTRIES, 0x34: source.choice([0, 1]), 0x5C: source.choice([0, 3]), 0x64: 0,
        0x6C: HEADER, 0x70: HEADER, 0x74: HEADER + RX_ENTRY * ENTRIES,
    }  # fmt: skip
    if odd:
        fields[source.choice(sorted(fields))] = source.choice([0, 1, 512, source.getrandbits(32)])
    data = bytearray(HEADER)
    for offset, value in fields.items():
        struct.pack_into("<I", data, offset, value)
    address = source.choice([DRIVER_DATA] * 9 + [place(source)])
    length = source.choice([HEADER + (RX_ENTRY + TX_ENTRY) * ENTRIES] * 9 + [source.getrandbits(32)])
    return [
        *pokes(DRIVER_DATA, bytes(data)), *rx_entries(source), *tx_entries(source),
        out(base + 0x00, 4, address), out(base + 0x04, 4, length), Access("in", base + 0x20, 4, 0),
    ]  # fmt: skip


def rx_entries(source: random.Random) -> list[Access]:
    script: list[Access] = []
    for index in range(ENTRIES):
        room = source.choice([1600, 1600, 64, 0, source.getrandbits(32)])
        owner = source.choice([2, 2, 2, 0, source.getrandbits(16)])
        data = struct.pack("<QIIHHI", source.choice([place(source)] * 30 + [1 << 40]), room, 0, owner, 0, index)
        script += pokes(DRIVER_DATA + HEADER + index * RX_ENTRY, data)
    return script


def tx_entries(source: random.Random) -> list[Access]:
    script: list[Access] = []
    for index in source.sample(range(ENTRIES), 2):
        elements = source.choice([1, 1, 1, 2, 2, 6, 7, source.getrandbits(16)])
        flags = source.choice([1, 1, 0, 3, 0x21, source.getrandbits(16)])
        data = struct.pack("<HHIIHH", flags, source.choice([2, 2, 2, 0, 3]), 0, 0, 0, elements)
        for _ in range(2):
            data += struct.pack("<IHH", place(source), source.choice([0] * 20 + [9]), source.choice(LENGTHS))
        at = DRIVER_DATA + HEADER + RX_ENTRY * ENTRIES + index * TX_ENTRY
        script += pokes(at, data)
    return script


def config_bank(bank: Any) -> Bank:
    return Bank(
        bank=bank, window=CONFIG_WINDOW, store=lambda state: state.config, acts={"INTLN": 0xFF}, resets={"INTLN": 0xFF}
    )  # fmt: skip


def specimen(
    name: str, state: Any, build: Any, script: Script, bank: Bank, kept: list[str], memory: list[tuple[int, int]]
) -> Specimen:
    return Specimen(
        name=name, state=state, build=build, setup=SETUP, script=script, weight=8, banks=[bank], kept=kept,
        ports=[(PORTS, 0x80), (CONFIG_WINDOW, 256)], memory=memory,
        values=[PORTS, MEMORY, 7, 0x4392, 0x2934, 0x43, 0x48, DRIVER_DATA, BLOCK],
    )  # fmt: skip


NETWORK_ADAPTERS = (
    specimen(
        "vlance", VlanceState, build_vlance, pcnet_script, config_bank(pcnet_spec.config_bank(2048)),
        ["pcnet.link", "vmxnet.link"], [(MEMORY, 0x20)],
    ),
    specimen(
        "vmxnet", VmxnetPciState, build_vmxnet, vmxnet_script, config_bank(vmxnet_spec.CONFIG), ["vmxnet.link"], [],
    ),
)  # fmt: skip
