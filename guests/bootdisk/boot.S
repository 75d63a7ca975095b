/*
 * boot.S -- the disk's first sector, which loads the rest of the program by the EDD's read, and the program's way into
 * firmware.  Firmware starts the sector at 0:7C00h with the disk's number in DL.
 */
#define BOOT		0x7c00
#define PROGRAM		0x8000
#define PROGRAM_SECTOR	1
#define PROGRAM_SECTORS	40
#define PATTERN_SECTOR	64
#define DISK_SECTORS	8064
#define COM1_DATA	0x3f8
#define COM1_LCR	0x3fb
#define EIGHT_BITS	3		/* a character, no parity, one stop bit */

	.code16
	.section .boot, "ax"
	.globl	_start
_start:
	ljmp	$0, $1f
1:	xor	%ax, %ax
	mov	%ax, %ds
	mov	%ax, %es
	mov	%ax, %ss
	mov	$BOOT, %sp
	cld
	sti
	mov	%dl, boot_drive
	mov	$COM1_LCR, %dx
	mov	$EIGHT_BITS, %al
	out	%al, %dx
	mov	boot_drive, %dl
	mov	$packet, %si
	mov	$0x42, %ah
	int	$0x13
	jc	2f
	calll	boot_main
2:	mov	$message, %si
3:	lodsb
	test	%al, %al
	jz	4f
	mov	$COM1_DATA, %dx
	out	%al, %dx
	jmp	3b
4:	mov	$1, %al
	out	%al, $0xf4
	cli
	hlt
message:
	.asciz	"FAIL program_is_loaded: the boot sector's read failed\n"
	.globl	boot_drive
boot_drive:
	.byte	0
	.align	4
packet:
	.byte	16, 0
	.word	PROGRAM_SECTORS, PROGRAM, 0
	.long	PROGRAM_SECTOR, 0
	.org	510
	.word	0xaa55

	.text
/* call_int13(registers): a C function of a program compiled with -m16, so its arguments and return address are 32-bit. */
	.globl	call_int13
call_int13:
	pushal
	push	%ds
	push	%es
	mov	40(%esp), %eax			/* 32 of PUSHAL, 4 of the segments, 4 of the return address */
	mov	%eax, block
	mov	%eax, %ebp
	mov	32(%ebp), %ax
	push	%ax
	mov	28(%ebp), %ax
	mov	%ax, %es
	mov	0(%ebp), %eax
	mov	4(%ebp), %ebx
	mov	8(%ebp), %ecx
	mov	12(%ebp), %edx
	mov	16(%ebp), %esi
	mov	20(%ebp), %edi
	mov	24(%ebp), %ebp
	add	$2, %sp
	int	$0x13
	pushfw
	push	%ds
	push	%es
	push	%ebp
	xor	%bp, %bp
	mov	%bp, %ds
	mov	block, %ebp
	mov	%eax, 0(%ebp)
	mov	%ebx, 4(%ebp)
	mov	%ecx, 8(%ebp)
	mov	%edx, 12(%ebp)
	mov	%esi, 16(%ebp)
	mov	%edi, 20(%ebp)
	popl	%eax
	mov	%eax, 24(%ebp)
	popw	28(%ebp)
	popw	30(%ebp)
	popw	32(%ebp)
	cld
	pop	%es
	pop	%ds
	popal
	retl
block:
	.long	0

/* peek(address): a doubleword anywhere below 1 MiB. */
	.globl	peek
peek:
	push	%fs
	push	%ebx
	mov	10(%esp), %eax
	mov	%eax, %ebx
	and	$15, %bx
	shr	$4, %eax
	mov	%ax, %fs
	mov	%fs:(%bx), %eax
	pop	%ebx
	pop	%fs
	retl

	.section .pattern, "a"
	.set	number, PATTERN_SECTOR
	.rept	DISK_SECTORS - PATTERN_SECTOR
	.long	number
	.skip	508
	.set	number, number + 1
	.endr
