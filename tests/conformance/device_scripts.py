"""What drivers do to the devices that random accesses alone would hardly set to work; half of it makes sense."""

from __future__ import annotations

import random

from hw.fdc_spec import FORMS
from hw.vga_spec import MODE_3
from tests.conformance.board import Access
from tests.conformance.specimen import Script, out
from tests.hw.ide import board as ide_board

BATCH_MIN = 3
DISK_SECTORS, DISC_BLOCKS = 1 << 20, 50_000  # of the IDE board's


def ide_script(source: random.Random, count: int) -> list[Access]:
    """Commands begun and mostly carried through, with descriptors in memory that make sense half the time."""
    words = {"read": "in", "write": "out", "outside": "event"}
    script: list[Access] = []
    for what, port, width, value in ide_board.accesses(source.getrandbits(32), count):
        script.append(Access(words[what], port, width, value))
        if what == "write" and port & ~8 == ide_board.BMIBA + 4:  # a table: put something there
            script += table(source, value & ~3)
        elif what == "write" and port in (0x1F7, 0x177) and source.randrange(4) == 0:
            script += at_the_end(source)
    return batched(source, script)[:count]


def at_the_end(source: random.Random) -> list[Access]:
    """Requests around the last sector of the disk, and the last block of the disc."""
    if source.randrange(2):
        last = DISK_SECTORS - source.choice([1, 2, 8])
        task = (source.choice([1, 2, 3, 8, 0]), last & 0xFF, last >> 8 & 0xFF, last >> 16 & 0xFF, 0xE0 | last >> 24)
        command = source.choice([0x20, 0x30, 0x40, 0xC8, 0xCA, 0xC4])
        return [*(out(0x1F2 + index, 1, value) for index, value in enumerate(task)), out(0x1F7, 1, command)]
    last = DISC_BLOCKS - source.choice([1, 2, 17])
    cdb = bytes([source.choice([0x28, 0x2B, 0xA8]), 0]) + last.to_bytes(4, "big") + source.choice([
        b"\0\0\1\0\0\0", b"\0\0\2\0\0\0", b"\0\0\0\x12\0\0",
    ])  # fmt: skip
    start = [out(0x176, 1, 0xA0), out(0x171, 1, source.choice([0, 1])), out(0x174, 1, 0), out(0x175, 1, 8)]
    return [*start, out(0x177, 1, 0xA0), *(out(0x170, 2, cdb[at] | cdb[at + 1] << 8) for at in range(0, 12, 2))]


def table(source: random.Random, gpa: int) -> list[Access]:
    """Some region descriptors, the last with EOT if there is one; some lie nowhere."""
    rows: list[Access] = []
    for index in range(source.choice([1, 3, 8])):
        base = source.choice([0x8000, 0xFF00, 0x17FF0, 0x1F800, source.getrandbits(32)])
        size = source.choice([0, 512, 2048, 0xFFFF, source.getrandbits(16)])
        last = source.choice([0, 0, 0x8000_0000])
        rows += [Access("poke", gpa + 8 * index, 4, base), Access("poke", gpa + 8 * index + 4, 4, size | last)]
    return [row for row in rows if row.address + 4 <= 0x10000]


def channel_script(command: int, block: int) -> Script:
    """That of one channel: its command block, its control port, its half of the bus master."""
    mine = {*range(command, command + 8), command + 0x206, *range(block, block + 8)}

    def script(source: random.Random, count: int) -> list[Access]:
        drawn = ide_script(source, 3 * count)
        return [access for access in drawn if access.what not in ("in", "out") or access.address in mine][:count]

    return script


def i8042_script(source: random.Random, count: int) -> list[Access]:
    """Commands to the controller, the keyboard and the mouse with their parameters, and what they answer read."""
    script: list[Access] = []
    while len(script) < count:
        what = source.randrange(4)
        if what == 0:
            commands = (0x60, 0xD1, 0xD2, 0xD3, 0xAE, 0xA8, 0x20, 0xD0, source.getrandbits(8))
            script += [out(0x64, 1, source.choice(commands))]
            script += [out(0x60, 1, source.choice([0x47, 0x03, 0x43, 0xDF, source.getrandbits(8)]))]
        elif what == 1:
            script += [out(0x60, 1, source.choice([*range(0xED, 0x100), 0xF4])), out(0x60, 1, source.randrange(8))]
        elif what == 2:
            script += [out(0x64, 1, 0xD4), out(0x60, 1, source.choice([*range(0xE6, 0x100), 0xF4, 0xF3, 0xF3]))]
            rate = source.choice([200, 100, 80, 2, source.getrandbits(8)])
            script += [out(0x64, 1, 0xD4), out(0x60, 1, rate)] * source.choice([0, 1])
        else:
            script += [Access("event", source.getrandbits(8), 4, source.getrandbits(32))] * source.choice([1, 4])
        script += [Access("in", source.choice([0x60, 0x60, 0x64]), 1, 0)] * source.choice([0, 1, 4, 8])
    return script[:count]


