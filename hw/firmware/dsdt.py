r"""The board's differentiated system description: its PCI root bus, interrupt links, ISA devices and sleep states.

    \_PR       a processor object for each vCPU
    \_S0, \_S5 SLP_TYP of the PIIX4: 5 is working, 0 soft-off
    \_PIC      the system says which interrupt controllers it uses; _PRT answers accordingly
    \_SB.PCI0  windows; _PRT for all slots; ISA bridge 7.0 and what is behind it
    \_SB.LNKA  to LNKD: the PIIX4's PIRQ routing registers, configuration bytes 60h to 63h

The power button is the PIIX4's fixed one, so no device stands for it. Not described: sleeping, thermal zones, embedded
controllers, hot plug.
Source: ACPI Specification 1.0b, chapters 5 to 7; Intel 82371AB (PIIX4) data sheet, sections 4.1 and 7.2.
"""

from __future__ import annotations

from collections.abc import Callable

from hw.firmware import resources as res
from hw.firmware.aml import (
    and_,
    arg,
    call,
    create_word_field,
    device,
    eisa_id,
    else_,
    field,
    find_set_right_bit,
    if_,
    integer,
    local,
    method,
    name,
    operation_region,
    package,
    processor,
    return_,
    scope,
    shift_left,
    store,
    subtract,
)
from hw.firmware.aml_spec import DeviceStatus, FieldAccess, RegionSpace
from hw.firmware.board import IO_APIC, LINK_IRQS, LOCAL_APIC, BoardFacts, every_pin, link_of
from hw.parallel_spec import LPT1, LPT1_IRQ
from hw.parallel_spec import PORTS as LPT_PORTS
from hw.pci_spec import CONFIG_ADDRESS
from hw.piix4_isa_spec import FIRST_LINK_PIN, LINKS, PIRQRC, Pirqrc
from hw.piix4_isa_spec import SLOT as ISA_SLOT
from hw.piix4_pm_spec import APM_PORTS, APMC_PORT, BLOCK_PORTS, SMBUS_PORTS
from hw.rtc_spec import IRQ as RTC_IRQ
from hw.rtc_spec import PORT as RTC_PORT
from hw.rtc_spec import PORTS as RTC_PORTS
from hw.uart_spec import COM1, COM1_IRQ, COM2, COM2_IRQ
from hw.uart_spec import PORTS as UART_PORTS

WORKING_SLP_TYP, SOFT_OFF_SLP_TYP = 5, 0
PCI_WINDOW_END = 0xFEBFFFFF
ANY_FUNCTION = 0xFFFF
ISA_BRIDGE = "\\_SB.PCI0.ISA"
LINK_PRESENT = int(DeviceStatus.PRESENT | DeviceStatus.DECODING | DeviceStatus.WORKING)
LINK_OFF = int(DeviceStatus.PRESENT | DeviceStatus.WORKING)
IRQ_MASK_BYTE = 1  # of an IRQ descriptor, where its mask is
NO_ROUTE = integer(int(Pirqrc.DISABLED))


def dsdt(facts: BoardFacts) -> bytes:
    """The table's definition block, without its header."""
    return b"".join([
        scope("\\_PR", *(processor(f"CPU{index}", index) for index in range(facts.vcpus))),
        name("\\_S0", sleep_state(WORKING_SLP_TYP)),
        name("\\_S5", sleep_state(SOFT_OFF_SLP_TYP)),
        name("\\PICM", integer(0)),
        method("\\_PIC", 1, store(arg(0), call("\\PICM"))),
        scope("\\_SB", host_bridge(facts), *link_methods(), *(link(index) for index in range(len(LINKS)))),
    ])  # fmt: skip


def sleep_state(slp_typ: int) -> bytes:
    """SLP_TYP for PM1a and PM1b control; two reserved."""
    return package(integer(slp_typ), integer(slp_typ), integer(0), integer(0))


def identity(pnp: str, unique: int | None = None) -> bytes:
    uid = b"" if unique is None else name("_UID", integer(unique))
    return name("_HID", eisa_id(pnp)) + uid


def host_bridge(facts: BoardFacts) -> bytes:
    """The root bus. What it does not decode is memory: the window begins where RAM ends."""
    windows = res.template(
        res.bus_window(0, 0xFF),
        res.io(CONFIG_ADDRESS, 8),
        res.io_window(0, CONFIG_ADDRESS - 1),
        res.io_window(0xD00, 0xFFFF),
        res.memory_window(0xA0000, 0xBFFFF),
        res.memory_window(facts.memory_bytes, PCI_WINDOW_END),
    )
    return device(
        "PCI0",
        identity("PNP0A03"),
        name("_CRS", windows),
        routing_tables(),
        isa_bridge(facts),
    )


# interrupts


def routing_tables() -> bytes:
    """_PRT: links while the 8259s are in use, I/O APIC inputs once the system has said that it uses that."""
    return b"".join([
        name("PPRT", routing(lambda link: (call(f"\\_SB.LNK{LINKS[link]}"), integer(0)))),
        name("APRT", routing(lambda link: (integer(0), integer(FIRST_LINK_PIN + link)))),
        method("_PRT", 0, if_(call("\\PICM"), return_(call("APRT"))), return_(call("PPRT"))),
    ])  # fmt: skip


