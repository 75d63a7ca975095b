"""A GDB remote stub for one vCPU: a session talks to GDB, the server waits for the next one.

The machine is stopped whenever a session looks at it. Addresses are linear; GDB's threads are one, number 1. A read
watchpoint also stops at writes (GDB sorts out those that change the value). While single-stepping, external
interrupts wait: otherwise every step of a guest with a timer would end in its handler.
Not modelled: several vCPUs, reverse execution, file transfer.
Source: Debugging with GDB, appendix E "GDB Remote Serial Protocol".
"""

from __future__ import annotations

import contextlib
import queue
import socket
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Protocol

from ringfence.errors import BadOption, HostRefused, RingfenceError
from vmm._core import lib
from vmm.gdb_monitor import Monitor
from vmm.gdb_packets import PACKET_BYTES_MAX, PacketReader, Signal, frame
from vmm.gdb_registers import Registers
from vmm.gdb_target_spec import NUMBER, REGISTERS, target_xml
from vmm.interrupts import Interrupts
from vmm.vcpu import PAGE_BYTES, Vcpu

SIGINT, SIGILL, SIGTRAP, SIGABRT = 2, 4, 5, 6
E_ARGUMENT, E_MEMORY, E_REGISTER, E_NO_ROOM = b"E16", b"E14", b"E01", b"E0c"
MEMORY_BYTES_MAX = (PACKET_BYTES_MAX - 16) // 2
CONSOLE_BYTES = 1024  # of text in one O packet
WATCH_BYTES_MAX = 4096
ADDRESS_MASK = 0xFFFFFFFF
FEATURES = (
    f"PacketSize={PACKET_BYTES_MAX:x};qXfer:features:read+;swbreak+;hwbreak+;QStartNoAckMode+;vContSupported+;"
    "multiprocess-"
)


class Cause(Enum):
    """Why the machine stopped."""

    BREAKPOINT = 1
    WATCHPOINT = 2
    STEP = 3
    INTERRUPTED = 4
    CRASHED = 5  # it cannot go on, but can be looked at
    ENDED = 6


@dataclass(frozen=True, slots=True)
class Stop:
    """`address` is linear, of a breakpoint or of the access; `status` what the machine ended with; `text` for people."""

    cause: Cause
    address: int = 0
    status: int = 0
    text: str = ""


class PhysicalMemory(Protocol):
    """Guest physical memory; both raise a RingfenceError where there is none."""

    def read(self, gpa: int, length: int) -> bytes: ...

    def write(self, gpa: int, data: bytes) -> None: ...


class Debuggee(Protocol):
    """What the stub needs of a machine. All but `interrupt` are for the thread that calls `serve`."""

    @property
    def vcpu(self) -> Vcpu: ...

    @property
    def memory(self) -> PhysicalMemory: ...

    @property
    def interrupts(self) -> Interrupts: ...

    def resume(self) -> Stop:
        """Run, with devices answered, until something stops it."""

    def interrupt(self) -> None:
        """Make `resume` return soon with INTERRUPTED; if it does not run, the next one. Any thread."""

    def forget_interrupt(self) -> None:
        """Take back an interrupt that nobody waits for any more."""

    def reset(self) -> None: ...

    def device_lines(self) -> Iterable[str]: ...


class Verdict(Enum):
    """How a session ended, for the server."""

    DETACHED = 1  # the machine runs on
    KILLED = 2
    ENDED = 3  # the machine has


# ---- the connection ------------------------------------------------------------------------------------------------------


class Link:
    """One connection. A thread of its own reads, so that ^C is seen while the machine runs."""

    def __init__(self, connection: socket.socket, interrupt: Callable[[], None]) -> None:
        self._connection, self._interrupt = connection, interrupt
        self._packets: queue.SimpleQueue[tuple[int, bytes | None]] = queue.SimpleQueue()
        self._reader = PacketReader()
        self._acknowledges = True
        self._last = b""
        self._sending = threading.Lock()
        self._count = 0
        self._interrupted_at = -1
        self._thread = threading.Thread(target=self._read, name="gdb", daemon=True)
        self._thread.start()

    def next(self) -> tuple[int, bytes | None]:
        """The next packet and its number; None instead when the connection is gone."""
        return self._packets.get()

    def interrupted_since(self, number: int) -> bool:
        """Did a ^C follow the packet of this number?"""
        return self._interrupted_at >= number

    def send(self, data: bytes) -> None:
        """A packet. A connection that is gone is noticed by `next`."""
        self._last = frame(data)
        self._write(self._last)

    def stop_acknowledging(self) -> None:
        self._acknowledges = False

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._connection.shutdown(socket.SHUT_RDWR)
        self._thread.join(timeout=2)
        self._connection.close()

    def _write(self, data: bytes) -> None:
        with self._sending, contextlib.suppress(OSError):
            self._connection.sendall(data)

    def _read(self) -> None:
        while True:
            try:
                data = self._connection.recv(PACKET_BYTES_MAX)
            except OSError:
                data = b""
            if not data:
                self._packets.put((self._count + 1, None))
                self._interrupt()
                return
            for event in self._reader.feed(data):
                self._take(event)

    def _take(self, event: bytes | Signal) -> None:
        if isinstance(event, bytes):
            if self._acknowledges:
                self._write(b"+")
            self._count += 1
            self._packets.put((self._count, event))
        elif event is Signal.INTERRUPT:
            self._interrupted_at = self._count
            self._interrupt()
        elif event is Signal.RESEND:
            self._write(self._last)
        elif self._acknowledges:
            self._write(b"-")


