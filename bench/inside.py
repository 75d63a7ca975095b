"""Measured inside this process, on a machine of our own: instructions of a workload, and exits to a Python device."""

from __future__ import annotations

import os
import re
import struct
import time
from pathlib import Path

from bench.peers import MEMORY_MIB
from bench.plan import Plan
from bench.rows import absolute, median
from bench.transcript import RunFailed
from guests.builder import build
from hw.uart_spec import COM1
from vmx import runner
from vmx.attachments import Attachments
from vmx.loader import Image, Piece, load_program
from vmx.machine import Machine
from vmx.machine_config import MachineConfig
from vmx.serial import open_serial
from vmx.stop import StopKind

LINE_STATUS = 5  # the UART register that a polling driver reads
PROGRAM_GPA = 0x100000
SMALL, LARGE = 1, 11  # percent of the usual work
FEWER = 10


def run_inside(engine: str, image: Image, command_line: str) -> tuple[int, int, str]:
    """(instructions in user mode, host ns, what was printed). Raises RunFailed unless the program exits with 0."""
    reads, writes = os.pipe()
    with os.fdopen(reads, "rb") as printed:
        serial = open_serial(f"file:/proc/self/fd/{writes}", lambda _: None)
        machine = Machine(MachineConfig(MEMORY_MIB, engine), Attachments((serial,)))
        try:
            machine.load(image, command_line)
            machine.start()
            started = time.perf_counter_ns()
            stop = runner.run(machine)
            ns = time.perf_counter_ns() - started
            instructions = int(machine.vcpu.stats.insns_user)
        finally:
            machine.close()
            os.close(writes)
        text = printed.read().decode("ascii", "replace")
    if stop.kind is not StopKind.EXITED or stop.status != 0:
        raise RunFailed(f"{image.name} {command_line}: {stop.line()}")
    return instructions, ns, text


def instructions_of(engine: str, workload: str) -> float:
    """User-mode instructions in one operation of a workload of `compute`, as the difference of two runs."""
    path = build("compute")
    counted = []
    for scale in (SMALL, LARGE):
        image = load_program(Path(path), MEMORY_MIB << 20)
        instructions, _, text = run_inside(engine, image, f"only={workload} scale={scale}")
        found = re.search(rf"COMPUTE {workload} \w+ (\d+)", text)
        if not found:
            raise RunFailed(f"compute only={workload} printed no COMPUTE line")
        counted.append((instructions, int(found[1])))
    (few, few_ops), (many, many_ops) = counted
    return (many - few) / (many_ops - few_ops)


def port_reader(port: int, count: int) -> Image:
    """A plain program that reads a byte from a port so many times and then exits with 0."""
    code = b"\xb9" + struct.pack("<I", count)  # movl count, %ecx
    code += b"\xba" + struct.pack("<I", port)  # movl port, %edx
    code += b"\xec\x49\x75\xfc"  # 1: inb %dx, %al; decl %ecx; jnz 1b
    code += b"\x30\xc0\xe6\xf4\xf4"  # xorb %al, %al; outb %al, $0xF4; hlt
    return Image("port reader", (Piece(PROGRAM_GPA, code, len(code)),), PROGRAM_GPA, multiboot=False)


def measure(plan: Plan) -> None:
    """Exits per second: a guest polls the line status register of COM1, a device in Python."""
    name, many = "exits.uart ns", plan.effort.exit_count
    few = many // FEWER
    for repetition in range(plan.effort.repetitions):
        plan.say(f"exits {repetition + 1}/{plan.effort.repetitions}")
        try:
            images = (port_reader(COM1 + LINE_STATUS, count) for count in (few, many))
            few_ns, many_ns = (run_inside(plan.ours.engine, image, "")[1] for image in images)
        except RunFailed as error:
            plan.errors.append(f"exits: {error}")
            return
        plan.keep(name, plan.ours.name, (many_ns - few_ns) / (many - few))
    ns = median(plan.kept(name, plan.ours.name))
    plan.rows.append(absolute(f"{plan.ours.engine}.exits.uart_read", "exits/s", 1e9 / ns))
