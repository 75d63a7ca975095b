"""Debian's SeaBIOS, unpatched: its self-test, its screen, its boot menu."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from hw.i440bx_spec import ID_440BX, ID_440FX, PAM0, PAM_LOCKED
from tests.realguests.guest import CONFIG, Guest, built, running, with_drives

VERSION = "SeaBIOS (version 1.16.2-debian-1.16.2-1)"
VENDOR_AND_DEVICE, DEVICE = (0, 4), (2, 2)  # offset and width of a read
PAM_UNLOCKED = 0x30
MENU_WAIT_MS = 600_000  # longer than any host is slow
MakeIso = Callable[..., Path]


def menu_shown(guest: Guest) -> bool:
    return guest.shows("Select boot device:")


def test_the_self_test_finds_the_board(seabios: Path, data_iso: Path, tmp_path: Path) -> None:
    disk = tmp_path / "disk.img"
    disk.write_bytes(bytes(16 << 20))
    with running(with_drives(CONFIG, disk=disk, cd=data_iso)) as guest:
        guest.until(lambda: b"No bootable device" in guest.log, "SeaBIOS gives up on a disk and a CD without loader")
        (post,) = guest.posts()
        screen = guest.screen()
    for line in (
        "Found QEMU fw_cfg", "QEMU fw_cfg DMA interface supported", "Found 6 PCI devices (max PCI bus is 01)",
        "PIIX3/PIIX4 init: elcr=00 0c", "Using pmtimer, ioport 0x608", "Found 1 cpu(s) max supported 1 cpu(s)",
        "Found 2 serial ports", "Found 1 lpt ports", "PS2 keyboard initialized", "Running option rom at c000:0003",
        "set VGA mode 3", "Booting from Hard Disk...", "Booting from DVD/CD...",
    ):  # fmt: skip
        assert line in post.splitlines(), f"{line}: not in\n{post}"
    assert "ata0-0: VMware Virtual IDE Hard Drive ATA-" in post
    assert "DVD/CD [ata1-0: VMware Virtual IDE CDROM Drive ATAPI-" in post
    assert screen[0] == VERSION
    assert "Booting from Hard Disk..." in screen and any("No bootable device" in row for row in screen)


def test_the_bridge_is_a_440fx_until_the_shadow_is_locked(seabios: Path) -> None:
    """SeaBIOS looks for the 82441FX when it unlocks and locks the shadow. What comes after it sees a 440BX."""
    reads: list[tuple[int, int]] = []  # PAM0, and the device id that was read then
    with built() as guest:
        bridge = guest.machine.board.bridge
        config_read = bridge.config_read

        def recorded(offset: int, width: int) -> int:
            value = config_read(offset, width)
            if (offset, width) in (DEVICE, VENDOR_AND_DEVICE):
                reads.append((bridge.state.config[PAM0], value >> 16 if width == 4 else value))
            return value

        bridge.config_read = recorded  # type: ignore[method-assign]
        guest.start()
        guest.until(lambda: b"No bootable device" in guest.log, "SeaBIOS gives up without drives")
        with guest.machine.lock:
            assert config_read(*DEVICE) == ID_440BX and bridge.state.config[PAM0] == PAM_LOCKED
    assert len(reads) >= 3 and set(reads) == {(0, ID_440FX), (PAM_UNLOCKED, ID_440FX)}, reads


def test_firmware_speaks_on_the_serial_port_if_told_to(seabios: Path) -> None:
    with built() as guest:
        guest.machine.board.fw_cfg.add_file("etc/sercon-port", (0x3F8).to_bytes(2, "little"))
        guest.start()
        guest.expect(VERSION)
        guest.expect("No bootable device.")


def test_the_boot_menu_is_worked_by_the_keyboard(isolinux_iso: MakeIso, tmp_path: Path) -> None:
    """The disk comes first in the boot order; what the menu chooses starts instead."""
    disk = tmp_path / "disk.img"
    disk.write_bytes(bytes(16 << 20))
    config = replace(CONFIG, boot_delay_ms=MENU_WAIT_MS)
    with running(with_drives(config, disk=disk, cd=isolinux_iso("686", "end=poweroff"))) as guest:
        guest.until(lambda: guest.shows("Press ESC for boot menu."), "the offer of a menu")
        guest.press("esc")
        guest.until(lambda: menu_shown(guest) and guest.shows("2. DVD/CD"), "the menu")
        assert any(row.startswith("1. ata0-0: VMware Virtual IDE Hard Drive") for row in guest.screen())
        guest.press("2")
        guest.expect("ISOLINUX 6.04")
        assert "Booting from Hard Disk" not in guest.log.decode("latin-1")
