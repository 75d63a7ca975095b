"""What the host offers: the probe on this host, and under system-call filters that take something away from it.

A filter that a process has is inherited by the worlds it starts, so a host that lacks a system call, kills for one or
hangs in one is made with seccomp in a process of its own.
"""

from __future__ import annotations

import ctypes
import dataclasses
import json
import os
import platform
import subprocess
import sys
from ctypes import c_uint16, c_uint32, c_void_p
from pathlib import Path
from typing import Any

import pytest

from ringfence.layout import leaves
from tests.vmm.test_layout import c_leaves
from vmm import host, host_offers_spec
from vmm._core import ffi, lib
from vmm.host import Finding, HostOffers, direct_missing, engine_name, look, offers
from vmm.host_offers_spec import STRUCTURES, Gate, GateState, Offer, Verdict

ROOT = Path(__file__).resolve().parent.parent.parent
LIMIT_S = 120

on_x86_64 = pytest.mark.skipif(platform.machine() != "x86_64", reason="the probe is for x86-64 hosts")


# ---- the layout ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", STRUCTURES)
def test_every_field_lies_where_c_puts_it(name: str) -> None:
    ours = {field.path: (field.offset, field.size) for field in leaves(STRUCTURES[name])}
    assert ours == c_leaves(ffi.typeof(name))
    assert ctypes.sizeof(STRUCTURES[name]) == ffi.sizeof(name)


@pytest.mark.parametrize(
    ("ours", "name", "prefix"),
    [
        (Offer, "enum host_offer", "OFFER_"), (Verdict, "enum host_verdict", "VERDICT_"),
        (Gate, "enum host_gate", "GATE_"), (GateState, "enum host_gate_state", "GATE_"),
    ],
)  # fmt: skip
def test_the_enums_are_those_of_the_header(ours: Any, name: str, prefix: str) -> None:
    assert {prefix + member.name: member.value for member in ours} == ffi.typeof(name).relements


def test_the_counts_are_those_of_the_header() -> None:
    assert (len(Offer), len(Gate)) == (lib.RF_HOST_OFFERS, lib.RF_HOST_GATES)
    assert host_offers_spec.HOST_OFFERS_VERSION == lib.RF_HOST_OFFERS_VERSION


# ---- this host -------------------------------------------------------------------------------------------------------


@on_x86_64
def test_the_experiments_come_to_their_end_and_are_made_once() -> None:
    found = offers()
    assert found.probe == ""
    assert found is offers()
    assert "not tested" not in [found.finding(offer).detail for offer in host.BETTER_WITH]
    assert look(host.LIMIT_S).cpus == len(os.sched_getaffinity(0))


@on_x86_64
def test_the_kernel_says_the_same_of_itself() -> None:
    found = offers()
    cpuinfo = Path("/proc/cpuinfo").read_text().splitlines()
    flags = next((line for line in cpuinfo if line.startswith("flags")), "").split()
    assert found.cpuid_fault.offered == ("cpuid_fault" in flags)
    assert found.umip.offered == ("umip" in flags)
    assert found.filter.offered == Path("/proc/sys/kernel/seccomp/actions_avail").exists()
    assert found.max_map_count == int(Path("/proc/sys/vm/max_map_count").read_text())
    assert found.kvm.offered or not os.access("/dev/kvm", os.R_OK | os.W_OK)


@on_x86_64
def test_a_host_that_runs_32_bit_programs_has_32_bit_segments_and_int_80(tmp_path: Path) -> None:
    (tmp_path / "p.S").write_text(".globl _start\n_start: movl $1, %eax\nmovl $7, %ebx\nint $0x80\n")
    program = tmp_path / "p"
    subprocess.run(["gcc", "-m32", "-nostdlib", "-static", "-o", program, tmp_path / "p.S"], check=True)
    try:
        status = subprocess.run([program], check=False).returncode
    except OSError as error:
        pytest.skip(f"this host runs no 32-bit programs: {error.strerror}")
    assert status == 7
    assert offers().code32.offered
    assert offers().int80 in {GateState.CAUGHT, GateState.OPEN}


@on_x86_64
def test_the_costs_are_measured_and_in_order() -> None:
    found = offers()
    assert 0 < found.system_call_ns < found.signal_ns
    assert found.system_call_ns < found.map_page_ns


def test_no_gate_into_the_host_is_open_where_dispatch_is_offered() -> None:
    found = offers()
    if not found.dispatch.offered:
        pytest.skip(f"no dispatch here: {found.dispatch.detail}")
    assert {found.int80, found.sysenter, found.syscall32} <= {GateState.CAUGHT, GateState.ABSENT}


# ---- hosts with something missing ------------------------------------------------------------------------------------


SYS_PRCTL, SYS_MODIFY_LDT, SYS_SECCOMP, SYS_RT_SIGRETURN, SYS_MEMFD_CREATE = 157, 154, 317, 15, 319
RET_KILL, RET_ERRNO, RET_USER_NOTIF = 0x80000000, 0x00050000, 0x7FC00000
ENOSYS, EINVAL, EPERM = 38, 22, 1
SET_TSC, SET_DISPATCH, SET_SECCOMP = 26, 59, 22
ANY = None


class SockFprog(ctypes.Structure):
    """struct sock_fprog."""

    _fields_ = [("length", c_uint16), ("filter", c_void_p)]


