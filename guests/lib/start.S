/*
 * start.S -- the multiboot header and the first instructions.
 *
 * The loader enters with EAX = 2BADB002h, EBX = the multiboot information, flat 32-bit segments whose selectors mean
 * nothing once our own GDT is loaded, paging and interrupts off, and no usable stack.  [Multiboot 1, section 3.2]
 */
#define MULTIBOOT_MAGIC	0x1BADB002
#define MULTIBOOT_FLAGS	0x00000003	/* modules page aligned, memory sizes wanted */
#define STACK_SIZE	32768

	.section .multiboot, "a"
	.align 4
	.long MULTIBOOT_MAGIC
	.long MULTIBOOT_FLAGS
	.long -(MULTIBOOT_MAGIC + MULTIBOOT_FLAGS)

	.text
	.globl _start
_start:
	movl $boot_stack_top, %esp
	xorl %ebp, %ebp			/* the end of every back-trace */
	pushl $0
	popfl
	cld
	pushl %ebx
	pushl %eax
	call guest_start
0:	cli
	hlt
	jmp 0b
	.size _start, . - _start

	.bss
	.align 4096
	.globl boot_stack, boot_stack_top
boot_stack:
	.skip STACK_SIZE
boot_stack_top:

	.section .note.GNU-stack, "", @progbits
