"""What a Linux guest of init.sh said on its serial port, taken apart."""

from __future__ import annotations

import re
from dataclasses import dataclass

TOLD = re.compile(r"^T: (.*)$", re.MULTILINE)
STAMPED = re.compile(r"\[\s*(\d+\.\d+)\] (.*)")
SUM = re.compile(r"sha256 ([0-9a-f]{64})  \./(.*)")
PCI = re.compile(r"pci ([0-9a-f]{2}:[0-9a-f]{2}\.[0-7]) ([0-9a-f]{4}): ([0-9a-f]{4}:[0-9a-f]{4}) ")
INTERRUPT = re.compile(r"irq\s+(\w+):((?:\s+\d+)+)(?:\s+(.*))?")

# What a kernel says when a device or the interrupt controllers misbehave.
COMPLAINTS = (
    "lost interrupt", "timed out", "Errata on", "BUG", "Oops", "nobody cared", "MISS", "TX timeout", "purious",
    "unstable", "Kernel panic", "Call Trace", "WARNING", "unchecked MSR",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Interrupt:
    """A row of /proc/interrupts."""

    counts: tuple[int, ...]
    what: str

    @property
    def total(self) -> int:
        return sum(self.counts)


class Transcript:
    """`text` is all of it, with plain line ends; `lines` what init.sh reported, without its "T: "."""

    def __init__(self, output: bytes) -> None:
        self.text = output.decode("ascii", "replace").replace("\r\n", "\n").replace("\r", "\n")
        self.lines = TOLD.findall(self.text)

    def starting(self, word: str) -> list[str]:
        """The rest of every report that begins with this word."""
        return [line.removeprefix(word).strip() for line in self.lines if line.startswith(word)]

    def at(self, what: str) -> float:
        """The guest's uptime, in seconds, when it reported this. Raises AssertionError with the output's end."""
        for line in self.lines:
            stamped = STAMPED.fullmatch(line)
            if stamped and stamped[2].startswith(what):
                return float(stamped[1])
        raise AssertionError(f"the guest never reported {what!r}; it ended with\n{self.text[-3000:]}")

    @property
    def loaded(self) -> set[str]:
        """The modules that went in."""
        stamped = [found[2] for found in map(STAMPED.fullmatch, self.lines) if found]
        return {line.split()[1] for line in stamped if line.startswith("modprobe ") and line.endswith(" ok")}

    @property
    def cpus(self) -> int:
        return int(self.starting("kernel ")[0].rsplit(maxsplit=1)[1])

    @property
    def pci(self) -> dict[str, tuple[str, str]]:
        """(class, vendor:device) by bus address, as lspci -n writes them."""
        return {found[1]: (found[2], found[3]) for found in map(PCI.match, self.lines) if found}

    @property
    def sums(self) -> dict[str, str]:
        """SHA-256 by file name on the CD."""
        return {found[2]: found[1] for found in map(SUM.fullmatch, self.lines) if found}

    @property
    def interrupts(self) -> dict[str, Interrupt]:
        """/proc/interrupts by its first column."""
        rows = (INTERRUPT.fullmatch(line) for line in self.lines)
        return {row[1]: Interrupt(tuple(map(int, row[2].split())), row[3] or "") for row in rows if row}

    @property
    def complaints(self) -> list[str]:
        """Lines of the console, and of the kernel's log, that no healthy machine brings about."""
        lines = [line for line in self.text.splitlines() if not line.startswith("T: irq")]
        return [line for line in lines if any(word in line for word in COMPLAINTS)]