def fw_cfg_script(source: random.Random, count: int) -> list[Access]:
    """DMA requests, whose bytes are big-endian."""
    script: list[Access] = []
    while len(script) < count:
        gpa = source.choice([0, 0x100, 0xFFF8, 0x10000, 0x18000, source.getrandbits(17), source.getrandbits(32)])
        key = source.choice([0, 1, 0x19, 0x20, 0x8000, source.getrandbits(16)])
        length = source.choice([0, 4, 200, 0x1000, source.getrandbits(16), 0xFFFFFFFF])
        target = source.choice([0x400, 0xFF80, 0x1FFFF, source.getrandbits(64)])
        control = key << 16 | source.choice([0x0A, 0x02, 0x04, 0x10, 0x08, source.getrandbits(16)])
        words = (control, length, target >> 32 if target >> 40 else 0, target & 0xFFFFFFFF)
        if gpa + 16 <= 0x10000:
            script += [Access("poke", gpa + 4 * at, 4, swapped(word)) for at, word in enumerate(words)]
        script += [out(0x510, 2, key), Access("in", 0x511, source.choice([1, 2, 4]), 0)]
        script += [out(0x514, 4, swapped(source.choice([0, 0, 0, 1])))] * source.choice([0, 1])
        script += [out(0x518, 4, swapped(gpa))]
    return script[:count]


def swapped(value: int) -> int:
    return int.from_bytes(value.to_bytes(4, "little"), "big")


def dma8237_script(source: random.Random, count: int) -> list[Access]:
    """Channels set up and opened, the cascade too, in any order."""
    script: list[Access] = []
    while len(script) < count:
        channel = source.choice([2, 2, 5, source.randrange(8)])
        first, step = (0x00, 1) if channel < 4 else (0xC0, 2)
        number = channel % 4
        page = (0x87, 0x83, 0x81, 0x82, 0x8F, 0x8B, 0x89, 0x8A)[channel]
        gpa, length = source.choice([0, 0xFF00, 0x8000, source.getrandbits(16)]), source.choice([0, 511, 0xFFFF])
        script += [out(first + 12 * step, 1, 0), out(first + 11 * step, 1, number | source.getrandbits(6) << 2)]
        for register, value in ((2 * number, gpa), (2 * number + 1, length)):
            script += [out(first + register * step, 1, value >> shift & 0xFF) for shift in (0, 8)]
        script += [out(page, 1, source.choice([0, 0, 1, source.getrandbits(8)]))]
        script += [out(0xD6, 1, 0xC0), out(0xD4, 1, 0)] * source.choice([0, 1])
        script += [out(first + 10 * step, 1, number | source.choice([0, 0, 4]))]
        script += [Access("event", source.randrange(3), 4, source.getrandbits(32))] * source.choice([1, 3])
        script += [Access("in", first + source.randrange(16) * step, 1, 0)] * source.choice([0, 2])
    return script[:count]


