"""A PCnet's rings, as the core is to walk them while nobody works on the chip (NicPlan); and what it did then.

The core does what most frames need: whole ones of an ordinary length, with 32-bit structures, FCS by the wire, and a
receive buffer for each. Every mode that asks for more is the chip's own to do.
Source: AMD Am79C970A data sheet, "Buffer Management Unit", CSR3, CSR4, CSR5, CSR15.
"""

from __future__ import annotations

from hw.net.pcnet_receive import ReceiveStats
from hw.net.pcnet_registers import Registers
from hw.net.pcnet_rings import ring_length
from hw.net.pcnet_spec import BCNT, EXCHANGED, ILACC, Csr, Csr0, Csr3, Csr4, Csr5, Mode
from hw.net.pcnet_transmit import TransmitStats
from vmm.layout_spec import NicAccepts, NicPlan, NicRing, NicRings

TXON, RXON, LAPPEN, ASTRP_RCV, APAD_XMT, TXSTRT, TXSTRTM = (
    int(bit)
    for bit in (Csr0.TXON, Csr0.RXON, Csr3.LAPPEN, Csr4.ASTRP_RCV, Csr4.APAD_XMT, Csr4.TXSTRT, Csr4.TXSTRTM)
)
OWN_INTERRUPTS = int(Csr5.LTINTEN | Csr5.TOKINTD)
LOOP, NOT_FOR_SENDING = int(Mode.LOOP), int(Mode.LOOP | Mode.FCOLL | Mode.DXMTFCS)
PROM, DRCVBC, DRCVPA = int(Mode.PROM), int(Mode.DRCVBC), int(Mode.DRCVPA)
TRANSMIT, RECEIVE = int(NicRings.TRANSMIT), int(NicRings.RECEIVE)
UNICAST, BROADCAST, ALL = int(NicAccepts.UNICAST), int(NicAccepts.BROADCAST), int(NicAccepts.ALL)


def describe(registers: Registers, plan: NicPlan, *, may_master: bool) -> int:
    """Fill in a plan: which rings may be walked, as NicRings."""
    style = registers.style
    if not may_master or registers.suspended or not style.wide or registers.style_number == ILACC:
        return 0
    csr = registers.csr
    status, mode, features = int(csr[Csr.STATUS]), int(csr[Csr.MODE]), int(csr[Csr.FEATURES])
    rings = 0
    if (
        status & TXON
        and not mode & NOT_FOR_SENDING
        and not csr[Csr.EXTENDED] & OWN_INTERRUPTS
        and features & (TXSTRT | TXSTRTM)
        and registers.link_passes
    ):
        rings = TRANSMIT
        place(plan.transmit, registers, style.size, (Csr.BADX, Csr.XMTRL, Csr.XMTRC))
    if status & RXON and not mode & LOOP and not csr[Csr.INTERRUPT_MASK] & LAPPEN and not features & ASTRP_RCV:
        rings |= RECEIVE
        place(plan.receive, registers, style.size, (Csr.BADR, Csr.RCVRL, Csr.RCVRC))
    plan.exchanged, plan.pads = int(style is EXCHANGED), int(bool(features & APAD_XMT))
    plan.accepts = (
        (0 if mode & DRCVPA else UNICAST) | (0 if mode & DRCVBC else BROADCAST) | (ALL if mode & PROM else 0)
    )
    plan.hashes = registers.hashes
    plan.address[:6] = registers.padr
    plan.prompt, plan.deferred = registers.state.prompt, registers.state.deferred
    plan.sent = plan.sent_octets = plan.refused = plan.received = plan.received_octets = plan.filtered = 0
    return rings


def place(ring: NicRing, registers: Registers, size: int, names: tuple[Csr, Csr, Csr]) -> None:
    """`names`: the registers with its address, its length, and what is left of it."""
    base, length, left = names
    ring.base = registers.dword(base) & -size
    ring.length = entries = ring_length(int(registers.csr[length]))
    ring.at = (entries - ring_length(int(registers.csr[left]))) % entries


def take_back(
    registers: Registers, plan: NicPlan, rings: int, sent: TransmitStats, received: ReceiveStats
) -> None:
    """What was done by the plan is the chip's state."""
    csr, state = registers.csr, registers.state
    state.prompt, state.deferred = plan.prompt, plan.deferred
    if rings & TRANSMIT and plan.sent:
        csr[Csr.FEATURES] |= TXSTRT
        moved(registers, plan.transmit, Csr.XMTRC, (Csr.CXDA, Csr.NXDA, Csr.CXBC, Csr.CXST))
    if rings & RECEIVE and plan.received:
        moved(registers, plan.receive, Csr.RCVRC, (Csr.CRDA, Csr.NRDA, Csr.CRBC, Csr.CRST))
    sent.frames += plan.sent
    sent.octets += plan.sent_octets
    sent.refused += plan.refused
    received.frames += plan.received
    received.octets += plan.received_octets
    received.filtered += plan.filtered


def moved(registers: Registers, ring: NicRing, left: Csr, names: tuple[Csr, Csr, Csr, Csr]) -> None:
    """The ring's position; and the registers that show what was seen there."""
    csr = registers.csr
    current, following, count, status = names
    size = registers.style.size
    csr[left] = ring.length - ring.at
    registers.set_dword(current, ring.base + ring.at * size)
    registers.set_dword(following, ring.base + (ring.at + 1) % ring.length * size)
    csr[count] = ring.seen & BCNT
    csr[status] = ring.seen >> 16
