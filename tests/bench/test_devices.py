"""The guest `devices` beside a peer: what arrives is what was sent, what is read is what is on the disc."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.devices import CDROM, UNITS, attached_guest, from_host_ns, make_disc, printed, sent
from bench.peers import Attached, GuestPeer, Ringfence, Tcg
from bench.transcript import Line, RunFailed, Transcript
from tests.guests.qemu import need_qemu

OPERATIONS = ["uart_read", "uart_send", "vga_write", "vga_read", CDROM]
COUNT = 1000


@pytest.fixture
def attached(tmp_path: Path) -> Attached:
    found = Attached(tmp_path / "disc.iso", tmp_path / "com2")
    make_disc(found.disc)
    return found


class Silent:
    """A peer whose guest sends nothing."""

    name, clock, clock_can_follow = "silent", "none", False

    def version(self) -> str:
        return "none"

    def run(self, guest: str, command_line: str, attached: Attached | None = None) -> Transcript:
        return Transcript(0, (Line(1, "DONE 0 passed, 0 failed"),))


@pytest.mark.parametrize("peer", [Ringfence("interp"), Tcg()], ids=lambda peer: peer.name)
def test_every_operation_is_measured_and_checked(peer: GuestPeer, attached: Attached) -> None:
    if isinstance(peer, Tcg):
        need_qemu()
    transcript = attached_guest(attached).run(attached_guest(attached), peer, COUNT)
    spans = transcript.spans("DEVICE")
    assert [span.fields[0] for span in spans] == OPERATIONS
    assert all(printed(span.fields) > 0 for span in spans)
    passed = {line.text for line in transcript.lines if line.text.startswith("PASS")}
    assert passed >= {"PASS planes_are_apart", "PASS every_stored_byte_is_read", "PASS every_sector_is_in_its_place"}


def test_a_character_that_is_lost_fails_the_run(attached: Attached) -> None:
    guest = attached_guest(attached)
    with pytest.raises(RunFailed, match="0 came"):
        guest.run(guest, Silent(), COUNT)


def test_rates_are_per_second_and_a_disc_is_in_megabytes() -> None:
    assert printed(("uart_read", "1000", "2000000")) == 500_000
    assert printed((CDROM, "64000000", "500000000")) == pytest.approx(128)
    assert from_host_ns("uart_read", 2000) == 500_000
    assert from_host_ns(CDROM, 655.36) == pytest.approx(1000)  # a hundredth of 64 KiB for each repeat
    assert UNITS[CDROM] == "MB/s"


def test_the_characters_count_up() -> None:
    assert sent(3) == b"\x00\x01\x02"
    assert sent(257)[254:] == b"\xfe\xff\x00"


def test_each_sector_of_the_disc_holds_its_number(attached: Attached) -> None:
    content = attached.disc.read_bytes()
    assert len(content) == 8192 * 2048
    assert content[5 * 2048 : 5 * 2048 + 8] == b"\x05\x00\x00\x00" * 2
