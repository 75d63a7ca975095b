"""Guest physical memory: slots, loader and debugger access, DMA, and what the host is asked for."""

from __future__ import annotations

import fcntl
import itertools
import mmap
import os
import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from ringfence.errors import HostRefused, RingfenceError
from vmm._core import ffi, lib
from vmm.memory import (
    PAGE_SIZE,
    BadSlot,
    GuestMemory,
    NoMemoryThere,
    NotWritable,
    PmapState,
    Region,
    SlotKind,
    check_host,
)


@pytest.fixture
def memory() -> Iterator[GuestMemory]:
    """4 MiB of RAM with a hole for a screen, and 16 pages of device memory."""
    with GuestMemory(1024, 16) as made:
        made.map_ram(0, 0xA0)
        made.map_framebuffer(0xA0, 8, made.allocate_dev(8))
        made.map_ram(0xC0, 1024 - 0xC0)
        yield made


def stamps(memory: GuestMemory, first_ppn: int, pages: int) -> list[int]:
    return [int(stamp) for stamp in memory.stamps[first_ppn : first_ppn + pages]]


# ---- what the core sees ----------------------------------------------------------------------------------------------


def test_struct_machine_describes_the_arrays(memory: GuestMemory) -> None:
    machine = ffi.cast("struct machine *", ffi.from_buffer(memory.pages.bytes))
    assert (machine.version, machine.vcpus) == (lib.RF_MACHINE_VERSION, 1)
    assert (machine.ram_pages, machine.dev_pages) == (1024, 16)
    ends = sorted(
        (offset, offset + width * 1024)
        for offset, width in ((machine.stamps, 4), (machine.codemap, 8), (machine.flags, 1), (machine.pmap, 8))
    )
    assert ends[0][0] >= ffi.sizeof("struct machine")
    assert all(before[1] <= after[0] for before, after in itertools.pairwise(ends))
    assert ends[-1][1] <= memory.pages.size
    assert all(offset % 8 == 0 for offset, _ in ends)


def test_arrays_are_where_the_core_looks(memory: GuestMemory) -> None:
    base = ffi.from_buffer(memory.pages.bytes)
    machine = ffi.cast("struct machine *", base)
    memory.stamps[1023], memory.pmap[1023], memory.flags[1023] = 0xFFFFFFFF, 0x12345003, lib.PG_TRACED
    assert ffi.cast("uint32_t *", base + machine.stamps)[1023] == 0xFFFFFFFF
    assert ffi.cast("uint64_t *", base + machine.pmap)[1023] == 0x12345003
    assert ffi.cast("uint8_t *", base + machine.flags)[1023] == lib.PG_TRACED


def test_memory_is_sealed_against_shrinking(memory: GuestMemory) -> None:
    assert fcntl.fcntl(memory.ram.fd, fcntl.F_GET_SEALS) & fcntl.F_SEAL_SHRINK
    with pytest.raises(PermissionError):
        os.ftruncate(memory.ram.fd, PAGE_SIZE)


def test_another_mapping_of_the_file_sees_the_bytes(memory: GuestMemory) -> None:
    memory.write(0x5000, b"here")
    with mmap.mmap(memory.ram.fd, memory.ram.size) as other:
        assert other[0x5000:0x5004] == b"here"


def test_untouched_memory_costs_nothing() -> None:
    with GuestMemory(1 << 18) as memory:  # 1 GiB
        memory.map_ram(0, 1 << 18)
        assert os.fstat(memory.ram.fd).st_blocks == 0
        memory.write(0x3FFFF000, b"\1")
        assert os.fstat(memory.ram.fd).st_blocks * 512 <= 2 << 20


# ---- slots -----------------------------------------------------------------------------------------------------------


def test_slots_are_sorted_and_neighbours_are_joined(memory: GuestMemory) -> None:
    memory.map_ram(0xB0, 0x10)
    memory.map_mmio(0xFEE00, 1)
    memory.map_ram(0xA8, 8)
    assert memory.regions == (
        Region(0, 0xA0, SlotKind.RAM),
        Region(0xA0, 8, SlotKind.FRAMEBUFFER, True, 0),
        Region(0xA8, 1024 - 0xA8, SlotKind.RAM, file_page=0xA8),
        Region(0xFEE00, 1, SlotKind.MMIO),
    )
    assert memory.machine.slot_count == 4
    assert [memory.machine.slots[i].first_ppn for i in range(4)] == [0, 0xA0, 0xA8, 0xFEE00]