def fdc_script(source: random.Random, count: int) -> list[Access]:
    """Commands with all their bytes, by DMA and without, and their results."""
    script: list[Access] = []
    while len(script) < count:
        if source.randrange(6) == 0:
            script += [out(0x3F2, 1, source.choice([0, 0x0C, 0x04])), out(0x3F2, 1, 0x1C), out(0x3F7, 1, 0)]
            script += [out(0x3F5, 1, 0x08), *([Access("in", 0x3F5, 1, 0)] * 2)] * 4
        gpa, length = source.choice([0, 0x8000, 0xFF00]), source.choice([511, 1023, 0x23FF])
        mode = source.choice([0x46, 0x4A, 0x42, 0x5A, 0x66])
        script += [out(0x0A, 1, 6), out(0x0C, 1, 0), out(0x0B, 1, mode)]
        script += [out(port, 1, value >> shift & 0xFF) for port, value in ((4, gpa), (5, length)) for shift in (0, 8)]
        script += [out(0x81, 1, source.choice([0, 0, 1])), out(0xD6, 1, 0xC0), out(0xD4, 1, 0)]
        script += [out(0x0A, 1, 2)] * source.choice([0, 1, 1])
        op, form = source.choice(sorted(FORMS.items()))
        head = source.choice([0, 0, 1])
        unit, cylinder = source.choice([0, 0, 0, 1]), source.choice([0, 0, 1, 80])
        sector = source.choice([1, 1, 18, 19])
        place = [head << 2 | unit, cylinder, head, sector]
        parameters = [*place, 2, source.choice([18, 1, source.getrandbits(8)]), 0x1B, 0xFF][: form.length - 1]
        if op == 0x03:
            parameters = [0xAF, source.choice([2, 2, 3])]
        script += [out(0x3F5, 1, byte) for byte in (op | source.getrandbits(8) & form.modifiers, *parameters)]
        script += [Access("in", 0x3F4, 1, 0), *([Access("in", 0x3F5, 1, 0)] * source.choice([7, 7, 0, 600]))]
        script += [out(0x3F5, 1, source.getrandbits(8))] * source.choice([0, 0, 0, 600])
        script += [out(0x3F5, 1, 0x08), *([Access("in", 0x3F5, 1, 0)] * 2)]
        script += [Access("event", 0, 4, source.getrandbits(32))] * source.choice([0, 0, 1])
    return script[:count]


def vga_script(source: random.Random, count: int) -> list[Access]:
    """Modes set by the register, memory moved through the planes, colours, the display interface."""
    script: list[Access] = []
    pick, bits = source.choice, source.getrandbits
    while len(script) < count:
        what = source.randrange(7)
        if what == 0:
            script += [out(0x3C2, 1, pick([0x67, 0x63, bits(8)]))]
            script += [out(0x3C4, 2, index | value << 8) for index, value in enumerate(MODE_3.sequencer)]
            script += [out(0x3CE, 2, index | value << 8) for index, value in enumerate(MODE_3.graphics)]
        elif what < 3:
            script += [out(0x3C4, 2, pick([2, 4]) | pick([0x02, 0x04, 0x06, 0x0E, 0x0F, bits(8)]) << 8)]
            script += [out(0x3CE, 2, source.randrange(9) | pick([0, 1, 2, 3, 5, 0x0F, 0x40, 0xFF, bits(8)]) << 8)]
        elif what == 3:
            at = pick([0xA0000, 0xB0000, 0xB8000]) + source.randrange(0x8000)
            script += [Access(pick(["load", "store", "store"]), at, pick([1, 2, 4]), bits(32)) for _ in range(8)]
        elif what == 4:
            script += [out(0x1CE, 2, pick([*range(12), bits(16)]))]
            values = (0, 1, 0x41, 0x61, 0xE1, 4, 8, 15, 16, 24, 32, 320, 640, 200, 480, bits(16))
            script += [out(0x1CF, 2, pick(values))]
            script += [Access("in", 0x1CF, 2, 0)]
        elif what == 5:
            script += [out(0x3C8, 1, bits(8)), *(out(0x3C9, 1, bits(8)) for _ in range(3)), out(0x3C7, 1, bits(8))]
            script += [Access("in", 0x3C9, 1, 0)] * 4
        else:
            script += [Access("in", 0x3DA, 1, 0), out(0x3C0, 1, bits(6)), out(0x3C0, 1, bits(8))]
            script += [out(pick([0x3D4, 0x3B4]), 2, bits(5) | bits(8) << 8), Access("event", 0, 4, bits(24))]
    return script[:count]


def batched(source: random.Random, script: list[Access]) -> list[Access]:
    """Some of what is repeated, as the string instruction that would do it."""
    result: list[Access] = []
    at = 0
    while at < len(script):
        end = at + 1
        while end < len(script) and script[end] == script[at]:
            end += 1
        first = script[at]
        if end - at >= BATCH_MIN and first.what in ("in", "out") and source.randrange(2):
            result.append(Access({"in": "ins", "out": "outs"}[first.what], first.address, first.width, end - at))
        else:
            result += script[at:end]
        at = end
    return result
