"""The scan for sensitive instructions against objdump's disassembly: lengths, classes, and whole programs.

scan.c is compiled into a library of its own. objdump takes FWAIT and the x87 instruction behind it for one.
"""

from __future__ import annotations

import re
import subprocess
from bisect import bisect_left
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from cffi import FFI

from tests.realguests import fetch
from tests.realguests.conftest import or_skip
from vmm.build_core import CODE_FLAGS, CORE, compiler

PAGE = 4096
CPUID, TABLES, RIGHTS, SEG_READ, SEG_LOAD, FAR, SYSTEM, SSE, LATER, TZCNT, TSC, PLAIN = (1 << bit for bit in range(12))
FWAIT = 0x9B
LIBC = Path("/lib32/libc.so.6")
LOADER = Path("/lib32/ld-linux.so.2")

# What a Pentium III with SSE2 does not have, by extension; not what only ring 0 may use. With no state but its own:
PLAIN_WORDS = (
    r"addsubp[sd]|h(add|sub)p[sd]|lddqu|mov(ddup|s[hl]dup)|fisttp",
    r"pabs[bwd]|palignr|ph(add|sub)(d|sw|w)|pmaddubsw|pmulhrsw|pshufb|psign[bwd]",
    r"blendv?p[sd]|dpp[sd]|extractps|insertps|movntdqa|mpsadbw|packusdw|pblend(vb|w)|pcmpeqq|p(ext|ins)r[bdq] ",
    r"phminposuw|p(max|min)(sb|sd|ud|uw)|pmov[sz]x|pmul(dq|ld)|ptest|round[ps][sd]|pextrw.*(\)|0x[0-9a-f]+)$",
    r"crc32|pcmp[ei]str[im]|pcmpgtq|popcnt|extrq|insertq|movnts[sd]",
    r"movbe|ad[co]x|aes|pclmul|sha(1|256)|gf2p8|inv(ept|vpid|pcid)|movdir|enqcmd",
)
# The others.
LATER_WORDS = (
    r"v(?!err|erw|m(call|mcall|read|write|run|load|save|launch|resume|xoff|xon|clear|ptr))",
    r"k(mov|and|andn|or|xor|xnor|not|ortest|test|shift[lr]|unpck|add)[bwdq]+\b",
    r"pf[a-z]|pi2f[dw]|femms|xsave|xrstor|rdrand|rdseed|rdpid|lzcnt|clflushopt|clwb",
    r"xabort|xbegin|xend|xtest|umonitor|umwait|tpause|ptwrite|serialize|m(onitor|wait)x|clzero|rdpru|(rd|wr)pkru|getsec",
    r"andn |bextr|bls|bzhi|mulx|pdep|pext |rorx|s[ah][lr]x|blc|t(1mskc|zmsk)",
)

# objdump's mnemonics, AT&T syntax, without prefixes and size suffix of far transfers.
SEGMENT = r"%[cdefgs]s"
CLASSES = {
    CPUID: r"cpuid",
    TABLES: r"(s[gi]dt[lw]?|sldt|str|smsw)\b",
    RIGHTS: r"(lar|lsl|verr|verw)\b",
    SEG_READ: rf"push[lw]? +{SEGMENT}$|mov[lw]? +{SEGMENT},",
    SEG_LOAD: rf"pop[lw]? +{SEGMENT}$|mov[lw]? +.*,{SEGMENT}$|l[defgs]s\b",
    FAR: r"(lcall|ljmp|lret|iret)[lw]?\b",
    SYSTEM: r"(syscall|xgetbv|vmcall|vmmcall)",
    LATER: "|".join(LATER_WORDS),
    PLAIN: "|".join(PLAIN_WORDS),
    TZCNT: "tzcnt",
    TSC: "rdtscp?",
    SSE: r"(?!v)(.*%xmm|(ld|st)mxcsr|fx(save|rstor))",
}
PREFIX = re.compile(r"^((lock|rep|repz|repnz|bnd|data16|addr16|[cdefgs]s) +)+")
ROW = re.compile(r"^\s*([0-9a-f]+):\t((?:[0-9a-f]{2} )+)\s*(.*)$")
LABEL = re.compile(r"^([0-9a-f]+) <")