def test_pam_switches_between_rom_and_ram(memory: GuestMemory) -> None:
    rom = memory.allocate_dev(4)
    memory.dev_view(rom, 4)[0:4] = b"BIOS"
    memory.write(0xE0000, b"RAM.")
    memory.map_rom(0xE0, 4, rom)
    assert memory.read(0xE0000, 4) == b"BIOS"
    with pytest.raises(NotWritable):
        memory.write(0xE0000, b"x")
    memory.map_ram(0xE0, 4)
    assert memory.read(0xE0000, 4) == b"RAM."
    memory.map_shadow_rom(0xE0, 4)
    assert memory.read(0xE0000, 4) == b"RAM."
    with pytest.raises(NotWritable):
        memory.write(0xE0000, b"x")


def test_a_changed_slot_bumps_the_generation_and_the_stamps_below_it(memory: GuestMemory) -> None:
    generation, before = memory.machine.slot_generation, stamps(memory, 0xDF, 6)
    memory.map_rom(0xE0, 4, memory.allocate_dev(4))
    assert memory.machine.slot_generation == generation + 1
    assert stamps(memory, 0xDF, 6) == [before[0], *(stamp + 1 for stamp in before[1:5]), before[5]]


def test_slot_generation_wraps(memory: GuestMemory) -> None:
    memory.machine.slot_generation = 0xFFFFFFFF
    memory.unmap(0x10, 1)
    assert memory.machine.slot_generation == 0


@pytest.mark.parametrize(
    ("first", "pages", "dev_page"),
    [(0, 0, 0), (0, -1, 0), (-1, 4, 0), (1 << 28, 1, 0), (0xF0, 17, 0), (0xF0, 4, 13), (0xF0, 4, -1)],
)
def test_an_impossible_slot_changes_nothing(memory: GuestMemory, first: int, pages: int, dev_page: int) -> None:
    regions, generation = memory.regions, memory.machine.slot_generation
    with pytest.raises(BadSlot):
        memory.map_rom(first, pages, dev_page)
    assert (memory.regions, memory.machine.slot_generation) == (regions, generation)


def test_ram_above_the_top_is_refused(memory: GuestMemory) -> None:
    with pytest.raises(BadSlot, match="below 0x400"):
        memory.map_ram(1020, 5)


def test_the_table_has_an_end() -> None:
    with GuestMemory(1024) as memory:
        for n in range(lib.RF_SLOTS):
            memory.map_mmio(4 * n, 1)
        with pytest.raises(BadSlot, match="at most 64"):
            memory.map_mmio(4 * lib.RF_SLOTS, 1)
        assert memory.machine.slot_count == lib.RF_SLOTS


def test_device_memory_has_an_end(memory: GuestMemory) -> None:
    assert memory.allocate_dev(8) == 8
    with pytest.raises(BadSlot):
        memory.allocate_dev(1)


def test_any_sequence_of_mappings_gives_what_the_last_one_said() -> None:
    """Against a plain array of what each page should be."""
    rng = random.Random(5)
    with GuestMemory(64, 64) as memory:
        pages: list[tuple[SlotKind, bool, int]] = [(SlotKind.NONE, False, 0)] * 64
        for _ in range(2000):
            first = rng.randrange(64)
            count = rng.randint(1, 64 - first)
            dev = rng.randint(0, 64 - count)
            kind = rng.choice(("ram", "rom", "mmio", "framebuffer", "hidden", "shadow_rom", "none"))
            rows: dict[str, tuple[SlotKind, bool, int]] = {
                "ram": (SlotKind.RAM, False, first),
                "rom": (SlotKind.ROM, True, dev),
                "mmio": (SlotKind.MMIO, False, 0),
                "framebuffer": (SlotKind.FRAMEBUFFER, True, dev),
                "hidden": (SlotKind.RAM, True, dev),
                "shadow_rom": (SlotKind.ROM, False, first),
                "none": (SlotKind.NONE, False, 0),
            }
            if kind == "none":
                memory.unmap(first, count)
            elif kind in {"ram", "mmio", "shadow_rom"}:
                getattr(memory, f"map_{kind}")(first, count)
            else:
                getattr(memory, f"map_{kind}")(first, count, dev)
            row = rows[kind]
            step = row[0] not in {SlotKind.MMIO, SlotKind.NONE}
            for n in range(count):
                pages[first + n] = (row[0], row[1], row[2] + n * step)
            seen = [(SlotKind.NONE, False, 0)] * 64
            last = 0
            for i in range(memory.machine.slot_count):
                slot = memory.machine.slots[i]
                assert slot.first_ppn >= last
                last = slot.first_ppn + slot.pages
                step = slot.kind not in {SlotKind.MMIO, SlotKind.NONE}
                for n in range(slot.pages):
                    seen[slot.first_ppn + n] = (SlotKind(slot.kind), bool(slot.in_dev), slot.file_page + n * step)
            assert seen == pages


