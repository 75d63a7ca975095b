"""From GDB's connection to its leaving: one method for each packet that GDB sends.

The machine is stopped whenever a session looks at it. Addresses are linear; GDB's threads are one, number 1. A read
watchpoint also stops at writes (GDB sorts out those that change the value). While single-stepping, external
interrupts wait: otherwise every step of a guest with a timer would end in its handler.
Not modelled: several vCPUs, reverse execution, file transfer.
Source: Debugging with GDB, appendix E "GDB Remote Serial Protocol".
"""

from __future__ import annotations

import queue
from collections.abc import Callable
from enum import Enum

from ringfence.errors import RingfenceError
from vmm._core import lib
from vmm.gdb_link import Link
from vmm.gdb_monitor import Monitor
from vmm.gdb_packets import PACKET_BYTES_MAX
from vmm.gdb_registers import Registers
from vmm.gdb_target_spec import NUMBER, REGISTERS, target_xml
from vmm.gdb_wiring import LOOK_S, Cause, Debuggee, Stop
from vmm.vcpu import PAGE_BYTES

SIGINT, SIGTRAP, SIGABRT = 2, 5, 6
E_ARGUMENT, E_MEMORY, E_REGISTER, E_NO_ROOM = b"E16", b"E14", b"E01", b"E0c"
MEMORY_BYTES_MAX = (PACKET_BYTES_MAX - 16) // 2
CONSOLE_BYTES = 1024  # of text in one O packet
WATCH_BYTES_MAX = 4096
ACCESS_BYTES_MAX = 16  # of one instruction
ADDRESS_MASK = 0xFFFFFFFF
FEATURES = (
    f"PacketSize={PACKET_BYTES_MAX:x};qXfer:features:read+;swbreak+;hwbreak+;QStartNoAckMode+;vContSupported+;"
    "multiprocess-"
)


class Verdict(Enum):
    """How a session ended, for the server."""

    DETACHED = 1  # the machine runs on
    KILLED = 2
    ENDED = 3  # the machine has


