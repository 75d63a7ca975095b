"""How fast devices answer a guest: `devices` reads registers, sends characters, reads a disc.

Ours are Python, each access an exit of the engine; the emulators' are C, called by the code that they translate. Every
character must arrive in the file at the far end of COM2, and the guest checks what it reads. Bochs is left out: its
UART sends no faster than its line, and the rest is over before the host's clock, which has to time it, could tell.
One engine beside another is told in microseconds of an access: what its way out to Python costs over the reference's.
"""

from __future__ import annotations

import struct
import tempfile
from pathlib import Path

from bench.kernel import Guest, measure_guest
from bench.peers import Attached, Bochs, GuestPeer, Ringfence
from bench.plan import Plan
from bench.rows import Better, Row, compare, median, significant
from bench.transcript import RunFailed, Transcript

SECTOR_BYTES = 2048
DISC_SECTORS = 8192
COMMAND_BYTES = 64 << 10
ACCESSES_PER_COMMAND = 100  # guests/devices reads the disc once for so many accesses of the other kinds

CDROM = "cdrom_dma"
EXITS = "exits/s"
EXIT_OVER_REFERENCE_US = 5.0  # what an exit may cost more than the reference's
UNITS = {CDROM: "MB/s", "uart_send": "characters/s"}
SCALE = {CDROM: 1e-6}
PER_REPEAT = {CDROM: COMMAND_BYTES / ACCESSES_PER_COMMAND}


def make_disc(path: Path) -> None:
    """A CD image each of whose sectors holds its own number, over and over."""
    words = SECTOR_BYTES // 4
    path.write_bytes(b"".join(struct.pack("<I", sector) * words for sector in range(DISC_SECTORS)))


def printed(fields: tuple[str, ...]) -> float:
    """Operations a second of "name operations ns", or megabytes."""
    name, operations, ns = fields
    return SCALE.get(name, 1) * int(operations) * 1e9 / int(ns)


def from_host_ns(name: str, ns: float) -> float:
    return SCALE.get(name, 1) * PER_REPEAT.get(name, 1) * 1e9 / ns


def sent(count: int) -> bytes:
    """What the guest sends through COM2."""
    return bytes(range(256)) * (count // 256) + bytes(range(count % 256))


def attached_guest(attached: Attached) -> Guest:
    def run(guest: Guest, peer: GuestPeer, count: int) -> Transcript:
        attached.serial2.write_bytes(b"")
        transcript = peer.run(guest.name, f"count={count} cdrom", attached)
        arrived = attached.serial2.read_bytes()
        if arrived != sent(count):
            raise RunFailed(f"of {count} characters sent to COM2, not all arrived, or others: {len(arrived)} came")
        return transcript

    return Guest(
        "devices", "DEVICE", lambda name: UNITS.get(name, EXITS), Better.HIGH, 1, printed, from_host_ns, run=run,
        not_beside=frozenset({Bochs.name}), by_engine=False,
    )  # fmt: skip


def exit_row(measure_name: str, engine: Ringfence, reference: Ringfence, ours_us: float, theirs_us: float) -> Row:
    """Microseconds of an exit. The aim is the ratio at which it costs EXIT_OVER_REFERENCE_US more than beside it."""
    aim = significant(theirs_us / (theirs_us + EXIT_OVER_REFERENCE_US))
    return compare(
        f"{engine.engine}.{measure_name}", "us", Better.LOW, ours_us, theirs_us, reference.name, aim=aim
    )  # fmt: skip


def add_exit_rows(plan: Plan, guest: Guest, names: list[str]) -> None:
    for engine in plan.others:
        for name in names:
            rates = [plan.kept(f"{guest.name}.{name}", who.name) for who in (engine, plan.ours)]
            if guest.unit(name) == EXITS and all(rates):
                ours, theirs = (1e6 / median(rate) for rate in rates)
                plan.rows.append(exit_row(f"{guest.name}.{name}", engine, plan.ours, ours, theirs))


def measure(plan: Plan) -> None:
    with tempfile.TemporaryDirectory(prefix="ringfence-bench-") as name:
        attached = Attached(Path(name, "disc.iso"), Path(name, "com2"))
        make_disc(attached.disc)
        guest = attached_guest(attached)
        add_exit_rows(plan, guest, measure_guest(plan, guest, plan.effort.device_count))
