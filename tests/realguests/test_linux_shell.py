"""A shell on ttyS0: what is typed there, and how it ends the machine."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.realguests import iso
from tests.realguests.guest import PROMPT, Guest, linux, running, with_drives
from vmx.stop import StopKind

MakeBoot = Callable[[str, str], iso.Boot]
END_OF_FILE = "\x04"
SHELL = "mods=ata_piix,sr_mod,isofs settle=0 checks=none end=shell"


@pytest.fixture
def shell(raw_boot: MakeBoot, data_iso: Path) -> Iterator[Guest]:
    with running(with_drives(cd=data_iso), linux(raw_boot("686", SHELL))) as guest:
        guest.expect(PROMPT)
        yield guest


def test_a_shell_answers_and_the_machine_reboots_and_powers_off(shell: Guest) -> None:
    assert shell.ask("echo $((6 * 7))") == "42"
    assert shell.ask("cat /proc/sys/kernel/ostype") == "Linux"
    shell.ask("mount -t iso9660 /dev/sr0 /mnt")
    expected = iso.data_sums()["megabyte"]
    assert shell.ask("sha256sum </mnt/megabyte") == f"{expected}  -"
    for length in (16, 17, 2000):  # a UART's FIFO, and more
        shell.send("echo Ready; wc -c\n")
        shell.expect("\r\nReady\r\n")
        shell.send(f"{'x' * length}\n{END_OF_FILE}")
        shell.expect(f"{'x' * length}\r\n{length + 1}\r\n{PROMPT}")
    shell.send("reboot -f\n")
    shell.expect("reboot: Restarting system")
    shell.expect("userland")
    shell.expect(PROMPT)
    assert shell.ask("ls /mnt") == ""
    shell.send("poweroff -f\n")
    shell.ended(StopKind.POWERED_OFF)