class Session:
    """From GDB's connection to its leaving."""

    def __init__(self, link: Link, machine: Debuggee) -> None:
        self.link, self.machine = link, machine
        self.registers = Registers(machine.vcpu.state, self.read_linear, machine.vcpu.engine.flush)
        self.monitor = Monitor(machine, self.registers)
        self.stop = Stop(Cause.INTERRUPTED)
        self.points: set[tuple[int, int, int]] = set()  # GDB's type, linear address, length
        self._knows: set[bytes] = set()
        self._verdict: Verdict | None = None
        self._packet = 0

    def run(self) -> Verdict:
        """Answer packets until GDB leaves or the machine ends."""
        while self._verdict is None:
            try:
                self._packet, packet = self.link.next(LOOK_S)
            except queue.Empty:
                self._look_for_an_end()
                continue
            if packet is None:
                self._verdict = Verdict.DETACHED
            else:
                answer = self.answer(packet)
                if answer is not None:
                    self.link.send(answer)
        if self._verdict is Verdict.DETACHED:
            self._remove_points()
        return self._verdict

    def _look_for_an_end(self) -> None:
        ended = self.machine.ended()
        if ended is not None:
            self.stop, self._verdict = ended, Verdict.ENDED

    def answer(self, packet: bytes) -> bytes | None:
        """The answer to one packet; empty when it means nothing to us, None when there is none to give."""
        for name, handler in COMMANDS:
            if packet.startswith(name):
                try:
                    return handler(self, packet[len(name) :])
                except (ValueError, IndexError):
                    return E_ARGUMENT
                except RingfenceError:
                    return E_REGISTER
        return b""

    # stopping and going on

    def stop_reply(self, _: bytes = b"") -> bytes:
        stop = self.stop
        if stop.cause is Cause.ENDED:
            self._verdict = Verdict.ENDED
            return b"W%02x" % (stop.status & 0xFF)
        signal = {Cause.INTERRUPTED: SIGINT, Cause.CRASHED: SIGABRT}.get(stop.cause, SIGTRAP)
        return b"T%02x%b%bthread:01;" % (signal, self._why(), self._expedited())

    def _why(self) -> bytes:
        stop = self.stop
        if stop.cause is Cause.WATCHPOINT:
            return self._watch_reason(stop.address)
        if stop.cause is Cause.BREAKPOINT:
            hard = any(kind == 1 and address == stop.address for kind, address, _ in self.points)
            name = b"hwbreak" if hard else b"swbreak"
            return name + b":;" if name in self._knows else b""
        return b""

    def _watch_reason(self, address: int) -> bytes:
        """GDB wants an address inside the region it watches; an access may begin before it."""
        names = {2: b"watch", 3: b"rwatch", 4: b"awatch"}
        for kind, first, length in self.points:
            begins_inside = (address - first) & ADDRESS_MASK < length
            if kind in names and (begins_inside or (first - address) & ADDRESS_MASK < ACCESS_BYTES_MAX):
                return b"%b:%x;" % (names[kind], address if begins_inside else first)
        return b""

    def _expedited(self) -> bytes:
        numbers = [NUMBER[name] for name in ("esp", "ebp", "eip")]
        return b"".join(b"%02x:%b;" % (number, self.registers.read(number).hex().encode()) for number in numbers)

    def resume(self, rest: bytes) -> bytes:
        """`c` and `C`: an address may follow."""
        return self._go(rest.partition(b";")[2], step=False)

    def resume_at(self, rest: bytes) -> bytes:
        return self._go(rest, step=False)

    def step(self, rest: bytes) -> bytes:
        return self._go(rest.partition(b";")[2], step=True)

    def step_at(self, rest: bytes) -> bytes:
        return self._go(rest, step=True)

    def _go(self, address: bytes, *, step: bool) -> bytes:
        if address:
            self.registers.write(NUMBER["eip"], (number(address) & ADDRESS_MASK).to_bytes(4, "little"))
        self._let_run(step=step)
        return self.stop_reply()

    def cont(self, rest: bytes) -> bytes:
        """vCont: the first action for thread 1 counts. `r` steps while EIP stays in a range."""
        action = rest.split(b";")[1].partition(b":")[0]
        kind = action[:1]
        if kind in {b"c", b"C"}:
            self._let_run(step=False)
        elif kind in {b"s", b"S"}:
            self._let_run(step=True)
        elif kind == b"r":
            first, end = (number(text) for text in action[1:].split(b","))
            self._let_run(step=True)
            while self._may_step_on(first, end):
                self._let_run(step=True)
        else:
            return E_ARGUMENT
        return self.stop_reply()

    def _may_step_on(self, first: int, end: int) -> bool:
        eip = self.machine.vcpu.state.eip
        at_breakpoint = any(kind < 2 and address == self.machine.vcpu.linear_eip() for kind, address, _ in self.points)
        return (
            self.stop.cause is Cause.STEP
            and first <= eip < end
            and not at_breakpoint
            and not self.link.interrupted_since(self._packet)
        )

    def _let_run(self, *, step: bool) -> None:
        machine, control = self.machine, self.machine.vcpu.control
        if self.stop.cause in {Cause.CRASHED, Cause.ENDED}:
            self.stop = Stop(Cause.ENDED, status=self.stop.status)
            return
        machine.forget_interrupt()  # one that came before this packet is answered already
        if self.link.interrupted_since(self._packet):
            machine.interrupt()
        # GDB steps off its own breakpoints; what we have reported once at this EIP we do not report again
        control.resume_breakpoint = int(self.stop.address == machine.vcpu.linear_eip() or step)
        control.single_step = lib.STEP_ALONE if step else lib.STEP_OFF
        try:
            self.stop = machine.resume()
        finally:
            control.single_step = lib.STEP_OFF
            control.resume_breakpoint = 0
        if self.stop.text:
            self._print(self.stop.text + "\n")

    # registers

    def read_registers(self, _: bytes) -> bytes:
        return self.registers.read_all().hex().encode()

    def write_registers(self, rest: bytes) -> bytes:
        self.registers.write_all(unhex(rest))
        return b"OK"

    def read_register(self, rest: bytes) -> bytes:
        return self.registers.read(register(rest)).hex().encode()

    def write_register(self, rest: bytes) -> bytes:
        name, _, value = rest.partition(b"=")
        self.registers.write(register(name), unhex(value))
        return b"OK"

    # memory

    def read_linear(self, linear: int, length: int) -> bytes:
        """Less than asked for where no memory answers."""
        found = bytearray()
        while len(found) < length:
            here = linear + len(found) & ADDRESS_MASK
            gpa = self.machine.vcpu.engine.translate(here)
            if gpa is None:
                break
            try:
                found += self.machine.memory.read(gpa, min(length - len(found), PAGE_BYTES - here % PAGE_BYTES))
            except RingfenceError:
                break
        return bytes(found)

    def read_memory(self, rest: bytes) -> bytes:
        linear, length = pair(rest)
        found = self.read_linear(linear, min(length, MEMORY_BYTES_MAX))
        return found.hex().encode() if found or length == 0 else E_MEMORY

    def write_memory_hex(self, rest: bytes) -> bytes:
        where, _, data = rest.partition(b":")
        return self._write_memory(*pair(where), unhex(data))

    def write_memory_binary(self, rest: bytes) -> bytes:
        where, _, data = rest.partition(b":")
        return self._write_memory(*pair(where), data)

    def _write_memory(self, linear: int, length: int, data: bytes) -> bytes:
        if length != len(data):
            return E_ARGUMENT
        pieces: list[tuple[int, bytes]] = []
        at = 0
        while at < length:
            here = linear + at & ADDRESS_MASK
            gpa = self.machine.vcpu.engine.translate(here)
            if gpa is None:
                return E_MEMORY
            size = min(length - at, PAGE_BYTES - here % PAGE_BYTES)
            pieces.append((gpa, data[at : at + size]))
            at += size
        try:
            for gpa, piece in pieces:
                self.machine.memory.write(gpa, piece)
        except RingfenceError:
            return E_MEMORY
        return b"OK"

    # break- and watchpoints

    def insert_point(self, rest: bytes) -> bytes:
        point = parse_point(rest)
        if point is None:
            return b""
        if point not in self.points:
            if not self.machine.vcpu.engine.set_breakpoint(point[1], point[2], ENGINE_KINDS[point[0]]):
                return E_NO_ROOM
            self.points.add(point)
        return b"OK"

    def remove_point(self, rest: bytes) -> bytes:
        point = parse_point(rest)
        if point is None:
            return b""
        if point in self.points:
            self.points.remove(point)
            self.machine.vcpu.engine.clear_breakpoint(point[1], point[2], ENGINE_KINDS[point[0]])
        return b"OK"

    def _remove_points(self) -> None:
        for kind, linear, length in self.points:
            self.machine.vcpu.engine.clear_breakpoint(linear, length, ENGINE_KINDS[kind])
        self.points.clear()

    # queries

    def supported(self, rest: bytes) -> bytes:
        self._knows = {feature[:-1] for feature in rest.lstrip(b":").split(b";") if feature.endswith(b"+")}
        return FEATURES.encode()

    def no_acks(self, _: bytes) -> bytes:
        self.link.stop_acknowledging()
        return b"OK"

    def features(self, rest: bytes) -> bytes:
        name, _, where = rest.partition(b":")
        if name != b"target.xml":
            return b"E00"
        offset, length = pair(where)
        text = target_xml().encode()
        piece = text[offset : offset + min(length, MEMORY_BYTES_MAX)]
        return (b"m" if offset + len(piece) < len(text) else b"l") + piece

    def command(self, rest: bytes) -> bytes:
        """`monitor …`: the text in O packets, then OK."""
        self._print(self.monitor.run(unhex(rest).decode("utf-8", "replace")))
        if self.monitor.was_reset:
            self.monitor.was_reset, self.stop = False, Stop(Cause.INTERRUPTED)
        if self.monitor.wants_quit:
            self._verdict = Verdict.KILLED
        return b"OK"

    def _print(self, text: str) -> None:
        raw = text.encode()
        for start in range(0, len(raw), CONSOLE_BYTES):
            self.link.send(b"O" + raw[start : start + CONSOLE_BYTES].hex().encode())

    # leaving

    def detach(self, _: bytes) -> bytes:
        self._verdict = Verdict.DETACHED
        return b"OK"

    def kill(self, _: bytes) -> bytes:
        self._verdict = Verdict.KILLED
        return b"OK"

    def kill_silently(self, _: bytes) -> None:
        """`k` has no answer."""
        self._verdict = Verdict.KILLED