def install(number: int, first: int | None, action: int) -> int:
    """Answer a system call, with this first argument if one is given, so for ever. The listener, or 0."""
    load, equal, answer = 0x20, 0x15, 0x06  # BPF_LD|W|ABS, BPF_JMP|JEQ|K, BPF_RET|K
    program = [(load, 0, 0, 0), (equal, 0, 3, number), (load, 0, 0, 16)]
    program += [(equal, 0, 1, first)] if first is not None else [(equal, 0, 0, 0)]
    program += [(answer, 0, 0, action), (answer, 0, 0, 0x7FFF0000)]
    words = (c_uint32 * (2 * len(program)))()
    for index, (code, if_true, if_false, k) in enumerate(program):
        words[2 * index], words[2 * index + 1] = code | if_true << 16 | if_false << 24, k
    libc = ctypes.CDLL(None, use_errno=True)
    named = SockFprog(len(program), ctypes.cast(words, c_void_p))
    assert libc.prctl(38, 1, 0, 0, 0) == 0
    listener: int = libc.syscall(SYS_SECCOMP, 1, 8 if action == RET_USER_NOTIF else 0, ctypes.byref(named))
    assert listener >= 0, os.strerror(ctypes.get_errno())
    return listener


def findings_with(number: int, first: int | None, action: int, limit_s: float = 60) -> dict[str, Any]:
    """What a process with such a filter finds, and direct_missing()'s line as `missing`."""
    program = f"""
import dataclasses, json
from tests.vmm.test_host_offers import install
from vmm.host import direct_missing, look
install({number}, {first}, {action})
found = look({limit_s})
print(json.dumps(dataclasses.asdict(found) | {{"missing": direct_missing(found)}}))
"""
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=LIMIT_S, check=False)
    assert done.returncode == 0, done.stderr
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


@on_x86_64
@pytest.mark.parametrize(
    ("number", "first", "offer", "error"),
    [
        (SYS_MODIFY_LDT, ANY, Offer.LDT, ENOSYS),
        (SYS_PRCTL, SET_DISPATCH, Offer.DISPATCH, EINVAL),
        (SYS_PRCTL, SET_TSC, Offer.TSC_FAULT, EINVAL),
        (SYS_SECCOMP, 1, Offer.FILTER, EPERM),
    ],
    ids=["modify_ldt", "user dispatch", "TSC", "seccomp"],
)
def test_a_host_without_what_is_required_is_told_in_one_line(
    number: int, first: int | None, offer: Offer, error: int
) -> None:
    found = findings_with(number, first, RET_ERRNO | error)
    assert found["probe"] == ""
    assert found[offer.name.lower()] == {"offered": False, "detail": os.strerror(error)}
    lacks = f"this host lacks {host.TITLES[offer]} ({os.strerror(error)})"
    assert found["missing"] == f"direct execution is not possible: {lacks}"
    others = [found[other.name.lower()]["offered"] for other in host.REQUIRED if other is not offer]
    assert others == [offers().finding(other).offered for other in host.REQUIRED if other is not offer]


@on_x86_64
@pytest.mark.parametrize(
    ("number", "first", "what"),
    [
        (SYS_MODIFY_LDT, ANY, host.TITLES[Offer.LDT]), (SYS_PRCTL, SET_TSC, host.TITLES[Offer.TSC_FAULT]),
        (SYS_RT_SIGRETURN, ANY, host.TITLES[Offer.CODE32]),
    ],
)  # fmt: skip
def test_a_host_that_kills_the_probe_is_survived(number: int, first: int | None, what: str) -> None:
    found = findings_with(number, first, RET_KILL)
    assert found["probe"] == f"probe ended by signal 31 (Bad system call) while testing {what}"
    assert found["missing"] == f"direct execution cannot be tried here: {found['probe']}"


@on_x86_64
def test_a_probe_that_hangs_is_ended() -> None:
    found = findings_with(SYS_MODIFY_LDT, ANY, RET_USER_NOTIF, limit_s=0.5)
    what = host.TITLES[Offer.LDT]
    assert found["probe"] == f"probe did not end within 0.5 s while testing {what}"
    assert found["code32"]["offered"] and found["ldt"]["detail"] == "not tested"


@on_x86_64
def test_a_host_that_gives_no_memfd_is_told() -> None:
    found = findings_with(SYS_MEMFD_CREATE, ANY, RET_ERRNO | ENOSYS)
    assert found["probe"].endswith(os.strerror(ENOSYS)) and "\n" not in found["missing"]


# ---- what follows ----------------------------------------------------------------------------------------------------


def changed(**fields: Any) -> HostOffers:
    yes = Finding(True)
    everything = dict.fromkeys(("platform", *(offer.name.lower() for offer in host.REQUIRED)), yes)
    return dataclasses.replace(offers(), probe="", **(everything | fields))


def test_the_engine_follows_from_what_is_required_alone() -> None:
    no = Finding(False, "because")
    better = {offer.name.lower(): no for offer in host.BETTER_WITH}
    assert engine_name(changed(**better)) == "direct"
    for offer in host.REQUIRED:
        found = changed(**{offer.name.lower(): no})
        assert engine_name(found) == "interp"
        assert f"{host.TITLES[offer]} (because)" in (direct_missing(found) or "")


def test_another_platform_is_named() -> None:
    other = changed(platform=Finding(False, "riscv64, Linux 6.1"))
    assert direct_missing(other) == "direct execution needs an x86-64 Linux host: this is riscv64, Linux 6.1"


def test_a_build_without_world_executable_tries_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host, "host_platform", lambda: Finding(False, "riscv64, Linux 6.1"))
    found = look(0)
    assert found.probe == "not tried" and found.code32 == host.UNTESTED and found.system_call_ns == 0


def test_what_is_found_does_not_depend_on_where_the_host_puts_the_program() -> None:
    """Of 1,500 looks 32 once missed the catching of system calls: the vDSO lay within the bounds of the program."""
    first = host.direct_missing(host.look(LIMIT_S))
    assert {host.direct_missing(host.look(LIMIT_S)) for _ in range(300)} == {first}
