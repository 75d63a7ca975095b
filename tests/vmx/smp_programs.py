"""Programs for several vCPUs: the boot processor starts the others, which run real-mode code at 8000h."""

from __future__ import annotations

TRAMPOLINE, STARTED = 0x8000, 0x9000

# INIT and SIPI to all others, by the local APIC's interrupt command register.
START = f"""
    mov $others, %esi
    mov ${TRAMPOLINE:#x}, %edi
    mov $end - others, %ecx
    cld
    rep movsb
    movl $0x1ff, 0xfee000f0
    movl $0xc4500, 0xfee00300
    movl $0xc4600 + {TRAMPOLINE >> 12:#x}, 0xfee00300
"""


def with_others(boot: str, others: str, wait_for: int = 1) -> str:
    """`boot` goes on when so many others have begun; `others` begin with their number, from 1, in BX and DS 0."""
    return f"""
    {START}
    1: cmpw ${wait_for}, {STARTED:#x}
    jb 1b
    {boot}
    .code16
    others:
    xor %ax, %ax
    mov %ax, %ds
    mov $1, %bx
    lock xadd %bx, {STARTED:#x}
    inc %bx
    {others}
    end:
    """


LOOP = "9: jmp 9b\n"
HALT = "9: cli\nhlt\njmp 9b\n"


def exit_with(status: int) -> str:
    return f"mov ${status}, %al\nout %al, $0xf4\n{LOOP}"
