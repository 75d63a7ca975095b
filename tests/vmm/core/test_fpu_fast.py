"""Fast x87 and SSE handlers against their slow twins: the same code, in flat segments and with an ES that is not."""

import random
import struct

import pytest

from tests.vmm.core.host_unit import AVAILABLE
from tests.vmm.core.processor import Processor

pytestmark = pytest.mark.skipif(not AVAILABLE, reason="the host is no x86-64: the engine has no x87, MMX, SSE there")

DATA = 0x60000
REG = [
    "addps", "addpd", "addss", "addsd", "mulps", "mulpd", "mulss", "mulsd", "subps", "subpd", "subss",
    "subsd", "divps", "divpd", "divss", "divsd", "sqrtps", "sqrtpd", "sqrtss", "sqrtsd", "minps", "maxpd",
    "minsd", "maxss", "andps", "andnps", "orps", "xorps", "andpd", "xorpd", "unpcklps", "unpckhps",
    "unpcklpd", "unpckhpd", "cvtps2pd", "cvtpd2ps", "cvtss2sd", "cvtsd2ss", "cvtdq2ps", "cvtps2dq",
    "cvttps2dq", "cvtdq2pd", "cvtpd2dq", "cvttpd2dq", "comiss", "comisd", "ucomiss", "ucomisd", "movaps",
    "movups", "movapd", "movdqa", "movdqu", "rcpps", "rsqrtss", "paddb", "paddw", "paddd", "paddq", "psubb",
    "psubd", "pmullw", "pmuludq", "pcmpeqd", "pcmpgtw", "pxor", "pand", "pandn", "por", "punpcklbw",
    "punpckhdq", "punpcklqdq", "punpckhqdq", "psrlw", "psllq", "psrad", "pmaxub", "psadbw", "packssdw",
]  # fmt: skip
XMM_ONLY = ["movss", "movsd", "movhlps", "movlhps"]
MEM_ONLY = ["movss", "movsd", "movlps", "movhps", "movq", "movd", "movlpd", "movhpd"]
STORES = [
    "movss", "movsd", "movlps", "movhps", "movq", "movd", "movaps", "movups", "movdqa", "movntps",
    "movntdq", "movlpd", "movhpd",
]  # fmt: skip
IMM = ["shufps", "shufpd", "pshufd", "pshuflw", "pshufhw", "cmpps", "cmppd", "cmpss", "cmpsd"]
SHIFTS = ["psrlw", "psrld", "psrlq", "psllw", "pslld", "psllq", "psraw", "psrad", "psrldq", "pslldq"]
X87M = [
    "fadds", "faddl", "fmuls", "fmull", "fsubs", "fsubl", "fsubrs", "fsubrl", "fdivs", "fdivl", "fdivrs",
    "fdivrl", "fcoms", "fcoml", "fiaddl", "fimull", "fisubl", "fiadds", "flds", "fldl", "fldt", "fildl",
    "filds", "fildll", "fsts", "fstps", "fstl", "fstpl", "fistl", "fistpl", "fistps", "fistpll", "fstpt",
    "fcomps", "fnstcw",
]  # fmt: skip
X87R = ["fadd", "fmul", "fsub", "fsubr", "fdiv", "fdivr"]


def sse(r: random.Random) -> str:
    a, b, c = r.randrange(8), r.randrange(8), r.randrange(8)
    at = r.choice(["(%esi)", "16(%esi)", "(%esi,%edi,8)", "-16(%esi,%edi,4)"])
    kind = r.randrange(10)
    if kind < 3:
        return f"{r.choice(REG + XMM_ONLY)} %xmm{a}, %xmm{b}"
    if kind < 5:
        return f"{r.choice(REG + MEM_ONLY)} {at}, %xmm{b}"
    if kind == 5:
        return f"{r.choice(STORES)} %xmm{a}, {at}"
    if kind == 6:
        immediate = r.randrange(256) & (7 if r.random() < 0.5 else 255)
        return f"{r.choice(IMM)} ${immediate}, {r.choice([at, f'%xmm{a}'])}, %xmm{b}"
    if kind == 7:
        return r.choice(
            [
                f"{r.choice(SHIFTS)} ${r.randrange(20)}, %xmm{a}",
                f"cvtsi2sd %ebx, %xmm{a}",
                f"cvttsd2si %xmm{a}, %ebx",
                f"cvtss2si %xmm{a}, %edx",
                f"cvtsi2ssl {at}, %xmm{a}",
                f"movd %xmm{a}, %ebx",
                f"movd %ebx, %xmm{a}",
                f"pmovmskb %xmm{a}, %ebx",
                f"movq %xmm{a}, %xmm{b}",
                f"cvttsd2si {at}, %ebx",
            ]
        )
    s = r.choice(["ps", "pd", "ss", "sd"])
    return r.choice(
        [
            f"mul{s} {r.choice([at, f'%xmm{c}'])}, %xmm{a}; {r.choice(['add', 'sub'])}{s} %xmm{a}, %xmm{b}",
            f"movsd {at}, %xmm{a}; unpcklpd %xmm{a}, %xmm{a}",
            f"movss {at}, %xmm{a}; shufps $0, %xmm{a}, %xmm{a}",
            f"movss {at}, %xmm{a}; shufps $1, %xmm{a}, %xmm{a}",
            f"movsd {at}, %xmm{a}; unpcklpd %xmm{a}, %xmm{b}",
        ]
    )


