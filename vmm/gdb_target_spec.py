"""The registers that the GDB stub shows: number, name, width, and where each lies in struct vcpu.

The order is GDB's own for an i386 target (core, then SSE); what a system debugger needs follows in a feature of ours,
under the names that GDB and its users know from elsewhere. From these rows come the `g` packet, the target description
and the checks on what is written.
Source: Debugging with GDB, appendix G "Target Descriptions", G.5.10 "i386 Features"; Intel SDM 1, table 10-2 (FXSAVE).
"""

from __future__ import annotations

from dataclasses import dataclass

CORE = "org.gnu.gdb.i386.core"
SSE = "org.gnu.gdb.i386.sse"
SYSTEM = "org.ringfence.i386.system"

GPRS = ("eax", "ecx", "edx", "ebx", "esp", "ebp", "esi", "edi")
SEGMENTS = {"es": 0, "cs": 1, "ss": 2, "ds": 3, "fs": 4, "gs": 5, "ldtr": 6, "tr": 7}  # enum sreg

Path = tuple[str | int, ...]

FX_FCW, FX_FSW, FX_FTW, FX_FOP, FX_FIP, FX_FCS, FX_FDP, FX_FDS, FX_MXCSR = 0, 2, 4, 6, 8, 12, 16, 20, 24
FX_ST, FX_XMM, FX_STRIDE = 32, 160, 16


@dataclass(frozen=True, slots=True)
class Reg:
    """One row. `path` leads to a field of struct vcpu, or `fx` = (offset, bytes) into its FXSAVE image."""

    name: str
    feature: str
    bits: int = 32
    type: str = "int32"
    path: Path = ()
    fx: tuple[int, int] = (0, 0)
    group: str = ""
    writable: bool = True

    @property
    def bytes(self) -> int:
        return self.bits // 8


def _core() -> list[Reg]:
    rows = [
        Reg(name, CORE, type="data_ptr" if name in {"esp", "ebp"} else "int32", path=("r", index))
        for index, name in enumerate(GPRS)
    ]
    rows += [
        Reg("eip", CORE, type="code_ptr", path=("eip",)),
        Reg("eflags", CORE, type="i386_eflags", path=("eflags",)),
    ]
    rows += [Reg(name, CORE, path=("seg", SEGMENTS[name], "selector")) for name in ("cs", "ss", "ds", "es", "fs", "gs")]
    rows += [Reg(f"st{n}", CORE, 80, "i387_ext", fx=(FX_ST + FX_STRIDE * n, 10)) for n in range(8)]
    control = (
        ("fctrl", FX_FCW, 2), ("fstat", FX_FSW, 2), ("ftag", FX_FTW, 2), ("fiseg", FX_FCS, 2),
        ("fioff", FX_FIP, 4), ("foseg", FX_FDS, 2), ("fooff", FX_FDP, 4), ("fop", FX_FOP, 2),
    )  # fmt: skip
    return rows + [Reg(name, CORE, type="int", fx=(offset, size), group="float") for name, offset, size in control]


def _sse() -> list[Reg]:
    rows = [Reg(f"xmm{n}", SSE, 128, "vec128", fx=(FX_XMM + FX_STRIDE * n, 16)) for n in range(8)]
    return [*rows, Reg("mxcsr", SSE, type="i386_mxcsr", fx=(FX_MXCSR, 4), group="vector")]


def _system() -> list[Reg]:
    def row(name: str, path: Path, kind: str = "int32", *, writable: bool = True) -> Reg:
        return Reg(name, SYSTEM, type=kind, path=path, group="system", writable=writable)

    rows = [
        row(f"{name}_base", ("seg", SEGMENTS[name], "base"), "data_ptr")
        for name in ("cs", "ss", "ds", "es", "fs", "gs")
    ]
    rows += [
        row(f"{name}_limit", ("seg", SEGMENTS[name], "limit"), writable=False) for name in ("cs", "ss", "ds", "es")
    ]
    rows += [row(name, ("seg", SEGMENTS[name], "selector"), writable=False) for name in ("ldtr", "tr")]
    rows += [row(f"{name}_base", ("seg", SEGMENTS[name], "base"), "data_ptr") for name in ("ldtr", "tr")]
    for table in ("gdtr", "idtr"):
        rows += [row(f"{table}_base", (table, "base"), "data_ptr"), row(f"{table}_limit", (table, "limit"))]
    rows += [
        row("cr0", ("cr0",), "i386_cr0"), row("cr2", ("cr2",), "data_ptr"), row("cr3", ("cr3",)),
        row("cr4", ("cr4",), "i386_cr4"),
        Reg("efer", SYSTEM, 64, "i386_efer", ("efer",), group="system"),
    ]  # fmt: skip
    rows += [row(f"dr{n}", ("dr", n)) for n in (0, 1, 2, 3, 6, 7)]
    return [*rows, row("cpl", ("cpl",), writable=False)]


