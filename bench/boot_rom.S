/*
 * boot_rom.S -- the last 4 KiB of a firmware image that does nothing but start one multiboot program.
 *
 * A PC without a loader for programs (Bochs) gets this as its BIOS.  From the reset vector it goes to flat 32-bit
 * protected mode, copies the pieces that lie further down in the ROM to where they belong, and enters the program as
 * Multiboot 1 section 3.2 says.  No RAM is used before the pieces are there, no device but the A20 gate is touched.
 *
 * The block is position dependent and made without a linker: every address is an offset from `block`, which lies at
 * FFFFF000h.  boot_rom.py fills in the four parameters at its start.
 */
	.set BLOCK, 0xFFFFF000
	.set SEGMENT, 0xF000		/* of `block` in the 64 KiB that CS reaches after a reset */
	.set MAGIC, 0x2BADB002
	.set PORT_A, 0x92		/* bit 1: the A20 gate */

	.text
block:
parameters:
pieces:	.long 0				/* linear address of the table: from, to, length, size with zeroes */
count:	.long 0
entry:	.long 0
info:	.long 0				/* what EBX points to */

	.balign 8
gdt:	.quad 0
	.quad 0x00CF9B000000FFFF	/* 08: flat code */
	.quad 0x00CF93000000FFFF	/* 10: flat data */
gdt_register:
	.word gdt_register - gdt - 1
	.long gdt - block + BLOCK

	.code16
real:	cli
	cld
	lgdtl %cs:(gdt_register - block + SEGMENT)
	movl %cr0, %eax
	orb $1, %al
	movl %eax, %cr0
	ljmpl $0x08, $(flat - block + BLOCK)

	.code32
flat:	movl $0x10, %eax
	movl %eax, %ds
	movl %eax, %es
	movl %eax, %fs
	movl %eax, %gs
	movl %eax, %ss
	inb $PORT_A, %al
	orb $2, %al
	outb %al, $PORT_A
	movl pieces - block + BLOCK, %ebx
	movl count - block + BLOCK, %ebp
1:	movl 0(%ebx), %esi
	movl 4(%ebx), %edi
	movl 8(%ebx), %ecx
	movl 12(%ebx), %edx
	subl %ecx, %edx
	rep movsb
	movl %edx, %ecx
	xorl %eax, %eax
	rep stosb
	addl $16, %ebx
	decl %ebp
	jnz 1b
	movl $MAGIC, %eax
	movl info - block + BLOCK, %ebx
	jmp *(entry - block + BLOCK)

	.org 0xFF0
	.code16
reset:	jmp real
	.org 0x1000

	.section .note.GNU-stack, "", @progbits