CDEF = """
struct scan_result { uint16_t first[12]; uint16_t tail, carry; };
uint32_t scan_page(const uint8_t *page, uint32_t entry, const uint8_t *next, bool sse, struct scan_result *r);
uint32_t scan_seam(const uint8_t *page, const uint8_t *next, uint32_t tail);
uint32_t insn_length32(const uint8_t *bytes, uint32_t available);
uint32_t insn_class32(const uint8_t *bytes, uint32_t available);
"""
ffi = FFI()
ffi.cdef(CDEF)

SAMPLE_C = """
float sums[64], terms[64];
double roots[64];
struct { long long a; short b; char c; } table[9];
void add(int n) { for (int i = 0; i < n; i++) sums[i] = sums[i] * 3 + terms[i]; }
void root(void) { for (int i = 0; i < 64; i++) roots[i] = __builtin_sqrt(roots[i] + i); }
long long mix(long long a, int b) { table[b].a += a / (b | 1) << (b & 31); return table[b].b * (a >> 3); }
int pick(int n, char *s) {
	switch (n) { case 0: return s[1]; case 1: return s[2] * 7; case 2: return s[9] % 10; case 5: return n << s[3];
	case 7: __builtin_memset(s, n, 900); return 1; default: __builtin_trap(); } }
"""
SAMPLE_ASM = """
	fstcw (%eax); fnstcw (%eax); fsave 8(%ebx); enter $16, $1; bound %eax, (%ecx); arpl %ax, (%ecx)
	movw $0x1234, 8(%bx,%si); movl $1, (%bp); movl $1, 0x1234; addr16 movl $1, 0x1234; lea 0x100(%di), %eax
	movl $1, (,%eax,4); movl $1, 4(%esp); movl $1, 0x12345678(%ebp,%ecx,8); movb $1, (%esp)
	addr16 movl 0x1234, %eax; movl 0x12345678, %eax; data16 push $0x1234; push $0x12345678; push $1
	testb $1, (%ecx); testl $1, 4(%ecx); testw $1, %dx; notl (%ecx); imul $0x12345678, %eax; imul $3, (%ecx), %dx
	pfadd %mm1, %mm2; pi2fd 4(%eax,%ebx), %mm1; femms; extrq $1, $2, %xmm1; insertq $1, $2, %xmm1, %xmm2
	pshufb (%eax), %xmm1; palignr $3, 4(%ebp), %xmm1; crc32b %al, %ecx; movbe %eax, (%ecx); pclmulqdq $1, %xmm1, %xmm2
	vzeroupper; vpshufd $1, 4(%eax), %ymm1; vpermq $3, %ymm1, %ymm2; vinsertf128 $1, (%eax), %ymm1, %ymm2; andn %eax, %ecx, %edx
	rorx $3, (%eax), %ecx; vfmadd231ps (%eax,%ecx), %ymm1, %ymm2; vblendvps %xmm1, 0x1234(%eax), %xmm2, %xmm3; kmovw %k1, %eax
	vaddps (%eax){1to16}, %zmm1, %zmm2; vpternlogd $3, 0x40(%ecx), %zmm1, %zmm3{%k1}{z}; vpcmpd $1, %zmm1, %zmm2, %k1
	vpcomb $1, %xmm1, %xmm2, %xmm3; vprotb $3, (%eax), %xmm1; bextr $0x12345678, (%eax), %ecx; blcfill 4(%eax), %ecx; vfrczps %ymm1, %ymm2
	xabort $1; xbegin .+6; monitor; mwait; rdtscp; rdrand %eax; rdseed %ax; clflush (%eax); prefetchw (%eax); nopw 0x12345678(%eax,%eax)
	mov %cr0, %eax; mov %eax, %dr7; movnti %eax, (%ecx); cmpxchg8b (%eax); lock cmpxchg8b (%eax); bswap %edx; shld $3, %eax, (%ecx)
	jmp .+5; jne .+2; data16 call .+4; loop .; jecxz .; ret $4; int $3; int $0x80; into; ud2; ud1 (%eax), %ecx; sysenter; sysexit; rsm
	cpuid; sgdt (%eax); sidt 4(%esp); sldt %eax; sldt (%eax); str %cx; smsw %eax; smsw 0x12345678; lgdt (%eax); lidt (%eax); lldt %ax; ltr (%eax)
	lmsw %ax; invlpg (%eax); lar (%eax), %ecx; lsl %ax, %ecx; verr (%eax); verw %cx
	push %es; push %cs; push %ss; push %ds; push %fs; push %gs; pop %es; pop %ss; pop %ds; pop %fs; pop %gs; data16 push %es
	mov %ds, %eax; mov %gs, (%ecx); mov %eax, %es; mov 4(%ecx), %ss; lds (%eax), %ecx; les 4(%eax,%ecx), %edx; lfs (%eax), %ecx; lgs (%eax), %ecx; lss 0x12345678, %esp
	lcall $0x12, $0x12345678; ljmp $0x12, $0x12345678; lcall *(%eax); ljmp *4(%eax); lret; lret $4; iret; data16 iret; call *%eax; jmp *(%eax); push (%eax)
	tzcnt %eax, %ecx; tzcnt (%eax), %cx; lzcnt 4(%eax), %ecx; popcnt %eax, %ecx; bsf %eax, %ecx; bsr (%eax), %ecx; rdpid %eax; xtest; xend
	xsave (%eax); xsaveopt 4(%eax); xsavec (%eax); xrstor (%eax); clwb (%eax); clflushopt (%eax); umonitor %eax; umwait %eax; tpause %eax
	serialize; rdpkru; wrpkru; monitorx; mwaitx; clzero; rdpru; enqcmd (%eax), %ecx; movdiri %eax, (%ecx); ptwrite %eax; ptwrite (%eax)
	movddup %xmm1, %xmm2; movsldup (%eax), %xmm1; movshdup %xmm1, %xmm2; haddps %xmm1, %xmm2; hsubpd (%eax), %xmm1; addsubps %xmm1, %xmm2
	lddqu (%eax), %xmm1; movntss %xmm1, (%eax); movntsd %xmm1, (%eax); fisttps (%eax); fisttpl 4(%eax); fisttpll (%eax); fxch %st(1)
	movhlps %xmm1, %xmm2; movlps (%eax), %xmm1; movhps (%eax), %xmm1; movntps %xmm1, (%eax); pextrw $1, %xmm1, %eax; pextrw $1, %xmm1, (%eax)
	adcx %eax, %ecx; adox (%eax), %ecx; sha1nexte %xmm1, %xmm2; aesenc %xmm1, %xmm2; gf2p8mulb %xmm1, %xmm2; movntdqa (%eax), %xmm1; pextrd $1, %xmm1, %eax
	vpaddb %xmm1, %xmm2, %xmm3; kandw %k1, %k2, %k3; bzhi %eax, (%ecx), %edx; fxsave (%eax); fxrstor (%eax); ldmxcsr (%eax); lfence; mfence; sfence; clflush (%eax)
	syscall; xgetbv; xsetbv; vmcall; vmmcall; mov %gs:0, %eax; movl %eax, %fs:4(%ecx); call *%gs:16; pushf; popf; cli; sti; hlt
"""  # noqa: E501