# ---- a session -----------------------------------------------------------------------------------------------------------


class Session:
    """From GDB's connection to its leaving."""

    def __init__(self, link: Link, machine: Debuggee) -> None:
        self.link, self.machine = link, machine
        self.registers = Registers(machine.vcpu.state, self.read_linear, machine.vcpu.engine.flush)
        self.monitor = Monitor(machine, self.registers)  # type: ignore[arg-type]
        self.stop = Stop(Cause.INTERRUPTED)
        self.points: set[tuple[int, int, int]] = set()  # GDB's type, linear address, length
        self._knows: set[bytes] = set()
        self._verdict: Verdict | None = None
        self._packet = 0

    def run(self) -> Verdict:
        """Answer packets until GDB leaves or the machine ends."""
        while self._verdict is None:
            self._packet, packet = self.link.next()
            if packet is None:
                self._verdict = Verdict.DETACHED
            else:
                answer = self.answer(packet)
                if answer is not None:
                    self.link.send(answer)
        if self._verdict is Verdict.DETACHED:
            self._remove_points()
        return self._verdict

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
            if kind in names and (begins_inside or (first - address) & ADDRESS_MASK < 16):
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


# ---- the server ----------------------------------------------------------------------------------------------------------


class Server:
    """Listens, and gives the machine to one GDB after another; between two of them it runs."""

    def __init__(self, listener: socket.socket, machine: Debuggee) -> None:
        self._listener, self._machine = listener, machine
        self._incoming: queue.SimpleQueue[socket.socket] = queue.SimpleQueue()
        self._free = threading.Semaphore(1)  # held while a GDB has the machine; the next one waits outside
        self._thread = threading.Thread(target=self._accept, name="gdb listener", daemon=True)

    def serve(self, *, wait: bool) -> Stop:
        """Until the machine ends or is killed. With `wait`, nothing runs before the first GDB is there."""
        self._thread.start()
        stop = Stop(Cause.INTERRUPTED)
        waiting = wait
        while stop.cause is not Cause.ENDED:
            if waiting:
                connection = self._incoming.get()
            else:
                stop = self._machine.resume()
                if stop.cause is Cause.ENDED:
                    break
                if stop.cause is Cause.INTERRUPTED and self._incoming.empty():
                    continue
                connection = self._incoming.get()  # a crash waits for somebody to look
            waiting = False
            stop = self._session(connection, stop)
        return stop

    def _session(self, connection: socket.socket, stop: Stop) -> Stop:
        self._machine.forget_interrupt()
        link = Link(connection, self._machine.interrupt)
        session = Session(link, self._machine)
        session.stop = stop
        try:
            verdict = session.run()
        finally:
            link.close()
            self._machine.forget_interrupt()
            self._free.release()
        if verdict is Verdict.KILLED:
            return Stop(Cause.ENDED, text="killed by the debugger")
        return session.stop if verdict is Verdict.ENDED else Stop(Cause.INTERRUPTED)

    def _accept(self) -> None:
        while True:
            self._free.acquire()
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            if connection.family == socket.AF_INET:
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._incoming.put(connection)
            self._machine.interrupt()


def listen(where: str) -> tuple[socket.socket, str]:
    """A listener for `tcp:PORT` (loopback only; 0: any free one) or `unix:PATH`, and what to type into gdb."""
    kind, _, rest = where.partition(":")
    if kind == "tcp" and rest.isascii() and rest.isdecimal() and int(rest) < 1 << 16:
        listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        address: tuple[str, int] | str = ("127.0.0.1", int(rest))
    elif kind == "unix" and rest:
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        address = str(Path(rest).absolute())
    else:
        raise BadOption(f"--gdb {where}: expected tcp:PORT or unix:PATH")
    try:
        listener.bind(address)
        listener.listen(1)
    except OSError as error:
        listener.close()
        raise HostRefused(f"--gdb {where}: cannot listen: {error.strerror or error}") from error
    if kind == "tcp":
        return listener, f"target remote 127.0.0.1:{listener.getsockname()[1]}"
    return listener, f"target remote {address}"


def close_listener(listener: socket.socket) -> None:
    """Also removes a Unix socket's name."""
    path = listener.getsockname() if listener.family == socket.AF_UNIX else ""
    with contextlib.suppress(OSError):
        listener.shutdown(socket.SHUT_RDWR)
    listener.close()
    if path:
        Path(path).unlink(missing_ok=True)
