"""The SCSI adapters with two disks each, as specimens; and what drivers do to them, half of which makes sense."""

from __future__ import annotations

import random
import struct
from ctypes import LittleEndianStructure
from typing import Any

from hw.scsi import buslogic_spec, lsilogic_spec
from hw.scsi.buslogic import BusLogic, BusLogicState
from hw.scsi.buslogic_spec import FORMS
from hw.scsi.disk import Disk, DiskState
from hw.scsi.lsilogic import LsiLogic, LsiLogicState
from hw.scsi.target import Target
from ringfence.errors import MediaError
from tests.conformance.board import CONFIG_WINDOW, Access, Board
from tests.conformance.specimen import Bank, Script, Specimen, out
from tests.hw.scsi.initiator import AtOnce, Person

PORTS, MEMORY = 0x6000, 0x80001000
SETUP = (
    out(CONFIG_WINDOW + 0x10, 4, PORTS), out(CONFIG_WINDOW + 0x14, 4, MEMORY), out(CONFIG_WINDOW + 0x04, 2, 7),
)  # fmt: skip
IDS = (0, 3)
BLOCK, BLOCKS, BAD = 512, 64, 60
BOXES, REQUESTS, CHAINS, CCBS, DATA = 0x1000, 0x2000, 0x3000, 0x4000, 0x8000
CDBS = [
    bytes.fromhex(text) for text in (
        "000000000000", "120000002400", "120000006000", "030000001200", "25000000000000000000", "1A003F00FF00",
        "28000000000000000100", "28000000000800000400", "2A000000001000000200", "28000000003C00000100",
        "2800FFFFFFFF00000100", "35000000000000000000", "2F000000000000000800", "A00000000000000000100000",
        "5A003F0000000000FF00", "160000000000", "170000000000", "88000000000000000001000000010000", "FF0000000000",
        "151000000400",
    )
]  # fmt: skip


class LsiBoardState(LittleEndianStructure):
    """A 53C1030 and its disks."""

    _fields_ = [("adapter", LsiLogicState), ("disks", DiskState * len(IDS))]


class BusLogicBoardState(LittleEndianStructure):
    """A BT-958 and its disks."""

    _fields_ = [("adapter", BusLogicState), ("disks", DiskState * len(IDS))]


class StoreBacking:
    """A disk on the board, which a rebuilt adapter finds as it was. One block is bad."""

    writable = True
    size = BLOCKS * BLOCK

    def __init__(self, store: bytearray) -> None:
        self.store = store

    def read(self, offset: int, views: list[memoryview]) -> None:
        self._check(offset, views)
        for view in views:
            view[:] = self.store[offset : offset + len(view)]
            offset += len(view)

    def read_at_once(self, offset: int, views: list[memoryview]) -> bool:
        return False

    write_at_once = read_at_once

    def write(self, offset: int, views: list[memoryview]) -> None:
        self._check(offset, views)
        for view in views:
            self.store[offset : offset + len(view)] = view
            offset += len(view)

    def _check(self, offset: int, views: list[memoryview]) -> None:
        first, end = offset // BLOCK, (offset + sum(map(len, views))) // BLOCK
        assert 0 <= first <= end <= BLOCKS
        if first <= BAD < end:
            raise MediaError(BAD, 1)

    def flush(self) -> None:
        pass


class ScsiBoard:
    """An adapter and its targets as one device."""

    def __init__(self, kind: type[LsiLogic] | type[BusLogic], board: Board, state: Any) -> None:
        self.targets = {}
        for disk, number in zip(state.disks, IDS, strict=True):
            store = board.stores.setdefault(f"disk {number}", bytearray(BLOCKS * BLOCK))
            self.targets[number] = Target(Disk(disk, StoreBacking(store)), AtOnce(), Person())
        self.chip = kind(state.adapter, board.buses, board.links.pin(16, 1), board.ram, self.targets)
        board.config(self.chip)

    def reset(self) -> None:
        for target in self.targets.values():
            target.reset()
        self.chip.reset()

    def sync(self) -> None:
        for target in self.targets.values():
            target.sync()
        self.chip.sync()


def build_lsilogic(board: Board, state: Any) -> ScsiBoard:
    return ScsiBoard(LsiLogic, board, state)


