"""Requests and their replies, as the protocol's document has them; and clients that do not keep to it."""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.vmkernel.storage.lab import MIB, SECTOR, data, get, put
from tests.vmkernel.storage.nbd.client import (
    BLOCK_STATUS,
    CACHE,
    CHUNK_DATA,
    CHUNK_ERROR,
    CHUNK_HOLE,
    DF,
    DISC,
    EINVAL,
    EIO,
    ENOSPC,
    ENOTSUP,
    EOVERFLOW,
    EPERM,
    FAST_ZERO,
    FLUSH,
    FUA,
    GO,
    NO_HOLE,
    READ,
    REQ_ONE,
    TRIM,
    WRITE,
    WRITE_ZEROES,
    Client,
    go_data,
    request,
    serving,
)
from vmkernel.storage.chain import Chain, open_disk
from vmkernel.storage.create import Kind, create, create_child
from vmkernel.storage.errors import DamagedGrain, OutOfSpace
from vmkernel.storage.nbd.export import Export
from vmkernel.storage.nbd.server import CONNECTIONS_MAX, NbdServer
from vmkernel.storage.vmdk.stream_writer import write_stream

SIZE = 64 * MIB
HOLE = 3


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Chain]:
    create(tmp_path / "d.vmdk", Kind.MONOLITHIC_SPARSE, SIZE)
    with open_disk(tmp_path / "d.vmdk", writable=True) as disk:
        put(disk, 2048, data(1, 4096))  # 1 MiB to 3 MiB
        yield disk


@pytest.fixture
def path(disk: Chain, tmp_path: Path) -> Iterator[Path]:
    with serving(disk, tmp_path) as path:
        yield path


@pytest.fixture
def client(path: Path) -> Iterator[Client]:
    with Client(path) as client:
        yield client.begin()


def write(offset: int, content: bytes, flags: int = 0) -> bytes:
    return request(WRITE, offset, len(content), flags) + content