class Row(NamedTuple):
    address: int
    code: bytes
    text: str


class Scan:
    """scan.c, and one result."""

    def __init__(self, lib: Any) -> None:
        self.lib, self.result = lib, ffi.new("struct scan_result *")

    def length(self, code: bytes) -> int:
        return int(self.lib.insn_length32(code, len(code)))

    def class_of(self, code: bytes) -> int:
        return int(self.lib.insn_class32(code, len(code)))

    def page(self, code: bytes, entry: int, following: bytes | None = None, sse: bool = False) -> int:
        behind = ffi.NULL if following is None else following.ljust(PAGE)
        return int(self.lib.scan_page(code.ljust(PAGE, b"\x90"), entry, behind, sse, self.result))

    def seam(self, page: bytes, following: bytes, tail: int = PAGE) -> int:
        return int(self.lib.scan_seam(page.rjust(PAGE, b"\x90"), following.ljust(PAGE, b"\x90"), tail))

    def first(self, kind: int) -> int:
        return int(self.result.first[kind.bit_length() - 1])


@pytest.fixture(scope="module")
def scan(tmp_path_factory: pytest.TempPathFactory) -> Scan:
    library = tmp_path_factory.mktemp("scan") / "scan.so"
    flags = ["-std=gnu11", *CODE_FLAGS, "-Wall", "-Wextra", "-Wconversion", "-Werror", "-shared", "-fPIC"]
    subprocess.run([*compiler(), *flags, "-I", CORE, "-o", library, CORE / "scan.c"], check=True)
    return Scan(ffi.dlopen(str(library)))


