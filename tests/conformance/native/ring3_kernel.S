/*
 * ring3_kernel.S -- the ring 0 of the programs that ring3.py makes.
 *
 * Every exception is written into a log; then the program is resumed: at the same place once the page is mended or the
 * FPU handed over, behind a trap, or else at the next piece of the program with its segments and stack as in the
 * beginning.  Linked as a raw image at KERNEL + 5000h; the words at its head say where ring3_machine.py finds what.
 */
#define KERNEL		0xC0000000
#define PARAMETERS	(KERNEL + 0x7000)
#define LOG		(KERNEL + 0x8000)
#define STACK_TOP	(KERNEL + 0xC000)
#define KERNEL_DS	0x68
#define USER_CS		0x73
#define USER_DS		0x7B

/* Parameters: the frame that the program starts with, then words, then two tables. */
#define START_GS	(PARAMETERS + 0x00)
#define START_FS	(PARAMETERS + 0x04)
#define START_ES	(PARAMETERS + 0x08)
#define START_DS	(PARAMETERS + 0x0C)
#define START_CS	(PARAMETERS + 0x34)
#define START_EFLAGS	(PARAMETERS + 0x38)
#define START_ESP	(PARAMETERS + 0x3C)
#define START_SS	(PARAMETERS + 0x40)
#define EIP_BIAS	(PARAMETERS + 0x50)	/* added to an EIP below CODE_BYTES: a code segment with a base */
#define PIECES		(PARAMETERS + 0x54)
#define CURRENT		(PARAMETERS + 0x58)	/* the piece that was resumed last */
#define LOG_COUNT	(PARAMETERS + 0x5C)
#define MENDS		(PARAMETERS + 0x60)
#define PIECE_TABLE	(PARAMETERS + 0x80)	/* first and end address */
#define MEND_TABLE	(PARAMETERS + 0x480)	/* linear page, address of its PTE, bits to set */
#define LOG_ENTRY	68
#define LOG_MAX		100
#define CODE_BYTES	0x8000

/* The interrupted state, from EBP. */
#define F_GS		0
#define F_FS		4
#define F_ES		8
#define F_DS		12
#define F_EDI		16
#define F_EAX		44
#define F_VECTOR	48
#define F_ERROR		52
#define F_EIP		56
#define F_CS		60
#define F_EFLAGS	64
#define F_ESP		68
#define F_SS		72

#define ENDED_BY_KERNEL	0xF5
#define KERNEL_FAULTED	0xF6
#define ARITHMETIC	0x8D5
#define KEPT_FLAGS	0x3202		/* IOPL, IF */
#define CR0_TS		8
#define VEC_DB		1
#define VEC_BP		3
#define VEC_OF		4
#define VEC_NM		7
#define VEC_PF		14
#define VEC_MF		16
#define VEC_XM		19
#define VEC_CALL	0x80		/* EAX 1: reload CR3; 2: set TS; else nothing */
#define VEC_SYSENTER	0x82
#define CALL_FLUSH	1
#define CALL_TS		2
#define PIC		0x20
#define EOI		0x20

	.text
	.globl _start
_start:
	.long launch, boot, sysenter_entry, timer, stubs

	/* Once: the 8259 pair at 20h and 28h, IRQ 0 alone; counter 0 of the 8254 as a rate generator. */
boot:
	movb $0x11, %al
	outb %al, $0x20
	outb %al, $0xA0
	movb $0x20, %al
	outb %al, $0x21
	movb $0x28, %al
	outb %al, $0xA1
	movb $4, %al
	outb %al, $0x21
	movb $2, %al
	outb %al, $0xA1
	movb $1, %al
	outb %al, $0x21
	outb %al, $0xA1
	movb $0xFE, %al
	outb %al, $0x21
	movb $0xFF, %al
	outb %al, $0xA1
	movb $0x34, %al
	outb %al, $0x43
	movb $0x00, %al		/* 256: 4661 interrupts in a second */
	outb %al, $0x40
	movb $0x01, %al
	outb %al, $0x40
	outb %al, $ENDED_BY_KERNEL
	hlt

	/* ESP is at the parameters. */
launch:
	popl %gs
	popl %fs
	popl %es
	popl %ds
	popal
	iret

	/* The program does not notice it; the translations are gone. */
timer:
	pushl %eax
	movb $EOI, %al
	outb %al, $PIC
	movl %cr3, %eax
	movl %eax, %cr3
	popl %eax
	iret

	/* The convention of this kernel: EDX and ECX are EIP and ESP to return to. */
sysenter_entry:
	pushl $USER_DS
	pushl %ecx
	pushfl
	orl $0x200, (%esp)
	pushl $USER_CS
	pushl %edx
	pushl $0
	pushl $VEC_SYSENTER
	jmp common

	.balign 16
stubs:
	vector = 0
	.rept 0x82
	.balign 16
	.if !(vector == 8 || (vector >= 10 && vector <= 14) || vector == 17)
	pushl $0
	.endif
	pushl $vector
	jmp common
	vector = vector + 1
	.endr