# ---- reading and writing ---------------------------------------------------------------------------------------------


def test_a_read_crosses_slots(memory: GuestMemory) -> None:
    memory.write(0x9FFFE, b"ab" + b"cd")
    assert memory.read(0x9FFFE, 4) == b"abcd"
    assert bytes(memory.ram.bytes[0x9FFFE:0xA0000]) == b"ab"
    assert bytes(memory.dev_view(0, 1)[:2]) == b"cd"
    assert memory.dirty[0] == 1
    assert memory.dirty[1] == 0


@pytest.mark.parametrize(
    ("gpa", "length"),
    [(0xA8000, 1), (0xA7FFF, 2), (0x3FFFFF, 2), (0x400000, 1), (-1, 1), (0, -1), (1 << 40, 1), (1 << 70, 4)],
)
def test_no_memory_there(memory: GuestMemory, gpa: int, length: int) -> None:
    with pytest.raises(NoMemoryThere):
        memory.read(gpa, length)
    if length > 0:
        before = bytes(memory.ram.bytes[0x3FF000:])
        with pytest.raises(RingfenceError):
            memory.write(gpa, b"z" * length)
        assert bytes(memory.ram.bytes[0x3FF000:]) == before


def test_the_error_names_the_first_address_without_memory(memory: GuestMemory) -> None:
    with pytest.raises(NoMemoryThere, match="0xa8000"):
        memory.read(0xA7FF0, 0x100)


def test_mmio_is_not_memory(memory: GuestMemory) -> None:
    memory.map_mmio(0x10, 1)
    with pytest.raises(NoMemoryThere):
        memory.read(0x10000, 4)


def test_nothing_is_read_from_an_empty_range(memory: GuestMemory) -> None:
    assert memory.read(0xA8000, 0) == b""
    memory.write(0xA8000, b"")


def test_a_write_bumps_its_pages(memory: GuestMemory) -> None:
    memory.stamps[:] = 0xFFFFFFFF
    memory.write(0x1FFF, b"ab")
    assert stamps(memory, 0, 4) == [0xFFFFFFFF, 0, 0, 0xFFFFFFFF]


# ---- DMA -------------------------------------------------------------------------------------------------------------


def test_dma_views_are_memory_itself(memory: GuestMemory, tmp_path: Path) -> None:
    source = tmp_path / "disk"
    source.write_bytes(bytes(range(256)) * 64)
    with source.open("rb") as disk, memory.dma(0x9FF00, 0x1000, write=True) as views:
        assert [len(view) for view in views] == [0x100, 0xF00]
        assert os.preadv(disk.fileno(), views, 0x80) == 0x1000
    assert memory.read(0x9FF00, 0x1000) == source.read_bytes()[0x80:0x1080]


def test_dma_is_one_view_where_the_file_is_contiguous(memory: GuestMemory) -> None:
    with memory.dma(0x100000, 0x200000, write=False) as views:
        assert [len(view) for view in views] == [0x200000]


def test_stamps_move_on_leaving_a_dma_that_writes(memory: GuestMemory) -> None:
    before = stamps(memory, 0, 4)
    with memory.dma(0x1800, 0x1000, write=True) as views:
        views[0][:4] = b"data"
        assert stamps(memory, 0, 4) == before
    assert stamps(memory, 0, 4) == [before[0], before[1] + 1, before[2] + 1, before[3]]


def test_stamps_move_even_when_the_transfer_fails(memory: GuestMemory) -> None:
    before = stamps(memory, 1, 1)
    with pytest.raises(OSError, match="medium"), memory.dma(0x1000, 16, write=True) as views:
        views[0][:4] = b"half"
        raise OSError("medium")
    assert stamps(memory, 1, 1) == [before[0] + 1]
    assert not memory.is_pinned(1)


def test_stamps_stay_when_a_device_only_reads(memory: GuestMemory) -> None:
    before = stamps(memory, 0, 1024)
    with memory.dma(0, 0x4000, write=False):
        pass
    assert stamps(memory, 0, 1024) == before


def test_views_end_with_the_block(memory: GuestMemory) -> None:
    with memory.dma(0x1000, 16, write=True) as views:
        pass
    with pytest.raises(ValueError, match="released"):
        views[0][0] = 1


