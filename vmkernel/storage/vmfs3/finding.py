"""One thing that is wrong with a volume: what, where, expected, found, and the writes that mend it.

A place is a byte of the logical volume, or of one device for what lies outside of it. The mending writes are decided
while the whole volume is in view; repair only carries them out.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any


class Fault(StrEnum):
    """Kinds of findings."""

    LVM = "logical volume"
    SUPERBLOCK = "superblock"
    HEARTBEAT = "heartbeat"
    RESOURCE_FILE = "resource file"
    CLUSTER = "resource cluster"
    LOST = "lost space"
    FREE = "free space in use"
    SHARED = "doubly used space"
    DESCRIPTOR = "file descriptor"
    ADDRESS = "address"
    COUNT = "count"
    DIRECTORY = "directory"
    LINKS = "link count"
    ORPHAN = "file without a name"
    LOCK = "stale lock"
    JOURNAL = "journal"


# Nothing that was written can be read wrong because of it: a host that died leaves these behind.
HARMLESS = frozenset({Fault.LOST, Fault.LOCK, Fault.HEARTBEAT, Fault.JOURNAL})


@dataclass(frozen=True, slots=True)
class Patch:
    """Bytes to write. `device` is the number of one of the volume's devices; None: the logical volume."""

    offset: int
    data: bytes
    device: int | None = None


@dataclass(frozen=True, slots=True)
class Separate:
    """A copy of its own for the file whose address word lies at `word` and holds `address`, which others use too."""

    word: int
    address: int


@dataclass(frozen=True, slots=True)
class Replay:
    """What a dead host's heartbeat slot needs: its journal replayed, its locks broken, the slot cleared."""

    slot: int


Mend = Patch | Separate | Replay


@dataclass(frozen=True, slots=True)
class Finding:
    """`subject` is the structure or file that it concerns. `plan` says what a repair does; empty: it leaves it."""

    fault: Fault
    offset: int
    subject: str
    what: str
    expected: str
    found: str
    plan: str = ""
    mends: tuple[Mend, ...] = field(default=(), repr=False)
    device: int | None = None

    @property
    def is_harmless(self) -> bool:
        return self.fault in HARMLESS

    @property
    def can_be_mended(self) -> bool:
        return bool(self.plan)

    @property
    def where(self) -> str:
        return f"LV {self.offset:#x}" if self.device is None else f"device {self.device} {self.offset:#x}"

    def __str__(self) -> str:
        return (
            f"{self.where}: {self.fault}: {self.subject}: {self.what}: expected {self.expected}, found {self.found}"
        )

    def facts(self) -> dict[str, Any]:
        """As JSON has it."""
        return {
            "fault": str(self.fault), "offset": self.offset, "device": self.device, "subject": self.subject,
            "what": self.what, "expected": self.expected, "found": self.found, "harmless": self.is_harmless,
            "plan": self.plan,
        }  # fmt: skip


FINDINGS_MAX = 500  # of one kind; what is more is counted


class Findings:
    """Those of one check, in the order in which they were found. What is counted only is mended too."""

    def __init__(self) -> None:
        self._found: list[Finding] = []
        self._count: dict[Fault, int] = {}
        self._more: dict[Fault, list[Finding]] = {}

    def add(
        self, fault: Fault, offset: int, subject: str, what: str, expected: object, found: object,
        plan: str = "", *mends: Mend, device: int | None = None,
    ) -> None:  # fmt: skip
        one = Finding(fault, offset, subject, what, str(expected), str(found), plan, mends, device)
        self._count[fault] = self._count.get(fault, 0) + 1
        if self._count[fault] <= FINDINGS_MAX:
            self._found.append(one)
        else:
            self._more.setdefault(fault, []).append(one)

    def __len__(self) -> int:
        return sum(self._count.values())

    def all(self, names: dict[str, str] | None = None) -> list[Finding]:
        """`names`: paths by the titles of descriptors, put before them."""
        found = self._found + [self._rest(fault, rest) for fault, rest in self._more.items()]
        return [named(one, names) for one in found] if names else found

    @staticmethod
    def _rest(fault: Fault, rest: list[Finding]) -> Finding:
        first = rest[0]
        mends = tuple(mend for one in rest for mend in one.mends)
        plan = next((one.plan for one in rest if one.plan), "")
        return Finding(fault, first.offset, "and more", "likewise", "none", f"{len(rest)} more", plan, mends)


TITLE = re.compile(r"FD <\d+,\d+>")


def named(finding: Finding, names: dict[str, str]) -> Finding:
    """The same, with the paths of the files that it speaks of."""

    def name(match: re.Match[str]) -> str:
        title = match[0]
        return f"{names[title]} ({title})" if title in names else title

    return replace(finding, subject=TITLE.sub(name, finding.subject), found=TITLE.sub(name, finding.found))
