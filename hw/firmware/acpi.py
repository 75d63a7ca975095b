"""The ACPI tables of the board, as files for whoever places them.

    etc/acpi/rsdp     RSDP, in the F segment
    etc/acpi/facs     FACS, in memory that the system must keep
    etc/acpi/tables   DSDT, FADT, MADT, BOOT, RSDT

All are of ACPI 1.0. Processors that the machine does not have are in no table.
Source: ACPI Specification 1.0b, section 5.2.
"""

from __future__ import annotations

from ctypes import Structure, sizeof

from hw.firmware.acpi_spec import (
    BOOT_FLAG_INDEX,
    CREATOR,
    CREATOR_REVISION,
    FACS_ALIGNMENT,
    INT_MODEL_DUAL_PIC,
    LOCAL_APIC_ENABLED,
    MADT_IO_APIC,
    MADT_LOCAL_APIC,
    MADT_LOCAL_NMI,
    MADT_OVERRIDE,
    OEM,
    OEM_REVISION,
    OEM_TABLE,
    P_LVL2_ABSENT,
    P_LVL3_ABSENT,
    PCAT_COMPAT,
    RSDP_ALIGNMENT,
    RSDP_SIGNATURE,
    TABLE_ALIGNMENT,
    Boot,
    Facs,
    Fadt,
    FadtFlag,
    Madt,
    MadtIoApic,
    MadtLocalApic,
    MadtLocalNmi,
    MadtOverride,
    Rsdp,
    Signalling,
    TableHeader,
)
from hw.firmware.board import IO_APIC, LOCAL_APIC, NMI_LINT, SCI_IRQ, TIMER_PIN, BoardFacts
from hw.firmware.dsdt import dsdt
from hw.firmware.linker import Linkable
from hw.firmware.linker_spec import Zone
from hw.piix4_pm_spec import APMC_PORT, ApmCommand
from hw.rtc_spec import Index

RSDP_FILE, FACS_FILE, TABLES_FILE = "etc/acpi/rsdp", "etc/acpi/facs", "etc/acpi/tables"
LOADER_FILE = "etc/table-loader"
HEADER_BYTES = sizeof(TableHeader)
CHECKSUM = TableHeader.checksum.offset
PM1_EVENT, PM1_CONTROL, PM_TIMER, GPE0 = 0x00, 0x04, 0x08, 0x0C  # from PMBASE


def acpi_files(facts: BoardFacts) -> Linkable:
    """The three files and their script."""
    built = Linkable()
    built.add_file(FACS_FILE, FACS_ALIGNMENT, Zone.HIGH)
    built.add_file(TABLES_FILE, TABLE_ALIGNMENT, Zone.HIGH)
    built.add_file(RSDP_FILE, RSDP_ALIGNMENT, Zone.F_SEGMENT)
    built.append(FACS_FILE, bytes(Facs(signature=b"FACS", length=sizeof(Facs))))
    dsdt_at = add_table(built, b"DSDT", dsdt(facts))
    tables = [
        add_fadt(built, facts, dsdt_at),
        add_table(built, b"APIC", madt(facts)),
        add_table(built, b"BOOT", bytes(Boot(BOOT_FLAG_INDEX))),
    ]
    add_rsdp(built, add_rsdt(built, tables))
    return built


def add_table(built: Linkable, signature: bytes, body: bytes) -> int:
    """A table that points nowhere; its offset."""
    at = append_table(built, signature, body)
    seal(built, at)
    return at


def append_table(built: Linkable, signature: bytes, body: bytes) -> int:
    header = TableHeader(
        signature=signature, length=HEADER_BYTES + len(body), revision=1, oem=OEM, oem_table=OEM_TABLE,
        oem_revision=OEM_REVISION, creator=CREATOR, creator_revision=CREATOR_REVISION,
    )  # fmt: skip
    return built.append(TABLES_FILE, bytes(header) + body, TABLE_ALIGNMENT)


def seal(built: Linkable, at: int) -> None:
    """The checksum of the table at the end of the file."""
    built.checksum(TABLES_FILE, at + CHECKSUM, at, len(built.files[TABLES_FILE]) - at)


def add_fadt(built: Linkable, facts: BoardFacts, dsdt_at: int) -> int:
    at = append_table(built, b"FACP", bytes(fadt(facts)))
    body = at + HEADER_BYTES
    built.point(TABLES_FILE, body + Fadt.firmware_ctrl.offset, FACS_FILE)
    built.point(TABLES_FILE, body + Fadt.dsdt.offset, TABLES_FILE, dsdt_at)
    seal(built, at)
    return at


def fadt(facts: BoardFacts) -> Structure:
    """What the PIIX4 has, and how it is told to raise SCIs."""
    base = facts.pm_base
    return Fadt(
        int_model=INT_MODEL_DUAL_PIC, sci_int=SCI_IRQ,
        smi_cmd=APMC_PORT, acpi_enable=ApmCommand.ACPI_ENABLE, acpi_disable=ApmCommand.ACPI_DISABLE,
        pm1a_evt_blk=base + PM1_EVENT, pm1_evt_len=4, pm1a_cnt_blk=base + PM1_CONTROL, pm1_cnt_len=2,
        pm_tmr_blk=base + PM_TIMER, pm_tm_len=4, gpe0_blk=base + GPE0, gpe0_blk_len=4,
        p_lvl2_lat=P_LVL2_ABSENT, p_lvl3_lat=P_LVL3_ABSENT, century=Index.CENTURY,
        flags=int(FadtFlag.WBINVD | FadtFlag.PROC_C1 | FadtFlag.SLP_BUTTON),
    )  # fmt: skip


def madt(facts: BoardFacts) -> bytes:
    """Processors, the I/O APIC, the two ISA interrupts that are special, and where NMI comes in."""
    high_level = int(Signalling.HIGH | Signalling.LEVEL)
    high_edge = int(Signalling.HIGH | Signalling.EDGE)
    vcpus = range(facts.vcpus)
    entries: list[Structure] = [
        Madt(LOCAL_APIC, PCAT_COMPAT),
        *(MadtLocalApic(MADT_LOCAL_APIC, sizeof(MadtLocalApic), index, index, LOCAL_APIC_ENABLED) for index in vcpus),
        MadtIoApic(MADT_IO_APIC, sizeof(MadtIoApic), facts.io_apic_id, 0, IO_APIC, 0),
        MadtOverride(MADT_OVERRIDE, sizeof(MadtOverride), 0, 0, TIMER_PIN, high_edge),
        MadtOverride(MADT_OVERRIDE, sizeof(MadtOverride), 0, SCI_IRQ, SCI_IRQ, high_level),
        *(MadtLocalNmi(MADT_LOCAL_NMI, sizeof(MadtLocalNmi), index, high_edge, NMI_LINT) for index in vcpus),
    ]
    return b"".join(bytes(entry) for entry in entries)


def add_rsdt(built: Linkable, tables: list[int]) -> int:
    at = append_table(built, b"RSDT", bytes(4 * len(tables)))
    for index, table in enumerate(tables):
        built.point(TABLES_FILE, at + HEADER_BYTES + 4 * index, TABLES_FILE, table)
    seal(built, at)
    return at


def add_rsdp(built: Linkable, rsdt_at: int) -> None:
    at = built.append(RSDP_FILE, bytes(Rsdp(signature=RSDP_SIGNATURE, oem=OEM)))
    built.point(RSDP_FILE, at + Rsdp.rsdt.offset, TABLES_FILE, rsdt_at)
    built.checksum(RSDP_FILE, at + Rsdp.checksum.offset, at, sizeof(Rsdp))
