"""What is shown of a processor that cannot go on: registers, the code at EIP, the stack as a back-trace."""

from __future__ import annotations

from collections.abc import Iterator

from vmm._core import ffi, lib
from vmm.vcpu import GPR_NAMES, SEGMENT_NAMES, Vcpu
from vmx.symbols import SymbolTable

CODE_BYTES = 48
CODE_LINES = 8
FRAMES_MAX = 32
STACK_WORDS = 256
CALL_LENGTHS = (5, 2, 3, 6, 7)  # E8 rel32; FF /2 in its forms
FLAG_NAMES = [(name.removeprefix("FL_"), value) for name, value in ffi.typeof("enum eflags").relements.items()
              if value.bit_count() == 1 and name != "FL_1"]  # fmt: skip
VECTOR_NAMES = {value: "#" + name.removeprefix("V_") for name, value in ffi.typeof("enum vector").relements.items()}
SHOWN_GPRS = ("eax", "ebx", "ecx", "edx", "esi", "edi", "ebp", "esp")


def dump(vcpu: Vcpu, symbols: SymbolTable) -> str:
    """Registers, code and back-trace, as lines."""
    return "\n".join([*register_lines(vcpu), *code_lines(vcpu, symbols), *backtrace_lines(vcpu, symbols)])


def register_lines(vcpu: Vcpu) -> list[str]:
    s = vcpu.state
    values = {name: vcpu.gpr[index] for index, name in enumerate(GPR_NAMES)}
    flags = " ".join(name for name, bit in sorted(FLAG_NAMES, key=lambda pair: -pair[1]) if s.eflags & bit)
    lines = [
        "  ".join(f"{name.upper()}={values[name]:08x}" for name in SHOWN_GPRS[:4]),
        "  ".join(f"{name.upper()}={values[name]:08x}" for name in SHOWN_GPRS[4:]),
        f"EIP={s.eip:08x}  EFLAGS={s.eflags:08x} [{flags}]  IOPL={s.eflags >> 12 & 3}  CPL={s.cpl}",
    ]
    for name in SEGMENT_NAMES:
        segment = vcpu.segment(name)
        note = " unusable" if segment.attr & lib.SEG_UNUSABLE else ""
        lines.append(
            f"{name.upper():4} {segment.selector:04x}  base={segment.base:08x} limit={segment.limit:08x} "
            f"attr={segment.attr & 0xFFFF:04x}{note}"
        )
    lines.append(
        f"GDTR base={s.gdtr.base:08x} limit={s.gdtr.limit:04x}   IDTR base={s.idtr.base:08x} limit={s.idtr.limit:04x}"
    )
    lines.append(f"CR0={s.cr0:08x}  CR2={s.cr2:08x}  CR3={s.cr3:08x}  CR4={s.cr4:08x}  EFER={s.efer:x}")
    return lines


def code_lines(vcpu: Vcpu, symbols: SymbolTable) -> list[str]:
    """The instructions from EIP on."""
    start = vcpu.linear_eip()
    code = vcpu.read_linear(start, CODE_BYTES)
    if not code:
        return [f"code at {symbols.describe(start)}: not mapped"]
    wide = vcpu.segment("cs").attr & lib.SEG_DB
    lines = [f"code at {symbols.describe(start)}:"]
    lines += [f"  {line}" for line in disassemble(code, start, wide=bool(wide))][:CODE_LINES]
    return lines


def disassemble(code: bytes, address: int, *, wide: bool) -> Iterator[str]:
    """Intel syntax; stops at the first byte that is no instruction."""
    import capstone  # noqa: PLC0415 - loads a library in a way that the address sanitizer refuses

    engine = capstone.Cs(capstone.CS_ARCH_X86, capstone.CS_MODE_32 if wide else capstone.CS_MODE_16)
    done = 0
    for where, size, mnemonic, operands in engine.disasm_lite(code, address):
        raw = code[where - address : where - address + size]
        yield f"{where:08x}  {raw.hex(' '):24} {mnemonic} {operands}".rstrip()
        done = where - address + size
    if done < min(len(code), 1):
        yield f"{address + done:08x}  {code[done : done + 8].hex(' '):24} (not an instruction)"


def backtrace_lines(vcpu: Vcpu, symbols: SymbolTable) -> list[str]:
    """Frames by EBP; then, as frame pointers are often absent, stack words that follow a call and have a name (?)."""
    stack_base = vcpu.segment("ss").base
    lines = ["back-trace:", f"  {symbols.describe(vcpu.linear_eip())}"]
    frame = vcpu.gpr[lib.EBP]
    shown = set()
    for _ in range(FRAMES_MAX):
        words = _words(vcpu, stack_base + frame, 2)
        if frame == 0 or len(words) < 2 or words[1] == 0:
            break
        shown.add(words[1])
        lines.append(f"  {symbols.describe_return(words[1])}")
        if words[0] <= frame:
            break
        frame = words[0]
    for word in _words(vcpu, stack_base + vcpu.gpr[lib.ESP], STACK_WORDS):
        if word not in shown and symbols.at(word, inside=word - 1) and follows_call(vcpu.read_linear(word - 7, 7)):
            shown.add(word)
            lines.append(f"  {symbols.describe_return(word)} ?")
        if len(lines) > FRAMES_MAX:
            break
    return lines


def follows_call(before: bytes) -> bool:
    """Could a call instruction end where these bytes do?"""
    if len(before) < max(CALL_LENGTHS):
        return False
    if before[-5] == 0xE8:
        return True
    return any(before[-length] == 0xFF and before[-length + 1] >> 3 & 7 == 2 for length in CALL_LENGTHS[1:])


def _words(vcpu: Vcpu, linear: int, count: int) -> list[int]:
    raw = vcpu.read_linear(linear & 0xFFFFFFFF, 4 * count)
    return [int.from_bytes(raw[index : index + 4], "little") for index in range(0, len(raw) - 3, 4)]
