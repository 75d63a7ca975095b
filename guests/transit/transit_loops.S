/*
 * transit_loops.S -- a stretch of user code, then one crossing; again and again.
 */
	.set PAGE, 4096
	.set ABSENT, 0x40000000		/* main.c maps nothing there */
	.set WORKING_SET, 0x60000000	/* WORKING_PAGES pages in both address spaces */
	.set WORKING_PAGES, 16
	.set CORE_PORT, 0x80
	.set DEVICE_PORT, 0x3FD		/* line status of COM1 */
	.set VEC_EXCHANGE, 0x82

	.macro crossing name, body
	.globl \name
\name:
	pushl %ebx
	movl 8(%esp), %ebx
1:	movl transit_turns, %ecx
2:	leal 17(%eax, %ecx, 2), %eax
	xorl %eax, transit_scratch
	addl transit_scratch, %eax
	decl %ecx
	jnz 2b
	\body
	decl %ebx
	jnz 1b
	popl %ebx
	ret
	.endm

	.macro touch_working_set
	int $VEC_EXCHANGE
	.set offset, 0
	.rept WORKING_PAGES
	movl WORKING_SET + offset, %eax
	.set offset, offset + PAGE
	.endr
	.endm

/*
 * Pages of their own: a monitor that runs user code directly looks through its pages for instructions that the host
 * would answer in the guest's place, and in one with an IRET or, on some hosts, a SYSENTER it runs nothing.  RDTSC may
 * trap only while it is at work, which makes other crossings dearer.
 */
	.text
	.balign PAGE
	crossing loop_syscall_sysenter, "movl %esp, %ecx; movl $3f, %edx; sysenter; 3:"
	.balign PAGE
	crossing loop_stretch
	crossing loop_syscall_int, "int $0x80"
	crossing loop_refused, "hlt"
	crossing loop_pgfault, "movl $ABSENT, %edx; movl (%edx), %eax"
	crossing loop_core_port, "inb $CORE_PORT, %al"
	crossing loop_device_port, "movw $DEVICE_PORT, %dx; inb %dx, %al"
	crossing loop_fresh, "movl transit_next_page, %edx; movl (%edx), %eax; addl $PAGE, transit_next_page"
	crossing loop_switch, touch_working_set
	.balign PAGE
	crossing loop_rdtsc, "rdtsc"
	.balign PAGE

	.globl step_over_gp, step_over_pf, exchange_space
step_over_gp:				/* HLT is one byte long */
	addl $4, %esp			/* the error code */
	incl transit_faults
	incl (%esp)
	iret
step_over_pf:				/* the load is two */
	addl $4, %esp
	incl transit_faults
	addl $2, (%esp)
	iret
exchange_space:
	pushl %eax
	movl %cr3, %eax
	xorl transit_spaces, %eax
	movl %eax, %cr3
	popl %eax
	iret

	.bss
	.balign 4
	.globl transit_turns, transit_faults, transit_next_page, transit_spaces
transit_scratch:
	.long 0
transit_turns:
	.long 0
transit_faults:
	.long 0
transit_next_page:
	.long 0
transit_spaces:
	.long 0

	.section .note.GNU-stack, "", @progbits
