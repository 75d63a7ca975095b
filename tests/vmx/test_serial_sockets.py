"""Serial ports on sockets: real clients and servers that come, go, stall and vanish."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from pathlib import Path

import pytest

from ringfence.errors import HostRefused
from tests.vmx.serial_guest import CONNECTED, CTS, Guest, plugged, send, wait_until
from vmx import output_queue, serial_sockets
from vmx.dead_socket import remove_dead_socket
from vmx.output_queue import QUEUE_BYTES, OutputQueue
from vmx.serial import SerialCable, open_serial
from vmx.serial_backend import QueuedSerial


def opened(choice: str, said: list[str] | None = None) -> QueuedSerial:
    backend = open_serial(choice, (said if said is not None else []).append)
    assert isinstance(backend, QueuedSerial)
    return backend


def client_of(backend: QueuedSerial) -> socket.socket:
    """Connect to wherever it listens."""
    kind, _, where = backend.where.partition(":")
    if kind == "unix":
        client = socket.socket(socket.AF_UNIX)
        client.connect(where)
    else:
        host, _, port = where.rpartition(":")
        client = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 14)
        client.connect((host.strip("[]"), int(port)))
    client.settimeout(5)
    return client


def has_ipv6() -> bool:
    with contextlib.suppress(OSError), socket.socket(socket.AF_INET6) as probe:
        probe.bind(("::1", 0))
        return True
    return False


def receive(client: socket.socket, length: int) -> bytes:
    data = b""
    while len(data) < length:
        part = client.recv(length - len(data))
        assert part, f"closed after {data!r}"
        data += part
    return data


@pytest.fixture(params=["unix", "tcp", "tcp6"])
def server(request: pytest.FixtureRequest, tmp_path: Path) -> QueuedSerial:
    if request.param == "tcp6" and not has_ipv6():
        pytest.skip("this host has no IPv6")
    places = {"unix": f"unix:{tmp_path / 's'}", "tcp": "tcp:127.0.0.1:0", "tcp6": "tcp:[::1]:0"}
    return opened(places[request.param])


# we listen


def test_one_client_after_another(server: QueuedSerial) -> None:
    with plugged(server) as guest:
        send(server, b"nobody hears")
        assert guest.lines == 0
        for text in (b"one", b"two"):
            guest.got.clear()
            with client_of(server) as client:
                client.sendall(text)
                guest.wait_for(text)
                assert guest.lines == CONNECTED
                send(server, b"re:" + text)
                assert receive(client, 6) == b"re:" + text
            wait_until(lambda: guest.lines == 0)


def test_a_second_client_waits_for_the_first_to_leave(server: QueuedSerial) -> None:
    with plugged(server) as guest:
        first = client_of(server)
        first.sendall(b"1")
        guest.wait_for(b"1")
        with client_of(server) as second:
            second.sendall(b"2")
            send(server, b"a")
            assert receive(first, 1) == b"a"
            first.close()
            guest.wait_for(b"12")
            send(server, b"b")
            assert receive(second, 1) == b"b"


def test_input_waits_until_the_uart_has_room(server: QueuedSerial) -> None:
    with plugged(server, Guest(room=3)) as guest, client_of(server) as client:
        client.sendall(b"abcdefgh")
        guest.wait_for(b"abc")
        guest.room = 10
        server.ready()
        guest.wait_for(b"abcdefgh")


def test_what_a_client_sent_before_it_left_arrives(server: QueuedSerial) -> None:
    with plugged(server, Guest(room=0)) as guest:
        with client_of(server) as client:
            client.sendall(b"bye")
        wait_until(lambda: guest.lines == 0 and len(server._waiting) == 3)
        guest.room = 10
        server.ready()
        guest.wait_for(b"bye")


def test_the_last_output_arrives_when_the_machine_ends(server: QueuedSerial) -> None:
    with contextlib.ExitStack() as stack:
        with plugged(server) as guest:
            client = stack.enter_context(client_of(server))
            wait_until(lambda: guest.lines == CONNECTED)
            send(server, b"x" * QUEUE_BYTES)
            reader_got: list[bytes] = []
            reader = threading.Thread(target=lambda: reader_got.append(receive(client, QUEUE_BYTES)))
            reader.start()
        reader.join(timeout=5)
        assert reader_got == [b"x" * QUEUE_BYTES]
        assert client.recv(1) == b""


def test_a_stalled_reader_holds_the_guest_briefly_and_once(
    server: QueuedSerial, monkeypatch: pytest.MonkeyPatch
) -> None:
    """CTS falls first; a guest that sends all the same is held for the limit, then what it sends is dropped."""
    monkeypatch.setattr(server.queue, "_patience_s", 0.1)
    with plugged(server) as guest, client_of(server) as client:
        wait_until(lambda: guest.lines == CONNECTED)
        block, sent = b"x" * 4096, 0
        while guest.lines is not None and guest.lines & CTS:
            send(server, block)
            sent += len(block)
        assert server.queue.dropped == 0, "a guest that heeds CTS loses nothing"
        started = time.monotonic()
        while not server.queue.dropped:
            send(server, block)
        held = time.monotonic() - started
        assert 0.1 <= held < 3
        already = server.queue.dropped
        send(server, block)
        assert server.queue.dropped == already + len(block)
        receive(client, sent)
        wait_until(lambda: guest.lines == CONNECTED)
        send(server, b"heard again")


def test_a_stalled_reader_holds_nobody_who_is_wanted_back(server: QueuedSerial) -> None:
    with plugged(server) as guest, client_of(server):
        wait_until(lambda: guest.lines == CONNECTED)
        guest.wanted_back = True
        server.queue._patience_s = 1000
        while not server.queue.dropped:
            send(server, bytes(4096))


def test_a_slow_reader_gets_everything(server: QueuedSerial) -> None:
    total = 1 << 17
    with plugged(server) as guest, client_of(server) as client:
        wait_until(lambda: guest.lines == CONNECTED)
        sender = threading.Thread(target=send, args=(server, bytes(range(256)) * (total // 256)))
        sender.start()
        got = bytearray()
        while len(got) < total:
            got += client.recv(7000)
        sender.join()
    assert got == bytes(range(256)) * (total // 256)


def test_a_client_that_vanishes_while_the_guest_sends(server: QueuedSerial) -> None:
    with plugged(server) as guest:
        client = client_of(server)
        wait_until(lambda: guest.lines == CONNECTED)
        sender = threading.Thread(target=send, args=(server, bytes(1 << 18)), daemon=True)
        sender.start()
        receive(client, 1000)
        client.close()
        sender.join(timeout=5)
        assert not sender.is_alive()
        wait_until(lambda: not server.has_peer)


def test_a_socket_file_goes_with_the_machine(tmp_path: Path) -> None:
    with plugged(opened(f"unix:{tmp_path / 's'}")):
        assert (tmp_path / "s").is_socket()
    assert not (tmp_path / "s").exists()


def test_only_a_dead_socket_is_taken_over(tmp_path: Path) -> None:
    path = tmp_path / "s"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    backend = opened(f"unix:{path}")
    with pytest.raises(HostRefused, match="in use"):
        opened(f"unix:{path}")
    backend.close()
    path.write_text("a file")
    remove_dead_socket(path)
    with pytest.raises(HostRefused, match="in use"):
        opened(f"unix:{path}")
    assert path.read_text() == "a file"


def test_a_port_in_use_is_refused() -> None:
    said: list[str] = []
    backend = opened("tcp:127.0.0.1:0", said)
    assert said == [f"serial port on {backend.where}"]
    with pytest.raises(HostRefused, match="in use"):
        opened(backend.where)
    backend.close()


# we connect


@pytest.fixture(params=["unix", "tcp"])
def listener(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[socket.socket, str]:
    """A server, and how to name it."""
    if request.param == "unix":
        made = socket.socket(socket.AF_UNIX)
        made.bind(str(tmp_path / "s"))
        name = f"unix-client:{tmp_path / 's'}"
    else:
        made = socket.create_server(("127.0.0.1", 0))
        name = f"tcp-client:127.0.0.1:{made.getsockname()[1]}"
    made.listen(1)
    made.settimeout(5)
    return made, name


def test_we_connect_and_connect_again(
    listener: tuple[socket.socket, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(serial_sockets, "RETRY_S", 0.01)
    server, name = listener
    backend = opened(name)
    with server, plugged(backend) as guest:
        for text in (b"one", b"two"):
            guest.got.clear()
            peer, _ = server.accept()
            with peer:
                peer.sendall(text)
                guest.wait_for(text)
                assert guest.lines == CONNECTED
                send(backend, b"re:" + text)
                assert receive(peer, 6) == b"re:" + text
            wait_until(lambda: guest.lines == 0 or backend.has_peer)


def test_we_wait_for_a_server_that_is_not_there_yet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serial_sockets, "RETRY_S", 0.01)
    monkeypatch.setattr(serial_sockets, "RETRY_S_MAX", 0.02)
    said: list[str] = []
    backend = opened(f"unix-client:{tmp_path / 's'}", said)
    with plugged(backend) as guest, socket.socket(socket.AF_UNIX) as server:
        assert len(said) == 1 and "not there yet (No such file or directory)" in said[0]
        server.bind(str(tmp_path / "s"))
        time.sleep(0.05)  # a socket that does not listen yet refuses
        server.listen(1)
        server.settimeout(5)
        peer, _ = server.accept()
        with peer:
            peer.sendall(b"hello")
            guest.wait_for(b"hello")
    assert len(said) == 1, "it is said once"


def test_a_refused_tcp_connection_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serial_sockets, "RETRY_S", 0.01)
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    said: list[str] = []
    backend = opened(f"tcp-client:127.0.0.1:{port}", said)
    with plugged(backend) as guest:
        wait_until(lambda: bool(said))
        with socket.create_server(("127.0.0.1", port)) as server:
            server.settimeout(5)
            peer, _ = server.accept()
            with peer:
                peer.sendall(b"x")
                guest.wait_for(b"x")


def test_a_place_that_no_waiting_helps_is_refused(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as wrong:
        wrong.bind(str(tmp_path / "s"))
        with pytest.raises(HostRefused, match="cannot connect"):
            opened(f"unix-client:{tmp_path / 's'}")


def test_two_machines_on_one_cable(tmp_path: Path) -> None:
    """One listens, the other connects: each hears the other, and sees it leave."""
    place, first, second = tmp_path / "s", Guest(), Guest()
    a = SerialCable(f"unix:{place}", print)
    b = SerialCable(f"unix-client:{place}", print)
    a.connect(first, first)
    b.connect(second, second)
    wait_until(lambda: first.lines == second.lines == CONNECTED)
    send(a, b"to b")
    send(b, b"to a")
    first.wait_for(b"to a")
    second.wait_for(b"to b")
    a.unplug()
    wait_until(lambda: second.lines == 0)
    b.close()
    a.close()


# the queue alone


def test_a_queue_without_a_descriptor_drops() -> None:
    queue = OutputQueue(lambda: None)
    queue.send(b"nowhere")
    assert (queue.waiting, queue.dropped) == (0, 0)


def test_a_queue_keeps_the_order_behind_what_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(output_queue, "QUEUE_BYTES", 1 << 20)
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    queue = OutputQueue(lambda: None)
    queue.open(ours.fileno())
    data = bytes(range(256)) * 2048
    for at in range(0, len(data), 1000):
        queue.send(data[at : at + 1000])
    assert queue.waiting
    got = b""
    while len(got) < len(data):
        got += theirs.recv(1 << 16)
        queue.drain()
    assert got == data
    ours.close()
    theirs.close()
