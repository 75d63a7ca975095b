"""Damaged .vmx files: whatever comes is read or refused in one line, and what is read survives being written."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from ringfence.errors import BadOption, RingfenceError
from vmx.vmx_file import VmxFile
from vmx.vmx_settings import settings_of

CORPUS = sorted(path for path in (Path(__file__).parent / "vmx").iterdir() if path.suffix == ".vmx")
PIECES = (
    b'"', b"|", b"|22", b"|0A", b"|7C", b"=", b"#", b"\n", b"\r\n", b"\r", b"\0", b"\xff", b"\xc3", b"\xe2\x80\xa8",
    b"TRUE", b"-1", b"99999999999999999999", b"ide1:0.", b"ide9:9.present", b"memsize", b'.encoding = "utf-8"\n',
    b"\t", b" ", b"[]", b"../" * 30, "x\u00e9\u65e5".encode(),
)  # fmt: skip


def damaged(data: bytes, chance: random.Random) -> bytes:
    """A few cuts, swaps and insertions."""
    result = bytearray(data)
    for _ in range(chance.randint(1, 6)):
        at = chance.randrange(len(result) + 1)
        end = min(len(result), at + chance.choice((0, 0, 1, 3, 20)))
        lines = bytes(result).split(b"\n")
        match chance.randrange(4):
            case 0:
                result[at:end] = chance.choice(PIECES)
            case 1:
                del result[at:end]
            case 2:
                result[at:end] = chance.randbytes(end - at + 1)
            case _:
                result += b"\n" + chance.choice(lines)
    return bytes(result)


def examine(data: bytes) -> None:
    """The rules that hold for any bytes."""
    path = Path("/nonexistent/fuzz.vmx")
    try:
        file = VmxFile.parse(data, path)
    except RingfenceError as error:
        assert "\n" not in str(error)
        return
    assert file.to_bytes() == data
    written = VmxFile.parse(data, path)
    values = {line.key: line.value for line in file}
    for key in list(values):
        try:
            written.set(key, values[key] + "x")
            written.set(key, values[key])
        except BadOption:  # bytes that the encoding does not have, beside others that would complete them
            del values[key]
    again = VmxFile.parse(written.to_bytes(), path)
    assert {line.key: line.value for line in again if line.key in values} == values
    try:
        settings = settings_of(file)
    except RingfenceError as error:
        assert "\n" not in str(error)
        return
    settings.config.check()
    assert all("\n" not in str(note) for note in settings.notes)


@pytest.mark.parametrize("path", CORPUS, ids=lambda path: path.stem)
def test_every_input_keeps_the_rules(path: Path) -> None:
    examine(path.read_bytes())


@pytest.mark.parametrize("path", CORPUS, ids=lambda path: path.stem)
def test_damaged_inputs_keep_the_rules(path: Path) -> None:
    chance = random.Random(path.name)
    for _ in range(40):
        examine(damaged(path.read_bytes(), chance))


@pytest.mark.long
def test_many_damaged_inputs_keep_the_rules() -> None:
    chance = random.Random(11)
    contents = [path.read_bytes() for path in CORPUS]
    for _ in range(20_000):
        examine(damaged(chance.choice(contents), chance))