ENGINE_KINDS = {0: 0, 1: 0, 2: 1, 3: 2, 4: 2}  # GDB's Z types to the engine's kinds

Answer = Callable[[Session, bytes], bytes | None]


def _say(text: bytes) -> Answer:
    return lambda session, rest: text


# The longest name that fits is first where one begins with another.
COMMANDS: tuple[tuple[bytes, Answer], ...] = (
    (b"?", Session.stop_reply),
    (b"vCont?", _say(b"vCont;c;C;s;S;r")),
    (b"vCont", Session.cont),
    (b"vKill", Session.kill),
    (b"qSupported", Session.supported),
    (b"QStartNoAckMode", Session.no_acks),
    (b"qXfer:features:read:", Session.features),
    (b"qRcmd,", Session.command),
    (b"qAttached", _say(b"1")),
    (b"qCRC", _say(b"")),
    (b"qC", _say(b"QC1")),
    (b"qfThreadInfo", _say(b"m1")),
    (b"qsThreadInfo", _say(b"l")),
    (b"qSymbol", _say(b"OK")),
    (b"H", _say(b"OK")),
    (b"T", _say(b"OK")),
    (b"g", Session.read_registers),
    (b"G", Session.write_registers),
    (b"p", Session.read_register),
    (b"P", Session.write_register),
    (b"m", Session.read_memory),
    (b"M", Session.write_memory_hex),
    (b"X", Session.write_memory_binary),
    (b"Z", Session.insert_point),
    (b"z", Session.remove_point),
    (b"c", Session.resume_at),
    (b"C", Session.resume),
    (b"s", Session.step_at),
    (b"S", Session.step),
    (b"D", Session.detach),
    (b"k", Session.kill_silently),
)


def number(text: bytes) -> int:
    """Hexadecimal digits only. Raises ValueError."""
    if not text or not all(digit in b"0123456789abcdefABCDEF" for digit in text):
        raise ValueError(text)
    return int(text, 16)


def register(text: bytes) -> int:
    """A register's number. Raises IndexError."""
    found = number(text)
    if found >= len(REGISTERS):
        raise IndexError(found)
    return found


def pair(text: bytes) -> tuple[int, int]:
    """`addr,length`. Raises ValueError."""
    first, _, second = text.partition(b",")
    return number(first) & ADDRESS_MASK, number(second)


def unhex(text: bytes) -> bytes:
    return bytes.fromhex(text.decode("ascii", "replace"))


def parse_point(text: bytes) -> tuple[int, int, int] | None:
    """`type,addr,kind` of Z and z: type, address, length; None for a type we lack. Raises ValueError."""
    fields = text.partition(b";")[0].split(b",")
    kind, address, length = number(fields[0]), number(fields[1]) & ADDRESS_MASK, number(fields[2])
    if kind not in ENGINE_KINDS:
        return None
    if kind < 2:
        return kind, address, 1
    if not 0 < length <= WATCH_BYTES_MAX:
        raise ValueError(text)
    return kind, address, length
