"""Options and their answers, as the protocol's document has them."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.vmkernel.storage.lab import MIB
from tests.vmkernel.storage.nbd.client import (
    ABORT,
    EXPORT_NAME,
    GO,
    INFO,
    LIST,
    LIST_META,
    SET_META,
    STARTTLS,
    STRUCTURED,
    Client,
    go_data,
    meta_data,
    option,
    request,
    serving,
)
from vmkernel.storage.chain import open_disk
from vmkernel.storage.create import Kind, create

ACK = (1, b"")
UNSUP, INVALID, UNKNOWN, TOO_BIG = (0x80000000 + number for number in (1, 3, 6, 9))
ALLOCATION = b"base:allocation"


@pytest.fixture
def path(tmp_path: Path) -> Iterator[Path]:
    create(tmp_path / "d.vmdk", Kind.MONOLITHIC_SPARSE, 4 * MIB)
    with open_disk(tmp_path / "d.vmdk", writable=True) as disk, serving(disk, tmp_path, name="disk") as socket_path:
        yield socket_path


@pytest.fixture
def client(path: Path) -> Iterator[Client]:
    with Client(path) as client:
        client.greet()
        yield client


def test_fixed_newstyle_is_offered(path: Path) -> None:
    with Client(path) as client:
        assert client.greet() == 3


def test_list_names_the_export(client: Client) -> None:
    assert client.ask(LIST) == [(2, struct.pack(">I", 4) + b"disk" + b"a disk"), ACK]


def test_info_tells_what_was_asked_for(client: Client) -> None:
    infos = [answer for kind, answer in client.ask(INFO, go_data(b"disk", (1, 2, 3, 99))) if kind == 3]
    assert struct.unpack(">HQH", infos[0])[:2] == (0, 4 * MIB)
    assert set(infos[1:]) == {struct.pack(">HIII", 3, 512, 4096, 32 * MIB), b"\0\1disk", b"\0\2a disk"}


def test_df_is_offered_with_structured_replies_only(client: Client) -> None:
    def flags() -> int:
        return int(struct.unpack(">HQH", client.ask(INFO, go_data())[0][1])[2])

    assert not flags() & 1 << 7
    assert client.ask(STRUCTURED) == [ACK]
    assert flags() & 1 << 7


@pytest.mark.parametrize("number", [INFO, GO, LIST_META, SET_META])
def test_another_export_is_unknown(client: Client, number: int) -> None:
    client.ask(STRUCTURED)
    data = go_data(b"other") if number in {INFO, GO} else meta_data(name=b"other")
    assert client.ask(number, data)[0][0] == UNKNOWN
    assert client.ask(LIST)[-1] == ACK


def test_export_name_ends_the_handshake_with_and_without_padding(path: Path) -> None:
    for flags, padding in ((3, 0), (1, 124)):
        with Client(path) as client:
            client.greet(flags)
            client.send(option(EXPORT_NAME, b"disk") + request(3))
            size, _ = struct.unpack(">QH", client.take(10))
            assert size == 4 * MIB and client.take(padding) == bytes(padding)
            assert client.simple() == 0


def test_export_name_of_another_export_ends_the_connection(client: Client) -> None:
    client.send(option(EXPORT_NAME, b"other"))
    assert client.is_ended()


def test_abort_is_acknowledged(client: Client) -> None:
    assert client.ask(ABORT) == [ACK]
    assert client.is_ended()


@pytest.mark.parametrize("number", [STARTTLS, 4, 11, 0, 0xFFFFFFFF])
def test_an_option_that_is_not_offered_is_unsupported(client: Client, number: int) -> None:
    assert client.ask(number)[0][0] == UNSUP
    assert client.ask(LIST)[-1] == ACK


@pytest.mark.parametrize(
    ("number", "data"),
    [
        (LIST, b"x"), (STRUCTURED, b"x"), (GO, b""), (GO, b"\0\0\0\xff"), (INFO, go_data(b"disk")[:-1]),
        (INFO, go_data(b"disk") + b"x"), (INFO, go_data(b"\xff\xfe")), (SET_META, meta_data(b"no colon")),
        (SET_META, meta_data(ALLOCATION)[:-3]), (LIST_META, b"\0\0\0\0\xff\xff\xff\xff"), (SET_META, b"\0\0\x20\0"),
    ],
)  # fmt: skip
def test_malformed_data_is_invalid(client: Client, number: int, data: bytes) -> None:
    client.ask(STRUCTURED)
    assert client.ask(number, data)[0][0] == INVALID
    assert client.ask(LIST)[-1] == ACK


def test_an_option_that_is_too_big_is_skipped(client: Client) -> None:
    assert client.ask(LIST, bytes(1 << 20))[0][0] == TOO_BIG
    assert client.ask(LIST)[-1] == ACK


def test_contexts_need_structured_replies(client: Client) -> None:
    assert client.ask(SET_META, meta_data(ALLOCATION))[0][0] == INVALID


@pytest.mark.parametrize(
    ("number", "queries", "found"),
    [
        (LIST_META, (), True), (LIST_META, (b"base:",), True), (LIST_META, (ALLOCATION,), True),
        (LIST_META, (b"base:other", b"x-a:b"), False),
        (SET_META, (), False), (SET_META, (b"base:",), False), (SET_META, (b"qemu:x", ALLOCATION), True),
    ],
)  # fmt: skip
def test_queries_find_contexts(client: Client, number: int, queries: tuple[bytes, ...], found: bool) -> None:
    client.ask(STRUCTURED)
    answers = client.ask(number, meta_data(*queries))
    assert [answer[4:] for kind, answer in answers if kind == 4] == [ALLOCATION] * found
    assert answers[-1] == ACK


@pytest.mark.parametrize("flags", [4, 0x80000000, 0xFFFF0000])
def test_client_flags_that_were_not_offered_end_the_connection(path: Path, flags: int) -> None:
    with Client(path) as client:
        client.greet(flags)
        assert client.is_ended()


def test_what_is_no_option_ends_the_connection(client: Client) -> None:
    client.send(bytes(16))
    assert client.is_ended()


def test_options_without_end_end_the_connection(client: Client) -> None:
    client.send(option(LIST) * 300)
    assert client.is_ended()


def test_a_handshake_has_its_time(tmp_path: Path) -> None:
    create(tmp_path / "d.vmdk", Kind.MONOLITHIC_SPARSE, MIB)
    with (
        open_disk(tmp_path / "d.vmdk") as disk,
        serving(disk, tmp_path, handshake_s=0.1) as path,
        Client(path) as client,
    ):
        assert client.is_ended()