def routing(source: Callable[[int], tuple[bytes, bytes]]) -> bytes:
    """One package for each pin: address, pin from 0, and where its link leads."""
    return package(*(
        package(
            integer(fact.slot << 16 | ANY_FUNCTION), integer(fact.pin - 1), *source(link_of(fact.slot, fact.pin)),
        )
        for fact in every_pin()
    ))  # fmt: skip


def link_methods() -> list[bytes]:
    """What the four links have in common: the status and the current interrupt that a routing register means."""
    return [
        method(
            "LSTA", 1,
            if_(and_(arg(0), NO_ROUTE), return_(integer(LINK_OFF))),
            return_(integer(LINK_PRESENT)),
        ),
        method(
            "LCRS", 1,
            store(res.template(res.pci_irq(())), local(0)),
            create_word_field(local(0), IRQ_MASK_BYTE, "LMSK"),
            if_(and_(arg(0), NO_ROUTE), store(integer(0), call("LMSK"))),
            else_(store(shift_left(integer(1), and_(arg(0), integer(int(Pirqrc.IRQ)))), call("LMSK"))),
            return_(local(0)),
            serialized=True,
        ),
        method(
            "LSRS", 1,
            create_word_field(arg(0), IRQ_MASK_BYTE, "LMSK"),
            find_set_right_bit(call("LMSK"), local(0)),
            if_(local(0), return_(subtract(local(0), integer(1)))),
            return_(NO_ROUTE),
            serialized=True,
        ),
    ]  # fmt: skip


def link(index: int) -> bytes:
    """One interrupt link device over its routing register."""
    register = call(f"{ISA_BRIDGE}.PIR{LINKS[index]}")
    return device(
        f"LNK{LINKS[index]}",
        identity("PNP0C0F", index + 1),
        name("_PRS", res.template(res.pci_irq(LINK_IRQS))),
        method("_STA", 0, return_(call("LSTA", register))),
        method("_CRS", 0, return_(call("LCRS", register))),
        method("_SRS", 1, store(call("LSRS", arg(0)), register)),
        method("_DIS", 0, store(NO_ROUTE, register)),
    )


# what is behind the ISA bridge


def isa_bridge(facts: BoardFacts) -> bytes:
    _, slot, function = ISA_SLOT
    return device(
        "ISA_",
        name("_ADR", integer(slot << 16 | function)),
        operation_region("PIRR", RegionSpace.PCI_CONFIG, PIRQRC, len(LINKS)),
        field("PIRR", FieldAccess.BYTE, *((f"PIR{letter}", 8) for letter in LINKS)),
        *system_devices(facts),
        *peripherals(facts),
    )


def isa_device(path: str, pnp: str, *descriptors: bytes, unique: int | None = None) -> bytes:
    return device(path, identity(pnp, unique), name("_CRS", res.template(*descriptors)))


def system_devices(facts: BoardFacts) -> list[bytes]:
    """What every PC has, and the ports and memory that nobody else may be given."""
    return [
        isa_device("PIC", "PNP0000", res.io(0x20, 2), res.io(0xA0, 2), res.io(0x4D0, 2), res.irq(2)),
        isa_device("DMAC", "PNP0200", res.io(0x00, 16), res.io(0x81, 15), res.io(0xC0, 32), res.dma(4)),
        isa_device("TMR", "PNP0100", res.io(0x40, 4), res.irq(0)),
        isa_device("RTC", "PNP0B00", res.io(RTC_PORT, RTC_PORTS), res.irq(RTC_IRQ)),
        isa_device("SPKR", "PNP0800", res.io(0x61, 1)),
        isa_device("FPU", "PNP0C04", res.io(0xF0, 16), res.irq(13)),
        isa_device(
            "SYSR", "PNP0C02",
            res.io(0x80, 1), res.io(0x92, 1), res.io(APMC_PORT, APM_PORTS), res.io(0xED, 1),
            res.io(facts.pm_base, BLOCK_PORTS), res.io(facts.smbus_base, SMBUS_PORTS),
            res.memory(IO_APIC, 0x1000), res.memory(LOCAL_APIC, 0x1000), res.memory(0xFFFC0000, 0x40000, False),
            unique=1,
        ),
    ]  # fmt: skip


def peripherals(facts: BoardFacts) -> list[bytes]:
    """Keyboard and mouse, and what the machine is configured with."""
    found = [
        isa_device("PS2K", "PNP0303", res.io(0x60, 1), res.io(0x64, 1), res.irq(1)),
        isa_device("PS2M", "PNP0F13", res.irq(12)),
    ]
    for index, (port, irq) in enumerate(((COM1, COM1_IRQ), (COM2, COM2_IRQ))[: facts.serial_ports], 1):
        found.append(isa_device(f"COM{index}", "PNP0501", res.io(port, UART_PORTS), res.irq(irq), unique=index))
    if facts.parallel_port:
        found.append(isa_device("LPT1", "PNP0400", res.io(LPT1, LPT_PORTS), res.irq(LPT1_IRQ), unique=1))
    if facts.floppy:
        found.append(isa_device("FDC", "PNP0700", res.io(0x3F0, 6), res.io(0x3F7, 1), res.irq(6), res.dma(2)))
    return found