REGISTERS: tuple[Reg, ...] = (*_core(), *_sse(), *_system())
NUMBER = {reg.name: number for number, reg in enumerate(REGISTERS)}
PACKET_BYTES = sum(reg.bytes for reg in REGISTERS)

assert (NUMBER["eip"], NUMBER["gs"], NUMBER["st0"], NUMBER["fop"], NUMBER["xmm0"], NUMBER["mxcsr"]) == (
    8, 15, 16, 31, 32, 40,
)  # fmt: skip  # GDB numbers these itself
assert len(NUMBER) == len(REGISTERS)

# Bits by name, for the types that show a register as a set of flags. IOPL is a number of two bits.
FLAGS: dict[str, tuple[int, dict[str, int]]] = {
    "i386_eflags": (4, {
        "CF": 0, "": 1, "PF": 2, "AF": 4, "ZF": 6, "SF": 7, "TF": 8, "IF": 9, "DF": 10, "OF": 11, "NT": 14, "RF": 16,
        "VM": 17, "AC": 18, "VIF": 19, "VIP": 20, "ID": 21,
    }),
    "i386_mxcsr": (4, {
        "IE": 0, "DE": 1, "ZE": 2, "OE": 3, "UE": 4, "PE": 5, "DAZ": 6, "IM": 7, "DM": 8, "ZM": 9, "OM": 10, "UM": 11,
        "PM": 12, "FZ": 15,
    }),
    "i386_cr0": (4, {
        "PE": 0, "MP": 1, "EM": 2, "TS": 3, "ET": 4, "NE": 5, "WP": 16, "AM": 18, "NW": 29, "CD": 30, "PG": 31,
    }),
    "i386_cr4": (4, {
        "VME": 0, "PVI": 1, "TSD": 2, "DE": 3, "PSE": 4, "PAE": 5, "MCE": 6, "PGE": 7, "PCE": 8, "OSFXSR": 9,
        "OSXMMEXCPT": 10,
    }),
    "i386_efer": (8, {"SCE": 0, "LME": 8, "LMA": 10, "NXE": 11}),
}  # fmt: skip
FLAGS_OF = {CORE: ("i386_eflags",), SSE: ("i386_mxcsr",), SYSTEM: ("i386_cr0", "i386_cr4", "i386_efer")}

VECTORS = (("v4f", "ieee_single", 4), ("v2d", "ieee_double", 2), ("v16i8", "int8", 16), ("v8i16", "int16", 8),
           ("v4i32", "int32", 4), ("v2i64", "int64", 2))  # fmt: skip
VEC128 = (("v4_float", "v4f"), ("v2_double", "v2d"), ("v16_int8", "v16i8"), ("v8_int16", "v8i16"),
          ("v4_int32", "v4i32"), ("v2_int64", "v2i64"), ("uint128", "uint128"))  # fmt: skip


def target_xml() -> str:
    """The target description."""
    lines = ['<?xml version="1.0"?>', '<!DOCTYPE target SYSTEM "gdb-target.dtd">', '<target version="1.0">',
             "<architecture>i386</architecture>"]  # fmt: skip
    for feature in (CORE, SSE, SYSTEM):
        lines.append(f'<feature name="{feature}">')
        if feature == SSE:
            lines += [f'<vector id="{name}" type="{kind}" count="{count}"/>' for name, kind, count in VECTORS]
            lines.append('<union id="vec128">')
            lines += [f'<field name="{name}" type="{kind}"/>' for name, kind in VEC128]
            lines.append("</union>")
        for name in FLAGS_OF[feature]:
            lines += _flags_xml(name)
        lines += [_reg_xml(number, reg) for number, reg in enumerate(REGISTERS) if reg.feature == feature]
        lines.append("</feature>")
    return "\n".join([*lines, "</target>", ""])


def _flags_xml(name: str) -> list[str]:
    size, bits = FLAGS[name]
    fields = [f'<field name="{flag}" start="{bit}" end="{bit}"/>' for flag, bit in bits.items()]
    return [f'<flags id="{name}" size="{size}">', *fields, "</flags>"]


def _reg_xml(number: int, reg: Reg) -> str:
    group = f' group="{reg.group}"' if reg.group else ""
    return f'<reg name="{reg.name}" bitsize="{reg.bits}" type="{reg.type}" regnum="{number}"{group}/>'
