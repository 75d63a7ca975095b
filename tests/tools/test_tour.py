"""The README's tour is what a run prints: every line of it, numbers and addresses aside, in its order."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from tests.tools.test_demonstration import demonstration
from tests.vmx.programs import assemble

README = Path(__file__).resolve().parents[2] / "README.md"
FENCED = re.findall(r"^```(\w*)\n(.*?)^```$", README.read_text(encoding="utf-8"), re.M | re.S)
BLOCKS = [text for language, text in FENCED if not language]  # those marked as text were captured elsewhere
COMMANDS = {block.splitlines()[0].removeprefix("$ "): block for block in BLOCKS if block.startswith("$ ringfence run ")}
MINIOS = next(block for block in BLOCKS if "minios>" in block)
BROKEN = """
    .globl _start
    .type _start, @function
    .type inner, @function
    .type deep, @function
    _start: mov $0x1234, %eax
    call inner
    hlt
    inner: push %ebp
    mov %esp, %ebp
    call deep
    pop %ebp
    ret
    deep: push %ebp
    mov %esp, %ebp
    int3
    ud2
    """


def shape(line: str) -> str:
    """Without what differs between hosts and compilers: numbers, addresses, offsets."""
    return re.sub(r"\s+", " ", re.sub(r"\b(0x)?[0-9a-f]*\d[0-9a-f]*([.,]\d+)*\b", "N", line)).strip()


def assert_told(block: list[str], output: str) -> None:
    lines = iter([shape(line) for line in output.splitlines()])
    for line in block:
        if line != "...":
            assert shape(line) in lines, f"{line!r} is not printed, or not there"


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_of_the_tour_prints_what_it_says(command: str, tmp_path: Path) -> None:
    assemble(BROKEN, tmp_path / "broken.elf")
    words = [str(tmp_path / word) if word == "broken.elf" else word for word in shlex.split(command)[1:]]
    done = subprocess.run([sys.executable, "-m", "tools.ringfence", *words], capture_output=True, text=True, timeout=60)
    assert_told(COMMANDS[command].splitlines()[1:], done.stdout + done.stderr)


def test_the_demonstration_prints_what_the_tour_says() -> None:
    command = [sys.executable, "-m", "tools.ringfence", "run", "minios", "--timeout", "60"]
    done = subprocess.run(command, input=demonstration(), capture_output=True, text=True, timeout=60)
    assert_told(MINIOS.splitlines(), done.stdout)


def test_the_tour_is_found() -> None:
    assert len(COMMANDS) == 3