def objdump(*arguments: str | Path) -> Iterator[str]:
    command = ["objdump", "-w", "-z", "-M", "i386", "--insn-width=15", *arguments]
    return iter(subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines())


def rows_of(lines: Iterator[str]) -> tuple[list[Row], list[int]]:
    """Instructions, and addresses of functions."""
    rows, labels = [], []
    for line in lines:
        if match := ROW.match(line):
            rows.append(Row(int(match[1], 16), bytes.fromhex(match[2]), match[3]))
        elif match := LABEL.match(line):
            labels.append(int(match[1], 16))
    return rows, labels


def class_of_text(text: str) -> int:
    text = PREFIX.sub("", re.split("[#<]", text, maxsplit=1)[0].strip())
    return next((kind for kind, pattern in CLASSES.items() if re.match(pattern, text)), 0)


def disagreements(scan: Scan, rows: list[Row]) -> list[tuple[str, str, int, int]]:
    wrong = []
    for _, code, text in rows:
        if "(bad)" in text:
            continue
        parts = [code[:1], code[1:]] if code[0] == FWAIT and len(code) > 1 else [code]
        for part in parts:
            if (length := scan.length(part)) != len(part):
                wrong.append((code.hex(), text, length, len(part)))
        if (kind := scan.class_of(code)) != class_of_text(text):
            wrong.append((code.hex(), text, kind, class_of_text(text)))
    return wrong


def compiled(folder: Path, name: str, source: str, *flags: str) -> list[Row]:
    path = folder / name
    path.write_text(source)
    subprocess.run([*compiler(), "-m32", "-c", *flags, "-o", path.with_suffix(".o"), path], check=True)
    return rows_of(objdump("-d", path.with_suffix(".o")))[0]


@pytest.mark.parametrize(
    "flags", ["-O2", "-O3 -mavx2 -mfma", "-O3 -mavx512f -mavx512vl -fno-pic", "-Os -mno-sse -mfpmath=387"]
)
def test_compiled_code_has_objdumps_lengths(scan: Scan, tmp_path: Path, flags: str) -> None:
    rows = compiled(tmp_path, "sample.c", SAMPLE_C, *flags.split())
    assert len(rows) > 100
    assert disagreements(scan, rows) == []


def test_every_kind_of_instruction_has_objdumps_length_and_class(scan: Scan, tmp_path: Path) -> None:
    rows = compiled(tmp_path, "sample.s", SAMPLE_ASM)
    assert {class_of_text(row.text) for row in rows} == {0, *CLASSES}
    assert disagreements(scan, rows) == []


def test_the_opcode_maps_have_objdumps_lengths(scan: Scan, tmp_path: Path) -> None:
    slot, tail = 32, bytes([0x45, 0x23, 0x01, 0x00, 0x11, 0x22, 0x33])
    cases = [
        (prefix + lead + bytes([opcode, modrm | reg << 3]) + tail).ljust(slot, b"\x90")
        for lead in (b"", b"\x0f") for opcode in range(256) for reg in range(8)
        for prefix, modrm in ((b"", 0x05), (b"", 0xC1), (b"\x66", 0x84), (b"\x67", 0x46))
    ]  # fmt: skip
    image = tmp_path / "maps.bin"
    image.write_bytes(b"".join(cases))
    rows, _ = rows_of(objdump("-D", "-b", "binary", "-m", "i386", image))
    at = {row.address: row for row in rows}
    wrong = []
    for number, case in enumerate(cases):
        row = at.get(number * slot)
        if row and "(bad)" not in row.text and row.code[0] != FWAIT and PREFIX.sub("", row.text + " "):
            length = scan.length(case)
            if length and length != len(row.code):
                wrong.append((row.code.hex(), row.text, length))
    assert wrong == []


# ---- whole programs ----