def build_buslogic(board: Board, state: Any) -> ScsiBoard:
    return ScsiBoard(BusLogic, board, state)


# scripts


def pokes(gpa: int, data: bytes) -> list[Access]:
    """Into guest memory, as long as it is in the first part of it."""
    data += bytes(-len(data) % 4)
    return [
        Access("poke", gpa + at, 4, int.from_bytes(data[at : at + 4], "little"))
        for at in range(0, len(data), 4) if gpa + at + 4 <= 0x10000
    ]  # fmt: skip


def place(source: random.Random) -> int:
    return source.choice([DATA, DATA, 0xFF00, 0x18000, 0x1FF80, 0x11000, source.getrandbits(32)])


def length(source: random.Random) -> int:
    return source.choice([0, 36, 512, 512, 1024, 2048, 255, source.getrandbits(8), source.getrandbits(32)])


def sgl(source: random.Random) -> bytes:
    """Elements of all kinds, the last of which may not say so."""
    made = b""
    for _ in range(source.choice([1, 1, 2, 4])):
        flags = source.choice([0xD1, 0xD1, 0x10, 0x90, 0xD3, 0x30, 0x12, source.getrandbits(8)])
        size = source.choice([0, 36, 512, 512, 1024, source.getrandbits(24)])
        at = CHAINS if flags & 0x30 == 0x30 else place(source)
        made += struct.pack("<IQ" if flags & 2 else "<II", flags << 24 | size, at)
    return made


def lsi_frame(source: random.Random) -> bytes:
    """A request of some kind."""
    function = source.choice([0] * 20 + [1, 1, 2, 3, 4, 4, 4, 5, 6, 7, 8, 9, 0x12, 0x15, source.getrandbits(8)])
    target = source.choice([0, 0, 0, 3, 3, 3, 1, 16, source.getrandbits(8)])
    context = source.choice([1, 2, source.getrandbits(31), source.getrandbits(32)])
    if function == 0:
        chain = source.choice([0, 0, 0, 12, 14, source.getrandbits(8)])
        return struct.pack(
            "<BBBBBBBBI8sI16sII", target, source.choice([0] * 9 + [1]), chain, 0, source.choice([6, 10, 16]), 18, 0,
            0, context, bytes([0, source.choice([0] * 9 + [1])]), source.choice([0, 1, 2, 2, 3]) << 24,
            source.choice(CDBS), length(source), place(source),
        ) + sgl(source)  # fmt: skip
    if function == 1:
        return struct.pack("<BBBBBBBBI8s28sI", target, 0, 0, 1, 0, source.randrange(10), 0, 0, context, bytes(8),
                           bytes(28), source.choice([1, 2]))  # fmt: skip
    if function == 4:
        header = bytes([0, 0, source.randrange(5), source.choice([0, 1, 2, 3, 4, 9, 15])])
        page = source.choice([0, 0, 3, 15, 16, source.getrandbits(32)])
        return struct.pack("<BBBBIIII4sI", source.randrange(8), 0, 0, 4, 0, context, 0, 0, header, page) + sgl(source)
    return struct.pack("<BBBBBBBBIIII", source.choice([0, 1, 2, 4]), 0, 0, function, 0, source.getrandbits(8),
                       source.choice([0, 1]), 0, context, source.choice([4, 80, 128, source.getrandbits(16)]),
                       source.choice([*[0] * 20, 1]), 0)  # fmt: skip


