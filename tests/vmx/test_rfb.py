"""The remote screen's server over a socket: the handshakes byte by byte, hostile clients, addresses."""

from __future__ import annotations

import contextlib
import socket
import stat
import struct
import threading
from pathlib import Path

import numpy as np
import pytest

import vmx.rfb
from ringfence.errors import BadOption, HostRefused
from tests.vmx.rfb_peer import Input, Picture, Served, log_in, mixed_picture, on_unix, rest, take, wait_until
from vmx.keys_spec import KeyCode as K
from vmx.rfb import CLIENTS_MAX, WRONG_PASSWORDS_MAX, RfbServer, Where, parse_where
from vmx.rfb_auth import answer_to

FULL_32 = b"\x03\x00" + struct.pack(">HHHH", 0, 0, 64, 48)
INCREMENTAL = b"\x03\x01" + struct.pack(">HHHH", 0, 0, 64, 48)


def small() -> Picture:
    return Picture(mixed_picture(64, 48))


def test_a_des_answer_is_the_published_one() -> None:
    """The FIPS 81 example's key 0123456789ABCDEF, whose bits are reversed here, encrypts "Now is t"."""
    key = bytes(int(f"{byte:08b}"[::-1], 2) for byte in bytes.fromhex("0123456789ABCDEF"))
    assert answer_to(b"Now is t" + b"he time ", key).hex() == "3fa40e8a984d48156a271787ab8883f9"


@pytest.mark.parametrize("line", [b"RFB 003.003\n", b"RFB 003.005\n"])
def test_a_3_3_client_is_told_the_security_type_and_gets_no_result(tmp_path: Path, line: bytes) -> None:
    with Served(small(), on_unix(tmp_path)) as served:
        client = served.connect()
        assert take(client, 12) == b"RFB 003.008\n"
        client.sendall(line + b"\x01")
        assert take(client, 4) == struct.pack(">I", 1)
        assert take(client, 4) == struct.pack(">HH", 64, 48)


def test_a_3_7_client_chooses_and_gets_no_result_without_authentication(tmp_path: Path) -> None:
    with Served(small(), on_unix(tmp_path)) as served:
        client = served.connect()
        take(client, 12)
        client.sendall(b"RFB 003.007\n\x01\x01")
        assert take(client, 2) == b"\x01\x01"
        assert take(client, 4) == struct.pack(">HH", 64, 48)


@pytest.mark.parametrize("line", [b"RFB 003.008\n", b"RFB 003.889\n", b"RFB 005.000\n"])
def test_a_later_client_gets_3_8(tmp_path: Path, line: bytes) -> None:
    with Served(small(), on_unix(tmp_path)) as served:
        client = served.connect()
        take(client, 12)
        client.sendall(line + b"\x01\x01")
        assert take(client, 2 + 4) == b"\x01\x01" + bytes(4)
        init = take(client, 24)
        assert init[4:20] == struct.pack(">BBBBHHHBBB3x", 32, 24, 0, 1, 255, 255, 255, 16, 8, 0)
        assert take(client, struct.unpack(">I", init[20:])[0]) == b"test machine"


@pytest.mark.parametrize("version", [b"003.003", b"003.007", b"003.008"])
@pytest.mark.parametrize("right", [True, False])
def test_a_password_is_asked_for_in_every_version(tmp_path: Path, version: bytes, right: bool) -> None:
    with Served(small(), on_unix(tmp_path), "a long password") as served:
        client = served.connect()
        take(client, 12)
        client.sendall(b"RFB " + version + b"\n")
        if version == b"003.003":
            assert take(client, 4) == struct.pack(">I", 2)
        else:
            assert take(client, 2) == b"\x01\x02"
            client.sendall(b"\x02")
        challenge = take(client, 16)
        client.sendall(answer_to(challenge, b"a long p" if right else b"a long q"))
        if right:
            client.sendall(b"\x01")
            assert take(client, 8) == bytes(4) + struct.pack(">HH", 64, 48)
        else:
            reason = b"The password is wrong"
            expected = struct.pack(">I", 1)
            if version == b"003.008":
                expected += struct.pack(">I", len(reason)) + reason
            assert rest(client) == expected