class Program:
    """The pages of a program's code, as they lie in memory, and what objdump finds in them."""

    def __init__(self, path: Path) -> None:
        data = path.read_bytes()
        self.rows, self.labels = rows_of(objdump("-d", path))
        sections = list(self.sections(path))
        self.base = min(address for address, _, _ in sections) & -PAGE
        image = bytearray(max(address + size for address, size, _ in sections) - self.base + 2 * PAGE)
        for address, size, offset in sections:
            image[address - self.base : address - self.base + size] = data[offset : offset + size]
        self.image = bytes(image)
        self.sensitive = {row.address: kind for row in self.rows if (kind := class_of_text(row.text))}

    @staticmethod
    def sections(path: Path) -> Iterator[tuple[int, int, int]]:
        for line in objdump("-h", path):
            if "CODE" in line:
                _, _, size, address, _, offset, *_ = line.split()
                yield int(address, 16), int(size, 16), int(offset, 16)

    def page_addresses(self) -> range:
        return range(self.base, self.base + len(self.image) - 2 * PAGE + 1, PAGE)

    def entries(self, page: int) -> list[int]:
        """Where code that runs in a page may have come in: its first instruction, and its functions."""
        starts = [row.address for row in self.rows[self.row_at(page) : self.row_at(page) + 1]]
        starts += self.labels[bisect_left(self.labels, page) : bisect_left(self.labels, page + PAGE)]
        return [start - page for start in starts if page <= start < page + PAGE]

    def row_at(self, address: int) -> int:
        return bisect_left(self.rows, address, key=lambda row: row.address)


def scan_program(scan: Scan, program: Program, entries_most: int, sse: bool = False) -> tuple[set[str], set[str], int]:
    """False finds, missed finds, and the pages in which something was found."""
    false, missed, flagged = set(), set(), set()
    for page in program.page_addresses():
        at = page - program.base
        code, following = program.image[at : at + PAGE], program.image[at + PAGE : at + 2 * PAGE]
        truth = {program.sensitive[a] for a in range(page, page + PAGE) if a in program.sensitive}
        for entry in program.entries(page)[:entries_most]:
            found = scan.page(code, entry, following, sse)
            if found:
                flagged.add(page)
            for kind in CLASSES:
                if kind == SSE and not sse:
                    continue
                where = f"class {kind} in {page:#x}, entry {entry:#x}"
                if found & kind and program.sensitive.get(page + scan.first(kind)) != kind:
                    false.add(f"{where}, at {scan.first(kind):#x}")
                if kind in truth and not found & kind:
                    missed.add(where)
    return false, missed, len(flagged)


def scan_seams(scan: Scan, program: Program) -> tuple[set[str], set[str]]:
    """False and missed finds in the instructions that lie across two pages, where objdump knows the bytes for code."""
    false, missed = set(), set()
    for page in program.page_addresses()[:-1]:
        at = page + PAGE - program.base
        before = program.rows[program.row_at(page + PAGE) - 1]
        truth = program.sensitive.get(before.address, 0) if before.address + len(before.code) > page + PAGE else 0
        if truth and scan.class_of(program.image[before.address - program.base : at]):
            truth = 0  # the bytes of the first page tell it: it is found there
        found = scan.seam(program.image[at - PAGE : at], program.image[at : at + PAGE])
        if found & ~truth:
            false.add(f"classes {found:#x} before {page + PAGE:#x}: {before.text}")
        if truth & ~found:
            missed.add(f"class {truth:#x} before {page + PAGE:#x}: {before.text}")
    return false, missed


@pytest.fixture
def busybox() -> Path:
    return or_skip(lambda: fetch.unpacked("busybox-static") / "bin/busybox")()


def judge(scan: Scan, path: Path, flagged_most: int, sse: bool = False) -> None:
    if not path.exists():
        pytest.skip(f"no {path}: install libc6-i386")
    program = Program(path)
    assert disagreements(scan, program.rows) == []
    false, missed, flagged = scan_program(scan, program, 40, sse)
    assert false == set()
    assert missed == set()
    assert 0 < flagged <= flagged_most
    assert scan_seams(scan, program) == (set(), set())


def test_the_loaders_sensitive_instructions_are_found_and_no_others(scan: Scan) -> None:
    judge(scan, LOADER, 8)


def test_the_loaders_sse_instructions_are_found_where_they_are_asked_for(scan: Scan) -> None:
    judge(scan, LOADER, 60, sse=True)


@pytest.mark.long
def test_libcs_sse_instructions_are_found_where_they_are_asked_for(scan: Scan) -> None:
    judge(scan, LIBC, 400, sse=True)


@pytest.mark.long
def test_libcs_sensitive_instructions_are_found_and_no_others(scan: Scan) -> None:
    judge(scan, LIBC, 48)  # 37 of them hold string functions for SSSE3 and SSE4


@pytest.mark.long
def test_busyboxs_sensitive_instructions_are_found_and_no_others(scan: Scan, busybox: Path) -> None:
    judge(scan, busybox, 34)  # 24 likewise


