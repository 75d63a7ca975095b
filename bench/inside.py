"""Counted inside this process, on a machine of our own: the instructions of a workload."""

from __future__ import annotations

import os
import re
from pathlib import Path

from bench.engines import COUNTING
from bench.peers import MEMORY_MIB
from bench.transcript import RunFailed
from guests.builder import build
from vmx import runner
from vmx.attachments import Attachments
from vmx.loader import Image, load_program
from vmx.machine import Machine
from vmx.machine_config import MachineConfig
from vmx.serial import open_serial
from vmx.stop import StopKind

SMALL, LARGE = 1, 11  # percent of the usual work


def run_inside(image: Image, command_line: str) -> tuple[int, str]:
    """(instructions in user mode, what was printed). Raises RunFailed unless the program exits with 0."""
    reads, writes = os.pipe()
    with os.fdopen(reads, "rb") as printed:
        serial = open_serial(f"file:/proc/self/fd/{writes}", lambda _: None)
        machine = Machine(MachineConfig(MEMORY_MIB, COUNTING), Attachments((serial,)))
        try:
            machine.load(image, command_line)
            machine.start()
            stop = runner.run(machine)
            instructions = int(machine.vcpu.stats.insns_user)
        finally:
            machine.close()
            os.close(writes)
        text = printed.read().decode("ascii", "replace")
    if stop.kind is not StopKind.EXITED or stop.status != 0:
        raise RunFailed(f"{image.name} {command_line}: {stop.line()}")
    return instructions, text


def instructions_of(workload: str) -> float:
    """User-mode instructions in one operation of a workload of `compute`, as the difference of two runs."""
    path = build("compute")
    counted = []
    for scale in (SMALL, LARGE):
        image = load_program(Path(path), MEMORY_MIB << 20)
        instructions, text = run_inside(image, f"only={workload} scale={scale}")
        found = re.search(rf"COMPUTE {workload} \w+ (\d+)", text)
        if not found:
            raise RunFailed(f"compute only={workload} printed no COMPUTE line")
        counted.append((instructions, int(found[1])))
    (few, few_ops), (many, many_ops) = counted
    return (many - few) / (many_ops - few_ops)