def test_challenges_differ(tmp_path: Path) -> None:
    with Served(small(), on_unix(tmp_path), "secret") as served:
        challenges = set()
        for _ in range(3):
            client = served.connect()
            take(client, 12)
            client.sendall(b"RFB 003.003\n")
            challenges.add(take(client, 4 + 16)[4:])
        assert len(challenges) == 3


@pytest.mark.parametrize("version", [b"003.003", b"003.008"])
def test_many_wrong_passwords_close_the_door_for_a_while(tmp_path: Path, version: bytes) -> None:
    with Served(small(), on_unix(tmp_path), "secret") as served:
        for _ in range(WRONG_PASSWORDS_MAX):
            client = served.connect()
            take(client, 12)
            client.sendall(b"RFB 003.003\n" + bytes(16))
            rest(client)
        client = served.connect()
        take(client, 12)
        client.sendall(b"RFB " + version + b"\n")
        reason = b"Too many wrong passwords; try again later"
        kind = bytes(4) if version == b"003.003" else b"\0"
        assert rest(client) == kind + struct.pack(">I", len(reason)) + reason



def pixel_format(*fields: int) -> bytes:
    return b"RFB 003.008\n\x01\x01\0\0\0\0" + struct.pack(">BBBBHHHBBB3x", *fields)


