"""Every difference between the interpreter and a peer that is allowed, with its reason: data for rules.py.

Anything that no row explains fails the tests. Sources: SDM = Intel 64 and IA-32 Architectures Software Developer's
Manual; APM = AMD64 Architecture Programmer's Manual; "observed" = what silicon does where neither promises anything.
"""

from __future__ import annotations

from tests.conformance.rules import (
    AC,
    BR,
    DB,
    DE,
    DF,
    GP,
    MF,
    NM,
    NONE,
    NP,
    OTHER,
    PF,
    SS,
    SYSCALL,
    TIMEOUT,
    TS,
    UD,
    XM,
    Row,
    traps,
)  # fmt: skip

# ---- flags that the manuals leave undefined --------------------------------------------------------------------------

UNDEFINED = (
    Row(
        "20-25, 08-0D, 30-35, 84-85, A8-A9, 80-83 /1, 80-83 /4, 80-83 /6, F6-F7 /0-1",
        "AF",
        "logical operations leave AF undefined",
        "SDM 2: AND, OR, XOR, TEST",
    ),
    Row("C0-C1 /4-7, D0-D3 /4-7", "AF", "AF is undefined after a shift", "SDM 2: SAL/SAR/SHL/SHR"),
    Row("0F A4-A5, 0F AC-AD", "AF OF", "AF is undefined, OF too for counts other than 1", "SDM 2: SHLD, SHRD"),
    Row("0F AF, 69, 6B, F6-F7 /4-5", "SF ZF AF PF", "a multiplication defines CF and OF only", "SDM 2: MUL, IMUL"),
    Row("F6-F7 /6-7", "CF OF SF ZF AF PF", "a division defines no flag", "SDM 2: DIV, IDIV"),
    Row("0F BC-BD", "CF OF SF AF PF", "BSF and BSR define ZF only", "SDM 2: BSF, BSR"),
    Row("27, 2F", "OF", "OF is undefined", "SDM 2: DAA, DAS"),
    Row("37, 3F", "OF SF ZF PF", "AAA and AAS define AF and CF only", "SDM 2: AAA, AAS"),
    Row("D4-D5", "OF AF CF", "AAM and AAD define SF, ZF and PF only", "SDM 2: AAM, AAD"),
)

SHIFT16 = (
    Row(
        "0F A4-A5 word, 0F AC-AD word",
        "r memory CF OF SF ZF AF PF",
        "16-bit operand and a count above 16: destination and flags are undefined",
        "SDM 2: SHLD, SHRD",
    ),
)

# ---- the host processor ----------------------------------------------------------------------------------------------

NEWER = "the host executes an extension that is younger than the model; ours is #UD"
NEWER_ROWS = tuple(
    Row(insns, "trap", NEWER, source, ours=traps(UD))
    for insns, source in (
        ("F3 0F 12, F2 0F 12, F3 0F 16, 0F D0, 0F 7C-7D, F2 0F F0", "SSE3"),
        ("DB /1, DD /1, DF /1", "SSE3: FISTTP"),
        ("0F 38, 0F 3A", "SSSE3, SSE4, MOVBE, AES"),
        ("0F 78-79, F2 0F 2B, F3 0F 2B", "APM 4: SSE4a"),
        ("F3 0F B8", "POPCNT"),
        ("0F C7", "RDRAND, RDSEED, RDPID, XSAVEC, XSAVES"),
        ("0F AE", "XSAVE, CLWB, CLFLUSHOPT, FSGSBASE, shadow stacks"),
        ("0F 01", "the system extensions with a register operand: virtualisation, XGETBV, MONITOR, RDTSCP, ..."),
        ("C4-C5 reg, 62 reg", "VEX and EVEX: AVX, BMI"),
        ("8F", "APM 1: XOP"),
    )
)

