"""Linux on the screen and the keyboard of the machine, and its mouse."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from hw.ps2_mouse import Buttons
from tests.realguests import fetch, iso
from tests.realguests.guest import PROMPT, Guest, linux, running
from vmx.vga_font import GLYPH_BYTES, find_font

MakeBoot = Callable[[str, str], iso.Boot]
ON_SCREEN = "console=tty0 consoleblank=0 mods=psmouse,evdev settle=0 checks=none end=shell"
KEY, RELATIVE, ABSOLUTE = 1, 2, 3  # linux/input-event-codes.h, as the rest
X, Y, WHEEL, BUTTON_LEFT = 0, 1, 8, 0x110
MOUSE = "mods=psmouse,evdev checks=none end=shell"
CELL_WIDTH, CELL_HEIGHT = 9, 16
TYPED = "clear; seq 3; echo 'The {quick} ~fox~ | 100%'"


def drawn_with(font: bytes, rows: list[str], width: int) -> np.ndarray:
    """True where a dot of these characters is lit."""
    lit = np.zeros((len(rows) * CELL_HEIGHT, width), np.bool_)
    for row, text in enumerate(rows):
        for column, character in enumerate(text):
            code = character.encode("cp437")[0]
            glyph = np.frombuffer(font[code * GLYPH_BYTES :][:GLYPH_BYTES], np.uint8)[:, None]
            cell = lit[row * CELL_HEIGHT : (row + 1) * CELL_HEIGHT, column * CELL_WIDTH :]
            cell[:, :8] = np.unpackbits(glyph, axis=1)
    return lit


def test_a_shell_on_the_screen_is_worked_by_the_keyboard(raw_boot: MakeBoot, tmp_path: Path) -> None:
    with running(program=linux(raw_boot("686", ON_SCREEN))) as guest:
        guest.until(lambda: PROMPT.rstrip() in guest.screen(), "a prompt")
        assert guest.shows("ALL DONE")
        guest.press("echo Typed: \"$((6*7))\" '{}|~' >/dev/ttyS0\n", literal=True)
        guest.expect("Typed: 42 {}|~\r\n")
        guest.press(f"{TYPED}\n", literal=True)
        text = ["1", "2", "3", "The {quick} ~fox~ | 100%"]
        guest.until(lambda: guest.screen()[:5] == [*text, PROMPT.rstrip()], "five rows of text")
        picture = guest.shot(tmp_path / "screen.png")
        guest.press("for n in $(seq 40); do echo row $n; done\n", literal=True)
        guest.until(lambda: guest.screen()[-2:] == ["row 40", PROMPT.rstrip()], "the end of forty rows")
        assert guest.screen()[:-1] == [f"row {n}" for n in range(17, 41)]
    font = find_font(fetch.video_bios().read_bytes(), "the video BIOS")
    lit = picture.any(axis=2)
    assert lit.shape == (25 * CELL_HEIGHT, 80 * CELL_WIDTH)
    assert np.array_equal(lit[: len(text) * CELL_HEIGHT], drawn_with(font, text, lit.shape[1]))


def events(guest: Guest, count: int) -> list[tuple[int, ...]]:
    """Type, code and value of so many input events of the device that the shell has open as 3."""
    said = guest.ask(f"dd bs=16 count={count} <&3 2>/dev/null | od -An -v -w16 -t d2")
    return [tuple(map(int, row.split()[4:7])) for row in said.splitlines()]


def test_vmware_s_pointer_gives_positions(raw_boot: MakeBoot) -> None:
    """What the console puts into the backdoor's queue, announced by the mouse, is what vmmouse.c makes of it."""
    with running(program=linux(raw_boot("686", MOUSE))) as guest:
        guest.expect(PROMPT)
        found = guest.ask("grep -v '^0' /sys/class/input/event*/device/capabilities/abs")
        device = found.split("/")[4]
        assert guest.ask(f"cat /sys/class/input/{device}/device/name") == "VirtualPS/2 VMware VMMouse"
        guest.ask(f"exec 3</dev/input/{device}")
        guest.keyboard.pointer(3, 2, 0, Buttons.LEFT, (0x1234, 0x5678))
        *moved, end = events(guest, 4)
    assert sorted(moved) == [(KEY, BUTTON_LEFT, 1), (ABSOLUTE, X, 0x1234), (ABSOLUTE, Y, 0x5678)]
    assert end == (0, 0, 0)


def test_a_wheel_mouse_moves(raw_boot: MakeBoot) -> None:
    """The driver prefers VMware's pointer; told to, it takes the mouse for one with a wheel."""
    with running(program=linux(raw_boot("686", MOUSE))) as guest:
        guest.expect(PROMPT)
        assert "VirtualPS/2 VMware VMMouse" in guest.ask("cat /sys/class/input/event*/device/name")
        guest.ask("echo -n imps >/sys/bus/serio/devices/serio1/protocol")
        assert guest.ask("cat /sys/bus/serio/devices/serio1/protocol") == "ImPS/2"
        device = guest.ask("grep ImPS/2 /sys/class/input/event*/device/name").split("/")[4]
        guest.ask(f"exec 3</dev/input/{device}")
        guest.keyboard.pointer(5, -3, 1, 1)
        *moved, end = events(guest, 5)
    assert sorted(moved) == [(KEY, BUTTON_LEFT, 1), (RELATIVE, X, 5), (RELATIVE, Y, -3), (RELATIVE, WHEEL, -1)]
    assert end == (0, 0, 0)
