/*
 * programs.S -- 8086 programs, copied to low memory.
 */
#define AT(label)	((label) - v86_start)

	.data
	.code16
	.balign 16
	.globl v86_start, v86_stop
v86_start:
	.irp name, prog_addresses, prog_cli, prog_sti, prog_pushf, prog_popf, prog_int, prog_iret, prog_int3, \
	    prog_hlt, prog_out8, prog_out16, prog_arpl, prog_lar, prog_sldt, prog_str, prog_verr, prog_mov_cr0, \
	    prog_limit, prog_offset32, prog_reflect, prog_service, prog_flags, prog_vme_flags, prog_vme_sti, \
	    prog_vme_int, prog_nop, prog_into, prog_segments, saw_cs, saw_flags, saw_marker, saw_service, \
	    saw_flags2, int3_next
	.globl \name
	.endr

prog_nop:
	nop
	hlt

	/* A segment is its number times 16: seen from segment 0, the marker lies at V86_BASE. */
prog_addresses:
	movw %cs, %ax
	movw %ax, AT(saw_cs)
	xorw %ax, %ax
	movw %ax, %es
	movw $0x4D4D, %es:0x7000 + AT(saw_marker)
	hlt
prog_segments:
	movw $0x1111, %ax
	movw %ax, %ds
	movw $0x2222, %ax
	movw %ax, %es
	movw $0x3333, %ax
	movw %ax, %fs
	movw $0x4444, %ax
	movw %ax, %gs
	hlt

	/* One instruction each. */
prog_cli:
	cli
	hlt
prog_sti:
	sti
	hlt
prog_pushf:
	pushfw
	hlt
prog_popf:
	popfw
	hlt
prog_int:
	int $0x81
	hlt
prog_iret:
	pushw $0x0002
	pushw %cs
	pushw $AT(1f)
	iret
1:	hlt
prog_int3:
	int3
int3_next:
	hlt
prog_into:
	movb $0x7F, %al
	incb %al
	into
	hlt
prog_hlt:
	hlt
prog_out8:
	outb %al, $0x80
	hlt
prog_out16:
	outw %ax, $0x80
	hlt
prog_arpl:
	arpl %ax, %bx
	hlt
prog_lar:
	larw %ax, %bx
	hlt
prog_sldt:
	sldt %ax
	hlt
prog_str:
	str %ax
	hlt
prog_verr:
	verr %ax
	hlt
prog_mov_cr0:
	movl %cr0, %eax
	hlt
prog_limit:
	movw $0xFFFF, %bx
	movw (%bx), %ax
	hlt
prog_offset32:
	movl $0x10000, %ebx
	movb (%ebx), %al
	hlt

	/* PUSHF and POPF as with IOPL 3. */
prog_flags:
	stc
	pushfw
	popw %ax
	movw %ax, AT(saw_flags)
	cli
	pushfw
	popw %ax
	movw %ax, AT(saw_flags2)
	hlt

	/* A program that calls its "BIOS" by INT 60h; the monitor must reflect it. */
prog_reflect:
	movw $1234, %ax
	stc
	int $0x60
	movw %ax, AT(saw_service)
	pushfw
	popw %ax
	movw %ax, AT(saw_flags)
	hlt
prog_service:
	incw %ax
	iret

	/* VME: IF is VIF, and some INTs need no monitor. */
prog_vme_flags:
	cli
	pushfw
	popw %ax
	movw %ax, AT(saw_flags)
	sti
	pushfw
	popw %ax
	movw %ax, AT(saw_flags2)
	hlt
prog_vme_sti:
	sti
	hlt
prog_vme_int:
	movw $1234, %ax
	int $0x60
	movw %ax, AT(saw_service)
	hlt

	.balign 2
saw_cs:		.word 0
saw_flags:	.word 0
saw_flags2:	.word 0
saw_marker:	.word 0
saw_service:	.word 0
v86_stop:

	.code32
	.text
	/* void v86_enter(uint32_t eip, uint32_t eflags): all segments V86_SEGMENT.  Ends by ring_call_end. */
	.globl v86_enter
v86_enter:
	pushl %ebp
	pushl %ebx
	pushl %esi
	pushl %edi
	pushl %fs
	pushl %gs
	pushfl
	movl %esp, ring_saved_esp
	movl %esp, main_tss + 4		/* ESP0 */
	movl 32(%esp), %eax
	movl 36(%esp), %edx
	pushl $0x0700			/* GS FS DS ES */
	pushl $0x0700
	pushl $0x0700
	pushl $0x0700
	pushl $0x0700			/* SS:ESP */
	pushl $0x0FF0
	pushl %edx
	pushl $0x0700			/* CS:EIP */
	pushl %eax
	iret

	.section .note.GNU-stack, "", @progbits