# Whose silicon the rows marked "observed" were seen on. Another's may need others.
HOST_VENDORS = ("AuthenticAMD",)
HOST = (
    *NEWER_ROWS,
    Row("F3 0F BC-BD", "trap r CF ZF", "LZCNT and TZCNT; a P6 ignores the prefix", "SDM 2: LZCNT, TZCNT"),
    Row(
        "0F 05, 0F 07",
        "trap",
        "SYSCALL and SYSRET exist on the host; the model has none",
        "SDM 2: SYSCALL",
        ours=traps(UD),
    ),
    Row(
        "0F 34",
        "trap",
        "AMD64 has no SYSENTER in long mode; ours finds SYSENTER_CS zero",
        "APM 3: SYSENTER",
        ours=traps(GP),
        theirs=traps(UD),
    ),
    Row("CD", "trap", "INT 80h enters the host's kernel", "Linux", theirs=traps(SYSCALL)),
    Row("0F 31", "r", "two clocks", "SDM 2: RDTSC"),
    Row("0F A2", "r", "two processors", "SDM 2: CPUID"),
    Row(
        "0F 01 /0-1, 0F 01 /4, 0F 00 /0-1",
        "trap memory r error RF eip",
        "the host's UMIP makes them fault, and its kernel emulates them with its own addresses",
        "SDM 3A 2.5: CR4.UMIP",
    ),
    Row(
        "0F 0D reg",
        "trap",
        "the register form of PREFETCH is #UD on AMD; a P6 has a NOP",
        "APM 3: PREFETCH",
        theirs=traps(UD),
    ),
    Row("0F 20-23", "trap", "LOCK MOV CR names CR8 on AMD", "APM 3: MOV CRn", ours=traps(UD), theirs=traps(GP)),
    Row("0F 00 /5", "trap", "the host's VERW, changed by microcode, ignores LOCK", "observed", ours=traps(UD)),
    Row(
        "06, 0E, 16, 1E, 0F A0, 0F A8",
        "memory",
        "a 32-bit PUSH of a segment register: the host writes 32 bits, a P6 writes 16 and keeps the rest",
        "SDM 2: PUSH",
    ),
    Row(
        "06, 0E, 16, 1E, 0F A0, 0F A8",
        "trap",
        "so the host checks the alignment of 32 bits",
        "observed",
        ours=traps(NONE),
        theirs=traps(AC),
    ),
    Row(
        "F1",
        "eip",
        "a hypervisor between reports the trap at the instruction instead of after it",
        "observed",
        ours=traps(DB),
        theirs=traps(DB),
    ),
    Row(
        "*",
        "trap",
        "an operand that wraps past 4 GiB in a segment without a limit may fault by the segment or not",
        "SDM 3A 5.3: Limit Checking",
        ours=traps(PF),
        theirs=traps(GP, SS),
        when="at the top of the address space",
    ),
    Row("*", "trap", "the code found its way to the host's 64-bit mode", "observed", theirs=traps(OTHER)),
    Row(
        "*",
        "error",
        "a pointer met the pages where the guest has its tables: present, but not for ring 3",
        "harness.py",
        ours=traps(PF),
        theirs=traps(PF),
        when="in the guest's kernel",
    ),
    Row(
        "*",
        "trap",
        "a misaligned operand that wraps past 4 GiB",
        "SDM 3A 5.3: Limit Checking",
        ours=traps(AC),
        theirs=traps(GP, SS),
    ),
    Row(
        "A6-A7",
        "trap cr2 error",
        "two operands in memory that both fault: which is read first",
        "observed: family 25 reads ES:(E)DI first, earlier ones DS:(E)SI",
        ours=traps(PF, GP, SS, AC),
        theirs=traps(PF, GP, SS, AC),
    ),
    Row(
        "*",
        "cr2",
        "the same in a program that has stored a CMPS over itself",
        "observed",
        ours=traps(PF),
        theirs=traps(PF),
        when="at the other string operand",
    ),
    Row("62 mem", "trap", "below the lower bound the upper one need not be read", "observed", theirs=traps(BR)),
    Row(
        "*",
        "trap",
        "an undefined opcode next to memory that cannot be fetched: how much of it is fetched first",
        "observed",
        ours=traps(UD, PF, GP),
        theirs=traps(UD, PF, GP),
        when="while fetching",
    ),
    Row(
        "*",
        "trap",
        "alignment is checked before the page tables; a P6 does so after",
        "observed; SDM 3A table 6-2",
        ours=traps(PF),
        theirs=traps(AC),
    ),
    Row(
        "0F 10-11, 66 0F 10-11, F3 0F 6F, F3 0F 7F",
        "trap",
        "unaligned 16-byte moves with EFLAGS.AC may be #AC or not",
        "SDM 3A 6.15: Interrupt 17",
        theirs=traps(AC),
    ),
    Row(
        "0F 10-FF mem",
        "trap",
        "a misaligned 16-byte operand outside of SS: which of two faults comes first",
        "observed",
        ours=traps(SS),
        theirs=traps(GP),
    ),
    Row(
        "0F 2A, 0F 2C-2D, 66 0F 2A, 66 0F 2C-2D",
        "fx",
        "the host enters MMX state (TOP, tags) before the SIMD exception",
        "observed",
        ours=traps(XM),
        theirs=traps(XM),
    ),
    Row(
        "0F F7",
        "fx",
        "the host enters MMX state (TOP, tags) before the store faults",
        "observed",
        ours=traps(PF, GP, AC),
    ),
    Row(
        "66 0F F7",
        "trap",
        "unaligned 16-byte stores with EFLAGS.AC may be #AC or not",
        "SDM 3A 6.15: Interrupt 17",
        ours=traps(NONE),
        theirs=traps(AC),
    ),
    Row(
        "0F AE /0-1",
        "trap",
        "#AC or #GP for a misaligned operand with EFLAGS.AC",
        "SDM 2: FXRSTOR",
        ours=traps(GP),
        theirs=traps(AC),
    ),
    Row(
        "D9 /4 mem, DD /4 mem",
        "fx",
        "what a load that faults half-way has loaded",
        "observed",
        ours=traps(PF),
        theirs=traps(PF),
    ),
    Row(
        "0F F7",
        "trap",
        "a mask of zeros: the address may be checked or not",
        "SDM 2: MASKMOVQ",
        ours=traps(NONE),
        theirs=traps(PF, GP),
    ),
    Row(
        "0F AE /0-1, D9 /4 mem, D9 /6 mem, DD /4 mem, DD /6 mem",
        "cr2 error",
        "which end of a long operand is touched first",
        "observed",
        ours=traps(PF),
        theirs=traps(PF),
    ),
    Row(
        "0F AE /0, D9 /6 mem, DD /6 mem",
        "memory",
        "last-instruction pointers, and a bit of MXCSR_MASK that AMD added",
        "APM 1: Misaligned Exception Mask",
        ours=traps(NONE, DB),
    ),
    Row(
        "9A, FF /3, C8, 60",
        "memory",
        "stack stores that precede the fault may be seen",
        "observed",
        ours=traps(PF, SS, GP, NP, AC),
        theirs=traps(PF, SS, GP, NP, AC),
    ),
    Row(
        "C8, CA-CB, CF",
        "cr2 error",
        "the order in which a frame of several words is read",
        "observed",
        ours=traps(PF),
        theirs=traps(PF),
    ),
    Row(
        "CA-CB",
        "trap",
        "the outer stack's SS and ESP are read before the new CS is checked",
        "observed",
        ours=traps(GP, NP),
        theirs=traps(PF, SS, AC),
    ),
    Row(
        "FF /2, E8",
        "trap",
        "a target beyond the limit and no room on the stack: the stack is looked at first",
        "observed; SDM 2: CALL has it the other way",
        ours=traps(GP),
        theirs=traps(SS, PF),
    ),
    Row(
        "D9 /4 mem, D9 /6 mem, DD /4 mem, DD /6 mem, 0F AE /0-1 mem",
        "trap",
        "a long operand that passes offset FFFFh with a 16-bit address goes on at 0",
        "observed",
        ours=traps(GP, SS),
        theirs=traps(NONE, PF),
    ),
    Row(
        "FF /3, FF /5, C4-C5, 0F B2, 0F B4-B5",
        "trap",
        "a far pointer that passes offset FFFFh with a 16-bit address goes on at 0",
        "observed",
        ours=traps(GP, SS),
        when="ours by a limit",
    ),
    Row("61", "trap", "the slot of ESP, which POPA skips, is read", "observed", ours=traps(NONE), theirs=traps(SS, PF)),
    Row(
        "61",
        "r",
        "registers that were popped before the fault have changed",
        "observed",
        ours=traps(SS, PF),
        theirs=traps(SS, PF),
    ),
    Row(
        "0F AE /0, D9 /6 mem, DD /6 mem",
        "memory",
        "what a store that faults half-way has stored",
        "observed",
        ours=traps(PF),
        theirs=traps(PF),
    ),
    Row(
        "0F 51-5F",
        "fx",
        "ours executes with all exceptions masked: a result that only overflow or underflow made inexact sets PE",
        "SDM 1 4.9.1.5",
        ours=traps(XM),
        theirs=traps(XM),
        when="PE of an unmasked overflow",
    ),
    Row("F3 E0, F2 E1", "trap", "a REPE or REPNE prefix replaces the condition of LOOPNE or LOOPE", "observed"),
)

