"""From SeaBIOS through a boot loader to Linux: ISOLINUX and GRUB, from CD and from hard disk."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from tests.realguests.guest import CONFIG, Guest, running, with_drives
from vmx.stop import StopKind

CD_MODULES = "mods=ata_piix,sr_mod,isofs settle=0"
QUICK = "mods=none checks=none"
MakeIso = Callable[..., Path]


def until_boot(post: str, device: str) -> list[str]:
    """A self-test's log as far as the loader of this device. Drives and keyboard are found in any order."""
    return sorted(post[: post.index(f"Booting from {device}...")].splitlines())


def booted_twice(guest: Guest, device: str) -> None:
    """The guest was reset, and firmware says of the machine what it said after power-on."""
    guest.until(lambda: f"Booting from {device}" in "".join(guest.posts()[1:]), f"a second start from {device}")
    first, second = guest.posts()
    assert until_boot(second, device) == until_boot(first, device)


def test_isolinux_boots_linux_from_cd_and_a_reboot_starts_over(isolinux_iso: MakeIso) -> None:
    image = isolinux_iso("686", f"{CD_MODULES} checks=cdrom,pci,complaints end=reboot")
    with running(with_drives(CONFIG, cd=image)) as guest:
        guest.expect("ISOLINUX 6.04")
        guest.expect("ALL DONE")
        booted_twice(guest, "DVD/CD")
        transcript = guest.transcript
    assert transcript.sums.keys() >= {"isolinux/isolinux.bin", "isolinux/ldlinux.c32", "isolinux/isolinux.cfg"}
    assert transcript.pci["00:00.0"] == ("0600", "8086:7190")
    assert "reboot: Restarting system" in transcript.text
    assert not transcript.complaints


def test_grub_boots_linux_from_cd(grub_iso: MakeIso) -> None:
    with running(with_drives(CONFIG, cd=grub_iso("686-pae", f"{QUICK} end=poweroff"))) as guest:
        guest.expect("GRUB read its configuration")
        guest.expect("ALL DONE")
        guest.ended(StopKind.POWERED_OFF)
        assert not guest.transcript.complaints


@pytest.mark.long
def test_grub_boots_linux_from_hard_disk(grub_iso: MakeIso, tmp_path: Path) -> None:
    disk = tmp_path / "disk.img"
    shutil.copy(grub_iso("686", f"{QUICK} end=reboot"), disk)
    with running(with_drives(CONFIG, disk=disk)) as guest:
        guest.expect("GRUB read its configuration")
        guest.expect("ALL DONE")
        booted_twice(guest, "Hard Disk")
        assert not guest.transcript.complaints


@pytest.mark.long
@pytest.mark.parametrize("how", ["kbd", "pci"], ids=["keyboard controller", "port CF9"])
def test_a_reset_by_any_port_starts_over(how: str, isolinux_iso: MakeIso) -> None:
    image = isolinux_iso("686", f"{QUICK} reboot={how} end=reboot")
    with running(with_drives(CONFIG, cd=image)) as guest:
        guest.expect("ALL DONE")
        booted_twice(guest, "DVD/CD")
        guest.expect("ALL DONE")


@pytest.mark.long
@pytest.mark.parametrize("flavour", ["686", "686-pae"])
def test_four_processors_are_started_after_firmware(flavour: str, isolinux_iso: MakeIso) -> None:
    image = isolinux_iso(flavour, f"{CD_MODULES} end=poweroff")
    with running(with_drives(replace(CONFIG, vcpus=4), cd=image)) as guest:
        guest.expect("ALL DONE")
        guest.ended(StopKind.POWERED_OFF)
        assert "Found 4 cpu(s) max supported 4 cpu(s)" in guest.posts()[0]
        assert guest.transcript.cpus == 4
        assert not guest.transcript.complaints