@pytest.mark.parametrize("length", [SECTOR, 4096, 65536, 65536 + SECTOR, 5 * MIB])
@pytest.mark.parametrize("offset", [0, MIB - SECTOR, MIB + SECTOR, 3 * MIB - SECTOR])
@pytest.mark.parametrize("flags", [0, FUA])
def test_a_read_brings_the_disks_bytes(disk: Chain, client: Client, offset: int, length: int, flags: int) -> None:
    assert client.read(offset, length, flags) == get(disk, offset // SECTOR, length // SECTOR)


def test_simple_replies_bring_the_same(disk: Chain, path: Path) -> None:
    with Client(path) as client:
        client.begin(structured=False)
        for offset, length in ((0, SECTOR), (MIB - SECTOR, 4 * MIB), (SIZE - SECTOR, SECTOR)):
            client.send(request(READ, offset, length))
            assert client.simple() == 0
            assert client.take(length) == get(disk, offset // SECTOR, length // SECTOR)
        assert client.error(request(READ, SIZE, SECTOR)) == EINVAL


def test_long_holes_are_not_sent(client: Client) -> None:
    client.send(request(READ, 0, 8 * MIB))
    chunks = client.chunks()
    assert [kind for kind, _ in chunks] == [CHUNK_HOLE, CHUNK_DATA, CHUNK_HOLE]
    assert [struct.unpack_from(">Q", payload)[0] for _, payload in chunks] == [0, MIB, 3 * MIB]


def test_df_has_one_chunk(disk: Chain, client: Client) -> None:
    client.send(request(READ, MIB // 2, MIB, DF))
    [(kind, payload)] = client.chunks()
    assert kind == CHUNK_DATA and payload[8:] == get(disk, 1024, 2048)
    assert client.error(request(READ, 0, 2 * MIB, DF)) == EOVERFLOW


def test_compressed_and_flat_disks_are_read(tmp_path: Path) -> None:
    create(tmp_path / "f.vmdk", Kind.MONOLITHIC_FLAT, SIZE)
    with open_disk(tmp_path / "f.vmdk", writable=True) as disk:
        put(disk, 100, data(1, 5000))
        with (tmp_path / "z.vmdk").open("wb") as out:
            write_stream(disk, out, "z.vmdk")
    for name in ("f.vmdk", "z.vmdk"):
        with open_disk(tmp_path / name) as disk, serving(disk, tmp_path) as path, Client(path) as client:
            assert client.begin().read(0, 4 * MIB) == bytes(100 * SECTOR) + data(1, 5000) + bytes(3092 * SECTOR)


@pytest.mark.parametrize("flags", [0, FUA])
@pytest.mark.parametrize("offset", [0, MIB - SECTOR, 10 * MIB + SECTOR])
def test_a_write_is_there(disk: Chain, client: Client, offset: int, flags: int) -> None:
    content = data(2, 5001)
    assert client.error(write(offset, content, flags)) == 0
    assert client.read(offset, len(content)) == content == get(disk, offset // SECTOR, 5001)


def test_what_was_flushed_is_in_the_file(tmp_path: Path, client: Client) -> None:
    content = data(3, 300)
    assert client.error(write(20 * MIB, content)) == 0
    assert client.error(request(FLUSH)) == 0
    with open_disk(tmp_path / "d.vmdk", lock=False) as other:
        assert get(other, 20 * MIB // SECTOR, 300) == content


def test_fua_flushes(tmp_path: Path, client: Client) -> None:
    content = data(3, 300)
    assert client.error(write(20 * MIB, content, FUA)) == 0
    with open_disk(tmp_path / "d.vmdk", lock=False) as other:
        assert get(other, 20 * MIB // SECTOR, 300) == content


def test_a_write_is_seen_by_other_connections(path: Path, client: Client) -> None:
    assert client.error(write(30 * MIB, data(4, 8))) == 0
    with Client(path) as other:
        assert other.begin().read(30 * MIB, 8 * SECTOR) == data(4, 8)


@pytest.mark.parametrize("flags", [0, FUA, NO_HOLE, FAST_ZERO])
def test_write_zeroes(client: Client, flags: int) -> None:
    assert client.error(request(WRITE_ZEROES, MIB + SECTOR, MIB, flags)) == 0
    rest = data(1, 4096)[MIB + SECTOR : MIB + 2 * SECTOR]
    assert client.read(MIB, MIB + 2 * SECTOR) == data(1, 1) + bytes(MIB) + rest


def test_no_hole_takes_up_space(client: Client) -> None:
    assert client.error(request(WRITE_ZEROES, 40 * MIB, 2 * MIB, NO_HOLE)) == 0
    assert client.status(40 * MIB, 2 * MIB) == [(2 * MIB, 0)]
    assert client.error(request(WRITE_ZEROES, 40 * MIB, 2 * MIB, NO_HOLE | FAST_ZERO)) == ENOTSUP


def test_trim_of_a_child_takes_up_no_space(tmp_path: Path, disk: Chain) -> None:
    disk.close()
    create_child(tmp_path / "c.vmdk", tmp_path / "d.vmdk")
    with (
        open_disk(tmp_path / "c.vmdk", writable=True) as child,
        serving(child, tmp_path) as path,
        Client(path) as client,
    ):
        client.begin()
        before = child.links[-1].extents[0].file.size
        assert client.error(request(TRIM, 0, SIZE)) == 0
        assert child.links[-1].extents[0].file.size == before
        assert client.error(request(WRITE_ZEROES, MIB, SECTOR, FAST_ZERO)) == ENOTSUP
        assert client.error(write(MIB, data(9, 1))) == 0
        assert client.error(request(TRIM, MIB, SECTOR)) == 0
        assert client.read(MIB, 2 * SECTOR) == bytes(SECTOR) + data(1, 2)[SECTOR:]


def test_status_says_where_data_is(client: Client) -> None:
    assert client.status(0, SIZE) == [(MIB, HOLE), (2 * MIB, 0), (SIZE - 3 * MIB, HOLE)]
    assert client.status(2 * MIB, 2 * MIB) == [(MIB, 0), (MIB, HOLE)]
    assert client.status(0, 4 * MIB, REQ_ONE) == [(MIB, HOLE)]


def test_status_needs_a_context(path: Path) -> None:
    with Client(path) as client:
        assert client.begin(allocation=False).error(request(BLOCK_STATUS, 0, MIB)) == EINVAL
        assert client.error(request(READ, 0, SECTOR)) == 0


def test_a_list_of_extents_is_bounded(disk: Chain, client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(0, 100, 2):
        put(disk, 4 * 2048 + number * 128, data(1, 1))
    found = client.status(4 * MIB, SIZE - 4 * MIB)
    assert found[:100] == [(1 << 16, 0), (1 << 16, HOLE)] * 49 + [(1 << 16, 0), (SIZE - 4 * MIB - (99 << 16), HOLE)]
    monkeypatch.setattr("vmkernel.storage.nbd.export.EXTENTS_MAX", 7)
    assert client.status(4 * MIB, SIZE - 4 * MIB) == found[:7]


@pytest.mark.parametrize(
    ("message", "error"),
    [
        (request(READ, 1, SECTOR), EINVAL), (request(READ, 0, SECTOR - 1), EINVAL),
        (request(READ, SIZE, SECTOR), EINVAL),
        (request(READ, 0, 32 * MIB + SECTOR), EINVAL), (request(READ, 1 << 63, SECTOR), EINVAL),
        (request(READ, (1 << 64) - SECTOR, SECTOR), EINVAL), (request(READ, 0, SECTOR, 1 << 15), EINVAL),
        (request(READ, 0, SECTOR, NO_HOLE), EINVAL), (request(FLUSH, 0, SECTOR), EINVAL),
        (request(FLUSH, 0, 0, DF), EINVAL),
        (write(SIZE, bytes(SECTOR)), ENOSPC), (write(0, bytes(3)), EINVAL), (write(0, bytes(SECTOR), DF), EINVAL),
        (write(0, bytes(33 * MIB)), EINVAL), (request(TRIM, SIZE, SECTOR), EINVAL), (request(TRIM, 0, 7), EINVAL),
        (request(WRITE_ZEROES, SIZE, SECTOR), ENOSPC), (request(WRITE_ZEROES, 0, SECTOR, REQ_ONE), EINVAL),
        (request(CACHE, SIZE, SECTOR), EINVAL), (request(CACHE, 0, MIB), 0), (request(CACHE, 0, MIB, DF), EINVAL),
        (request(BLOCK_STATUS, 0, 0), EINVAL), (request(BLOCK_STATUS, SIZE, SECTOR), EINVAL),
        (request(8, 0, 0), EINVAL),
        (request(0xFFFF, 0, 0), EINVAL), (request(READ, 0, 0), 0), (write(0, b""), 0), (request(TRIM, 0, 0), 0),
        (request(WRITE_ZEROES, 0, 0), 0),
    ],
)  # fmt: skip
def test_a_request_gets_the_protocols_error_and_the_next_is_served(
    disk: Chain, path: Path, message: bytes, error: int
) -> None:
    for structured in (True, False):
        with Client(path) as client:
            client.begin(structured=structured)
            if not structured and message[6:8] == b"\0\0" and not error:
                continue  # its data is no error
            assert client.error(message) == error
            client.send(request(FLUSH))
            assert client.simple() == 0
    assert get(disk, 2048, 4096) == data(1, 4096)


@pytest.mark.parametrize("command", [WRITE, TRIM, WRITE_ZEROES])
def test_a_read_only_export_is_not_written(disk: Chain, tmp_path: Path, command: int) -> None:
    with serving(disk, tmp_path, read_only=True) as path, Client(path) as client:
        content = bytes(SECTOR) if command == WRITE else b""
        assert client.begin().error(request(command, MIB, SECTOR) + content) == EPERM
        assert client.read(MIB, SECTOR) == data(1, 1)
        assert client.error(request(FLUSH)) == 0
        with Client(path) as other:
            other.greet()
            [*_, flags] = struct.unpack(">HQH", other.ask(GO, go_data())[0][1])
            assert flags & 2 and not flags & (1 << 5 | 1 << 6)


def test_a_full_host_is_told_and_the_rest_of_the_data_taken_in(
    client: Client, disk: Chain, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(offset: int, views: object) -> None:
        raise OutOfSpace("d.vmdk", offset, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(disk, "write", full)
        client.send(write(0, bytes(4 * MIB)))
        [(kind, payload)] = client.chunks()
        assert kind == CHUNK_ERROR and struct.unpack_from(">I", payload) == (ENOSPC,)
        assert b"d.vmdk" in payload and b"No space left on device" in payload
    assert client.error(write(0, data(5, 8))) == 0


def test_a_damaged_grain_is_an_error_and_the_rest_is_read(
    client: Client, disk: Chain, monkeypatch: pytest.MonkeyPatch
) -> None:
    def damaged(offset: int, length: int) -> None:
        raise DamagedGrain("d.vmdk", 512, "place", "inside", "outside")

    with monkeypatch.context() as patch:
        patch.setattr(disk, "runs", damaged)
        assert client.error(request(READ, 0, MIB)) == EIO
        assert client.status(0, MIB) == [(MIB, 0)]
    assert client.read(MIB, SECTOR) == data(1, 1)


def test_a_file_that_ends_too_early_is_told_behind_the_chunk(tmp_path: Path) -> None:
    create(tmp_path / "f.vmdk", Kind.MONOLITHIC_FLAT, 8 * MIB)
    with open_disk(tmp_path / "f.vmdk", writable=True) as disk:
        put(disk, 0, data(1, 8 * MIB // SECTOR))
    with open_disk(tmp_path / "f.vmdk", lock=False) as disk:
        pieces = list(disk.runs(0, 8 * MIB))
        disk.runs = lambda offset, length: iter(pieces)  # type: ignore[method-assign]
        with serving(disk, tmp_path) as path, Client(path) as client:
            client.begin()
            with (tmp_path / "f-flat.vmdk").open("r+b") as flat:
                flat.truncate(3 * MIB)
            client.send(request(READ, 0, 8 * MIB))
            (kind, content), (last, error) = client.chunks()
            assert (kind, last) == (CHUNK_DATA, CHUNK_ERROR) and struct.unpack_from(">I", error) == (EIO,)
            assert content[8 : 8 + 3 * MIB] == data(1, 3 * MIB // SECTOR) and len(content) == 8 + 8 * MIB
            assert client.read(0, SECTOR) == data(1, 1)


# clients that come and go


def test_what_is_no_request_ends_the_connection_only(path: Path, client: Client) -> None:
    with Client(path) as other:
        other.begin().send(bytes(28))
        assert other.is_ended()
    assert client.read(MIB, SECTOR) == data(1, 1)


def test_a_client_may_leave_anywhere(path: Path, client: Client) -> None:
    message = write(MIB, data(7, 8))
    for cut in (1, 27, 28, 100, len(message) - 1):
        with Client(path) as other:
            other.begin().send(message[:cut])
    with Client(path) as other:
        other.begin().send(request(READ, 0, 32 * MIB, 0))  # and never reads it
    with Client(path) as other:
        other.begin().send(request(DISC))
        assert other.is_ended()
    assert client.read(MIB, SECTOR) == data(1, 1)


def test_a_client_that_gets_nowhere_is_dropped_and_one_between_requests_is_not(disk: Chain, tmp_path: Path) -> None:
    with serving(disk, tmp_path, stall_s=0.1) as path, Client(path) as idle, Client(path) as stuck:
        idle.begin()
        stuck.begin().send(write(0, bytes(MIB))[:1000])
        assert stuck.is_ended()
        assert idle.read(MIB, SECTOR) == data(1, 1)


def test_there_are_only_so_many_connections(path: Path) -> None:
    clients = [Client(path) for _ in range(CONNECTIONS_MAX)]
    try:
        for one in clients:
            one.greet()
        with Client(path) as one_more:
            assert one_more.is_ended()
        assert clients[-1].ask(3)[-1] == (1, b"")
    finally:
        for one in clients:
            one.socket.close()


def test_requests_that_were_sent_before_a_close_are_answered(disk: Chain, tmp_path: Path) -> None:
    with serving(disk, tmp_path) as path:
        client = Client(path)
        client.begin().send(write(0, data(8, 8)))
        assert client.chunks() == []
    assert client.is_ended()
    client.socket.close()
    assert get(disk, 0, 8) == data(8, 8)


def test_once_ends_with_the_last_client_that_used_the_disk(disk: Chain, tmp_path: Path) -> None:
    path = tmp_path / "s"
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        listener.bind(str(path))
        listener.listen()
        with NbdServer(Export(disk), listener, once=True) as server:
            thread = threading.Thread(target=server.serve)
            thread.start()
            with Client(path) as asker:
                asker.greet()
                assert asker.ask(2) == [(1, b"")]
                assert asker.is_ended()
            with Client(path) as first:
                first.begin()
                with Client(path) as second:
                    second.begin().send(request(DISC))
                    assert second.is_ended()
                assert thread.is_alive() and first.read(MIB, SECTOR) == data(1, 1)
            thread.join(120)
            assert not thread.is_alive()
