"""Who takes part: each peer is found by itself, and a missing one has a reason."""

from __future__ import annotations

import io
import json

import pytest
from rich.console import Console

from bench.__main__ import main
from bench.peers import BOCHS, QEMU, find_peers
from bench.rows import Better, absolute, compare
from bench.table import number, print_table

EVERYTHING = frozenset({QEMU, BOCHS, "unicorn", "native"})


@pytest.mark.parametrize(
    ("gone", "name"), [(QEMU, "QEMU TCG"), (BOCHS, "Bochs"), ("unicorn", "Unicorn"), ("native", "native")]
)
def test_one_missing_peer_is_left_out_with_a_reason(gone: str, name: str) -> None:
    here = EVERYTHING - {gone}
    peers = find_peers(
        lambda command: command if command in here else None, lambda package: package in here,
        lambda: "" if "native" in here else "no 32-bit programs",
    )  # fmt: skip
    assert [missing.name for missing in peers.missing] == [name]
    assert peers.missing[0].reason
    assert len(peers.emulators()) == 2 - (gone in (QEMU, BOCHS))
    assert (peers.native is None, peers.unicorn) == (gone == "native", gone != "unicorn")


def test_nobody_is_missing_where_everything_is() -> None:
    assert not find_peers(str, lambda package: True, lambda: "").missing


def test_the_table_is_plain_text_in_a_pipe() -> None:
    text = io.StringIO()
    row = compare("interp.compute.geomean", "MIPS", Better.HIGH, 300, 4000, "native", 0.033, 0.067)
    print_table([row, absolute("x", "s", 1)], Console(file=text))
    printed = text.getvalue()
    assert printed.isascii()
    assert "\x1b" not in printed
    assert [line for line in printed.splitlines() if "geomean" in line and "met aim" in line]


def test_numbers_are_short() -> None:
    assert [number(value) for value in (None, 0.033, 1234567.0, 12.3456)] == ["", "0.033", "1,234,567", "12.35"]


@pytest.mark.parametrize("arguments", [["--only", "nothing"], ["--repeat", "0"], ["--repeat", "x"], ["word"]])
def test_wrong_options_end_with_status_two(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2
    assert capsys.readouterr().err


@pytest.mark.long
def test_a_quick_run_gives_a_document(capsys: pytest.CaptureFixture[str]) -> None:
    """Status 1 may come: how fast anything is, a short run beside other work does not say."""
    assert main(["--quick", "--only", "syscalls", "--json"]) in {0, 1}
    document = json.loads(capsys.readouterr().out)
    assert not document["errors"]
    assert {row["measure"] for row in document["rows"]} <= {
        f"{engine}.syscalls.{name}" for engine in ("interp", "direct") for name in ("int", "call_gate", "sysenter")
    }
    assert document["rows"]
    assert document["host"]["cores"] >= 1
