"""The programs that judge the tables: ACPICA's compiler and interpreter, dmidecode, and SeaBIOS in QEMU."""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import subprocess
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

LEGACY_PROCESSOR = 3168  # iasl: "Legacy Processor() keyword detected", which ACPI 1.0 has no other word for
QEMU = "qemu-system-i386"
SEABIOS_TIMEOUT_S = 60


def need(program: str, package: str) -> str:
    """Its path. Skips without it; where a missing peer would go unnoticed (CI is set), fails."""
    if found := shutil.which(program) or shutil.which(program, path="/usr/sbin"):
        return found
    reason = f"{program} (Debian: {package}) is not installed, so nobody else judges the tables"
    if os.environ.get("CI"):
        pytest.fail(reason)
    pytest.skip(reason)


def run(command: Sequence[str], folder: Path) -> str:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, f"{' '.join(command)}: {done.stdout}{done.stderr}"
    return done.stdout + done.stderr


def compile_asl(source: str, folder: Path) -> bytes:
    """The definition block that iasl makes of it, as written: no constant folded, no name shortened."""
    (folder / "source.asl").write_text(
        f'DefinitionBlock ("", "DSDT", 1, "RNGFNC", "TEST", 1)\n{{\n{source}\n}}\n', encoding="ascii"
    )
    run([need("iasl", "acpica-tools"), "-of", "-on", "-vw", str(LEGACY_PROCESSOR), "source.asl"], folder)
    return (folder / "source.aml").read_bytes()[36:]


def disassemble(table: bytes, folder: Path, name: str = "table") -> str:
    """What iasl reads in a table; it must compile again without a warning."""
    iasl = need("iasl", "acpica-tools")
    (folder / f"{name}.aml").write_bytes(table)
    said = run([iasl, "-d", f"{name}.aml"], folder)
    assert "Warning" not in said and "Error" not in said, said
    text = (folder / f"{name}.dsl").read_text(encoding="ascii")
    for sign in ("Invalid checksum", "Invalid table", "Unknown", "*****", "should be"):
        assert sign not in text, f"{name}: iasl says {sign}"
    said = run([iasl, "-p", f"{name}-again", "-vw", str(LEGACY_PROCESSOR), f"{name}.dsl"], folder)
    assert re.search(r"0 Errors, 0 Warnings", said), said
    return text


def evaluate(dsdt: bytes, folder: Path, *commands: str) -> list[str]:
    """What ACPICA's interpreter, the one that Linux has, answers to each command of its debugger."""
    acpiexec = need("acpiexec", "acpica-tools")
    (folder / "dsdt.aml").write_bytes(dsdt)
    said = run([acpiexec, "-b", ";".join([*commands, "quit"]), "dsdt.aml"], folder)
    assert "ACPI Error" not in said and "Warning" not in said, said
    assert "No outstanding allocations" in said
    parts = re.split(r"^Evaluating .*$", said, flags=re.M)
    assert len(parts) == len(commands) + 1, said
    return parts[1:]


def integers(text: str) -> list[int]:
    return [int(found, 16) for found in re.findall(r"\[Integer\] = ([0-9A-F]+)", text)]


def dmidecode(entry_point: bytes, structures: bytes, folder: Path) -> str:
    """A dump as dmidecode makes it: the entry point in the first 32 bytes, the structures behind."""
    (folder / "dmi.bin").write_bytes(entry_point.ljust(32, b"\0") + structures)
    return run([need("dmidecode", "dmidecode"), "--from-dump", "dmi.bin"], folder)


class Qmp:
    """QEMU's machine protocol: one JSON value a line; whatever is no answer is passed over."""

    def __init__(self, control: socket.socket) -> None:
        control.settimeout(SEABIOS_TIMEOUT_S)
        self.control = control
        self.lines = control.makefile("r", encoding="utf-8")

    def ask(self, command: str, **arguments: Any) -> None:
        self.control.sendall(json.dumps({"execute": command, "arguments": arguments}).encode())
        for line in self.lines:
            answer = json.loads(line)
            assert "error" not in answer, answer
            if "return" in answer:
                return
        pytest.fail(f"QEMU hung up on {command}")

    def read_memory(self, gpa: int, size: int, folder: Path) -> bytes:
        target = folder / f"memory-{gpa:x}"
        self.ask("pmemsave", val=gpa, size=size, filename=str(target))
        return target.read_bytes()


def place_by_seabios(
    files: Mapping[str, bytes], vcpus: int, memory_mib: int, ranges: Sequence[tuple[int, int]], folder: Path
) -> list[bytes]:
    """Have SeaBIOS carry out a table loader script, in a QEMU without ACPI tables of its own; then these ranges."""
    options = []
    for index, (name, data) in enumerate(files.items()):
        (folder / f"file{index}").write_bytes(data)
        options += ["-fw_cfg", f"name={name},file={folder}/file{index}"]
    command = [
        need(QEMU, "qemu-system-x86"), "-M", "pc,acpi=off", "-accel", "tcg", "-m", str(memory_mib),
        "-smp", str(vcpus), "-display", "none", "-vga", "none", "-nic", "none",
        "-chardev", "stdio,id=log", "-device", "isa-debugcon,iobase=0x402,chardev=log",
        "-qmp", f"unix:{folder}/qmp", *options,
    ]  # fmt: skip
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(folder / "qmp"))
        listener.listen(1)
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as qemu:
            late = threading.Timer(SEABIOS_TIMEOUT_S, qemu.kill)
            late.start()
            try:
                assert qemu.stdout is not None
                log = []
                for line in qemu.stdout:
                    log.append(line)
                    if "parse DSDT" in line:
                        break
                else:
                    pytest.fail(f"SeaBIOS came to no DSDT: {''.join(log)}")
                control, _ = listener.accept()
                with control:
                    qmp = Qmp(control)
                    qmp.ask("qmp_capabilities")
                    found = [qmp.read_memory(gpa, size, folder) for gpa, size in ranges]
                    qmp.lines.close()
                    return found
            finally:
                late.cancel()
                qemu.kill()