# ---- pages made by hand ----

SENSITIVE = {
    "cpuid": ("0fa2", CPUID), "sgdt": ("0f0100", TABLES), "smsw": ("0f01e0", TABLES), "lar": ("0f02c1", RIGHTS),
    "push cs": ("0e", SEG_READ), "mov ax, ds": ("8cd8", SEG_READ), "pop es": ("07", SEG_LOAD),
    "mov gs, ax": ("8ee8", SEG_LOAD), "les": ("c401", SEG_LOAD), "lss": ("0fb221", SEG_LOAD), "retf": ("cb", FAR),
    "iret": ("cf", FAR), "jmp far": ("ea785634122300", FAR), "call far": ("ff19", FAR), "syscall": ("0f05", SYSTEM),
    "xgetbv": ("0f01d0", SYSTEM), "vaddps": ("c5f058c1", LATER), "andn": ("c4e270f2d0", LATER),
    "vaddps zmm": ("62f1744858c1", LATER), "pshufb": ("0f3800c1", PLAIN), "lzcnt": ("f30fbdc1", LATER),
    "tzcnt": ("f30fbcc1", TZCNT), "rdrand": ("0fc7f0", LATER), "fisttp": ("db4804", PLAIN),
    "popcnt": ("f30fb8c1", PLAIN), "movddup": ("f20f12c1", PLAIN), "pcmpestri": ("660f3a61c101", PLAIN),
    "xbegin": ("c7f800000000", LATER), "rdtsc": ("0f31", TSC), "rdtscp": ("0f01f9", TSC),
}  # fmt: skip


@pytest.mark.parametrize("name", SENSITIVE)
@pytest.mark.parametrize("offset", [0, 17, 2000, PAGE - 8])
def test_it_is_found_where_it_is(scan: Scan, name: str, offset: int) -> None:
    code, kind = bytes.fromhex(SENSITIVE[name][0]), SENSITIVE[name][1]
    assert scan.page(b"\x90" * offset + code, 0) == kind
    assert scan.first(kind) == offset


@pytest.mark.parametrize("code", ["0f57c0", "660ffcd1", "0fae1d00000500", "f30f7ec1", "0fae00", "660f12c1"])
def test_sse_is_found_only_where_it_is_asked_for(scan: Scan, code: str) -> None:
    page = b"\x90" * 17 + bytes.fromhex(code)
    assert scan.page(page, 0) == 0
    assert scan.first(SSE) == PAGE
    assert scan.page(page, 0, sse=True) == SSE
    assert scan.first(SSE) == 17


@pytest.mark.parametrize("code", ["0ffcd1", "0fc301", "0faef8", "0fae3b", "0f1801", "f20f1801", "f00f57c0"])
def test_what_needs_no_xmm_registers_is_no_sse(scan: Scan, code: str) -> None:
    assert scan.page(bytes.fromhex(code), 0, sse=True) == 0