HOSTILE = {
    "no RFB": b"GET / HTTP/1.1\r\n\r\n",
    "an old version": b"RFB 002.002\n",
    "a security type that was not offered": b"RFB 003.008\n\x02",
    "a message of no type": b"RFB 003.008\n\x01\x01\x7f",
    "too many encodings": b"RFB 003.008\n\x01\x01\x02\x00\xff\xff" + bytes(65535 * 4),
    "12 bits a pixel": pixel_format(12, 12, 0, 1, 15, 15, 15, 8, 4, 0),
    "a colour outside the pixel": pixel_format(16, 16, 0, 1, 255, 63, 31, 11, 5, 0),
    "a shift of 255": pixel_format(32, 24, 0, 1, 1, 1, 1, 255, 0, 0),
    "a huge clipboard": b"RFB 003.008\n\x01\x01\x06\0\0\0\xff\xff\xff\xff",
    "an unknown QEMU message": b"RFB 003.008\n\x01\x01\xff\x01" + bytes(10),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_client_is_dropped_with_one_line(tmp_path: Path, name: str) -> None:
    with Served(small(), on_unix(tmp_path)) as served:
        client = served.connect()
        take(client, 12)
        with contextlib.suppress(OSError):  # it may be dropped before it has sent all
            client.sendall(HOSTILE[name])
        rest(client)
        line = served.wait_for_line("; dropped")
        assert line.startswith("remote screen: ") and ": expected " in line and "\n" not in line
        assert len([line for line in served.lines if "dropped" in line]) == 1
        log_in(served.connect())


def test_a_message_may_come_byte_by_byte(tmp_path: Path) -> None:
    with Served(small(), on_unix(tmp_path)) as served:
        client = served.connect()
        messages = b"RFB 003.008\n\x01\x01" + b"\x06\0\0\0\0\0\0\x05hello" + b"\x04\x01\0\0\0\0\0a" + FULL_32
        for byte in messages:
            client.sendall(bytes((byte,)))
        head = take(client, 12 + 2 + 4 + 24 + len("test machine") + 4 + 12)
        assert head[-16:] == b"\0\0\0\x01" + struct.pack(">HHHHi", 0, 0, 64, 48, 0)
        assert served.input.keys == [(K.A, True)]


def test_keys_that_a_client_held_are_let_go_when_it_leaves(tmp_path: Path) -> None:
    with Served(small(), on_unix(tmp_path)) as served:
        client = served.connect()
        log_in(client)
        client.sendall(b"\x04\x01\0\0\0\0\xff\xe3" + b"\x04\x01\0\0\0\0\0c" + b"\x05\x01\0\x05\0\x05")
        wait_until(lambda: len(served.input.movements) == 1, "the button")
        client.close()
        wait_until(lambda: len(served.input.movements) == 2, "the button to come up")
        assert served.input.keys == [(K.CTRL_LEFT, True), (K.C, True), (K.C, False), (K.CTRL_LEFT, False)]
        assert served.input.movements == [(0, 0, 0, 1), (0, 0, 0, 0)]


def test_an_incremental_request_waits_for_a_change(tmp_path: Path) -> None:
    picture = small()
    with Served(picture, on_unix(tmp_path)) as served:
        client = served.connect()
        log_in(client)
        client.sendall(FULL_32)
        take(client, 4 + 12 + 64 * 48 * 4)
        client.sendall(INCREMENTAL)
        client.settimeout(0.2)
        with pytest.raises(TimeoutError):
            client.recv(1)
        client.settimeout(10)
        picture.put(0, 0, picture.pixels[:16, :16].copy())  # a store that changes nothing
        picture.put(33, 17, ~picture.pixels[17:18, 33:34])
        update = take(client, 4 + 12 + 16 * 16 * 4)
        assert update[:16] == b"\0\0\0\x01" + struct.pack(">HHHHi", 32, 16, 16, 16, 0)


def test_nothing_is_drawn_while_nobody_asks(tmp_path: Path) -> None:
    picture = small()
    with Served(picture, on_unix(tmp_path)) as served:
        client = served.connect()
        log_in(client)
        drawn = picture.rendered
        for _ in range(5):
            picture.put(0, 0, ~picture.pixels[:1, :1])
            client.sendall(b"\x04\x01\0\0\0\0\0a")
        wait_until(lambda: len(served.input.keys) == 5, "the keys")
        assert picture.rendered == drawn


def test_a_client_that_does_not_read_holds_nobody_and_is_dropped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(vmx.rfb, "STALLED_S", 0.3)
    monkeypatch.setattr(vmx.rfb, "CHECK_INTERVAL_S", 0.1)
    picture = Picture(mixed_picture(1024, 768))
    with Served(picture, on_unix(tmp_path)) as served:
        lazy = served.connect()
        log_in(lazy)
        full = b"\x03\x00" + struct.pack(">HHHH", 0, 0, 1024, 768)
        lazy.sendall(full * 100)
        other = served.connect()
        log_in(other)
        other.sendall(full)
        take(other, 4 + 12 + 1024 * 768 * 4)
        assert picture.lock.acquire(timeout=1), "the machine is held"
        picture.lock.release()
        served.wait_for_line("has read nothing")
        assert rest(lazy)


def test_a_client_that_never_logs_in_is_dropped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vmx.rfb, "LOGIN_S", 0.1)
    monkeypatch.setattr(vmx.rfb, "CHECK_INTERVAL_S", 0.05)
    with Served(small(), on_unix(tmp_path)) as served:
        client = served.connect()
        assert rest(client) == b"RFB 003.008\n"
        served.wait_for_line("not logged in")


def test_more_clients_than_there_is_room_for_are_turned_away(tmp_path: Path) -> None:
    with Served(small(), on_unix(tmp_path)) as served:
        clients = [served.connect() for _ in range(CLIENTS_MAX)]
        for client in clients:
            take(client, 12)
        assert rest(served.connect()) == b""
        served.wait_for_line("turned away")
        clients[0].close()
        wait_until(lambda: any("left" in line for line in served.lines), "one to leave")
        log_in(served.connect())


