"""What holds for every device: state is complete, reset forgets, outputs follow state, and no access hurts."""

from __future__ import annotations

from typing import Any

import pytest

from hw.ide.drive import BUFFER_BYTES, PIO_IN
from tests.conformance.board import Access
from tests.conformance.device_driver import Bench, accesses, no_hang, scribbled
from tests.conformance.device_list import DEVICES
from tests.conformance.specimen import Specimen

COUNT = 300
SEEDS = 3
FUZZ_SEEDS, FUZZ_COUNT = 8, 250
LONG_TOTAL, LONG_COUNT = 1_000_000, 2_000
HANG_S = 120

every_device = pytest.mark.parametrize("specimen", DEVICES, ids=lambda specimen: specimen.name)


@every_device
def test_state_is_complete(specimen: Specimen) -> None:
    """A device rebuilt over a copy of its state bytes cannot be told apart from the original."""
    for seed in range(SEEDS):
        script = accesses(specimen, seed, COUNT)
        one = Bench(specimen)
        half = len(script) // 2
        one.run(script[:half])
        other = one.copy()
        assert one.trace(script[half:]) == other.trace(script[half:])
        assert (bytes(one.state), one.memory()) == (bytes(other.state), other.memory())


@every_device
def test_sync_changes_nothing(specimen: Specimen) -> None:
    """Outputs are driven from state at the end of every access, so driving them once more makes no difference."""
    for seed in range(2):
        bench = Bench(specimen)
        for access in accesses(specimen, seed, COUNT):
            bench.board.do(access)
            bench.board.take_acts()
            before = bytes(bench.state), bench.board.outputs()
            bench.device.sync()
            assert (bytes(bench.state), bench.board.outputs()) == before, access
            assert bench.board.take_acts() == []


@every_device
def test_sync_is_idempotent_from_any_state(specimen: Specimen) -> None:
    for seed in range(SEEDS):
        bench = scribbled(specimen, seed)
        before = bytes(bench.state), bench.board.outputs()
        bench.device.sync()
        assert (bytes(bench.state), bench.board.outputs()) == before


@every_device
def test_reset_forgets_everything(specimen: Specimen) -> None:
    """After RESET# nobody can tell what a device did before, but for what it says it keeps."""
    for seed in range(2):
        for used in (scribbled(specimen, seed), Bench(specimen)):
            used.run(accesses(specimen, seed, COUNT))
            fresh = used.copy(specimen.state())
            for path in specimen.kept:
                *inner, name = path.split(".")
                setattr(part(fresh.state, inner), name, getattr(part(used.state, inner), name))
            for bench in (used, fresh):
                for access in specimen.before_reset:
                    bench.board.do(access)
                bench.device.reset()
                bench.board.take_acts()
            assert used.board.outputs() == fresh.board.outputs()
            script = accesses(specimen, 500 + seed, COUNT)
            assert used.trace(script) == fresh.trace(script)
            assert used.memory() == fresh.memory()


def part(state: Any, path: list[str]) -> Any:
    """An inner structure."""
    for name in path:
        state = getattr(state, name)
    return state


@every_device
def test_a_string_is_its_units(specimen: Specimen) -> None:
    """A string instruction's accesses, taken at once, do what they would one by one."""
    for seed in range(2):
        one, other = Bench(specimen), Bench(specimen)
        for access in accesses(specimen, 700 + seed, COUNT):
            assert at_once(one, access) == one_by_one(other, access), access
            assert one.board.take_acts() == other.board.take_acts(), access
            assert one.board.outputs() == other.board.outputs(), access
        assert (bytes(one.state), one.memory()) == (bytes(other.state), other.memory())


def test_a_string_read_gives_its_length_whatever_the_drive_says_it_has() -> None:
    bench = Bench(next(specimen for specimen in DEVICES if specimen.name == "ata_disk"))
    drive = bench.state.first.drives[0]
    drive.phase, drive.position, drive.chunk_end, drive.filled = PIO_IN, BUFFER_BYTES - 8, 100_000, 100_000
    assert len(bench.board.ports.read_units(0x1F0, 2, 200)) == 400


def at_once(bench: Bench, access: Access) -> bytes:
    found = bench.board.do(access)
    if isinstance(found, int):
        return found.to_bytes(8, "little")
    return found or b""


def one_by_one(bench: Bench, access: Access) -> bytes:
    what, port, width, count = access
    if what == "ins":
        return b"".join(bench.board.ports.read(port, width).to_bytes(width, "little") for _ in range(count))
    if what != "outs":
        return at_once(bench, access)
    units = bytes(index & 0xFF for index in range(width * count))
    for at in range(0, len(units), width):
        bench.board.ports.write(port, width, int.from_bytes(units[at : at + width], "little"))
    return b""


# fuzzing


@every_device
def test_from_any_state_no_access_hurts(specimen: Specimen) -> None:
    """Random state, random memory: nothing raises, nothing hangs, nothing is stored beyond memory."""
    with no_hang(HANG_S):
        for seed in range(FUZZ_SEEDS):
            scribbled(specimen, seed).run(accesses(specimen, seed, FUZZ_COUNT))


@every_device
def test_no_driver_hurts(specimen: Specimen) -> None:
    """The same from reset, where commands get further."""
    with no_hang(HANG_S):
        for seed in range(FUZZ_SEEDS):
            Bench(specimen).run(accesses(specimen, 1000 + seed, FUZZ_COUNT))


@every_device
@pytest.mark.long
def test_a_million_accesses_do_not_hurt(specimen: Specimen) -> None:
    done, seed = 0, 10_000
    while done < LONG_TOTAL:
        with no_hang(HANG_S):
            done += scribbled(specimen, seed).run(accesses(specimen, seed, LONG_COUNT))
            done += Bench(specimen).run(accesses(specimen, seed + 1, LONG_COUNT))
        seed += 3


@every_device
def test_the_fuzzer_reaches_the_device(specimen: Specimen) -> None:
    """A device without a way in would pass everything above."""
    script = accesses(specimen, 3, 3000)
    counts = {what: sum(access.what == what for access in script) for what in ("in", "out", "load", "store")}
    bench = Bench(specimen)
    assert specimen.ports or specimen.memory or bench.board.events
    assert not specimen.ports or min(counts["in"], counts["out"]) > 100
    assert not specimen.memory or min(counts["load"], counts["store"]) > 100
    states = set()
    for access in script[:1000]:
        bench.run([access])
        states.add(bytes(bench.state))
    assert len(states) > 1


def test_memory_beyond_the_guest_cannot_be_reached() -> None:
    """The guards work: a store past a view is noticed, a view of a read cannot be written."""
    bench = Bench(DEVICES[0])
    ram = bench.board.ram
    with ram.dma(0xFFFC, 4, True) as views:
        for view in views:
            view[:] = bytes(len(view))
    assert ram.guards_are_whole()
    with ram.dma(0, 4, False) as views, pytest.raises(TypeError):
        views[0][0] = 1
    ram.bytes[0] ^= 1
    assert not ram.guards_are_whole()
    bench.board.do(Access("poke", 0, 4, 0x12345678))
    assert bytes(ram.view(0, 4)) == b"\x78\x56\x34\x12"
