"""A firmware of 64 KiB that answers one-letter commands on COM1: a machine's whole life without an operating system.

It says what happens to it, a line each: "ready" after a reset, "K1e" for a scan code, "button" for the power button, by
which it switches the machine off. Commands:

    e  "E"                                    c  "C" and the error register after TEST UNIT READY of the CD-ROM drive
    w  "W" and how often this was asked       d  "D" and the disc's first six characters
    r  resets the machine by CF9              l, u  forbid and allow the disc's removal: "L", "U"
    p  switches it off by ACPI                x  makes a triple fault
    h  halts for good                         q  ends with status 5 by the exit port
    s  goes round and round, deaf to everything
"""

from __future__ import annotations

import subprocess
from pathlib import Path

BYTES = 64 << 10

SOURCE = r"""
.code16
.globl _start
_start:
    cli
    cld
    xor %ax, %ax
    mov %ax, %ds
    mov %ax, %es
    mov %ax, %ss
    mov $0x7000, %sp
    mov %ax, 0x502
    mov $0x80003b40, %eax           # PM base 1000h
    mov $0x1001, %ecx
    call pci
    mov $0x80003b80, %eax           # PMIOSE
    mov $1, %ecx
    call pci
    mov $0x80003940, %eax           # both IDE channels
    mov $0x80008000, %ecx
    call pci
    mov $0x80003904, %eax
    mov $1, %ecx
    call pci
    movw $tick, 8 * 4               # the timer through the master 8259, 18.2 Hz would be slow: 100 Hz
    mov %cs, 8 * 4 + 2
    mov $0x11, %al
    out %al, $0x20
    mov $8, %al
    out %al, $0x21
    mov $4, %al
    out %al, $0x21
    mov $1, %al
    out %al, $0x21
    mov $0xfe, %al
    out %al, $0x21
    mov $0x34, %al
    out %al, $0x43
    mov $0x9b, %al
    out %al, $0x40
    mov $0x2e, %al
    out %al, $0x40
    mov $0x3fb, %dx
    mov $3, %al
    out %al, (%dx)
    mov $0x3fa, %dx                 # the FIFO is emptied before anyone is told that we listen
    mov $1, %al
    out %al, (%dx)
    mov $0x3fc, %dx
    mov $3, %al
    out %al, (%dx)
    mov $0xaa, %al                  # keyboard controller: self-test, translate, scan
    out %al, $0x64
    call from_keyboard
    mov $0x60, %al
    out %al, $0x64
    mov $0x60, %al
    out %al, $0x60
    mov $0xf4, %al
    out %al, $0x60
    call from_keyboard
    mov $0x1002, %dx                # PWRBTN_EN
    mov $0x100, %ax
    out %ax, (%dx)
    mov $ready, %si
    call print

idle:
    sti
    hlt
    cli
again:
    mov $0x3fd, %dx
    in (%dx), %al
    test $1, %al
    jz 2f
    mov $0x3f8, %dx
    in (%dx), %al
    call command
    jmp again
2:  in $0x64, %al
    test $1, %al
    jz 3f
    in $0x60, %al
    push %ax
    mov $'K', %al
    call putc
    pop %ax
    call hex
    call newline
    jmp again
3:  mov $0x1000, %dx
    in (%dx), %ax
    test $1, %ah
    jz idle
    mov $0x100, %ax
    out %ax, (%dx)
    mov $button, %si
    call print
    jmp off

command:
    mov $commands, %si
1:  mov %cs:(%si), %ah
    test %ah, %ah
    jz 2f
    cmp %ah, %al
    je 3f
    add $3, %si
    jmp 1b
2:  ret
3:  jmp *%cs:1(%si)

echo:
    mov $'E', %al
    call putc
    jmp newline
count:
    mov $'W', %al
    call putc
    incw 0x502
    mov 0x502, %al
    call hex
    jmp newline
reset:
    mov $0xcf9, %dx
    mov $6, %al
    out %al, (%dx)
    jmp .
off:
    mov $0x1004, %dx
    mov $0x2000, %ax
    out %ax, (%dx)
    jmp .
fault:
    lidt %cs:nothing
    int3
halt:
    hlt
    jmp halt
spin:
    jmp spin
quit:
    mov $5, %al
    out %al, $0xf4
    jmp .
unit_ready:
    mov $0, %al
    call packet
    mov $'C', %al
    call putc
    mov $0x171, %dx
    in (%dx), %al
    call hex
    jmp newline
lock:
    movb $1, 0x604
    mov $'L', %bl
    jmp 1f
unlock:
    movb $0, 0x604
    mov $'U', %bl
1:  mov $0x1e, %al
    call packet_with
    mov %bl, %al
    call putc
    jmp newline
first:
    mov $0x28, %al
    movb $1, 0x608
    movb $0, 0x604
    call packet_with
    mov $'D', %al
    call putc
    mov $0x177, %dx
    in (%dx), %al
    test $8, %al
    jz newline
    mov $0x170, %dx
    mov $0x2000, %di
    mov $1024, %cx
    rep insw
    mov $0x2000, %si
    mov $6, %cx
1:  lodsb
    call putc
    loop 1b
    jmp newline

packet:                             # al: the command, the rest 0
    movl $0, 0x604
    movl $0, 0x608
packet_with:
    movl $0, 0x600
    mov %al, 0x600
    mov $0x176, %dx
    mov $0xa0, %al
    out %al, (%dx)
    mov $0x171, %dx
    mov $0, %al
    out %al, (%dx)
    mov $0x174, %dx
    out %al, (%dx)
    inc %dx
    mov $8, %al
    out %al, (%dx)
    mov $0x177, %dx
    mov $0xa0, %al
    out %al, (%dx)
    call not_busy
    mov $0x170, %dx
    mov $0x600, %si
    mov $6, %cx
    rep outsw
    call not_busy
    movl $0, 0x604
    movl $0, 0x608
    ret
not_busy:
    mov $0x177, %dx
1:  in (%dx), %al
    test $0x80, %al
    jnz 1b
    ret

pci:
    mov $0xcf8, %dx
    out %eax, (%dx)
    mov %ecx, %eax
    mov $0xcfc, %dx
    out %eax, (%dx)
    ret
from_keyboard:
    in $0x64, %al
    test $1, %al
    jz from_keyboard
    in $0x60, %al
    ret
print:                              # from cs:si
1:  mov %cs:(%si), %al
    inc %si
    test %al, %al
    jz 2f
    call putc
    jmp 1b
2:  ret
hex:
    push %ax
    shr $4, %al
    call 1f
    pop %ax
1:  and $15, %al
    cmp $10, %al
    jb 2f
    add $'a' - '0' - 10, %al
2:  add $'0', %al
putc:
    push %dx
    push %ax
    mov $0x3fd, %dx
1:  in (%dx), %al
    test $0x20, %al
    jz 1b
    pop %ax
    mov $0x3f8, %dx
    out %al, (%dx)
    pop %dx
    ret
newline:
    mov $'\n', %al
    jmp putc
tick:
    push %ax
    mov $0x20, %al
    out %al, $0x20
    pop %ax
    iret

commands:
    .byte 'e'; .word echo
    .byte 'w'; .word count
    .byte 'r'; .word reset
    .byte 'p'; .word off
    .byte 'x'; .word fault
    .byte 'h'; .word halt
    .byte 'q'; .word quit
    .byte 's'; .word spin
    .byte 'c'; .word unit_ready
    .byte 'l'; .word lock
    .byte 'u'; .word unlock
    .byte 'd'; .word first
    .byte 0
nothing: .word 0
    .long 0
ready: .asciz "ready\n"
button: .asciz "button\n"

.org 0xfff0
    ljmp $0xf000, $_start
.org 0xffff
    .byte 0
"""


def make(path: Path) -> Path:
    """The image as a file."""
    command = ["gcc", "-m32", "-nostdlib", "-static", "-no-pie", "-Wl,--build-id=none,-z,noexecstack,-Ttext=0"]
    command += ["-Wl,--oformat=binary,--no-warn-rwx-segments", "-x", "assembler", "-", "-o", str(path)]
    subprocess.run(command, input=SOURCE, text=True, check=True, capture_output=True)
    assert path.stat().st_size == BYTES
    return path
