"""The PCnet's registers as its engines see them: words over the state's bytes, and what they say together."""

from __future__ import annotations

from ctypes import LittleEndianStructure, c_uint8, c_uint16, sizeof

from hw.net.pcnet_spec import (
    ALIASES,
    APROM_BYTES,
    BCRS,
    CSRS,
    ERRORS_0,
    FDEN,
    INTERRUPT_ENABLES_5,
    INTERRUPT_MASKS_4,
    INTERRUPTS_0,
    STYLES,
    SYSTEM_ENABLES_5,
    Bcr,
    Csr,
    Csr0,
    Csr4,
    Csr5,
    Led,
    Mode,
    Style,
)
from hw.net.wiring import AddressFilter
from vmm.layout_spec import NicCause

LOW = 0xFFFF
ERR, INTR, IENA, STOP = int(Csr0.ERR), int(Csr0.INTR), int(Csr0.IENA), int(Csr0.STOP)
STATUS, TINT = int(Csr.STATUS), int(Csr0.TINT)
FEATURES, EXTENDED, UINTCMD = int(Csr.FEATURES), int(Csr.EXTENDED), int(Csr4.UINTCMD)
PROMPT = 16  # frames
UINT, SPND, DLNKTST = int(Csr4.UINT), int(Csr5.SPND), int(Mode.DLNKTST)
NONE, PLAIN, SYSTEM = int(NicCause.NONE), int(NicCause.PLAIN), int(NicCause.SYSTEM)
CAUSES_5 = INTERRUPT_ENABLES_5 | SYSTEM_ENABLES_5
LINK_LAMPS, FULL_DUPLEX_LAMP = int(Led.LNKSTE | Led.RXPOLE), int(Led.FDLSE)


class PcnetState(LittleEndianStructure):
    """All guest-visible state of the controller, without its configuration space.

    `link` is what the cable says. `deferred`: the frame at the transmit ring's position had to wait. `attended`: the
    driver has been interrupted and has not allowed it again. `unsaid`: so many frames were sent of which TINT does not
    tell yet. `prompt`: of so many more it tells at once.
    """

    _fields_ = [
        ("csr", c_uint8 * (2 * CSRS)), ("bcr", c_uint8 * (2 * BCRS)), ("aprom", c_uint8 * APROM_BYTES),
        ("rap", c_uint8), ("link", c_uint8), ("deferred", c_uint8), ("attended", c_uint8), ("unsaid", c_uint8),
        ("prompt", c_uint8), ("reserved", c_uint8 * 2),
    ]  # fmt: skip


assert sizeof(PcnetState) == 2 * CSRS + 2 * BCRS + APROM_BYTES + 8


