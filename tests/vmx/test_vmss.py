"""The container of suspended machines: read by volatility3, which knows VMware's, and against damage."""

from __future__ import annotations

import os
import random
import zlib
from dataclasses import replace
from pathlib import Path

import pytest

from ringfence.errors import BadInput
from tests.vmx.machines import LIMIT_S, machine
from tests.vmx.programs import assemble
from vmkernel.storage.block_file import BlockFile
from vmm.layout_spec import VcpuState
from vmx import runner
from vmx.loader import load_program
from vmx.machine_config import MachineConfig
from vmx.stop import StopKind
from vmx.suspend import open_saved, restore, suspend_soon
from vmx.vmss import PAGE, Container, Group, Tag, pack, read_container

CONFIG = MachineConfig(memory_mib=8, vcpus=2)
RAM_BYTES = 8 << 20
SEEN = (0x9000, 0x123456, 0x400000, RAM_BYTES - 5)  # the last byte, and places across pages

# Writes a word to each place, turns paging on with CR3 = 200000h, and waits.
PROGRAM = """
.globl _start
_start:
    movl $0x9abcdef1, 0x9000
    movl $0x9abcdef2, 0x123456
    movl $0x9abcdef3, 0x400000
    movl $0x9abcdef4, 0x7ffffb
    movb $0x99, 0x7fffff
    movl $0x83, 0x200000
    movl $0x400083, 0x200004
    mov $0x200000, %eax
    mov %eax, %cr3
    mov $0x10, %eax
    mov %eax, %cr4
    mov %cr0, %eax
    or $0x80000000, %eax
    mov %eax, %cr0
    movb $1, 0x9010
1:  jmp 1b
"""


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A machine of two vCPUs, suspended while it runs."""
    folder = tmp_path_factory.mktemp("saved")
    path = folder / "m.vmss"
    asked: list[bool] = []
    failures: list[Exception] = []
    with machine(CONFIG) as made:
        made.load(load_program(assemble(PROGRAM, folder / "program"), RAM_BYTES))

        def ask(_: object) -> None:
            if not asked and made.memory.read(0x9010, 1) == b"\1":
                asked.append(True)
                suspend_soon(made, path, failures.append)

        made.limit_time(LIMIT_S)
        made.start()
        assert runner.run(made, ask).kind is StopKind.SUSPENDED and not failures
    return path


def value_at(index: int) -> bytes:
    return (0x9ABCDEF1 + index).to_bytes(4, "little")


@pytest.mark.filterwarnings("ignore")
def test_volatility_reads_the_regions_and_the_guest_s_memory(saved: Path) -> None:
    """Its layer for VMware takes the regions from the .vmss file, and the bytes from a .vmem file beside it."""
    contexts = pytest.importorskip("volatility3.framework.contexts", reason="needs volatility3")
    from volatility3.framework.layers import physical, vmware

    container, fd = read(saved)
    (saved.with_suffix(".vmem")).write_bytes(os.pread(fd, container.large_bytes, container.large_offset))
    os.close(fd)
    context = contexts.Context()
    context.config["base.location"] = saved.with_suffix(".vmem").as_uri()
    context.add_layer(physical.FileLayer(context, "base", "base"))
    layer = vmware.VmwareStacker.stack(context, "base")
    assert layer is not None
    assert (layer.minimum_address, layer.maximum_address) == (0, RAM_BYTES - 1)
    for index, gpa in enumerate(SEEN):
        assert layer.read(gpa, 4) == value_at(index)
    layer.destroy()
    for name in list(context.layers):
        context.layers[name].destroy()


def read(path: Path) -> tuple[Container, int]:
    file = BlockFile.open(path, lock=False)
    return read_container(file, str(path)), file.fd


def tags_of_others(data: bytes, group: str) -> dict[tuple[str, tuple[int, ...]], bytes]:
    """The tags of a group by the rules of Volatility 2's reader, which counts a block's padding."""
    count = int.from_bytes(data[8:12], "little")
    rows = [data[12 + 80 * index :][:80] for index in range(count)]
    (at,) = [int.from_bytes(row[64:72], "little") for row in rows if row[:64].rstrip(b"\0") == group.encode()]
    tags = {}
    while data[at : at + 2] != b"\0\0":
        flags, length = data[at], data[at + 1]
        name = data[at + 2 : at + 2 + length].decode()
        at += 2 + length
        indices = tuple(int.from_bytes(data[at + 4 * n :][:4], "little") for n in range(flags >> 6))
        at += 4 * len(indices)
        size = flags & 0x3F
        if size in {62, 63}:
            size = int.from_bytes(data[at : at + 8], "little")
            at += 18 + int.from_bytes(data[at + 16 : at + 18], "little")
        tags[name, indices] = data[at : at + size]
        at += size
    return tags


def test_what_a_reader_looks_for_is_under_its_name_and_index(saved: Path) -> None:
    data = saved.read_bytes()
    memory, cpu = tags_of_others(data, "memory"), tags_of_others(data, "cpu")
    assert int.from_bytes(memory["regionsCount", ()], "little") == 1
    ram = memory["Memory", (0, 0)]
    assert len(ram) == RAM_BYTES == int.from_bytes(memory["regionSize", (0,)], "little") * PAGE
    assert [ram[gpa : gpa + 4] for gpa in SEEN] == [value_at(index) for index in range(len(SEEN))]
    assert cpu["CR", (0, 3)] == (0x200000).to_bytes(4, "little")
    assert cpu["CR", (0, 4)] == (0x10).to_bytes(4, "little")
    assert cpu["CR", (0, 0)][3] & 0x80, "paging is on"
    assert ("CR", (1, 3)) in cpu


def test_the_large_block_begins_at_a_page_wherever_the_tags_end(tmp_path: Path) -> None:
    for length in (0, 1, 61, 62, 4000, 4095, 4096, 5000):
        meta = pack((Group("a", (Tag("x", bytes(length)),)), Group("memory", ())), 3 * PAGE)
        path = tmp_path / f"{length}"
        path.write_bytes(meta + bytes(3 * PAGE) + b"\0\0")
        container, fd = read(path)
        os.close(fd)
        assert container.large_offset == len(meta) and len(meta) % PAGE == 0
        assert container.value("", "a", "x") == bytes(length)


def test_no_damage_to_the_tags_is_anything_but_bad_input(saved: Path, tmp_path: Path) -> None:
    """Random bytes with the checksum made right again would be another file; so here it mostly is wrong."""
    data = saved.read_bytes()[: 64 << 10]
    rng = random.Random(5)
    path = tmp_path / "bad.vmss"
    for _ in range(300):
        bad = bytearray(data)
        for _ in range(rng.randrange(1, 8)):
            bad[rng.randrange(12 if rng.random() < 0.5 else 2000)] = rng.choice((0, 1, 0x3E, 0x7F, 0xC0, 0xFF))
        path.write_bytes(bad[: rng.choice((len(bad), rng.randrange(len(bad))))])
        with BlockFile.open(path, lock=False) as file, pytest.raises(BadInput, match=r"bad\.vmss"):
            read_container(file, str(path))


def test_a_vcpu_that_does_what_no_vcpu_does_is_refused(saved: Path, tmp_path: Path) -> None:
    """The checksum made right: a file from elsewhere, not a damaged one."""
    data = bytearray(saved.read_bytes())
    container, fd = read(saved)
    os.close(fd)
    with machine(CONFIG) as made:
        place = made.state.offsets["vcpu1"] + VcpuState.activity.offset
    state = container.value("", "Ringfence", "state")
    at = data.index(state) + place
    data[at : at + 4] = (77).to_bytes(4, "little")
    data[4:8] = zlib.crc32(data[12 : container.large_offset]).to_bytes(4, "little")
    (tmp_path / "odd.vmss").write_bytes(data)
    odd = open_saved(tmp_path / "odd.vmss")
    same = replace(CONFIG, uuid=bytes.fromhex(odd.facts["uuid"]))
    with machine(same) as made, pytest.raises(BadInput, match=r"activity of vcpu1: expected one of .*found 77"):
        restore(made, odd)
    odd.close()
