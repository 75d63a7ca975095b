"""Whole machines running small programs: what reaches the devices, and how a run ends."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from ringfence.errors import BadOption
from tests.vmx.machines import machine, run, run_source
from vmm._core import ffi, lib
from vmm.interrupts import Event
from vmm.vcpu import ExitKind, TraceKind, Vcpu
from vmx.dump import dump
from vmx.machine import Machine
from vmx.machine_config import MachineConfig
from vmx.stats import stats_text
from vmx.stop import StopKind
from vmx.trace import TraceWriter

PRINT = """
    mov $0x3f8, %dx
    mov $'H', %al
    out %al, (%dx)
    mov $'i', %al
    out %al, (%dx)
"""
EXIT_7 = "mov $7, %al\nout %al, $0xf4\n1: jmp 1b\n"


def test_output_and_exit_status(tmp_path: Path) -> None:
    with machine() as made:
        stop = run_source(PRINT + EXIT_7, tmp_path, made)
        assert (stop.kind, stop.status) == (StopKind.EXITED, 7)
        assert made.serial.output == b"Hi"  # type: ignore[attr-defined]


def test_string_output_reaches_the_device_unit_by_unit(tmp_path: Path) -> None:
    source = """
        mov $text, %esi
        mov $26, %ecx
        mov $0x3f8, %dx
        cld
        rep outsb
        mov $0x402, %dx
        mov $3, %ecx
        mov $text, %esi
        rep outsb
    """
    text = '\ntext: .ascii "abcdefghijklmnopqrstuvwxyz"\n'
    with machine() as made:
        run_source(source + EXIT_7 + text, tmp_path, made)
        assert made.serial.output == b"abcdefghijklmnopqrstuvwxyz"  # type: ignore[attr-defined]
        assert made.debug_log == b"abc"  # type: ignore[attr-defined]


def test_string_input_of_an_absent_port_is_ones(tmp_path: Path) -> None:
    source = """
        mov %esp, %edi
        sub $64, %edi
        mov $5, %ecx
        mov $0x300, %dx
        cld
        rep insw
        cmpl $0xffffffff, -64(%esp)
        jne 2f
        cmpw $0xffff, -56(%esp)
        je 3f
    2:  mov $1, %al
        out %al, $0xf4
    3:
    """
    with machine() as made:
        assert run_source(source + EXIT_7, tmp_path, made).status == 7


def test_serial_input_arrives_by_polling(tmp_path: Path) -> None:
    source = """
        mov $0x3fc, %dx
        mov $3, %al
        out %al, (%dx)
        xor %ebx, %ebx
    2:  mov $0x3fd, %dx
        in (%dx), %al
        test $1, %al
        jz 2b
        mov $0x3f8, %dx
        in (%dx), %al
        out %al, (%dx)
        cmp $'.', %al
        jne 2b
    """
    with machine(typed=b"many more characters than a FIFO holds.") as made:
        run_source(source + EXIT_7, tmp_path, made)
        assert made.serial.output == b"many more characters than a FIFO holds."  # type: ignore[attr-defined]


def test_halting_with_interrupts_off_ends_the_run(tmp_path: Path) -> None:
    with machine() as made:
        assert run_source("cli\nhlt\n", tmp_path, made).kind is StopKind.HALTED


def test_an_nmi_that_comes_while_all_are_looked_at_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """Both processors halt for good but for NMIs; the second wakes the first and halts while that is found out."""
    with machine(MachineConfig(memory_mib=16, vcpus=2)) as made:
        first, second = made.vcpus
        first.state.activity = lib.ACT_HALTED

        def looked_at() -> Iterator[Vcpu]:
            yield first
            made.interrupts.state.events[0] |= Event.NMI
            second.state.activity = lib.ACT_HALTED
            yield second

        monkeypatch.setattr(Machine, "vcpus", property(lambda self: looked_at()))
        assert made.can_be_woken()


def test_a_halt_with_interrupts_on_waits_for_the_timer(tmp_path: Path) -> None:
    """An IDT with one gate, the PIT at 100 Hz: three ticks, then the end."""
    source = """
        lgdt gdtr
        ljmp $8, $2f
    2:  mov $16, %ax
        mov %ax, %ds
        mov %ax, %ss
        mov $tick, %eax
        mov %ax, idt + 0x20 * 8
        shr $16, %eax
        mov %ax, idt + 0x20 * 8 + 6
        movl $0x8e00, idt + 0x20 * 8 + 4
        mov $tick, %eax
        shr $16, %eax
        mov %ax, idt + 0x20 * 8 + 6
        movw $8, idt + 0x20 * 8 + 2
        lidt idtr
        mov $0x11, %al
        out %al, $0x20
        out %al, $0xa0
        mov $0x20, %al
        out %al, $0x21
        mov $0x28, %al
        out %al, $0xa1
        mov $4, %al
        out %al, $0x21
        mov $2, %al
        out %al, $0xa1
        mov $1, %al
        out %al, $0x21
        out %al, $0xa1
        mov $0xfe, %al
        out %al, $0x21
        mov $0x34, %al
        out %al, $0x43
        mov $0x9b, %al
        out %al, $0x40
        mov $0x2e, %al
        out %al, $0x40
        sti
    3:  hlt
        cmpl $3, ticks
        jb 3b
    """
    data = """
    tick: incl ticks
        push %eax
        mov $0x20, %al
        out %al, $0x20
        pop %eax
        iret
    .data
    .align 8
    gdt: .quad 0, 0x00cf9b000000ffff, 0x00cf93000000ffff
    gdtr: .word 23
        .long gdt
    idtr: .word 0x21 * 8 - 1
        .long idt
    ticks: .long 0
    .align 8
    idt: .skip 0x21 * 8
    """
    with machine() as made:
        stop = run_source(source + EXIT_7 + data, tmp_path, made)
        assert (stop.kind, stop.status) == (StopKind.EXITED, 7)
        assert made.vcpu.stats.interrupts == 3
        assert made.vcpu.stats.ns_halted > 15_000_000


def test_acpi_power_off(tmp_path: Path) -> None:
    source = """
        mov $0xcf8, %dx
        mov $0x80003b40, %eax
        out %eax, (%dx)
        mov $0xcfc, %dx
        mov $0x1001, %eax
        out %eax, (%dx)
        mov $0xcf8, %dx
        mov $0x80003b80, %eax
        out %eax, (%dx)
        mov $0xcfc, %dx
        mov $1, %al
        out %al, (%dx)
        mov $0x1004, %dx
        mov $0x2000, %ax
        out %ax, (%dx)
    1:  jmp 1b
    """
    with machine() as made:
        stop = run_source(source, tmp_path, made)
        assert (stop.kind, stop.status) == (StopKind.POWERED_OFF, 0)


def test_the_backdoor_answers(tmp_path: Path) -> None:
    source = """
        mov $0x564d5868, %eax
        mov $10, %ecx
        xor %ebx, %ebx
        mov $0x5658, %edx
        in (%dx), %eax
        cmp $6, %eax
        jne 2f
        cmp $0x564d5868, %ebx
        jne 2f
        cmp $2, %ecx
        je 3f
    2:  mov $1, %al
        out %al, $0xf4
    3:
    """
    with machine() as made:
        assert run_source(source + EXIT_7, tmp_path, made).status == 7
        assert made.vcpu.stats.exits[ExitKind.HYPERCALL] == 1


def test_a_triple_fault_is_dumped_with_names(tmp_path: Path) -> None:
    source = """
        mov $0x12345678, %ebx
        call doom
        hlt
    doom:
        push %ebp
        mov %esp, %ebp
    bang: ud2
    """
    with machine() as made:
        stop = run_source(source, tmp_path, made)
        assert (stop.kind, stop.detail) == (StopKind.SHUTDOWN, 6)
        text = dump(made.vcpu, made.symbols)
    assert "EBX=12345678" in text
    assert "<bang>" in text
    assert "ud2" in text
    assert "<_start+0xa>" in text, "the back-trace names the caller"


def test_the_time_limit_stops_a_loop(tmp_path: Path) -> None:
    with machine() as made:
        made.deadline_ns = 0
        made.limit_time = lambda seconds: None  # type: ignore[method-assign]
        assert run_source("1: jmp 1b\n", tmp_path, made).kind is StopKind.TIMED_OUT


def test_traces_name_ports_and_symbols(tmp_path: Path) -> None:
    lines: list[str] = []
    config = MachineConfig(memory_mib=16, trace=TraceKind.IO)
    with machine(config) as made:
        run_source("here: " + PRINT + EXIT_7, tmp_path, made)
        TraceWriter(made.symbols, lines.append).drain(made.vcpu)
    assert "out port 03f8 <- 48" in lines[0]
    assert "<here+0x" in lines[0] or "<_start+0x" in lines[0]


def test_statistics_count_what_ran(tmp_path: Path) -> None:
    with machine() as made:
        run_source(PRINT + EXIT_7, tmp_path, made)
        text = stats_text(made.vcpu.stats, 1.0)
        assert made.vcpu.stats.exits[ExitKind.IO] == 3
    assert "exits               IO 3" in text
    assert "system mode         100.0 % of instructions" in text


def test_firmware_begins_at_the_reset_vector() -> None:
    """64 KiB whose last 16 bytes jump back to code that writes to the debug port and exits."""
    code = (
        b"\xba\x02\x04\xb0\x52\xee\xb0\x05\xe6\xf4\xeb\xfe"  # mov dx,402h; mov al,'R'; out dx,al; mov al,5; out f4h,al
    )
    rom = bytearray(65536)
    rom[: len(code)] = code
    rom[0xFFF0:0xFFF5] = b"\xea\x00\x00\x00\xf0"  # jmp f000:0000, where the same bytes appear below 1 MiB
    with machine(firmware=bytes(rom)) as made:
        stop = run(made)
        assert (stop.kind, stop.status) == (StopKind.EXITED, 5)
        assert made.debug_log == b"R"  # type: ignore[attr-defined]


def test_devices_claim_no_port_of_the_core() -> None:
    with machine() as made:
        for claim in made.board.ports.claims():
            for port in range(claim.first, claim.first + claim.count):
                assert not lib.intr_port_owned(port, made.interrupts.page)


@pytest.mark.parametrize("memory_mib", [-1, 0, 1, 3073, 1 << 40])
def test_impossible_memory_sizes(memory_mib: int) -> None:
    with pytest.raises(BadOption, match="--mem"):
        MachineConfig(memory_mib=memory_mib).check()


def test_a_posted_action_runs_soon_and_under_the_lock(tmp_path: Path) -> None:
    seen: list[bool] = []
    with machine() as made:
        made.post(lambda: seen.append(made.lock.locked()))
        made.post(made.power_off)
        assert run_source("1: jmp 1b\n", tmp_path, made).kind is StopKind.POWERED_OFF
    assert seen == [True]


def test_the_world_image_is_an_elf_or_absent() -> None:
    image = bytes(ffi.buffer(lib.world_image, lib.world_image_size))
    assert image == b"" or image[:4] == b"\x7fELF"