class Registers:
    """Nothing of its own: all is in `state`. `csr` and `bcr` are words; the banks know the masks."""

    def __init__(self, state: PcnetState) -> None:
        self.state = state
        self.csr = (c_uint16 * CSRS).from_buffer(state, PcnetState.csr.offset)
        self.bcr = (c_uint16 * BCRS).from_buffer(state, PcnetState.bcr.offset)
        whole = memoryview(state).cast("B")
        at = PcnetState.csr.offset
        self._hashes = whole[at + 2 * Csr.LADRF : at + 2 * Csr.LADRF + 8]
        self._address = whole[at + 2 * Csr.PADR : at + 2 * Csr.PADR + 6]

    # as the guest sees them

    def read_csr(self, number: int) -> int:
        if number == Csr.STATUS:
            return self.status()
        if number in ALIASES:
            return int(self.csr[ALIASES[number]])
        return int(self.bcr[Bcr.SWSTYLE] if number == Csr.SWSTYLE else self.csr[number])

    def read_bcr(self, number: int) -> int:
        value = int(self.bcr[number])
        if Bcr.LED_0 <= number <= Bcr.LED_3 and value & self._lamps():
            value |= Led.LEDOUT
        return value

    def status(self) -> int:
        """CSR0: ERR and INTR follow from the rest."""
        value = int(self.csr[Csr.STATUS])
        if value & ERRORS_0:
            value |= ERR
        return value | INTR if self.interrupts() else value

    def _lamps(self) -> int:
        """What would light a lamp. Polarity is always right; activity is over as soon as it begins."""
        if not self.link_passes:
            return 0
        return LINK_LAMPS | FULL_DUPLEX_LAMP if self.bcr[Bcr.DUPLEX] & FDEN else LINK_LAMPS

    # frames that were sent

    def note_sent(self, limit: int) -> None:
        """A frame of which TINT is to tell: now, or together with others, `limit` of them at most."""
        state = self.state
        state.unsaid += 1
        if state.prompt:
            state.prompt -= 1
        elif state.unsaid < limit:
            return
        self.tell_sent()

    def tell_sent(self) -> None:
        """Set TINT, if it has anything to tell."""
        if self.state.unsaid:
            self.state.unsaid = 0
            self.csr[STATUS] |= TINT

    def sent_for_long(self) -> None:
        """Nothing has happened since. A driver that waits after each frame is to be told at once from here on."""
        if self.state.unsaid == 1:
            self.state.prompt = PROMPT
        self.tell_sent()

    # together

    @property
    def stopped(self) -> bool:
        return bool(self.csr[Csr.STATUS] & STOP)

    @property
    def suspended(self) -> bool:
        return bool(self.csr[Csr.EXTENDED] & SPND)

    @property
    def style(self) -> Style:
        return STYLES.get(self.bcr[Bcr.SWSTYLE] & 0xFF, STYLES[0])

    @property
    def style_number(self) -> int:
        return int(self.bcr[Bcr.SWSTYLE] & 0xFF)

    @property
    def high_address(self) -> int:
        """What goes above 24-bit addresses: IADR, bits 31:24."""
        return (int(self.csr[Csr.IADR + 1]) & 0xFF00) << 16

    @property
    def link_passes(self) -> bool:
        """The link test passes, or is off."""
        return bool(self.state.link or self.csr[Csr.MODE] & DLNKTST)

    def dword(self, number: int) -> int:
        """A pair of registers, the lower half first."""
        return int(self.csr[number]) | int(self.csr[number + 1]) << 16

    def set_dword(self, number: int, value: int) -> None:
        self.csr[number], self.csr[number + 1] = value & LOW, value >> 16 & LOW

    def interrupts(self) -> bool:
        """Is there a cause that is not masked? Then INTR is set, and INTA# asserted if IENA is."""
        csr = self.csr
        return bool(csr[Csr.STATUS] & ~csr[Csr.INTERRUPT_MASK] & INTERRUPTS_0) or bool(self.other_causes())

    def other_causes(self) -> int:
        """Those in CSR4 and CSR5 that are not masked: a NicCause."""
        four, five = int(self.csr[FEATURES]), int(self.csr[EXTENDED])
        enabled = five >> 1 & five & CAUSES_5
        if enabled & SYSTEM_ENABLES_5:
            return SYSTEM
        return PLAIN if four >> 1 & ~four & INTERRUPT_MASKS_4 or four & UINT or enabled else NONE

    def user_interrupt_waits(self) -> bool:
        """UINTCMD was written while IENA was clear."""
        return bool(self.csr[FEATURES] & UINTCMD)

    def asserted(self) -> bool:
        """INTA#: a system error or a wake-up asserts it whatever IENA is."""
        if self.other_causes() == SYSTEM:
            return True
        return bool(self.csr[Csr.STATUS] & IENA) and self.interrupts()

    # what is received

    @property
    def padr(self) -> bytes:
        return bytes(self._address)

    @property
    def hashes(self) -> int:
        return int.from_bytes(self._hashes, "little")

    def filter(self) -> AddressFilter:
        """Looped frames are the only ones that a controller in loopback mode receives."""
        mode = int(self.csr[Csr.MODE])
        on = bool(self.csr[Csr.STATUS] & Csr0.RXON) and not mode & Mode.LOOP
        return AddressFilter(
            self.padr, on, on and not mode & Mode.DRCVPA, on and not mode & Mode.DRCVBC,
            on and bool(mode & Mode.PROM), self.hashes if on else 0,
        )  # fmt: skip
