"""The same registers and the same memory look the same here and in QEMU."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from hw.vga_spec import ModeTable
from tests.hw.vga_card import Card
from tests.vmx.vga_peer import Held, booted, look
from vmx.picture import DirtyLog, Picture

# QEMU widens the DAC's 6 bits to 8 by other means than by repeating the upper ones; so it does with 5 bits.
DAC_TOLERANCE, FIELD_TOLERANCE = 3, 7
# QEMU draws the ninth dot of these characters too.
NINTH_DOT_DIFFERS = range(0xB0, 0xC0)


def card_with(held: Held) -> Card:
    """Our adapter, given by its ports and windows what QEMU's holds."""
    card = Card()
    for index, value in ((2, 0), (4, 6)):
        card.sequencer(index, value)
    for index, value in ((5, 0), (6, 5), (8, 0xFF)):
        card.graphics(index, value)
    card.out(0x3C2, 0x63)
    for plane, data in enumerate(held.planes):
        card.sequencer(2, 1 << plane)
        for at in range(0, len(data), 4):
            card.space.write(0xA0000 + at, 4, int.from_bytes(data[at : at + 4], "little"))
    banks = held.banks
    card.set_mode(ModeTable(held.misc, banks["sequencer"], banks["crt"], banks["graphics"], banks["attribute"]))
    card.colours(0, held.palette)
    if held.dispi[4] & 1:
        for index in (1, 2, 3):
            card.dispi(index, held.dispi[index])
        card.dispi(4, held.dispi[4])
        for index in (6, 8, 9):
            card.dispi(index, held.dispi[index])
        card.store[: len(held.framebuffer)] = held.framebuffer
        card.colours(0, held.palette)
    return card


def difference(ours: np.ndarray, theirs: np.ndarray) -> np.ndarray:
    assert ours.shape == theirs.shape
    return np.abs(ours.astype(int) - theirs.astype(int))


# Segment, words to fill, and the map mask that the mode wants back. QEMU shows 40 columns in cells 16 dots wide, which
# no VGA does, so these are not compared.
MODES = {
    0x03: (0xB800, 0x1000, 3), 0x04: (0xB800, 0x4000, 3), 0x06: (0xB800, 0x4000, 1), 0x0D: (0xA000, 0x4000, 15),
    0x12: (0xA000, 0x5000, 15), 0x13: (0xA000, 0x7D00, 15),
}  # fmt: skip
IN_TURN = [0x03, 0x13]
LONGER = [pytest.param(mode, marks=pytest.mark.long) for mode in (0x04, 0x06, 0x0D, 0x12)]


@pytest.mark.parametrize("mode", [*IN_TURN, *LONGER])
def test_a_vga_mode_looks_as_in_qemu(mode: int, tmp_path: Path) -> None:
    segment, words, mask = MODES[mode]
    with booted(tmp_path, mode=mode, linear=0, segment=segment, words=words, mask=mask) as monitor:
        held = look(monitor, tmp_path)
    card = card_with(held)
    picture = Picture(card.vga, DirtyLog(card.dirty))
    differs = difference(picture.render(), held.shown)
    text = picture.text()
    if text is not None and not held.banks["sequencer"][1] & 1:
        for row, column in np.argwhere(np.isin(text.codes, NINTH_DOT_DIFFERS)).tolist():
            differs[16 * row : 16 * row + 16, 9 * column + 8] = 0
    assert differs.max() <= DAC_TOLERANCE


@pytest.mark.parametrize(
    ("mode", "bpp"),
    [(0x101, 8), pytest.param(0x111, 16, marks=pytest.mark.long), pytest.param(0x112, 32, marks=pytest.mark.long)],
)
def test_a_linear_mode_looks_as_in_qemu(mode: int, bpp: int, tmp_path: Path) -> None:
    with booted(tmp_path, mode=0x4F02, linear=mode, segment=0xA000, words=0x8000, mask=15) as monitor:
        held = look(monitor, tmp_path)
    assert held.dispi[1:3] == [640, 480]
    card = card_with(held)
    ours = Picture(card.vga, DirtyLog(card.dirty)).render()
    assert ours.any()
    assert difference(ours, held.shown).max() <= (FIELD_TOLERANCE if bpp == 16 else DAC_TOLERANCE)