def x87(r: random.Random) -> str:
    i, at = r.randrange(8), r.choice(["(%esi)", "16(%esi)", "(%esi,%edi,8)", "-16(%esi,%edi,4)"])
    if r.random() < 0.5:
        return f"{r.choice(X87M)} {at}"
    return r.choice(
        [
            f"{r.choice(X87R)} %st({i}), %st",
            f"{r.choice(X87R)} %st, %st({i})",
            f"{r.choice(X87R)}p %st, %st({i})",
            f"fxch %st({i})",
            f"fld %st({i})",
            f"fstp %st({i})",
            f"fst %st({i})",
            "fchs",
            "fabs",
            "fldz",
            "fld1",
            "fldpi",
            "fsqrt",
            f"fcomi %st({i}), %st",
            f"fucomip %st({i}), %st",
            "fcompp",
            "fnstsw %ax",
            "frndint",
            "ftst",
            f"ffree %st({i})",
            "movl $0xf7f, -4(%esi); fldcw -4(%esi)",
            "movl $0x27f, -4(%esi); fldcw -4(%esi)",
            "fincstp",
            f"fcmovb %st({i}), %st",
        ]
    )


def outcome(source: str, data: bytes, flat: bool, unmask: bool) -> tuple[object, ...]:
    cpu = Processor()
    cpu.v.cr0 |= 0x20
    cpu.v.cr4 |= 1 << 9 | 1 << 10
    cpu.write(DATA, data)
    if not flat:
        cpu.v.seg[0].limit = 0xFFFF
    head = "mov $0x60040, %esi; mov $4, %edi; mov $0x12345678, %ebx; fninit; fld1; fldl 16(%esi)"
    head += "; movl $0x1f00, 0x60000; ldmxcsr 0x60000" if unmask else ""
    head += "".join(f"; movups {0x60000 + 16 * i}, %xmm{i}" for i in range(8))
    event = cpu.run(f"{head}; {source}; pushf; pop %ecx; hlt")
    v = cpu.v
    # The selectors of ES and DS are equal, so FDS is too.
    return event, tuple(v.r), v.eip, bytes(v.fx[:288]), cpu.memory.read(DATA, 256), cpu.memory.read(v.r[4], 16)


@pytest.mark.parametrize("seed", range(60))
def test_fast_handlers_do_what_slow_instructions_do(seed: int) -> None:
    r = random.Random(seed)
    pick = (sse, x87, lambda r: r.choice([sse, x87])(r))[seed % 3]
    source = "; ".join(pick(r) for _ in range(120))
    data = b"".join(
        r.choice([struct.pack("<d", r.uniform(-1e3, 1e3)), struct.pack("<ff", r.uniform(-9, 9), r.uniform(-1e30, 1e30)),
            r.randbytes(8), struct.pack("<ii", r.randrange(-99, 99), r.randrange(-99, 99))])
        for _ in range(32)
    )  # fmt: skip
    unmask = seed % 7 == 6
    assert outcome(source, data, True, unmask) == outcome(source, data, False, unmask)


@pytest.mark.parametrize("first", ["mulpd 0x60008, %xmm0", "mulpd 0x9000000, %xmm0"])
def test_a_pair_whose_first_faults_has_done_nothing(first: str) -> None:
    cpu = Processor()
    cpu.v.cr4 |= 1 << 9
    cpu.write(DATA, struct.pack("<4d", 2, 3, 4, 5))
    event = cpu.run(f"movaps 0x60000, %xmm0; movaps 0x60010, %xmm1; fault: {first}; addpd %xmm0, %xmm1; hlt")
    if "60008" in first:
        assert event is not None and event.vector == 13
        assert bytes(cpu.v.fx[160:192]) == struct.pack("<4d", 2, 3, 4, 5)
