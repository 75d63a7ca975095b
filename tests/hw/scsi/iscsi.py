"""Just enough of an iSCSI target to put a Target before real initiators: one session a connection, no digests.

Source: RFC 7143.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from struct import pack, unpack_from

from hw.scsi.scsi_spec import Direction, Reset, Status, Tag
from hw.scsi.target import Target
from hw.scsi.wiring import Command, Completion

IQN = "iqn.2006-06.test:disk"
BURST = 1 << 18
KEYS = {
    "HeaderDigest": "None", "DataDigest": "None", "InitialR2T": "Yes", "ImmediateData": "No",
    "MaxBurstLength": str(BURST), "FirstBurstLength": str(BURST), "MaxOutstandingR2T": "1", "MaxConnections": "1",
    "DefaultTime2Wait": "0", "DefaultTime2Retain": "0", "ErrorRecoveryLevel": "0", "DataPDUInOrder": "Yes",
    "DataSequenceInOrder": "Yes", "AuthMethod": "None", "OFMarker": "No", "IFMarker": "No",
}  # fmt: skip
TAGS = {0: Tag.UNTAGGED, 1: Tag.SIMPLE, 2: Tag.ORDERED, 3: Tag.HEAD}
NOP, COMMAND, MANAGE, LOGIN, TEXT, DATA_OUT, LOGOUT = range(7)
NONE = 0xFFFFFFFF


class Server:
    """Listens until closed. Each session is an initiator with a target of its own, all under one lock."""

    def __init__(self, plug_in: Callable[[], Target]) -> None:
        self.plug_in, self.lock = plug_in, threading.Lock()
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"iscsi://127.0.0.1:{self.listener.getsockname()[1]}/{IQN}/0"
        self.failure: BaseException | None = None
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self.listener.close()
        assert self.failure is None, self.failure

    def _accept(self) -> None:
        while True:
            try:
                peer, _ = self.listener.accept()
                peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            except OSError:
                return
            threading.Thread(target=self._serve, args=(peer,), daemon=True).start()

    def _serve(self, peer: socket.socket) -> None:
        try:
            with peer:
                Session(self, peer).run()
        except (ConnectionError, EOFError):
            pass
        except BaseException as error:  # noqa: BLE001 the test that owns the server shows it
            self.failure = error


class Session:
    def __init__(self, server: Server, peer: socket.socket) -> None:
        self.server, self.peer = server, peer
        self.target = server.plug_in()
        self.stat_sn, self.cmd_sn = 1, 0
        self.segment = 8192
        self.writes: dict[int, tuple[bytes, bytearray]] = {}
        self.answers: dict[int, Callable[[bytes, bytes], bool]] = {
            NOP: self._nop, COMMAND: self._command, MANAGE: self._manage, LOGIN: self._login, TEXT: self._text,
            DATA_OUT: self._data, LOGOUT: self._logout,
        }  # fmt: skip

    def run(self) -> None:
        try:
            self._run()
        finally:
            with self.server.lock:
                self.target.reset()

    def _run(self) -> None:
        while True:
            header = self._take(48)
            length = int.from_bytes(header[5:8], "big")
            self._take(header[4] * 4)
            data = self._take(length + -length % 4)[:length]
            if header[0] & 0x3F not in (DATA_OUT, LOGOUT) and not header[0] & 0x40:
                self.cmd_sn = int.from_bytes(header[24:28], "big") + 1
            elif header[0] & 0x3F == LOGIN:
                self.cmd_sn = int.from_bytes(header[24:28], "big")
            if not self.answers[header[0] & 0x3F](header, data):
                return

    def _take(self, length: int) -> bytes:
        data = b""
        while len(data) < length:
            more = self.peer.recv(length - len(data))
            if not more:
                raise EOFError
            data += more
        return data

    def _put(self, op: int, flags: int, request: bytes, tail: bytes = b"", data: bytes = b"", *,
             second: bytes = b"\0\0", lun: bytes = bytes(8), ttt: int = NONE, stat: bool = True) -> None:  # fmt: skip
        """`tail` are bytes 36 to 47."""
        window = pack(">III", self.stat_sn, self.cmd_sn & NONE, (self.cmd_sn + 63) & NONE)
        self.stat_sn += stat
        header = bytes([op, flags]) + second + b"\0" + len(data).to_bytes(3, "big") + lun + request[16:20]
        header += ttt.to_bytes(4, "big") + window + tail.ljust(12, b"\0")
        self.peer.sendall(header + data + bytes(-len(data) % 4))

    def _login(self, header: bytes, data: bytes) -> bool:
        asked = dict(pair.split("=", 1) for pair in data.decode().split("\0") if "=" in pair)
        self.segment = int(asked.get("MaxRecvDataSegmentLength", self.segment))
        given = {key: KEYS[key] for key in asked if key in KEYS}
        if "MaxRecvDataSegmentLength" in asked:
            given["MaxRecvDataSegmentLength"] = str(BURST)
        text = "".join(f"{key}={value}\0" for key, value in given.items()).encode()
        window = pack(">III", self.stat_sn, self.cmd_sn & NONE, (self.cmd_sn + 63) & NONE)
        self.stat_sn += 1
        session = header[8:14] + (1).to_bytes(2, "big") + header[16:20] + bytes(4)
        reply = bytes([0x23, header[1], 0, 0, 0]) + len(text).to_bytes(3, "big") + session + window + bytes(12)
        self.peer.sendall(reply + text + bytes(-len(text) % 4))
        return True

    def _text(self, header: bytes, data: bytes) -> bool:
        port = self.server.listener.getsockname()[1]
        self._put(0x24, 0x80, header, data=f"TargetName={IQN}\0TargetAddress=127.0.0.1:{port},1\0".encode())
        return True

    def _nop(self, header: bytes, data: bytes) -> bool:
        if header[16:20] != b"\xff" * 4:
            self._put(0x20, 0x80, header, data=data)
        return True

    def _logout(self, header: bytes, data: bytes) -> bool:
        self._put(0x26, 0x80, header)
        return False

    def _manage(self, header: bytes, data: bytes) -> bool:
        function, reference = header[1] & 0x7F, int.from_bytes(header[20:24], "big")
        missing = 0
        if function == 1:
            missing = self.writes.pop(reference, None) is None  # what has its data is executed, and has ended
        else:
            self.writes.clear()
            if function != 2:
                with self.server.lock:
                    self.target.was_reset(Reset.LUN if function == 5 else Reset.TARGET)
        self._put(0x22, 0x80, header, second=bytes([missing, 0]))
        return True

    def _command(self, header: bytes, data: bytes) -> bool:
        expected = int.from_bytes(header[20:24], "big")
        if header[1] & 0x20 and expected:
            tag = int.from_bytes(header[16:20], "big")
            self.writes[tag] = (header, bytearray(expected))
            self._ask(header, 0)
        else:
            self._execute(header, bytearray(expected), Direction.IN)
        return True

    def _ask(self, header: bytes, offset: int) -> None:
        expected = int.from_bytes(header[20:24], "big")
        wanted = min(BURST, expected - offset)
        tail = pack(">III", offset // BURST, offset, wanted)
        tag = int.from_bytes(header[16:20], "big")
        self._put(0x31, 0x80, header, tail, lun=header[8:16], ttt=tag, stat=False)

    def _data(self, header: bytes, data: bytes) -> bool:
        tag, offset = int.from_bytes(header[16:20], "big"), int.from_bytes(header[40:44], "big")
        if tag not in self.writes:
            return True
        command, buffer = self.writes[tag]
        buffer[offset : offset + len(data)] = data
        if header[1] & 0x80:
            end = offset + len(data)
            if end < len(buffer):
                self._ask(command, end)
            else:
                del self.writes[tag]
                self._execute(command, buffer, Direction.OUT)
        return True

    def _execute(self, header: bytes, buffer: bytearray, direction: Direction) -> None:
        ends: list[Completion] = []
        lun = unpack_from(">H", header, 8)[0] & 0x3FFF
        views = [memoryview(buffer)] if buffer else []
        command = Command(header[32:48], ends.append, views, direction, lun, TAGS.get(header[1] & 7, Tag.SIMPLE))
        with self.server.lock:
            self.target.begin(command)
        (end,) = ends
        moved = len(buffer) - end.residual
        if direction is Direction.IN:
            for number, at in enumerate(range(0, moved, self.segment)):
                piece = bytes(buffer[at : min(at + self.segment, moved)])
                final = 0x80 if at + self.segment >= moved else 0
                self._put(0x25, final, header, pack(">III", number, at, 0), piece, stat=False)
        over = 0x04 if end.overrun else 0x02 if end.residual else 0
        residual = end.overrun - end.residual if end.overrun else end.residual
        sense = len(end.sense).to_bytes(2, "big") + end.sense if end.status == Status.CHECK_CONDITION else b""
        tail = pack(">III", -(-moved // self.segment) if direction is Direction.IN else 0, 0, residual)
        self._put(0x21, 0x80 | over, header, tail, sense, second=bytes([0, end.status]))
