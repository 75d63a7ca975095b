"""The shadow page table seen from Python, over guests that run in the interp engine."""

from __future__ import annotations

import re

import numpy as np
import pytest

from tests.vmm.core.processor import CODE, Event, Processor
from vmm._core import ffi, lib
from vmm.build_core import CORE
from vmm.shadow import DUMP, Access, PageFault, ShadowTable, SpteBit, View

DIRECTORY, TABLE, SPARE_TABLE, DIRECTORY2 = 0x80000, 0x81000, 0x82000, 0x83000
P, W, U, A, D, PS, G = 1, 2, 4, 0x20, 0x40, 0x80, 0x100
CR0_PG, CR0_WP, CR4_PSE, CR4_PGE = 0x80000000, 0x10000, 0x10, 0x80
FAR = 0x40000000  # a linear address outside the identity map, through SPARE_TABLE
DATA = 0x90000  # guest physical


class Machine(Processor):
    """Paging on; the first 4 MiB identity-mapped, supervisor; FAR mapped through SPARE_TABLE, empty at first."""

    def __init__(self) -> None:
        super().__init__()
        for page in range(1024):
            self.write32(TABLE + 4 * page, page << 12 | P | W)
        for directory in (DIRECTORY, DIRECTORY2):
            self.write32(directory, TABLE | P | W)
            self.write32(directory + 4 * (FAR >> 22), SPARE_TABLE | P | W | U)
        self.v.cr3, self.v.cr0 = DIRECTORY, self.v.cr0 | CR0_PG | CR0_WP
        self.vcpu.engine.flush()
        self.shadow = ShadowTable(self.vcpu.engine.arena())

    def run(self, source: str, bits: int = 32) -> Event | None:
        self.v.eip = CODE
        return super().run(source, bits)

    def map_far(self, page: int, bits: int, gpa: int = DATA) -> None:
        self.write32(SPARE_TABLE + 4 * page, gpa | bits)

    def far_entry(self, page: int = 0) -> int:
        return self.read32(SPARE_TABLE + 4 * page)


@pytest.fixture
def machine() -> Machine:
    return Machine()


def test_nothing_is_remembered_of_what_was_not_used(machine: Machine) -> None:
    assert machine.shadow.lookup(FAR, View.SUPERVISOR) is None
    assert machine.shadow.stats().entries == 0


def test_a_read_is_remembered_read_only_until_the_page_is_dirty(machine: Machine) -> None:
    machine.map_far(0, P | W | U)
    machine.run(f"movl {FAR}, %eax; hlt")
    found = machine.shadow.lookup(FAR + 0x123, View.SUPERVISOR)
    assert found is not None
    assert (found.vpn, found.ppn, found.mpn, found.view) == (FAR >> 12, DATA >> 12, DATA >> 12, View.SUPERVISOR)
    assert found.bits == SpteBit.P | SpteBit.X
    assert machine.far_entry() == DATA | P | W | U | A
    machine.run(f"movl $7, {FAR}; hlt")
    found = machine.shadow.lookup(FAR, View.SUPERVISOR)
    assert found is not None
    assert found.bits == SpteBit.P | SpteBit.W | SpteBit.X
    assert machine.far_entry() == DATA | P | W | U | A | D
    assert machine.read32(DATA) == 7
    assert machine.shadow.lookup(FAR, View.USER) is None


def test_page_tables_are_traced(machine: Machine) -> None:
    machine.map_far(0, P | W)
    machine.run(f"movl {FAR}, %eax; movl {SPARE_TABLE}, %eax; movl {DIRECTORY}, %eax; hlt")
    for table in (SPARE_TABLE, DIRECTORY):
        assert machine.memory.flags[table >> 12] == lib.PG_TRACED
        found = machine.shadow.lookup(table, View.SUPERVISOR)
        assert found is not None
        assert SpteBit.TRACED in found.bits
    assert machine.memory.flags[DATA >> 12] == 0


def test_a_reload_of_cr3_keeps_what_is_true(machine: Machine) -> None:
    machine.map_far(0, P | W | A | D)
    machine.map_far(1, P | W | A | D, DATA + 0x1000)
    machine.run(f"movl {FAR}, %eax; movl {FAR + 0x1000}, %eax; hlt")
    fills = machine.vcpu.stats.hidden_faults
    machine.run(f"mov %cr3, %eax; mov %eax, %cr3; movl {FAR}, %eax; movl {FAR + 0x1000}, %eax; hlt")
    assert machine.vcpu.stats.hidden_faults == fills
    assert machine.vcpu.stats.spt_kept > 0
    assert machine.vcpu.stats.spt_dropped == 0


def test_a_reload_of_cr3_forgets_what_was_changed(machine: Machine) -> None:
    machine.map_far(0, P | W)
    machine.map_far(1, P | W, DATA + 0x1000)
    machine.write32(DATA, 0x11111111)
    machine.write32(DATA + 0x2000, 0x22222222)
    machine.run(f"movl {FAR}, %eax; movl {FAR + 0x1000}, %ebx; hlt")
    fills = machine.vcpu.stats.hidden_faults
    machine.run(f"""
        movl ${DATA + 0x2000 | P | W}, {SPARE_TABLE}
        mov %cr3, %eax; mov %eax, %cr3
        movl {FAR}, %eax; movl {FAR + 0x1000}, %ebx; hlt""")
    assert machine.v.r[0] == 0x22222222
    # One fill for the store to the table's page, one for the entry that changed; its neighbour was kept.
    assert machine.vcpu.stats.hidden_faults == fills + 2


