"""What a machine without firmware starts with, at power-on and again at every reset."""

from __future__ import annotations

from pathlib import Path

import pytest

from ringfence.errors import BadInput
from tests.vmx.machines import machine, run_source
from tests.vmx.programs import assemble
from tests.vmx.test_linux import bzimage
from vmx import runner
from vmx.linux import Initrd, LinuxImage
from vmx.loader import load_program
from vmx.machine import Machine
from vmx.machine_config import MachineConfig
from vmx.program import LinuxProgram, ToyProgram
from vmx.stop import StopKind

LIMIT_S = 60
RSDP, RSDP_BYTES = b"RSD PTR ", 20


def rsdp_in(made: Machine) -> int:
    """Where ACPI's root pointer is, found as a kernel looks for it: 16-byte steps in E0000-FFFFF, checksum 0."""
    low = made.memory.read(0xE0000, 0x20000)
    (found,) = [
        at
        for at in range(0, len(low), 16)
        if low.startswith(RSDP, at) and sum(low[at : at + RSDP_BYTES]) & 0xFF == 0
    ]
    return 0xE0000 + found


def test_a_program_finds_firmware_s_tables_below_1_mib_and_all_memory_above_is_its_own(tmp_path: Path) -> None:
    with machine() as made:
        run_source("hlt", tmp_path, made)
        rsdt = int.from_bytes(made.memory.read(rsdp_in(made) + 16, 4), "little")
        assert made.memory.read(rsdt, 4) == b"RSDT" and rsdt < 1 << 20
        assert made.memory.read(0x102000, 14 << 20) == bytes(14 << 20)


def test_a_reset_puts_the_program_into_memory_again(tmp_path: Path) -> None:
    """It changes its own data and its code, resets the machine, and finds both as they were."""
    source = """
        mov $0x9000, %edi
        incl (%edi)
        cmpl $1, data
        jne 8f
        movl $2, data
        cmpl $3, (%edi)
        je 7f
        movb $0xf4, _start
        mov $6, %al
        mov $0xcf9, %edx
        out %al, (%dx)
    9:  jmp 9b
    8:  mov $1, %al
        out %al, $0xf4
    7:  mov $7, %al
        out %al, $0xf4
        jmp 9b
        .data
    data: .long 1
    """
    with machine() as made:
        stop = run_source(source, tmp_path, made)
        assert (stop.kind, stop.status) == (StopKind.EXITED, 7)


def test_a_reset_ends_the_run_where_that_is_wanted(tmp_path: Path) -> None:
    with machine() as made:
        made.reboots = False
        stop = run_source("mov $6, %al\nmov $0xcf9, %edx\nout %al, (%dx)\n1: jmp 1b", tmp_path, made)
        assert stop.kind is StopKind.RESET


def test_the_keyboard_controller_s_reset_pulse_is_a_reset(tmp_path: Path) -> None:
    with machine() as made:
        made.reboots = False
        assert run_source("mov $0xfe, %al\nout %al, $0x64\n1: jmp 1b", tmp_path, made).kind is StopKind.RESET


def linux(tmp_path: Path, code: bytes, ramdisk: bytes = b"") -> LinuxProgram:
    (tmp_path / "kernel").write_bytes(bzimage(code))
    (tmp_path / "initrd").write_bytes(ramdisk)
    image = LinuxImage.read(tmp_path / "kernel")
    return LinuxProgram(image, "quiet", Initrd.find(tmp_path / "initrd") if ramdisk else None)


EXIT_9 = b"\xb0\x09\xe6\xf4\xeb\xfe"


def test_a_kernel_is_entered_with_tables_at_the_top_of_memory(tmp_path: Path) -> None:
    with machine(MachineConfig(memory_mib=32)) as made:
        made.start_with(linux(tmp_path, EXIT_9))
        zero_page = made.vcpu.state.r[6]
        assert int.from_bytes(made.memory.read(zero_page + 0x70, 8), "little") == rsdp_in(made)
        rsdt = int.from_bytes(made.memory.read(rsdp_in(made) + 16, 4), "little")
        assert (32 << 20) - (64 << 10) < rsdt < 32 << 20
        made.limit_time(LIMIT_S)
        made.start()
        stop = runner.run(made)
        assert (stop.kind, stop.status) == (StopKind.EXITED, 9)


def test_an_initrd_that_has_gone_by_the_time_of_a_reset_is_refused(tmp_path: Path) -> None:
    with machine(MachineConfig(memory_mib=32)) as made:
        made.start_with(linux(tmp_path, EXIT_9, b"ramdisk" * 1000))
        (tmp_path / "initrd").unlink()
        with made.lock, pytest.raises(BadInput, match="initrd"):
            made.reset_now()


def test_symbols_are_the_program_s(tmp_path: Path) -> None:
    path = assemble(".globl _start\n_start: nop\nhere: hlt\n", tmp_path / "program")
    program = ToyProgram(load_program(path, 16 << 20))
    with machine() as made:
        made.start_with(program)
        assert made.symbols is program.symbols
        assert made.symbols.at(made.vcpu.linear_eip() + 1) == "here"