HOST_RULES = (*UNDEFINED, *SHIFT16, *HOST)

# ---- the captured vectors of an 80286 --------------------------------------------------------------------------------

EVERYTHING = "ax bx cx dx sp bp si di cs ss ds es ip memory end CF PF AF ZF SF DF OF TF IF"
VECTORS = (
    *UNDEFINED,
    Row(
        "6C-6F, A4-A7, AA-AF",
        "si di cx",
        "a 286 has moved its registers when a string instruction faults; a P6 has not",
        "SDM 2: REP",
        ours=traps(GP),
    ),
    Row(
        "C2, C9",
        EVERYTHING,
        "a word at SS:FFFFh is #SS on a P6, vector 12; the 286 says 13",
        "SDM 3A 20.1.4",
        ours=traps(GP),
    ),
    Row(
        "F7 /1",
        EVERYTHING,
        "an instruction of more than 10 bytes: the limit of a P6 is 15",
        "SDM 2 2.3.11",
        ours=traps(GP),
    ),
    Row(
        "E4-E5, EC-ED",
        "ax",
        "a port of the chipset answers; nothing was there when the vectors were taken",
        "pc-platform",
    ),
)

# ---- Unicorn ---------------------------------------------------------------------------------------------------------

FAULTS = traps(DE, DB, BR, UD, NM, DF, TS, NP, SS, GP, PF, MF, AC, XM, OTHER)
UNICORN = (
    Row(
        "C0-C1, D2-D3",
        "OF",
        "unicorn: OF, undefined for counts other than 1, is not what silicon makes of it",
        "SDM 2: SAL/SAR/SHL/SHR, RCL/RCR/ROL/ROR",
        ours=traps(NONE),
        theirs=traps(NONE),
    ),
    Row("* lock", "trap", "unicorn: LOCK is legal with what cannot be locked", "SDM 2: LOCK", ours=traps(UD, OTHER)),
    Row(
        "C8",
        "r memory",
        "unicorn: ENTER takes other bits of EBP and ESP than silicon when operand and stack differ in size",
        "observed",
        ours=traps(NONE),
        theirs=traps(NONE),
    ),
    Row("*", "trap", "unicorn: no segment limits", "SDM 3A 5.3", ours=traps(SS, GP, OTHER), theirs=traps(NONE)),
    Row(
        "*",
        "trap",
        "unicorn: how a fault shows depends on tables that it does not have",
        "unicorn",
        ours=FAULTS,
        theirs=FAULTS | traps(TIMEOUT),
    ),
    Row(
        "8F, C6-C7", "trap", "unicorn: /1 to /7 are taken for /0", "SDM 2 table A-6", ours=traps(UD), theirs=traps(NONE)
    ),
    Row("F6-F7 /1", "trap", "unicorn: #UD; silicon executes TEST", "observed", theirs=FAULTS | traps(TIMEOUT)),
    Row(
        "F6-F7 /3",
        "CF OF SF ZF AF PF",
        "unicorn: the flags of LOCK NEG are those of another value",
        "observed",
        ours=traps(NONE),
        theirs=traps(NONE),
    ),
    Row("0F C7", "trap", "unicorn: RDRAND and RDSEED exist", "SDM 2: RDRAND", ours=traps(UD)),
    Row("F3 0F BC-BD", "r ZF CF", "unicorn: TZCNT and LZCNT exist", "SDM 2: TZCNT, LZCNT"),
    Row("C2", "r", "unicorn: the immediate is sign-extended; it is unsigned", "SDM 2: RET", ours=traps(NONE)),
    Row(
        "C8",
        "trap",
        "unicorn: no check that the final stack pointer can be written",
        "SDM 2: ENTER",
        ours=traps(PF),
        theirs=traps(NONE),
    ),
)
UNICORN_RULES = (*UNICORN, *UNDEFINED, *SHIFT16)