def test_two_address_spaces_are_remembered(machine: Machine) -> None:
    machine.map_far(0, P | W | A | D)
    switch = "".join(f"mov ${to}, %eax; mov %eax, %cr3; movl {FAR}, %ebx;" for to in (DIRECTORY2, DIRECTORY))
    machine.run(switch + "hlt")
    fills = machine.vcpu.stats.hidden_faults
    machine.run(switch * 10 + "hlt")
    assert machine.vcpu.stats.hidden_faults == fills
    assert machine.shadow.stats().spaces == 2


def test_a_global_page_is_shared_by_address_spaces(machine: Machine) -> None:
    machine.v.cr4 |= CR4_PGE
    machine.vcpu.engine.flush()
    machine.map_far(0, P | W | G)
    machine.run(f"movl {FAR}, %ebx; mov ${DIRECTORY2}, %eax; mov %eax, %cr3; hlt")
    found = machine.shadow.lookup(FAR, View.SUPERVISOR)
    assert found is not None
    assert SpteBit.G in found.bits
    assert machine.shadow.stats().entries_global == 1


def test_invlpg_forgets_one_page_and_a_large_page_whole(machine: Machine) -> None:
    machine.v.cr4 |= CR4_PSE
    large = 0x50000000
    machine.write32(DIRECTORY + 4 * (large >> 22), P | W | PS)
    machine.vcpu.engine.flush()
    machine.map_far(0, P | W)
    machine.map_far(1, P | W)
    machine.run(f"movl {FAR}, %eax; movl {FAR + 0x1000}, %eax; movl {large}, %eax; movl {large + 0x3FF000}, %eax; hlt")
    found = machine.shadow.lookup(large + 0x3FF000, View.SUPERVISOR)
    assert found is not None
    assert found.ppn == 0x3FF
    assert SpteBit.LARGE in found.bits
    machine.run(f"invlpg {FAR}; invlpg {large + 0x200000}; hlt")
    assert machine.shadow.lookup(FAR, View.SUPERVISOR) is None
    assert machine.shadow.lookup(FAR + 0x1000, View.SUPERVISOR) is not None
    assert machine.shadow.lookup(large, View.SUPERVISOR) is None
    assert machine.shadow.lookup(large + 0x3FF000, View.SUPERVISOR) is None


def test_without_paging_addresses_are_physical(machine: Machine) -> None:
    machine.v.cr0 &= ~CR0_PG
    machine.vcpu.engine.flush()
    machine.memory.map_mmio(0xFEE00, 1)
    machine.run(f"movl {DATA}, %eax; hlt")
    found = machine.shadow.lookup(DATA, View.SUPERVISOR)
    assert found is not None
    assert found.ppn == DATA >> 12
    assert found.bits == SpteBit.P | SpteBit.W | SpteBit.X


def test_the_dump_is_all_lookups(machine: Machine) -> None:
    for page in range(3):
        machine.map_far(page, P | W | U, DATA + (page << 12))
    machine.run(f"movl {FAR}, %eax; movl %eax, {FAR + 0x2000}; hlt")
    dump = machine.shadow.dump()
    assert dump.dtype == DUMP
    assert len(dump) == machine.shadow.stats().entries
    assert np.array_equal(np.sort(dump["vpn"]), dump["vpn"])
    far = dump[dump["vpn"] >= FAR >> 12]
    assert far["vpn"].tolist() == [FAR >> 12, (FAR >> 12) + 2]
    assert far["writable"].tolist() == [False, True]
    assert far["ppn"].tolist() == [DATA >> 12, (DATA >> 12) + 2]
    assert CODE >> 12 in dump["vpn"]
    for row in dump:
        found = machine.shadow.lookup(int(row["vpn"]) << 12, View(int(row["view"])))
        assert found is not None
        assert found.mpn == row["mpn"]
        assert bool(found.bits & SpteBit.TRACED) == row["traced"]


def test_probe_leaves_no_trace(machine: Machine) -> None:
    machine.map_far(0, P | U)
    assert machine.shadow.probe(FAR + 5) == DATA + 5
    assert machine.shadow.probe(FAR, Access.USER) == DATA
    with pytest.raises(PageFault) as caught:
        machine.shadow.probe(FAR, Access.USER | Access.WRITE)
    assert caught.value.error == Access.PRESENT | Access.WRITE | Access.USER
    with pytest.raises(PageFault, match="error code 0x2"):
        machine.shadow.probe(FAR + 0x1000, Access.WRITE)
    assert machine.far_entry() == DATA | P | U
    assert machine.shadow.stats().entries == 0


def test_bits_are_the_headers() -> None:
    header = (CORE / "engine.h").read_text()
    found = {name: int(value) for name, value in re.findall(r"\bSPTE_(\w+) = (\d+)", header)}
    assert found == {bit.name: int(bit) for bit in SpteBit}
    faults = re.search(r"enum pf \{(.*?)\}", header)
    assert faults is not None
    values = [int(value) for value in re.findall(r"= (\d+)", faults.group(1))]
    assert values == [int(bit) for bit in (Access.PRESENT, Access.WRITE, Access.USER, Access.RESERVED, Access.FETCH)]
    assert ffi.sizeof("struct shadow_entry") == 24
