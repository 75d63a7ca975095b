"""The GDB stub at the level of packets: a client of our own drives small programs."""

from __future__ import annotations

import random
import time
import xml.etree.ElementTree as ET
from bisect import bisect_left
from collections.abc import Iterator
from pathlib import Path

import pytest

from ringfence.errors import BadOption
from tests.vmm.gdb_client import Bench, bench
from vmm.gdb_link import close_listener, listen
from vmm.gdb_monitor import COMMANDS
from vmm.gdb_packets import PACKET_BYTES_MAX, PacketReader, Signal, frame, unescape
from vmm.gdb_registers import full_tags
from vmm.gdb_target_spec import PACKET_BYTES, REGISTERS, target_xml
from vmm.gdb_wiring import Cause, Stop
from vmx.stop import StopKind

EXIT = "exit:\n\tmovb %bl, %al\n\toutb %al, $0xf4\n\tcli\n\thlt\n"
COUNT = f""".globl loop, after, counter, exit
	movl $5, %ecx
	xorl %ebx, %ebx
loop:
	incl %ebx
	movl %ebx, counter
	decl %ecx
	jnz loop
after:
	{EXIT}
.data
counter: .long 0
"""
SPIN = ".globl spin\nspin:\n\tjmp spin\n"
STEPS = f""".globl one, two, three, four, source, target, exit
	movl $source, %esi
one:	movl $target, %edi
two:	movl $3, %ecx
	cld
three:	rep movsb
	movw $0x80, %dx
	outb %al, %dx
	inw %dx, %ax
	pushl $four
	ret
	nop
four:	xorl %ebx, %ebx
	{EXIT}
.data
source: .ascii "abcd"
target: .ascii "...."
"""