def lsi_script(source: random.Random, count: int) -> list[Access]:
    """The doorbell's handshakes, the queues, diagnostics."""
    script: list[Access] = []
    for slot in range(8):
        script += pokes(REQUESTS + 128 * slot, lsi_frame(source))
    while len(script) < count:
        what = source.randrange(20)
        script += lsi_start() * (source.randrange(6) == 0)
        if what < 16:
            gpa = REQUESTS + 128 * source.randrange(8)
            script += pokes(gpa, lsi_frame(source)) * source.choice([0, 0, 0, 1])
            script += pokes(CHAINS, sgl(source)) * source.choice([0, 0, 0, 1])
            frame = 0x6000 + 128 * source.randrange(16)
            frame = source.choice([*[frame] * 30, source.getrandbits(32)])
            script += [out(PORTS + 0x44, 4, frame)] * source.choice([0, 1, 2])
            posted = source.choice([out(PORTS + 0x40, 4, gpa), Access("store", MEMORY + 0x40, 4, gpa)])
            script += [posted] * source.choice([1, 1, 1, 3])
            script += [Access("in", PORTS + 0x44, 4, 0)] * source.choice([0, 1, 2, 6])
            script += [Access("load", MEMORY + 0x44, 4, 0)] * source.choice([0, 1])
        elif what == 16:
            script += handshake(source, source.choice([lsi_frame(source), IOC_INIT]))
        elif what == 17:
            script += [out(PORTS, 4, source.choice([0x40000000, 0x40000000, 0x41000000, 0x43000000])), *lsi_start()]
        elif what == 18:
            script += [out(PORTS + 4, 4, key) for key in (0xFF, 4, 0xB, 2, 7, 0xD)] * source.choice([0, 1])
            value = source.choice([2, 4, 0, source.getrandbits(8)])
            script += [out(PORTS + 8, 4, value), Access("in", PORTS + 8, 4, 0)]
        else:
            script += [Access("store", MEMORY + 0x34, 4, source.choice([0, 1, 9])), out(PORTS + 0x30, 4, 0)]
            script += [Access("load", MEMORY + source.choice([0, 0x30, 0x44]), source.choice([1, 2, 4]), 0)] * 2
    return script[:count]


def lsi_start() -> list[Access]:
    """Windows open, and the controller operational, whatever it was doing."""
    words = struct.unpack("<6I", IOC_INIT)
    return [*SETUP, out(PORTS, 4, 0x40000000), out(PORTS, 4, 0x42060000), *(out(PORTS, 4, word) for word in words),
            out(PORTS, 4, 0x42000000)]  # fmt: skip


IOC_INIT = struct.pack("<BBBBBBBBIHHII", 4, 0, 0, 2, 0, 16, 1, 0, 7, 80, 0, 0, 0)


def handshake(source: random.Random, request: bytes) -> list[Access]:
    request += bytes(-len(request) % 4)
    words = [out(PORTS, 4, int.from_bytes(request[at : at + 4], "little")) for at in range(0, len(request), 4)]
    script = [out(PORTS, 4, 0x42000000 | len(words) << 16), out(PORTS + 0x30, 4, 0), *words]
    for _ in range(source.choice([10, 30, 40, 3])):
        script += [Access("in", PORTS, source.choice([4, 2]), 0), out(PORTS + 0x30, 4, 0)]
    return script


def buslogic_script(source: random.Random, count: int) -> list[Access]:
    """Commands with their parameters and replies, mailboxes of both formats."""
    script: list[Access] = []
    for slot in range(8):
        script += pokes(CCBS + 128 * slot, block(source, slot % 2 == 0))
    while len(script) < count:
        what = source.randrange(16)
        script += [*SETUP, *start_mailboxes(source)] * (source.randrange(6) == 0)
        if what < 12:
            script += some_boxes(source)
            script += [Access("store", MEMORY + 1, 1, 2), Access("store", MEMORY, 1, 0x20)]
            script += [Access("load", MEMORY + source.randrange(4), 1, 0)]
        elif what < 14:
            opcode, form = source.choice(sorted(FORMS.items()))
            script += [out(PORTS + 1, 1, opcode)]
            values = [source.choice([0, 1, 4, 64, source.getrandbits(8)]) for _ in range(form.parameters)]
            script += [out(PORTS + 1, 1, value) for value in values]
            script += [Access("in", PORTS + 1, 1, 0)] * source.choice([0, 1, 4, 34, 64])
            script += [Access("in", PORTS, 4, 0)] + [out(PORTS, 1, 0x20)] * source.choice([0, 1])
        elif what == 14:
            script += start_mailboxes(source)
        else:
            script += [out(PORTS, 1, source.choice([0x80, 0x40, 0x40, 0x20, 0x20, 0x10, source.getrandbits(8)]))]
            script += [Access("in", PORTS, 1, 0)] * 2 + start_mailboxes(source) * source.choice([0, 1])
    return script[:count]