common:
	pushal
	pushl %ds
	pushl %es
	pushl %fs
	pushl %gs
	movl $KERNEL_DS, %eax
	movl %eax, %ds
	movl %eax, %es
	cld
	movl %esp, %ebp
	movl F_VECTOR(%ebp), %ebx
	testb $3, F_CS(%ebp)
	jz kernel_faulted
	call write_log
	cmpl $LOG_MAX, LOG_COUNT
	jae finish
	cmpl $VEC_PF, %ebx
	je page_fault
	cmpl $VEC_DB, %ebx
	je resume
	cmpl $VEC_BP, %ebx
	je resume
	cmpl $VEC_OF, %ebx
	je resume
	cmpl $VEC_NM, %ebx
	je hand_over_fpu
	cmpl $VEC_MF, %ebx
	je clear_x87
	cmpl $VEC_XM, %ebx
	je clear_sse
	cmpl $VEC_CALL, %ebx
	je kernel_call
	cmpl $VEC_SYSENTER, %ebx
	je resume_by_sysexit

	/* On to the piece after the one that EIP is in, or after the one that was resumed last. */
skip:
	movl F_EIP(%ebp), %eax
	cmpl $CODE_BYTES, %eax
	jae 1f
	addl EIP_BIAS, %eax
1:	xorl %ecx, %ecx
	movl CURRENT, %edx
2:	cmpl PIECES, %ecx
	jae 4f
	cmpl PIECE_TABLE(,%ecx,8), %eax
	jb 3f
	cmpl PIECE_TABLE+4(,%ecx,8), %eax
	jae 3f
	cmpl %edx, %ecx
	jbe 4f
	movl %ecx, %edx
	jmp 4f
3:	incl %ecx
	jmp 2b
4:	incl %edx
	movl %edx, CURRENT
	cmpl PIECES, %edx
	jae finish
	movl PIECE_TABLE(,%edx,8), %eax
	movl %eax, F_EIP(%ebp)
	movl START_CS, %eax
	movl %eax, F_CS(%ebp)
	movl START_EFLAGS, %eax
	andl $KEPT_FLAGS, %eax
	orl $2, %eax
	movl %eax, F_EFLAGS(%ebp)
	movl START_ESP, %eax
	movl %eax, F_ESP(%ebp)
	movl START_SS, %eax
	movl %eax, F_SS(%ebp)
	movl START_GS, %eax
	movl %eax, F_GS(%ebp)
	movl START_FS, %eax
	movl %eax, F_FS(%ebp)
	movl START_ES, %eax
	movl %eax, F_ES(%ebp)
	movl START_DS, %eax
	movl %eax, F_DS(%ebp)
resume:
	popl %gs
	popl %fs
	popl %es
	popl %ds
	popal
	addl $8, %esp
	iret

resume_by_sysexit:
	popl %gs
	popl %fs
	popl %es
	popl %ds
	popal
	sti
	sysexit

page_fault:
	movl %cr2, %eax
	andl $0xFFFFF000, %eax
	movl $MEND_TABLE, %esi
	movl MENDS, %ecx
	testl %ecx, %ecx
	jz skip
1:	cmpl %eax, (%esi)
	je 2f
	addl $12, %esi
	decl %ecx
	jnz 1b
	jmp skip
2:	movl $1, (%esi)		/* once: no page begins there */
	movl 4(%esi), %edi
	movl 8(%esi), %edx
	orl %edx, (%edi)
	invlpg (%eax)
	jmp resume

hand_over_fpu:
	clts
	jmp resume

clear_x87:
	fnclex
	jmp skip

clear_sse:
	ldmxcsr mxcsr_after_reset
	jmp skip

kernel_call:
	movl F_EAX(%ebp), %eax
	cmpl $CALL_TS, %eax
	je 1f
	cmpl $CALL_FLUSH, %eax
	jne resume
	movl %cr3, %eax
	movl %eax, %cr3
	jmp resume
1:	movl %cr0, %eax
	orl $CR0_TS, %eax
	movl %eax, %cr0
	jmp resume

finish:
	outb %al, $ENDED_BY_KERNEL
	hlt

kernel_faulted:
	movl %cr2, %ecx
	movl F_EIP(%ebp), %edx
	movb %bl, %al
	outb %al, $KERNEL_FAULTED
	hlt

	/* vector error cr2 eip cs eflags esp ss eax ecx edx ebx ebp esi edi es:ds fs:gs */
write_log:
	imull $LOG_ENTRY, LOG_COUNT, %edi
	addl $LOG, %edi
	incl LOG_COUNT
	movl %ebx, %eax
	stosl
	movl F_ERROR(%ebp), %eax
	stosl
	xorl %eax, %eax
	cmpl $VEC_PF, %ebx
	jne 1f
	movl %cr2, %eax
1:	stosl
	leal F_EIP(%ebp), %esi
	movsl
	lodsl
	movzwl %ax, %eax
	stosl
	movsl
	movsl
	lodsl
	movzwl %ax, %eax
	stosl
	movl F_EAX(%ebp), %eax
	stosl
	movl F_EAX-4(%ebp), %eax
	stosl
	movl F_EAX-8(%ebp), %eax
	stosl
	movl F_EAX-12(%ebp), %eax
	stosl
	movl F_EDI+8(%ebp), %eax
	stosl
	movl F_EDI+4(%ebp), %eax
	stosl
	movl F_EDI(%ebp), %eax
	stosl
	movl F_ES(%ebp), %eax
	shll $16, %eax
	movw F_DS(%ebp), %ax
	stosl
	movl F_FS(%ebp), %eax
	shll $16, %eax
	movw F_GS(%ebp), %ax
	stosl
	ret

mxcsr_after_reset:
	.long 0x1F80

	.section .note.GNU-stack, "", @progbits
