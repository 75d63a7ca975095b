"""Two Linux guests on one switch as a measure: what is compiled, what counts, and who is held against whom."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from bench import linux, net
from bench.linux import LAST_LINE
from bench.peers import Peers, Ringfence, Tcg
from bench.plan import QUICK, Plan
from bench.rows import Verdict
from bench.transcript import Line, RunFailed, Transcript
from tests.realguests.packages import PackagesUnavailable

INTERP, DIRECT = Ringfence("interp"), Ringfence("direct")
MS = 1_000_000


def plan(*others: Ringfence, tcg: bool = True) -> Plan:
    peers = Peers(native=None, tcg=Tcg() if tcg else None, bochs=None, unicorn=False, missing=())
    return Plan(INTERP, peers, QUICK, lambda text: None, others=others)


def said(**took_ms: int) -> Transcript:
    lines = []
    for name, ms in took_ms.items():
        lines += [Line(0, f"T: load begin {name}"), Line(ms * MS, f"T: load end {name} 1")]
    return Transcript(0, tuple(lines))


def test_rates_are_by_the_hosts_time() -> None:
    found = net.rates({net.SEND: said(echo=1000), net.RECEIVE: said(tcp=2000, frames=500)})
    assert found == {
        "net.echo": 1e6 / net.ECHOES, "net.tcp": net.MIB * (1 << 20) / 2e6, "net.frames": 2 * net.FRAMES,
    }  # fmt: skip


def test_a_load_that_is_missing_fails_the_run() -> None:
    with pytest.raises(RunFailed, match="loads are missing"):
        net.rates({net.SEND: said(echo=1), net.RECEIVE: said(tcp=1)})


def test_the_goals(monkeypatch: pytest.MonkeyPatch) -> None:
    made = plan(DIRECT)
    values = {
        INTERP.name: {"net.echo": 1.0, "net.tcp": 1.0, "net.frames": 1.0},
        DIRECT.name: {"net.echo": 3.0, "net.tcp": 4.0, "net.frames": 1.0},
        Tcg.name: {"net.echo": 1.0, "net.tcp": 8.0, "net.frames": 8.0},
    }
    found: dict[str, linux.Contender] = {name: (lambda one=one: one) for name, one in values.items()}  # type: ignore[misc]
    monkeypatch.setattr(net, "contenders", lambda plan: found)
    net.measure(made)
    assert {row.measure: row.verdict() for row in made.rows} == {
        "interp.net.echo": Verdict.NONE, "interp.net.tcp": Verdict.NONE, "interp.net.frames": Verdict.NONE,
        "direct.net.echo": Verdict.NONE, "direct.net.tcp": Verdict.MUST, "direct.net.frames": Verdict.MISSED,
    }  # fmt: skip


def test_without_a_peer_or_a_kernel_there_is_a_note(monkeypatch: pytest.MonkeyPatch) -> None:
    values = {"net.echo": 1.0, "net.tcp": 1.0, "net.frames": 1.0}
    monkeypatch.setattr(net, "contenders", lambda plan: {INTERP.name: lambda: values})
    made = plan(tcg=False)
    net.measure(made)
    assert made.notes == [f"left out: net: no {Tcg.name} to hold it against"] and not made.rows

    def missing(plan: Plan) -> dict[str, linux.Contender]:
        raise PackagesUnavailable("no network")

    monkeypatch.setattr(net, "contenders", missing)
    made = plan()
    net.measure(made)
    assert made.notes == ["left out: net: no network"] and not made.rows


def test_the_two_of_qemu_are_the_ends_of_one_link(tmp_path: Path) -> None:
    boot = linux.iso.Boot(tmp_path / "kernel", tmp_path / "initrd", "")
    ends = [net.tcg_command(tmp_path, role, boot) for role in (net.RECEIVE, net.SEND)]
    links = [next(word for word in end if word.startswith("dgram,")) for end in ends]
    paths = [[part.split("=")[1] for part in link.split(",") if ".path=" in part] for link in links]
    assert paths[0] == paths[1][::-1] and len(set(paths[0])) == 2


@pytest.mark.long
@pytest.mark.parametrize("engine", ["interp", "direct", "tcg"])
def test_two_guests_find_each_other_and_do_every_load(engine: str) -> None:
    if engine == "tcg" and shutil.which(net.QEMU) is None:
        pytest.skip(f"no {net.QEMU} here")
    try:
        started = net.boots(net.QUICK_PART)
    except PackagesUnavailable as error:
        pytest.skip(str(error))
    transcripts = net.run_tcg(started) if engine == "tcg" else net.run_ours(Ringfence(engine), started)
    assert net.rates(transcripts, net.QUICK_PART).keys() == net.UNITS.keys()
    assert all(LAST_LINE(one.lines[-1].text) for one in transcripts.values())