def start_mailboxes(source: random.Random) -> list[Access]:
    boxes = source.choice([1, 4, 4, 8])
    parameters = source.choice([
        bytes([0x81, boxes]) + BOXES.to_bytes(4, "little"), bytes([0x01, boxes]) + BOXES.to_bytes(3, "big"),
        bytes([0x81, 4]) + source.choice([0xFFF8, 0xFFFFFFF0]).to_bytes(4, "little"),
    ])  # fmt: skip
    script = pokes(BOXES, bytes(64)) * source.choice([1, 1, 0])
    return [*script, *(out(PORTS + 1, 1, byte) for byte in parameters), out(PORTS, 1, 0x20),
            out(PORTS + 1, 1, 0x8F), out(PORTS + 1, 1, source.choice([0, 1]))]  # fmt: skip


def block(source: random.Random, wide: bool) -> bytes:
    """A command control block."""
    target = source.choice([0, 0, 0, 3, 3, 1, 16])
    opcode, direction = source.choice([0, 0, 2, 3, 4, 0x81, source.getrandbits(8)]), source.choice([0, 0, 1, 2, 3])
    size, data = source.choice([(16, CHAINS), (length(source), place(source)), (512, DATA)])
    cdb = source.choice(CDBS)[:12]
    if wide:
        return struct.pack("<BBBBIIHBBBB12sHII", opcode, direction << 3 | source.choice([0, 0x20, 0x60]), len(cdb),
                           source.choice([0, 1, 18]), size, data, 0, 0, 0, target, source.choice([0, 0, 0, 1]), cdb, 0,
                           0, place(source))  # fmt: skip
    size_24, data_24 = (size & 0xFFFFFF).to_bytes(3, "big"), (data & 0xFFFFFF).to_bytes(3, "big")
    control = (target & 7) << 5 | direction << 3
    return struct.pack(">BBBB3s3s8s12s", opcode, control, len(cdb), 18, size_24, data_24, bytes(8), cdb)


def some_boxes(source: random.Random) -> list[Access]:
    """Outgoing boxes of either format; incoming ones emptied."""
    script: list[Access] = []
    for box in range(source.choice([1, 4])):
        slot = source.randrange(8)
        wide, ccb = slot % 2 == 0, CCBS + 128 * slot
        script += pokes(ccb, block(source, wide)) * source.choice([0, 0, 0, 1])
        action = source.choice([1, 1, 1, 1, 2, 9])
        if wide:
            script += pokes(BOXES + 8 * box, struct.pack("<IHBB", ccb, 0, 0, action))
        else:
            script += pokes(BOXES + 4 * box, bytes([action]) + ccb.to_bytes(3, "big"))
    script += pokes(CHAINS, struct.pack("<IIII", 512, DATA, length(source), place(source))) * source.choice([0, 0, 1])
    script += [out(PORTS + 1, 1, 2), Access("in", PORTS + 2, 1, 0)]
    script += pokes(BOXES + source.choice([4, 8, 16, 32, 64]), bytes(32)) * source.choice([0, 1])
    return script + [out(PORTS, 1, 0x20)] * source.choice([0, 1])


def specimen(name: str, state: Any, build: Any, script: Script, spec: Any, ports: int, memory: int) -> Specimen:
    config = Bank(
        bank=spec.CONFIG, window=CONFIG_WINDOW, store=lambda state: state.adapter.config, acts={"INTLN": 0xFF},
        resets={"INTLN": 0xFF},
    )  # fmt: skip
    return Specimen(
        name=name, state=state, build=build, setup=SETUP, script=script, weight=4, banks=[config],
        ports=[(PORTS, ports), (CONFIG_WINDOW, 256)], memory=[(MEMORY, memory)],
        values=[PORTS, MEMORY, 7, REQUESTS, 0x40000000],
    )  # fmt: skip


SCSI_ADAPTERS = (
    specimen("lsilogic", LsiBoardState, build_lsilogic, lsi_script, lsilogic_spec, 0x4C, 0x4C),
    specimen("buslogic", BusLogicBoardState, build_buslogic, buslogic_script, buslogic_spec, 4, 4),
)