def test_what_a_device_stores_to_rom_is_lost(memory: GuestMemory) -> None:
    rom = memory.allocate_dev(1)
    memory.map_rom(0xF0, 1, rom)
    with memory.dma(0xEFFFF, 2, write=True) as views:
        views[0][0], views[1][0] = 1, 2
    assert memory.read(0xEFFFF, 2) == b"\1\0"


def test_dma_to_the_screen_dirties_it(memory: GuestMemory) -> None:
    with memory.dma(0xA1FFF, 2, write=True):
        pass
    assert memory.dirty[:4].tolist() == [0, 1, 1, 0]


def test_pages_are_pinned_during_dma(memory: GuestMemory) -> None:
    with memory.dma(0x1FFF, 2, write=False), memory.dma(0x2000, 1, write=True):
        assert [memory.is_pinned(ppn) for ppn in range(5)] == [False, True, True, False, False]
    assert not memory.is_pinned(2)


def test_a_page_that_is_away_is_brought_back_first(memory: GuestMemory) -> None:
    asked: list[tuple[int, bool]] = []

    def bring_back(ppn: int, write: bool) -> None:
        asked.append((ppn, write))
        memory.pmap[ppn] = PmapState.PRIVATE

    memory.pmap[2], memory.pmap[3] = PmapState.SWAPPED | 7 << 12, PmapState.BALLOONED
    with pytest.raises(NoMemoryThere):
        memory.read(0x2000, 1)
    memory.missing = bring_back
    with memory.dma(0x1000, 0x4000, write=True):
        assert asked == [(2, True), (3, True)]


def test_dma_finds_what_was_mapped_since_the_latest_one(memory: GuestMemory) -> None:
    with memory.dma(0x101000, 16, write=True) as views:
        views[0][:] = b"r" * 16
    memory.unmap(0x101, 1)
    with pytest.raises(NoMemoryThere), memory.dma(0x101000, 16, write=True):
        pass
    with memory.dma(0x100000, 16, write=False):
        pass
    memory.map_ram(0x101, 1)
    with memory.dma(0x100FF8, 24, write=False) as views:
        assert b"".join(views) == bytes(8) + b"r" * 16


def test_dma_out_of_memory_transfers_nothing(memory: GuestMemory) -> None:
    with pytest.raises(NoMemoryThere), memory.dma(0x3FF000, 0x2000, write=True):
        pytest.fail("the block must not be entered")
    assert stamps(memory, 1023, 1) == [1]  # from the mapping


# ---- the host --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("ram_pages", "vcpus"), [(0, 1), (-5, 1), (1 << 40, 1), (16, 0), (16, 5)])
def test_impossible_machines_are_one_line(ram_pages: int, vcpus: int) -> None:
    with pytest.raises(HostRefused) as caught:
        GuestMemory(ram_pages, vcpus=vcpus)
    assert "\n" not in str(caught.value)


def test_more_than_the_host_has_is_refused(tmp_path: Path) -> None:
    meminfo = tmp_path / "meminfo"
    meminfo.write_text("MemTotal:  1024 kB\nMemFree: 5 kB\nSwapTotal: 1024 kB\n")
    check_host(2 << 20, meminfo)
    with pytest.raises(HostRefused, match="at most 2 MiB"):
        check_host((2 << 20) + 1, meminfo)


def test_a_host_that_refuses_leaves_no_descriptor_open(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(fd: int, size: int) -> None:
        raise OSError(12, "Cannot allocate memory")

    before = len(os.listdir("/proc/self/fd"))
    monkeypatch.setattr(os, "ftruncate", refuse)
    with pytest.raises(HostRefused, match="Cannot allocate memory"):
        GuestMemory(16)
    assert len(os.listdir("/proc/self/fd")) == before


def test_close_gives_everything_back() -> None:
    before = len(os.listdir("/proc/self/fd"))
    memory = GuestMemory(16, 4)
    view = memory.dev_view(0, 1)
    memory.close()
    memory.close()
    assert len(os.listdir("/proc/self/fd")) <= before + 1
    view.release()
    del view, memory
    assert len(os.listdir("/proc/self/fd")) == before


def test_enums_are_the_headers() -> None:
    assert {f"SLOT_{kind.name}" for kind in SlotKind} == set(ffi.typeof("enum slot_kind").relements)
    assert {f"PMAP_{state.name}" for state in PmapState} == set(ffi.typeof("enum pmap_state").relements)