@pytest.fixture(params=["interp", "world"])
def engine(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def count(tmp_path: Path, engine: str) -> Iterator[Bench]:
    with bench(COUNT, tmp_path, engine) as made:
        yield made


# ---- packets ---------------------------------------------------------------------------------------------------------


def test_a_stream_is_cut_into_packets_however_it_is_split() -> None:
    stream = b"+$g#67-\x03" + frame(b"Xa,3:\x23\x24\x7d") + b"$bad#00$" + b"m" * (PACKET_BYTES_MAX + 1) + b"#00"
    expected = [b"g", Signal.RESEND, Signal.INTERRUPT, b"Xa,3:\x23\x24\x7d", Signal.DAMAGED, Signal.TOO_LONG]
    for size in (1, 2, 7, len(stream)):
        reader = PacketReader()
        found = [event for at in range(0, len(stream), size) for event in reader.feed(stream[at : at + size])]
        assert found == expected


def test_a_framed_packet_is_read_back() -> None:
    for seed in range(200):
        data = random.Random(seed).randbytes(seed)
        assert PacketReader().feed(frame(data)) == [data]
    assert unescape(b"a}") == b"a"


def test_the_target_description_is_xml_that_numbers_every_register() -> None:
    registers = ET.fromstring(target_xml()).findall("feature/reg")
    assert [(int(r.get("regnum", "")), r.get("name"), int(r.get("bitsize", ""))) for r in registers] == [
        (number, reg.name, reg.bits) for number, reg in enumerate(REGISTERS)
    ]
    assert {"cr0", "cr2", "cr3", "cr4", "eflags", "fs_base", "gdtr_base", "idtr_limit"} <= {r.name for r in REGISTERS}


def test_x87_tags_follow_from_the_abridged_word_and_the_contents() -> None:
    fx = bytearray(512)
    fx[3] = 6 << 3  # TOP is 6: ST(0) is R6
    fx[4] = 0b11100000
    fx[32:42] = bytes(7) + b"\x80\xff\x3f"  # ST(0) = 1
    fx[64:74] = bytes(7) + b"\x80\xff\x7f"  # ST(2) = R0: empty all the same
    fx[32 + 16 * 7 : 42 + 16 * 7] = bytes(7) + b"\xc0\xff\x7f"  # ST(7) = R5: a NaN
    assert full_tags(bytes(fx)) == 0b01_00_10_11_11_11_11_11  # R7 = ST(1) is zero


@pytest.mark.parametrize("where", ["", "tcp", "tcp:", "tcp:x", "tcp:65536", "tcp:-1", "unix:", "pipe:x", "1234"])
def test_a_place_that_is_none_is_one_line(where: str) -> None:
    with pytest.raises(BadOption, match="expected tcp:PORT or unix:PATH"):
        listen(where)


def test_a_listener_says_what_to_type(tmp_path: Path) -> None:
    listener, line = listen("tcp:0")
    assert line == f"target remote 127.0.0.1:{listener.getsockname()[1]}"
    close_listener(listener)
    listener, line = listen(f"unix:{tmp_path}/s")
    assert line == f"target remote {tmp_path}/s"
    close_listener(listener)
    assert not (tmp_path / "s").exists()


# ---- registers and memory --------------------------------------------------------------------------------------------


def test_registers_are_read_and_written(count: Bench) -> None:
    gdb = count.client
    whole = gdb.ask("g")
    assert len(whole) == 2 * PACKET_BYTES
    assert "".join(gdb.ask(f"p{number:x}") for number in range(len(REGISTERS))) == whole
    assert gdb.register("eip") == count.symbols["_start"] and gdb.register("cs") == 8 and gdb.register("cpl") == 0
    for name, value in {"eax": 0x12345678, "eflags": 0x246, "st3": 7 << 70, "xmm7": 1 << 127, "fctrl": 0x27F, "dr1": 9,
                        "cr2": 0xDEAD, "fs_base": 0x1000, "gdtr_limit": 0x1FF, "mxcsr": 0x1FA0}.items():  # fmt: skip
        assert gdb.set_register(name, value) == "OK"
        assert gdb.register(name) == value
    changed = gdb.ask("g")
    assert changed != whole
    assert gdb.ask("G" + whole) == "OK" and gdb.ask("g") == whole


def test_a_value_that_no_processor_holds_is_refused(count: Bench) -> None:
    gdb = count.client
    before = gdb.ask("g")
    refused = {"cs": 0x1234, "cpl": 3, "cs_limit": 5, "eflags": 1 << 17, "cr0": 0x80000000, "ldtr": 8, "ss": 0}
    for name, value in refused.items():
        assert gdb.set_register(name, value) == "E01", name
    assert gdb.ask(f"p{len(REGISTERS):x}").startswith("E")
    assert gdb.ask("P8=00").startswith("E")
    assert gdb.ask("g") == before


def test_memory_is_read_and_written(count: Bench) -> None:
    gdb, counter = count.client, count.symbols["counter"]
    assert gdb.ask(f"M{counter:x},4:78563412") == "OK"
    assert gdb.read(counter, 4) == b"\x78\x56\x34\x12"
    assert gdb.ask(b"X%x,4:" % counter + b"#$}\x03") == "OK"
    assert gdb.read(counter, 4) == b"#$}\x03"
    assert gdb.ask(b"X%x,0:" % counter) == "OK"
    assert gdb.read(0x3FFFFE, 8) == gdb.read(0x3FFFFE, 2), "cut at the end of memory"
    for packet in ("m80000000,4", "M80000000,1:00", b"X80000000,1:a", "M3ffffe,4:00000000"):
        assert gdb.ask(packet) == "E14"


def test_written_code_is_what_runs(count: Bench) -> None:
    gdb = count.client
    assert gdb.ask(f"Z0,{count.symbols['loop']:x},1") == "OK"
    assert gdb.ask("c").startswith("T05")
    assert gdb.ask(f"z0,{count.symbols['loop']:x},1") == "OK"
    assert gdb.ask(f"M{count.symbols['loop']:x},1:4b") == "OK"  # INC EBX becomes DEC EBX
    assert gdb.ask("c") == "Wfb"


# ---- running ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("kind", "word"), [("0", "swbreak"), ("1", "hwbreak")])
def test_a_breakpoint_stops_before_the_instruction_each_time(count: Bench, kind: str, word: str) -> None:
    gdb, loop = count.client, count.symbols["loop"]
    assert "PacketSize=" in gdb.ask("qSupported:swbreak+;hwbreak+;xmlRegisters=i386")
    assert gdb.ask(f"Z{kind},{loop:x},1") == "OK" == gdb.ask(f"Z{kind},{loop:x},1")
    for done in range(5):
        reply = gdb.ask("vCont;c")
        assert reply.startswith("T05") and f"{word}:;" in reply
        assert gdb.register("eip") == loop and gdb.register("ebx") == done
    assert gdb.ask(f"z{kind},{loop:x},1") == "OK"
    assert gdb.ask("c") == "W05"


@pytest.mark.parametrize(("kind", "word", "stops"), [(2, "watch", 5), (3, "rwatch", 5), (4, "awatch", 5)])
def test_a_watchpoint_stops_after_the_access(count: Bench, kind: int, word: str, stops: int) -> None:
    gdb, counter = count.client, count.symbols["counter"]
    assert gdb.ask(f"Z{kind},{counter + 2:x},1") == "OK"
    for done in range(1, stops + 1):
        reply = gdb.ask("c")
        assert f"{word}:{counter + 2:x};" in reply, "the access begins two bytes before what is watched"
        assert int.from_bytes(gdb.read(counter, 4), "little") == done
    assert gdb.ask("c") == "W05"


def test_single_steps_follow_the_program(tmp_path: Path, engine: str) -> None:
    with bench(STEPS, tmp_path, engine) as made:
        gdb, at = made.client, made.symbols
        seen = []
        for _ in range(14):
            seen.append(gdb.register("eip"))
            assert gdb.ask("s").startswith("T05")
        assert seen[:3] == [at["_start"], at["one"], at["two"]]
        assert seen.count(at["three"]) == 3, "each iteration of a repeated instruction is a step"
        assert at["four"] in seen
        assert gdb.read(at["target"], 4) == b"abc."
        assert gdb.ask("c") == "W00"


def test_breakpoints_everywhere_see_what_steps_see(tmp_path: Path, engine: str) -> None:
    """Also in the middle of what was decoded as one block, and between a compare and its branch."""
    (tmp_path / "steps").mkdir()
    with bench(COUNT, tmp_path / "steps", engine) as made:
        seen = [made.client.register("eip")]
        while made.client.ask("s").startswith("T05"):
            seen.append(made.client.register("eip"))
    with bench(COUNT, tmp_path, engine) as made:
        for address in sorted(set(seen)):
            assert made.client.ask(f"Z0,{address:x},1") == "OK"
        met: list[int] = []
        while made.client.ask("c").startswith("T05"):
            met.append(made.client.register("eip"))
    assert len(met) > 20 and met == seen


def test_a_range_is_stepped_through_at_once(count: Bench) -> None:
    gdb, loop, after = count.client, count.symbols["loop"], count.symbols["after"]
    assert gdb.ask("vCont?") == "vCont;c;C;s;S;r"
    assert gdb.ask(f"Z0,{loop:x},1") == "OK"
    assert gdb.ask("c").startswith("T05")
    assert gdb.ask(f"vCont;r{loop:x},{after:x}:1;c").startswith("T05")
    assert gdb.register("eip") == loop and gdb.register("ebx") == 1, "a breakpoint inside ends it"
    assert gdb.ask(f"z0,{loop:x},1") == "OK"
    assert gdb.ask(f"vCont;r{loop:x},{after:x}:1;c").startswith("T05")
    assert gdb.register("eip") == after and gdb.register("ebx") == 5


def test_a_running_guest_is_interrupted(tmp_path: Path, engine: str) -> None:
    with bench(SPIN, tmp_path, engine) as made:
        for _ in range(3):
            made.client.raw(frame(b"vCont;c") + b"\x03")
            assert made.client.answer().startswith("T02")
            assert made.client.register("eip") == made.symbols["spin"]
        assert made.client.ask(f"Z0,{made.symbols['spin']:x},1") == "OK", "in code that runs already"
        assert made.client.ask("c").startswith("T05")
        assert made.client.ask("D") == "OK"
        made.machine.exit_with(0)


def test_an_interrupt_leaves_no_instruction_half_done(tmp_path: Path, engine: str) -> None:
    source = ".globl loop\nmovl $0x80, %edx\nloop:\ninl %dx, %eax\nmovl $0x402, %edx\ninb %dx, %al\njmp loop\n"
    with bench(source, tmp_path, engine) as made:
        for _ in range(20):
            made.client.raw(frame(b"c") + b"\x03")
            assert made.client.answer().startswith("T02")
            assert made.client.set_register("eip", made.symbols["loop"]) == "OK"
            assert made.client.ask("s").startswith("T05")
            assert made.client.register("eip") == made.symbols["loop"] + 1


def test_a_halted_guest_is_interrupted(tmp_path: Path, engine: str) -> None:
    with bench("sti\nhlt\njmp .\n", tmp_path, engine) as made:
        made.client.raw(frame(b"c"))
        made.client.raw(b"\x03")
        assert made.client.answer().startswith("T02")


# Instructions that store into `buf`; what is between brackets runs before the watchpoint counts.
STORES = """movb %al, buf|movw %ax, buf|movl %eax, buf|movl $1, buf|addl %eax, buf|incl buf|xchgl %eax, buf
lock; addl %eax, buf|lock; cmpxchg %ecx, buf|lock; xaddl %eax, buf|lock; cmpxchg8b buf|btsl $3, buf|lock; btsl $3, buf
negl buf|shll $1, buf|shldl $1, %eax, buf|sete buf|[movl $buf, %edi] stosl|[movl $buf, %edi] stosb
[movl $buf, %edi; movl $other, %esi] movsl|[movl $buf-8, %edi; movl $other, %esi; movl $4, %ecx] rep; movsl
[movl $buf-8, %edi; movl $4, %ecx] rep; stosl|[movl $buf-8, %edi; movl $16, %ecx] rep; stosb
[movl $buf+4, %esp] pushl %eax|[movl $buf+4, %esp] pushfl|[movl $buf+16, %esp] pushal|[movl $buf+4, %esp] call 9f; 9:
[movl $buf+4, %esp] enter $8, $0|[movl $other, %esp] popl buf|fnstcw buf|fnstsw buf|[fninit; fld1] fstps buf
[fld1] fstpl buf|[fld1] fstpt buf|[fld1] fistpl buf|[fldz] fbstp buf|fnsave buf|fnstenv buf|fxsave buf|movd %mm0, buf
movq %mm0, buf|movntq %mm0, buf|movaps %xmm0, buf|movups %xmm0, buf|movss %xmm0, buf|movsd %xmm0, buf
movlps %xmm0, buf|movhps %xmm0, buf|movntps %xmm0, buf|stmxcsr buf|movdqa %xmm0, buf|movnti %eax, buf|sgdt buf|sidt buf
sldt buf|str buf|smsw buf|movw %ds, buf|[pcmpeqb %mm1, %mm1; movl $buf, %edi] maskmovq %mm1, %mm0"""


def test_every_kind_of_store_meets_a_watchpoint(tmp_path: Path) -> None:
    stores = [row.rpartition("]") for row in STORES.replace("\n", "|").split("|")]
    lines = [f"s{n}:\temms; {before.strip('[') or 'nop'}\n{store}\n" for n, (before, _, store) in enumerate(stores)]
    source = (
        f"\t.globl {', '.join(f's{n}' for n in range(len(stores)))}, buf, end\n"
        "movl %cr4, %eax\norl $0x600, %eax\nmovl %eax, %cr4\nmovl %cr0, %eax\nandl $~0xc, %eax\nmovl %eax, %cr0\n"
        f"fninit\n{''.join(lines)}end:\n{EXIT}.data\n.align 64\n.space 256\nbuf: .space 1024\n"
        ".space 256\nother: .space 64\n"
    )
    with bench(source, tmp_path) as made:
        starts = [made.symbols[f"s{n}"] for n in range(len(stores))]
        assert made.client.ask(f"Z2,{made.symbols['buf']:x},1") == "OK"
        met = set()
        while "watch:" in made.client.ask("c"):
            met.add(bisect_left(starts, made.client.register("eip")) - 1)  # EIP is past its start
        assert [store for n, (_, _, store) in enumerate(stores) if n not in met] == []


def test_a_frozen_processor_is_interrupted(tmp_path: Path, engine: str) -> None:
    """With CR0.NE clear an unmasked x87 error waits for an interrupt, which here never comes. [SDM 1, 8.7.2]"""
    source = "fninit\nmovl %cr0, %eax\nandl $~0x20, %eax\nmovl %eax, %cr0\nfldcw bad\nfldz\nfld1\n"
    source += ".globl frozen\nfdivp\nfrozen: fld1\nhlt\n.data\nbad: .word 0x340\n"
    with bench(source, tmp_path, engine) as made:
        made.client.raw(frame(b"c"))
        time.sleep(0.1)
        made.client.raw(b"\x03")
        assert made.client.answer().startswith("T02")
        assert made.client.register("eip") == made.symbols["frozen"]


HANDLER = f""".globl fault, handler, exit
	movl $handler, %eax
	movw %ax, idt + 6*8
	shrl $16, %eax
	movw %ax, idt + 6*8 + 6
	lgdt gdtr
	lidt idtr
	ljmp $8, $1f
1:	movw $16, %ax
	movw %ax, %ss
	movl $stack, %esp
fault:	ud2
	jmp fault
handler:
	movl $7, %ebx
	{EXIT}
.data
	.align 8
gdt:	.quad 0, 0x00cf9b000000ffff, 0x00cf93000000ffff
gdtr:	.word 23
	.long gdt
idtr:	.word 8*8-1
	.long idt
idt:	.rept 8
	.quad 0x00008e0000080000
	.endr
	.fill 64, 4, 0
stack:
"""


def test_a_breakpoint_on_a_fault_handler_is_met_from_a_breakpoint_on_the_fault(tmp_path: Path, engine: str) -> None:
    with bench(HANDLER, tmp_path, engine) as made:
        gdb = made.client
        for name in ("fault", "handler"):
            assert gdb.ask(f"Z0,{made.symbols[name]:x},1") == "OK"
        assert gdb.ask("c").startswith("T05") and gdb.register("eip") == made.symbols["fault"]
        assert gdb.ask("c").startswith("T05") and gdb.register("eip") == made.symbols["handler"]
        assert gdb.ask("c") == "W07"


def test_a_step_into_a_fault_stops_at_its_handler(tmp_path: Path, engine: str) -> None:
    with bench(HANDLER, tmp_path, engine) as made:
        gdb = made.client
        assert gdb.ask(f"Z0,{made.symbols['fault']:x},1") == "OK"
        assert gdb.ask("c").startswith("T05")
        assert gdb.ask("s").startswith("T05") and gdb.register("eip") == made.symbols["handler"]


TIMER = HANDLER.replace("fault:\tud2\n\tjmp fault\n", """
	movl $handler, %eax
	movw %ax, idt
	movw $8, idt + 2
	movb $0x11, %al; outb %al, $0x20
	movb $0x00, %al; outb %al, $0x21
	movb $0x04, %al; outb %al, $0x21
	movb $0x01, %al; outb %al, $0x21
	movb $0xfe, %al; outb %al, $0x21
	movb $0x34, %al; outb %al, $0x43
	movb $0x10, %al; outb %al, $0x40
	movb $0x00, %al; outb %al, $0x40
	sti
fault:	nop
	jmp fault
""")  # fmt: skip


def test_interrupts_wait_while_the_guest_is_stepped(tmp_path: Path, engine: str) -> None:
    """The timer fires every 13 us of guest time, far more often than anyone steps."""
    with bench(TIMER.replace("idt + 6*8", "idt"), tmp_path, engine) as made:
        gdb = made.client
        assert gdb.ask(f"Z0,{made.symbols['fault']:x},1") == "OK"
        assert gdb.ask("c").startswith("T05") and gdb.register("eip") in {
            made.symbols["fault"],
            made.symbols["handler"],
        }
        assert gdb.ask(f"z0,{made.symbols['fault']:x},1") == "OK"
        for _ in range(10):
            assert gdb.ask("s").startswith("T05")
            assert gdb.register("eip") in {made.symbols["fault"], made.symbols["fault"] + 1}
        assert gdb.ask("c") == "W07", "and come when it runs again"


def test_a_step_from_a_halt_waits_for_the_interrupt(tmp_path: Path, engine: str) -> None:
    with bench(TIMER.replace("idt + 6*8", "idt").replace("fault:\tnop", "fault:\thlt"), tmp_path, engine) as made:
        gdb = made.client
        assert gdb.ask(f"Z0,{made.symbols['fault']:x},1") == "OK"
        assert gdb.ask("c").startswith("T05") and gdb.ask("s").startswith("T05")
        assert gdb.register("eip") == made.symbols["fault"] + 1
        assert gdb.ask("s").startswith("T05")
        assert gdb.register("eip") == made.symbols["handler"] + 5, "the handler's first instruction has been executed"


def test_a_triple_fault_can_be_looked_at_and_then_ends_the_machine(tmp_path: Path, engine: str) -> None:
    with bench(".globl bad\n\tlidt none\nbad:\tud2\n.data\nnone: .word 0\n.long 0\n", tmp_path, engine) as made:
        assert made.client.ask("c").startswith("T06")
        assert "triple fault" in made.client.console
        assert made.client.register("eip") == made.symbols["bad"]
        assert made.client.ask("c") == "W03"


# ---- the session -----------------------------------------------------------------------------------------------------


def test_acknowledgements_stop_when_gdb_asks(count: Bench) -> None:
    gdb = count.client
    gdb.raw(frame(b"?")[:-1] + b"x")
    assert gdb.connection.recv(1) == b"-"
    gdb.raw(b"-")
    gdb.raw(frame(b"qC"))
    assert gdb.connection.recv(1) == b"+"
    assert gdb.answer() == "QC1"
    assert gdb.ask("QStartNoAckMode") == "OK"
    gdb.raw(frame(b"qC"))
    assert gdb.connection.recv(1) == b"$"


def test_what_means_nothing_to_us_is_answered_with_nothing(count: Bench) -> None:
    for packet in (
        "vMustReplyEmpty",
        "qTStatus",
        "QNonStop:1",
        "R00",
        "!",
        "Z9,100000,1",
        "vRun;",
        "qCRC:0,1",
        "\xff",
        "",
    ):
        assert count.client.ask(packet.encode("latin-1")) == ""


def test_no_packet_ends_the_session(count: Bench) -> None:
    gdb = count.client
    words = ["m", "M", "X", "P", "p", "G", "Z0", "z2", "vCont", "qRcmd,", "qXfer:features:read:target.xml:", "H", "qC"]
    pieces = ["", ",", ":", ";", "=", "-1", "ffffffffffffffffffff", "0", "zz", "1,2", "10,10:00", "é", "8=00", "1:1;"]
    rng = random.Random(7)
    for _ in range(400):
        packet = rng.choice(words) + "".join(rng.choice(pieces) for _ in range(rng.randrange(4)))
        if packet.startswith(("vCont;", "vCont,")):
            continue
        gdb.ask(packet.encode())
    gdb.raw(rng.randbytes(4000).translate(None, b"\x03$-") + b"$#$##")
    for packet in ("vCont", "vCont;", "vCont;x", "vCont;r", "vCont;r1", "vCont;rz,z"):
        assert gdb.ask(packet).startswith("E")
    assert gdb.ask("qC") == "QC1"


def test_breakpoints_run_out(count: Bench) -> None:
    answers = [count.client.ask(f"Z0,{0x200000 + index:x},1") for index in range(100)]
    assert answers.count("OK") == 64 and set(answers) == {"OK", "E0c"}
    assert count.client.ask("Z2,1000,0").startswith("E") and count.client.ask("Z2,1000,ffffffff").startswith("E")


def test_detaching_lets_the_guest_run_to_its_end(count: Bench, engine: str) -> None:
    assert count.client.ask(f"Z0,{count.symbols['loop']:x},1") == "OK"
    assert count.client.ask("D") == "OK"
    assert count.end() == Stop(Cause.ENDED, status=5, text=StopKind.EXITED.value)


def test_the_terminal_may_end_a_stopped_machine(count: Bench) -> None:
    count.machine.leave()
    assert count.end().cause is Cause.ENDED


@pytest.mark.parametrize("packet", ["k", "vKill;1"])
def test_killing_ends_the_machine(count: Bench, packet: str) -> None:
    count.client.raw(frame(packet.encode()))
    assert count.end().cause is Cause.ENDED


# ---- monitor commands ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("line", [name for name in COMMANDS if name != "quit"])
def test_a_monitor_command_answers_in_lines(count: Bench, line: str, engine: str) -> None:
    answer = count.client.monitor(f"{line} {count.symbols['counter']:x}")
    assert answer.endswith("\n") and "Traceback" not in answer


def test_monitor_commands_say_what_is_wrong(count: Bench) -> None:
    gdb = count.client
    assert "no such command" in gdb.monitor("frobnicate") and "no such command" in gdb.monitor("")
    assert "expected: monitor xp" in gdb.monitor("xp") and "36 bits" in gdb.monitor("xp 1000000000")
    assert "no RAM" in gdb.monitor("xp 80000000")
    assert "paging is off" in gdb.monitor("info mem")
    assert "LDTR is null" in gdb.monitor("info ldt")


def test_monitor_reset_starts_the_program_again(count: Bench) -> None:
    gdb = count.client
    assert gdb.ask(f"Z0,{count.symbols['after']:x},1") == "OK"
    assert gdb.ask("c").startswith("T05")
    assert "power-on" in gdb.monitor("reset")
    assert gdb.register("eip") == count.symbols["_start"] and gdb.read(count.symbols["counter"], 4) == bytes(4)
    assert gdb.ask("c").startswith("T05") and gdb.register("ebx") == 5
    assert gdb.ask("c") == "W05"


PAGING = """.globl paged
	movl $directory, %eax
	movl $table + 7, (%eax)
	movl $0x00400000 + 0x83, 0xffc(%eax)
	movl $table, %edi
	movl $3, %eax
	movl $512, %ecx
1:	stosl
	addl $0x1000, %eax
	loop 1b
	movl $0x100007, table + 4*0x200
	movl $directory, %eax
	movl %eax, %cr3
	movl $0x10, %eax
	movl %eax, %cr4
	movl %cr0, %eax
	orl $0x80000000, %eax
	movl %eax, %cr0
paged:	jmp paged
.data
	.align 4096
directory: .fill 1024, 4, 0
table: .fill 1024, 4, 0
"""


def test_page_tables_are_shown_and_translate(tmp_path: Path, engine: str) -> None:
    with bench(PAGING, tmp_path, engine) as made:
        gdb = made.client
        assert gdb.ask(f"Z0,{made.symbols['paged']:x},1") == "OK"
        assert gdb.ask("c").startswith("T05")
        assert gdb.monitor("info mem").splitlines() == [
            "00000000-001fffff    200000 -rwx",
            "00200000-00200fff      1000 urwx",
            "ffc00000-ffffffff    400000 -rwx",
        ]
        assert gdb.monitor("info pte 200000").splitlines()[-1] == "00200000 -> 000100000"
        assert "not present" in gdb.monitor("info pte 201000")
        assert "PDE" in gdb.monitor("info pte ffc12345") and "000412345" in gdb.monitor("info pte ffc12345")
        assert gdb.read(0x200000, 16) == gdb.read(0x100000, 16)
        assert gdb.ask("m201000,4") == "E14" and len(gdb.ask("m200ffc,8")) == 8
        shown = gdb.monitor("info tlb")
        assert "00101000 -> 000101000 supervisor" in shown if engine == "interp" else "its own process" in shown