@pytest.fixture(scope="module")
def filler(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """Some functions, without anything sensitive, that end in a return."""
    code = b"".join(row.code for row in compiled(tmp_path_factory.mktemp("filler"), "filler.c", SAMPLE_C, "-O2"))
    return code[: code.rindex(b"\xc3") + 1][-1500:]


@pytest.mark.parametrize("name", SENSITIVE)
def test_it_is_found_in_a_function_that_is_not_entered(scan: Scan, filler: bytes, name: str) -> None:
    code, kind = bytes.fromhex(SENSITIVE[name][0]), SENSITIVE[name][1]
    function = b"\x55\x89\xe5\x8b\x45\x08" + code + b"\xc9\xc3"
    before = filler + function + b"\x90" * 40 + b"\xc3"
    assert scan.page(before, len(before) - 20) == kind
    assert scan.first(kind) == len(filler) + 6
    assert scan.page(b"\x90" * 40 + filler + function, 0) == kind


@pytest.mark.parametrize("name", [name for name in SENSITIVE if name != "cpuid"])
def test_bytes_inside_an_instruction_are_not_it(scan: Scan, filler: bytes, name: str) -> None:
    immediate = bytes.fromhex(SENSITIVE[name][0])[:4].ljust(4, b"\0")
    function = b"\x55\x89\xe5\xb8" + immediate + b"\x81\xc1" + immediate + b"\xc9\xc3"
    assert scan.page(function + filler, 0) == 0
    assert scan.page(filler + function + filler, 0) == 0
    assert scan.page(filler + function + b"\x90" * 40, len(filler + function) + 20) == 0


def test_cpuid_inside_an_immediate_is_not_it(scan: Scan, filler: bytes) -> None:
    assert scan.page(filler + b"\x55\xb8\x0f\xa2\0\0\xc3" + filler, 0) == 0


def test_cpuid_is_found_behind_data(scan: Scan) -> None:
    data = bytes(range(0x80, 0x90)) * 2
    assert scan.page(b"\xc3" + data + b"\x53\x31\xc0\x0f\xa2\x5b\xc3", 0) & CPUID
    assert scan.page(b"\x90" * 64 + data + b"\xb8\x0f\xa2", PAGE - 64) & CPUID == 0


def test_an_instruction_across_the_pages_end_counts(scan: Scan) -> None:
    assert scan.page(b"\x90" * (PAGE - 1) + b"\x0f", 0, b"\xa2") == CPUID
    assert (scan.result.tail, scan.result.carry) == (PAGE - 1, 1)
    assert scan.page(b"\x90" * (PAGE - 1) + b"\x0f", 0, b"\xaf\xc1") == 0
    assert scan.page(b"\x90" * (PAGE - 2) + b"\x0f\xb4", 0, b"\x05\0\0\0\0") == SEG_LOAD


def test_without_the_next_page_the_bytes_here_decide(scan: Scan) -> None:
    assert scan.page(b"\x90" * (PAGE - 1) + b"\x0f", 0) == 0
    assert (scan.result.tail, scan.result.carry) == (PAGE - 1, PAGE)
    assert scan.page(b"\x90" * (PAGE - 2) + b"\xff\x2d", 0) == FAR
    assert scan.page(b"\x90" * PAGE, 0) == 0
    assert (scan.result.tail, scan.result.carry) == (PAGE, 0)


def test_the_instruction_across_two_pages_counts_and_no_other(scan: Scan) -> None:
    assert scan.seam(b"\x0f", b"\xa1") == SEG_LOAD
    assert scan.seam(b"\xb8\x11\x22\x33\x0f", b"\xa1\0\0\x05\0") == 0, "MOV $0x0f332211, %EAX; MOV 0x50000, %EAX"
    assert scan.seam(b"\x66\x0f", b"\x38\0\xc1") == PLAIN
    assert scan.seam(b"\xb8\x0f", b"\xa2\0\0\0") == 0


def test_what_is_known_of_the_way_to_the_pages_end_decides(scan: Scan) -> None:
    """Behind zeros two ways of reading are as likely; behind a branch the page's code tells which it is."""
    page = bytes(PAGE - 1) + b"\x0f"
    assert scan.page(b"\xe9" + (PAGE - 6).to_bytes(4, "little") + page[5:], 0) == 0
    assert int(scan.result.tail) == PAGE - 1
    assert scan.seam(page, b"\xa1") == 0
    assert scan.seam(page, b"\xa1", PAGE - 1) == SEG_LOAD
    assert scan.seam(b"\x0f", b"\xa1", PAGE - 2) == 0


def test_a_row_of_stubs_is_nothing(scan: Scan) -> None:
    """A procedure linkage table: its offsets hold every opcode, and sweeps at 16 offsets never fall into step."""
    offsets = [(16 + 4 * i, 8 * i, 2**32 - 16 * i - 16) for i in range(PAGE // 16)]
    stubs = [b"\xff\xa3%s\x68%s\xe9%s" % tuple(n.to_bytes(4, "little") for n in three) for three in offsets]
    assert scan.page(b"".join(stubs), 0) == 0
    assert scan.page(b"".join(stubs), 2048) == 0


def test_lengths_end_where_the_bytes_do(scan: Scan) -> None:
    for code in (b"\xb8\1\2\3\4", b"\x0f\xa2", b"\x66\x67\xc7\x46\1\2\3", b"\x81\x84\x24\1\2\3\4\5\6\7\x08"):
        assert [scan.length(code[:n]) for n in range(len(code) + 1)] == [0] * len(code) + [len(code)]
    assert scan.length(b"\x66" * 14 + b"\x90") == 15
    assert scan.length(b"\x66" * 15 + b"\x90") == 0
    assert scan.length(b"\x66" * 11 + b"\xb8\1\2\3\4\5\6\7\x08") == 14