def test_a_busy_machine_delays_pictures_and_not_the_server(tmp_path: Path) -> None:
    picture = small()
    with Served(picture, on_unix(tmp_path)) as served:
        client = served.connect()
        log_in(client)
        with picture.lock:
            client.sendall(FULL_32 + b"\x04\x01\0\0\0\0\0a")
            wait_until(lambda: len(served.input.keys) == 1, "the key")
            log_in(served.connect())
        take(client, 4 + 12 + 64 * 48 * 4)


def test_a_client_without_resizing_keeps_its_size(tmp_path: Path) -> None:
    picture = small()
    with Served(picture, on_unix(tmp_path)) as served:
        client = served.connect()
        log_in(client)
        wide = mixed_picture(100, 30, seed=4)
        picture.show(wide)
        client.sendall(FULL_32)
        update = take(client, 4 + 12 + 64 * 48 * 4)
        shown = np.frombuffer(update[16:], np.uint8).reshape(48, 64, 4)
        assert (shown[:30, :, [2, 1, 0]] == wide[:, :64]).all()
        assert not shown[30:].any()


def test_the_socket_is_its_owners_alone_and_goes_with_the_server(tmp_path: Path) -> None:
    with Served(small(), on_unix(tmp_path)) as served:
        assert stat.S_IMODE((tmp_path / "rfb").stat().st_mode) & 0o077 == 0
        with pytest.raises(HostRefused, match="cannot listen"):
            Served(small(), on_unix(tmp_path))
        log_in(served.connect())
    assert not (tmp_path / "rfb").exists()


def test_a_socket_that_a_killed_process_left_is_taken_over(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(tmp_path / "rfb"))
    with Served(small(), on_unix(tmp_path)) as served:
        log_in(served.connect())


def test_a_port_that_is_taken_is_refused() -> None:
    with Served(small(), "0") as served:
        assert served.server.address.startswith("127.0.0.1:")
        again = RfbServer(served.server.address, None, small(), Input(), threading.Lock(), print)
        with pytest.raises(HostRefused, match=f"remote screen on {served.server.address}: cannot listen"):
            again.start()
        again.close()


def test_an_open_address_needs_a_password() -> None:
    for where in ("0.0.0.0:0", "192.0.2.1:5901", "[::]:0"):
        with pytest.raises(BadOption, match="expected a password"):
            RfbServer(where, None, small(), Input(), threading.Lock(), print)
        RfbServer(where, "secret", small(), Input(), threading.Lock(), print)


@pytest.mark.parametrize("password", ["", "a\0b"])
def test_a_password_that_is_none_is_refused(password: str) -> None:
    with pytest.raises(BadOption, match="password"):
        RfbServer("0", password, small(), Input(), threading.Lock(), print)


@pytest.mark.parametrize(
    ("text", "where"),
    [
        ("5901", Where("127.0.0.1", 5901, None)),
        (":5901", Where("127.0.0.1", 5901, None)),
        ("0.0.0.0:5901", Where("0.0.0.0", 5901, None)),
        ("[::1]:5901", Where("::1", 5901, None)),
        ("unix:/tmp/x", Where("", 0, Path("/tmp/x"))),
    ],
)
def test_addresses(text: str, where: Where) -> None:
    assert parse_where(text) == where


@pytest.mark.parametrize("text", ["", "unix:", "host", "host:", "host:70000", "::1:5901", "1:2:3", "\uff15\uff19"])
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(BadOption, match="remote screen"):
        parse_where(text)


def test_the_log_cannot_be_filled_by_a_client() -> None:
    lines: list[str] = []
    log = vmx.rfb.QuietLog(lines.append)
    for _ in range(5000):
        log("a line")
    assert len(lines) == vmx.rfb.LOG_LINES_MAX
    log.since -= vmx.rfb.LOG_PERIOD_S
    log("another")
    left_out = 5000 - vmx.rfb.LOG_LINES_MAX
    assert lines[-2:] == [f"remote screen: {left_out} more lines like these were left out", "another"]
