"""A debugger's end of the remote protocol, and a machine under a stub that it talks to."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tests.vmx.machines import CollectingSerial
from tests.vmx.programs import assemble
from vmm.gdb_link import close_listener
from vmm.gdb_packets import PacketReader, Signal, frame
from vmm.gdb_target_spec import NUMBER, REGISTERS
from vmm.gdb_wiring import Stop
from vmm.gdbstub import Server
from vmx.attachments import Attachments
from vmx.debug import MachineUnderDebug
from vmx.loader import load_program
from vmx.machine import Machine
from vmx.machine_config import MachineConfig

ANSWER_S = 20


class Client:
    """Sends packets and waits for the answers. What is printed meanwhile is collected in `console`."""

    def __init__(self, connection: socket.socket) -> None:
        self.connection = connection
        self.connection.settimeout(ANSWER_S)
        self.console = ""
        self._reader = PacketReader()
        self._events: list[bytes | Signal] = []

    def raw(self, data: bytes) -> None:
        self.connection.sendall(data)

    def answer(self) -> str:
        """The next packet that is no console output."""
        while True:
            while not self._events:
                data = self.connection.recv(65536)
                assert data, "the stub closed the connection"
                self._events += self._reader.feed(data)
            event = self._events.pop(0)
            if isinstance(event, Signal):
                continue
            if event[:1] == b"O" and event != b"OK":
                self.console += bytes.fromhex(event[1:].decode()).decode()
            else:
                return event.decode("latin-1")

    def ask(self, packet: str | bytes) -> str:
        self.raw(frame(packet.encode() if isinstance(packet, str) else packet))
        return self.answer()

    def monitor(self, line: str) -> str:
        self.console = ""
        assert self.ask(f"qRcmd,{line.encode().hex()}") == "OK"
        return self.console

    def register(self, name: str) -> int:
        return int.from_bytes(bytes.fromhex(self.ask(f"p{NUMBER[name]:x}")), "little")

    def set_register(self, name: str, value: int) -> str:
        number = NUMBER[name]
        return self.ask(f"P{number:x}={value.to_bytes(REGISTERS[number].bytes, 'little').hex()}")

    def read(self, address: int, length: int) -> bytes:
        return bytes.fromhex(self.ask(f"m{address:x},{length:x}"))


class Bench:
    """A machine with an assembled program, a server for it in a thread, and a connected client."""

    def __init__(self, made: Machine, symbols: dict[str, int], client: Client) -> None:
        self.machine, self.symbols, self.client = made, symbols, client
        self.stop: Stop | None = None
        self.served = threading.Event()

    def end(self) -> Stop:
        """How the machine ended, once it has."""
        assert self.served.wait(ANSWER_S) and self.stop is not None
        return self.stop


@contextmanager
def bench(source: str, tmp_path: Path, engine: str = "interp") -> Iterator[Bench]:
    """Stopped at `_start`. Labels of the source are in `symbols` if they are global."""
    program = assemble(".globl _start\n_start:\n" + source, tmp_path / "program")
    made = Machine(MachineConfig(memory_mib=4, engine=engine), Attachments((CollectingSerial(),)))
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(tmp_path / "gdb"))
    listener.listen(1)

    made.load(load_program(program, 4 << 20))
    connection = socket.socket(socket.AF_UNIX)
    found = Bench(made, {symbol.name: symbol.address for symbol in made.symbols._symbols}, Client(connection))

    def serve() -> None:
        found.stop = Server(listener, MachineUnderDebug(made)).serve(wait=True)
        found.served.set()

    thread = threading.Thread(target=serve)
    thread.start()
    connection.connect(str(tmp_path / "gdb"))
    try:
        yield found
    finally:
        with suppress(OSError):
            connection.sendall(b"\x03" + frame(b"k"))
        thread.join(ANSWER_S)
        connection.close()
        close_listener(listener)
        assert not thread.is_alive()
        made.close()
