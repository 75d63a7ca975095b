"""The memory-mapped space: priorities, splitting, unclaimed memory."""

import random

import pytest

from hw.mmio import MmioSpace


class Recorder:
    """Remembers accesses; each byte reads as the low byte of its offset."""

    def __init__(self, base: int = 0) -> None:
        self.base = base
        self.log: list[tuple[str, int, int, int]] = []

    def mmio_read(self, offset: int, width: int) -> int:
        value = int.from_bytes(bytes(self.base + offset + index & 0xFF for index in range(width)), "little")
        self.log.append(("r", offset, width, value))
        return value

    def mmio_write(self, offset: int, width: int, value: int) -> None:
        self.log.append(("w", offset, width, value))


@pytest.mark.parametrize("width", [1, 2, 4, 8, 10, 16])
def test_unclaimed_memory_reads_ones_of_the_access_width(width: int) -> None:
    space = MmioSpace()
    assert space.read(0xFED00000, width) == (1 << 8 * width) - 1
    space.write(0xFED00FFF, width, 0)
    assert sum(space.stats.unclaimed.values()) == 2 * width
    assert (space.stats.reads, space.stats.writes) == (1, 1)


def test_an_access_inside_one_word_of_the_data_path_is_not_split() -> None:
    space, device = MmioSpace(), Recorder()
    space.map(0xF0000000, 0x1000, device)
    assert space.read(0xF0000004, 4) == 0x07060504
    space.write(0xF0000009, 2, 0xBEEF)
    assert device.log[1:] == [("w", 9, 2, 0xBEEF)]


def test_an_access_across_words_is_done_in_aligned_pieces_lowest_first() -> None:
    space, device = MmioSpace(), Recorder()
    space.map(0xF0000000, 0x1000, device)
    space.write(0xF0000003, 4, 0x44332211)
    assert device.log == [("w", 3, 1, 0x11), ("w", 4, 2, 0x3322), ("w", 6, 1, 0x44)]
    assert space.read(0xF0000010, 16) == int.from_bytes(bytes(range(0x10, 0x20)), "little")


def test_a_byte_wide_device_sees_bytes() -> None:
    space, device = MmioSpace(), Recorder()
    space.map(0xA0000, 0x20000, device, width=1)
    assert space.read(0xA0000, 4) == 0x03020100
    assert [entry[2] for entry in device.log] == [1, 1, 1, 1]


def test_the_end_of_a_region_is_where_ones_begin() -> None:
    space = MmioSpace()
    space.map(0x1000, 2, Recorder())
    assert space.read(0xFFF, 4) == 0xFF0100FF


def test_the_higher_priority_answers_and_what_it_covered_comes_back() -> None:
    space, low, high = MmioSpace(), Recorder(), Recorder(0x80)
    space.map(0x10000, 0x3000, low)
    window = space.map(0x11000, 0x1000, high, priority=1)
    assert [space.read(gpa, 1) for gpa in (0x10FFF, 0x11000, 0x11FFF, 0x12000)] == [0xFF, 0x80, 0x7F, 0x00]
    assert [(span.first, span.end) for span in space.spans] == [
        (0x10000, 0x11000), (0x11000, 0x12000), (0x12000, 0x13000),
    ]  # fmt: skip
    space.unmap(window)
    assert [(span.first, span.end) for span in space.spans] == [(0x10000, 0x13000)]


def test_of_equals_the_earlier_answers() -> None:
    space = MmioSpace()
    first = space.map(0x1000, 0x1000, Recorder())
    space.map(0x1800, 0x1000, Recorder(0x80))
    assert space.read(0x1800, 1) == 0
    assert space.read(0x2000, 1) == 0x80
    space.unmap(first)
    assert space.read(0x1800, 1) == 0x80


def test_random_regions_agree_with_a_byte_by_byte_search() -> None:
    source = random.Random(3)
    for _ in range(30):
        space, regions = MmioSpace(), []
        for _ in range(12):
            regions.append(space.map(source.randrange(200), source.randrange(1, 60), Recorder(), width=16,
                                     priority=source.randrange(3)))  # fmt: skip
            if source.random() < 0.3:
                space.unmap(regions.pop(source.randrange(len(regions))))
        for gpa in range(280):
            candidates = [region for region in regions if region.first <= gpa < region.end]
            expected = max(candidates, key=lambda region: region.priority, default=None)
            span = space.find(gpa)
            assert (span.region if span else None) is expected


def test_a_region_that_cannot_be_is_refused() -> None:
    space = MmioSpace()
    for first, size, width in ((0, 0, 4), (-1, 4, 4), (1 << 40, 1, 4), (0, 4, 3)):
        with pytest.raises(AssertionError):
            space.map(first, size, Recorder(), width=width)
