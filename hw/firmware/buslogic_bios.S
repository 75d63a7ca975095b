/*
 * buslogic_bios.S -- an option ROM: INT 13h for the disks on a BusLogic MultiMaster adapter.
 *
 * Firmware calls `init` with the adapter's bus, device and function in AX, and `boot_connection` when the adapter's disks
 * get their numbers.  `init` takes a block of memory for good, by the POST Memory Manager, resets the adapter, gives it
 * one mailbox each way, and looks for disks.  Commands are polled; the adapter's interrupt is off.
 *
 * Served: 00 01 02 03 04 08 09 0C 0D 10 11 14 15, 41 42 43 44 47 48 (EDD, the fixed disk access subset).
 * Disks have 512-byte sectors, LUN 0, and at most 2^32 of them are seen.
 * Not served: removable media, booting when an operating system's driver has taken the adapter.
 * [BusLogic MultiMaster technical reference manual; Plug and Play BIOS specification 1.0A; POST Memory Manager
 *  specification 1.01; Enhanced Disk Drive specification 1.1; PCI firmware specification]
 */

	.equ	BLOCKS, 4			/* of 512 bytes, the ROM's size */

	.equ	PCI_ADDRESS, 0xcf8
	.equ	PCI_DATA, 0xcfc
	.equ	PCI_COMMAND, 0x04
	.equ	IO_AND_MASTER, 0x05
	.equ	PCI_BAR0, 0x10

	.equ	REG_STATUS, 0
	.equ	REG_COMMAND, 1
	.equ	REG_INTERRUPT, 2
	.equ	HARD_RESET, 0x80
	.equ	RESET_INTERRUPT, 0x20
	.equ	DACT, 0x80
	.equ	INREQ, 0x20
	.equ	HARDY, 0x10
	.equ	INTV, 0x80
	.equ	EXECUTE_MAILBOX, 0x02
	.equ	INTERRUPT_ENABLE, 0x25
	.equ	INIT_EXTENDED_MAILBOX, 0x81
	.equ	START_ACTION, 1
	.equ	INITIATOR_CCB_RESIDUAL, 3
	.equ	DIRECTION_IN, 0x08
	.equ	DIRECTION_OUT, 0x10
	.equ	DIRECTION_NONE, 0x18
	.equ	HOST_ID, 7
	.equ	TARGETS, 16
	.equ	POLLS, 0x2000000		/* each is an access to a port */

	.equ	TEST_UNIT_READY, 0x00
	.equ	INQUIRY, 0x12
	.equ	READ_CAPACITY, 0x25
	.equ	READ_10, 0x28
	.equ	WRITE_10, 0x2a
	.equ	VERIFY_10, 0x2f
	.equ	CHECK_CONDITION, 2
	.equ	MEDIUM_ERROR, 3
	.equ	ILLEGAL_REQUEST, 5
	.equ	UNIT_ATTENTION, 6
	.equ	DATA_PROTECT, 7
	.equ	TRIES, 4

	.equ	DONE, 0x00			/* INT 13h status */
	.equ	BAD_COMMAND, 0x01
	.equ	WRITE_PROTECTED, 0x03
	.equ	SECTOR_NOT_FOUND, 0x04
	.equ	DATA_ERROR, 0x10
	.equ	CONTROLLER_FAILURE, 0x20
	.equ	TIMED_OUT, 0x80

	.equ	VECTOR_13, 0x13 * 4
	.equ	BDA_STATUS, 0x474
	.equ	BDA_DISKS, 0x475
	.equ	DISKS_MAX, 8
	.equ	CHS_COUNT_MAX, 127

/* The block of memory, by offsets. */
	.equ	OUTGOING, 0x00			/* a mailbox: address of the CCB, reserved, code */
	.equ	OUT_CODE, 0x07
	.equ	INCOMING, 0x08
	.equ	IN_CODE, 0x0f
	.equ	CCB, 0x10
	.equ	CCB_CONTROL, CCB + 0x01
	.equ	CCB_CDB_BYTES, CCB + 0x02
	.equ	CCB_SENSE_BYTES, CCB + 0x03
	.equ	CCB_LENGTH, CCB + 0x04
	.equ	CCB_DATA, CCB + 0x08
	.equ	CCB_HOST, CCB + 0x0e
	.equ	CCB_DEVICE, CCB + 0x0f
	.equ	CCB_TARGET, CCB + 0x10
	.equ	CCB_CDB, CCB + 0x12
	.equ	CCB_SENSE, CCB + 0x24
	.equ	SENSE, CCB + 0x28
	.equ	SENSE_LENGTH, 18
	.equ	CCB_BYTES, SENSE + SENSE_LENGTH - CCB
	.equ	BUFFER, 0x50
	.equ	BUFFER_BYTES, 36
	.equ	IO_BASE, 0x80
	.equ	COUNT, 0x82			/* of disks */
	.equ	BASE, 0x88			/* this block's physical address */
	.equ	LBA, 0x8c
	.equ	SECTORS, 0x90			/* of the request */
	.equ	DISKS, 0x98
	.equ	DISK_SECTORS, 0			/* of each disk */
	.equ	DISK_HEADS, 4
	.equ	DISK_TRACK, 5			/* sectors of a track */
	.equ	DISK_TARGET, 6
	.equ	DISK_BYTES, 8
	.equ	PARAGRAPHS, 16

/* The caller's registers, from BP on. */
	.equ	AT_SI, 4
	.equ	AT_BX, 16
	.equ	AT_DL, 20
	.equ	AT_DX, 20
	.equ	AT_DH, 21
	.equ	AT_CL, 24
	.equ	AT_CX, 24
	.equ	AT_CH, 25
	.equ	AT_AL, 28
	.equ	AT_AH, 29
	.equ	AT_ES, 32
	.equ	AT_DS, 34
	.equ	AT_FLAGS, 40
	.equ	CARRY, 1

	.code16
	.globl	_start
_start:
	.byte	0x55, 0xaa, BLOCKS
	jmp	init
	.org	0x18
	.word	pci_data, expansion_header
pci_data:
	.ascii	"PCIR"
	.word	0x104b, 0x1040, 0, 0x18
	.byte	0, 0x00, 0x00, 0x01		/* revision, class code: SCSI */
	.word	BLOCKS, 1
	.byte	0, 0x80				/* for PCs; the last image */
	.word	0
	.align	16
expansion_header:
	.ascii	"$PnP"
	.byte	1, 2				/* revision, length in 16 bytes */
	.word	0
	.byte	0
	.byte	0				/* checksum, by whoever finishes the image */
	.long	0
	.word	maker, product
	.byte	0, 0, 1				/* device type: SCSI */
	.byte	0x24				/* read cacheable, may be a boot device */
	.word	boot_connection, 0, 0, 0, 0

maker:	.asciz	"Ringfence"
product: .asciz	"SCSI disks (BusLogic)"

/* Written while firmware still lets us. */
data_segment:
	.word	0
first_disk:
	.byte	0xff				/* numbers from this one on, up to the next, are ours */
next_disk:
	.byte	0
old_13:
	.long	0

/* AX: bus, device and function.  Returns AX: what we found, as the Plug and Play specification has it. */
init:
	pushal
	push	%ds
	push	%es
	cld
	movzwl	%ax, %edi
	shl	$8, %edi
	or	$0x80000000, %edi
	call	allocate
	jc	1f
	mov	%ax, %cs:data_segment
	mov	%ax, %ds
	mov	%ax, %es
	movzwl	%ax, %eax
	shl	$4, %eax
	push	%edi
	xor	%di, %di
	mov	$PARAGRAPHS * 8, %cx
	push	%eax
	xor	%ax, %ax
	rep stosw
	pop	%eax
	pop	%edi
	mov	%eax, BASE
	call	find_ports
	call	start_adapter
	jc	1f
	call	find_disks
1:	call	mend
	pop	%es
	pop	%ds
	popal
	mov	$0x0020, %ax			/* an IPL device is attached */
	lret

/* The image adds up to 0 again after what was written into it: firmware looks. */
mend:
	xor	%bx, %bx
	xor	%al, %al
1:	add	%cs:(%bx), %al
	inc	%bx
	cmp	$BLOCKS * 512, %bx
	jb	1b
	sub	%al, %cs:checksum
	ret

/* Memory for good, below 1 MiB.  Returns its segment in AX, or CF. */
allocate:
	mov	$0xf000, %ax
	mov	%ax, %es
	xor	%bx, %bx
1:	cmpl	$0x4d4d5024, %es:(%bx)		/* $PMM */
	je	2f
	add	$16, %bx
	jnz	1b
	stc
	ret
2:	pushw	$0x0009				/* conventional, permanent */
	pushl	$-1				/* no handle */
	pushl	$PARAGRAPHS
	pushw	$0				/* allocate */
	lcallw	*%es:7(%bx)
	add	$12, %sp
	shl	$12, %dx			/* DX:AX is its address */
	shr	$4, %ax
	or	%dx, %ax
	jnz	3f
	stc
3:	ret

/* EDI: the adapter's configuration address. */
find_ports:
	lea	PCI_COMMAND(%edi), %eax
	mov	$PCI_ADDRESS, %dx
	out	%eax, %dx
	mov	$PCI_DATA, %dx
	in	%dx, %ax
	or	$IO_AND_MASTER, %ax
	out	%ax, %dx
	lea	PCI_BAR0(%edi), %eax
	mov	$PCI_ADDRESS, %dx
	out	%eax, %dx
	mov	$PCI_DATA, %dx
	in	%dx, %eax
	and	$0xfffc, %ax
	mov	%ax, IO_BASE
	ret

/* CF: it does not answer. */
start_adapter:
	mov	IO_BASE, %dx
	mov	$HARD_RESET, %al
	out	%al, %dx
	mov	$DACT << 8 | DACT, %bx
	call	wait_status
	jc	1f
	mov	$(DACT | HARDY | INREQ) << 8 | HARDY | INREQ, %bx
	call	wait_status
	jc	1f
	mov	$INTERRUPT_ENABLE, %al
	call	send
	xor	%al, %al
	call	send
	call	command_done
	jc	1f
	mov	$INIT_EXTENDED_MAILBOX, %al
	call	send
	mov	$1, %al
	call	send
	mov	BASE, %ebx
	mov	$4, %cx
2:	mov	%bl, %al
	call	send
	shr	$8, %ebx
	loop	2b
	call	command_done
1:	ret

/* A byte for the command register. */
send:
	mov	IO_BASE, %dx
	inc	%dx
	out	%al, %dx
	ret

command_done:
	mov	$HARDY << 8 | HARDY, %bx
	call	wait_status
	pushf
	mov	$RESET_INTERRUPT, %al
	out	%al, %dx
	popf
	ret

/* Until the status register, masked by BH, is BL.  CF: it never was. */
wait_status:
	push	%ecx
	mov	$POLLS, %ecx
	mov	IO_BASE, %dx
1:	in	%dx, %al
	and	%bh, %al
	cmp	%bl, %al
	je	2f
	dec	%ecx
	jnz	1b
	stc
2:	pop	%ecx
	ret

find_disks:
	xor	%bx, %bx			/* BL: target */
	mov	$DISKS, %di
1:	cmp	$HOST_ID, %bl
	je	2f
	mov	%bl, CCB_TARGET
	call	look
	jc	2f
	mov	%bl, DISK_TARGET(%di)
	add	$DISK_BYTES, %di
	incb	COUNT
	cmpb	$DISKS_MAX, COUNT
	je	3f
2:	inc	%bx
	cmp	$TARGETS, %bl
	jb	1b
3:	ret

/* Is the target a disk?  Its size and geometry go to DS:DI; CF: it is none. */
look:
	mov	$INQUIRY, %al
	call	small_command
	movb	$BUFFER_BYTES, CCB_CDB + 4
	movb	$6, CCB_CDB_BYTES
	call	run
	jc	1f
	testb	$0x1f, BUFFER			/* a direct-access device, and connected: qualifier 0 */
	jnz	4f
	testb	$0xe0, BUFFER
	jnz	4f
	testb	$0x80, BUFFER + 1		/* removable */
	jnz	4f
	mov	$TEST_UNIT_READY, %al
	call	small_command
	movb	$6, CCB_CDB_BYTES
	call	run
	mov	$READ_CAPACITY, %al
	call	small_command
	call	run
	jc	1f
	cmpl	$0x00020000, BUFFER + 4		/* blocks of 512 bytes, big-endian */
	jne	4f
	mov	BUFFER, %eax
	bswap	%eax
	inc	%eax
	jnz	2f
	dec	%eax
2:	mov	%eax, DISK_SECTORS(%di)
	mov	$64 | 32 << 8, %dx		/* heads, sectors of a track */
	cmp	$1 << 21, %eax			/* 1 GiB */
	jbe	3f
	mov	$128 | 32 << 8, %dx
	cmp	$1 << 22, %eax
	jbe	3f
	mov	$255 | 63 << 8, %dx
3:	mov	%dx, DISK_HEADS(%di)
	clc
1:	ret
4:	stc
	ret

/* AL: a command of 10 bytes that reads into BUFFER. */
small_command:
	mov	BASE, %edx
	add	$BUFFER, %edx
	mov	$BUFFER_BYTES, %ecx
	mov	$DIRECTION_IN, %ah

/* AL: a command of 10 bytes; AH: direction; EDX, ECX: its data. */
new_command:
	push	%di
	push	%ax
	push	%cx
	mov	%ds, %ax
	mov	%ax, %es
	xor	%ax, %ax
	mov	$CCB_CDB, %di
	mov	$6, %cx
	rep stosw
	pop	%cx
	pop	%ax
	pop	%di
	mov	%al, CCB_CDB
	mov	%ah, CCB_CONTROL
	mov	%edx, CCB_DATA
	mov	%ecx, CCB_LENGTH
	movb	$10, CCB_CDB_BYTES
	ret

/* The command in the CCB.  CF and AH, an INT 13h status, where it has failed. */
run:
	push	%bx
	push	%ecx
	push	%edx
	push	%esi
	mov	$TRIES, %bx
	mov	CCB_LENGTH, %esi
1:	movb	$INITIATOR_CCB_RESIDUAL, CCB
	movb	$SENSE_LENGTH, CCB_SENSE_BYTES
	movw	$0, CCB_HOST			/* and the device's */
	mov	%esi, CCB_LENGTH		/* the residual takes its place */
	mov	BASE, %eax
	add	$SENSE, %eax
	mov	%eax, CCB_SENSE
	sub	$SENSE - CCB, %eax
	mov	%eax, OUTGOING
	movb	$0, IN_CODE
	movb	$START_ACTION, OUT_CODE
	mov	$EXECUTE_MAILBOX, %al
	call	send
	inc	%dx
	mov	$POLLS, %ecx
2:	in	%dx, %al			/* the interrupt register */
	cmpb	$0, IN_CODE
	jne	3f
	dec	%ecx
	jnz	2b
	jmp	9f
3:	mov	IO_BASE, %dx
	mov	$RESET_INTERRUPT, %al
	out	%al, %dx
	mov	CCB_HOST, %ax
	test	%ax, %ax
	jz	8f				/* CF is clear */
	test	%al, %al
	jnz	9f				/* nobody there, or the bus went wrong */
	cmp	$CHECK_CONDITION, %ah
	jne	5f
	mov	SENSE + 2, %al
	and	$0x0f, %al
	cmp	$UNIT_ATTENTION, %al
	jne	4f
	dec	%bx
	jnz	1b
4:	mov	$DATA_ERROR, %ah
	cmp	$MEDIUM_ERROR, %al
	je	7f
	mov	$SECTOR_NOT_FOUND, %ah
	cmp	$ILLEGAL_REQUEST, %al
	je	7f
	mov	$WRITE_PROTECTED, %ah
	cmp	$DATA_PROTECT, %al
	je	7f
5:	mov	$CONTROLLER_FAILURE, %ah
	jmp	7f
9:	mov	$TIMED_OUT, %ah
7:	stc
8:	pop	%esi
	pop	%edx
	pop	%ecx
	pop	%bx
	ret

/* Firmware gives the disks their numbers. */
boot_connection:
	pushal
	push	%ds
	push	%es
	mov	%cs:data_segment, %ax
	test	%ax, %ax
	jz	1f
	mov	%ax, %ds
	cmpb	$0, COUNT
	je	1f
	xor	%ax, %ax
	mov	%ax, %es
	mov	%es:BDA_DISKS, %al
	mov	COUNT, %ah
	add	%al, %ah
	mov	%ah, %es:BDA_DISKS
	or	$0x8080, %ax
	mov	%al, %cs:first_disk
	mov	%ah, %cs:next_disk
	mov	%es:VECTOR_13, %eax
	mov	%eax, %cs:old_13
	movw	$interrupt_13, %es:VECTOR_13
	mov	%cs, %es:VECTOR_13 + 2
	call	mend
1:	pop	%es
	pop	%ds
	popal
	xor	%ax, %ax
	lret

/* INT 13h.  A function returns AH and CF; it finds its disk at DS:DI, and the caller's registers at BP. */
interrupt_13:
	cmp	%cs:first_disk, %dl
	jb	1f
	cmp	%cs:next_disk, %dl
	jb	2f
1:	ljmp	*%cs:old_13
2:	push	%ds
	push	%es
	pushal
	mov	%sp, %bp
	cld
	sti
	mov	%cs:data_segment, %bx
	mov	%bx, %ds
	sub	%cs:first_disk, %dl
	movzbw	%dl, %di
	shl	$3, %di
	add	$DISKS, %di
	mov	DISK_TARGET(%di), %bl
	mov	%bl, CCB_TARGET
	mov	$functions, %si
3:	cmp	%cs:(%si), %ah
	je	4f
	add	$3, %si
	cmp	$functions_end, %si
	jb	3b
	mov	$BAD_COMMAND, %ah
	stc
	jmp	5f
4:	call	*%cs:1(%si)
5:	mov	%ah, AT_AH(%bp)
	mov	$0, %bx				/* CF stays */
	mov	%bx, %ds
	jc	6f
	andb	$~CARRY, AT_FLAGS(%bp)
	movb	$DONE, BDA_STATUS
	jmp	7f
6:	orb	$CARRY, AT_FLAGS(%bp)
	mov	%ah, BDA_STATUS
7:	popal
	pop	%es
	pop	%ds
	iret

functions:
	.byte	0x00; .word	good
	.byte	0x01; .word	last_status
	.byte	0x02; .word	read_chs
	.byte	0x03; .word	write_chs
	.byte	0x04; .word	verify_chs
	.byte	0x08; .word	parameters
	.byte	0x09; .word	good
	.byte	0x0c; .word	good
	.byte	0x0d; .word	good
	.byte	0x10; .word	ready
	.byte	0x11; .word	good
	.byte	0x14; .word	good
	.byte	0x15; .word	kind
	.byte	0x41; .word	extensions
	.byte	0x42; .word	read_lba
	.byte	0x43; .word	write_lba
	.byte	0x44; .word	verify_lba
	.byte	0x47; .word	good
	.byte	0x48; .word	lba_parameters
functions_end:

good:
	xor	%ah, %ah			/* clears CF */
	ret

last_status:
	xor	%bx, %bx
	mov	%bx, %es
	mov	%es:BDA_STATUS, %ah
	cmp	$1, %ah				/* CF unless it was 0 */
	cmc
	ret

ready:
	mov	$TEST_UNIT_READY, %al
	call	small_command
	movb	$6, CCB_CDB_BYTES
	call	run
	jc	1f
	xor	%ah, %ah
1:	ret

/* 15h: a fixed disk with CX:DX sectors. */
kind:
	mov	DISK_SECTORS(%di), %eax
	mov	%ax, AT_DX(%bp)
	shr	$16, %eax
	mov	%ax, AT_CX(%bp)
	mov	$3, %ah
	clc
	ret

/* 08h: the largest cylinder, head and sector, and how many disks there are. */
parameters:
	call	cylinders
	cmp	$1024, %eax
	jbe	1f
	mov	$1024, %eax
1:	dec	%ax
	mov	%al, AT_CH(%bp)
	shl	$6, %ah
	or	DISK_TRACK(%di), %ah
	mov	%ah, AT_CL(%bp)
	mov	DISK_HEADS(%di), %al
	dec	%al
	mov	%al, AT_DH(%bp)
	xor	%bx, %bx
	mov	%bx, %es
	mov	%es:BDA_DISKS, %al
	mov	%al, AT_DL(%bp)
	movb	$0, AT_AL(%bp)
	xor	%ah, %ah
	ret

/* EAX: whole cylinders, at least one. */
cylinders:
	movzbl	DISK_HEADS(%di), %eax
	mulb	DISK_TRACK(%di)
	movzwl	%ax, %ecx
	mov	DISK_SECTORS(%di), %eax
	xor	%edx, %edx
	div	%ecx
	test	%eax, %eax
	jnz	1f
	inc	%ax
1:	ret

read_chs:
	mov	$READ_10 | DIRECTION_IN << 8, %ax
	jmp	move_chs
write_chs:
	mov	$WRITE_10 | DIRECTION_OUT << 8, %ax
	jmp	move_chs
verify_chs:
	mov	$VERIFY_10 | DIRECTION_NONE << 8, %ax
move_chs:
	push	%ax
	movzbl	AT_AL(%bp), %eax
	mov	%eax, SECTORS
	dec	%eax
	cmp	$CHS_COUNT_MAX, %eax
	jae	9f
	movzbl	AT_CL(%bp), %ebx
	mov	%bl, %ah
	shr	$6, %ah
	mov	AT_CH(%bp), %al			/* AX: cylinder */
	movzwl	%ax, %eax
	and	$0x3f, %bx			/* BX: sector, from 1 */
	jz	9f
	cmp	DISK_TRACK(%di), %bl
	ja	9f
	movzbl	DISK_HEADS(%di), %ecx
	mul	%ecx
	movzbl	AT_DH(%bp), %edx
	cmp	%ecx, %edx
	jae	9f
	add	%edx, %eax
	movzbl	DISK_TRACK(%di), %ecx
	mul	%ecx
	lea	-1(%eax, %ebx), %eax
	mov	%eax, LBA
	movzwl	AT_ES(%bp), %edx
	shl	$4, %edx
	movzwl	AT_BX(%bp), %eax
	add	%eax, %edx
	pop	%ax
	call	move
	jnc	1f
	movb	$0, AT_AL(%bp)			/* sectors moved: none */
1:	ret
9:	pop	%ax
	mov	$BAD_COMMAND, %ah
	stc
	ret

/* AL, AH: command and direction; EDX: where in memory; LBA and SECTORS.  Returns AH and CF. */
move:
	mov	SECTORS, %ecx
	shl	$9, %ecx
	cmp	$DIRECTION_NONE, %ah
	jne	1f
	xor	%ecx, %ecx
1:	call	new_command
	mov	LBA, %eax
	mov	DISK_SECTORS(%di), %ecx
	sub	%eax, %ecx
	jbe	8f
	cmp	SECTORS, %ecx
	jb	8f
	bswap	%eax
	mov	%eax, CCB_CDB + 2
	mov	SECTORS, %ax
	xchg	%al, %ah
	mov	%ax, CCB_CDB + 7
	call	run
	jc	2f
	xor	%ah, %ah
2:	ret
8:	mov	$SECTOR_NOT_FOUND, %ah
	stc
	ret

/* 41h, for BX 55AAh: version 1 of the extensions, the fixed disk access subset. */
extensions:
	mov	$BAD_COMMAND, %ah
	cmpw	$0x55aa, AT_BX(%bp)
	jne	1f
	movw	$0xaa55, AT_BX(%bp)
	movw	$0x0001, AT_CX(%bp)
	mov	$0x01, %ah
	clc
	ret
1:	stc
	ret

read_lba:
	mov	$READ_10 | DIRECTION_IN << 8, %ax
	jmp	move_lba
write_lba:
	mov	$WRITE_10 | DIRECTION_OUT << 8, %ax
	jmp	move_lba
verify_lba:
	mov	$VERIFY_10 | DIRECTION_NONE << 8, %ax

/* The packet at the caller's DS:SI: size, 0, sectors (16 bits), buffer (offset, segment), sector (64 bits). */
move_lba:
	push	%ax
	mov	AT_DS(%bp), %es
	mov	AT_SI(%bp), %si
	cmpb	$16, %es:(%si)
	jb	9f
	movzwl	%es:2(%si), %eax
	mov	%eax, SECTORS
	cmp	$CHS_COUNT_MAX, %eax
	ja	9f
	test	%eax, %eax
	jz	7f
	cmpl	$0, %es:12(%si)
	jne	8f
	mov	%es:8(%si), %eax
	mov	%eax, LBA
	movzwl	%es:6(%si), %edx
	shl	$4, %edx
	movzwl	%es:4(%si), %eax
	add	%eax, %edx
	pop	%ax
	call	move
	jnc	1f
	mov	AT_DS(%bp), %es
	mov	AT_SI(%bp), %si
	movw	$0, %es:2(%si)			/* sectors moved: none */
	stc
1:	ret
7:	pop	%ax
	xor	%ah, %ah
	ret
8:	pop	%ax
	mov	$SECTOR_NOT_FOUND, %ah
	stc
	ret
9:	pop	%ax
	mov	$BAD_COMMAND, %ah
	stc
	ret

/* 48h: 26 bytes about the disk at the caller's DS:SI. */
lba_parameters:
	mov	AT_DS(%bp), %es
	mov	AT_SI(%bp), %si
	mov	$BAD_COMMAND, %ah
	cmpw	$26, %es:(%si)
	jb	1f
	movw	$26, %es:(%si)
	movw	$0x0002, %es:2(%si)		/* the geometry is valid */
	call	cylinders
	mov	%eax, %es:4(%si)
	movzbl	DISK_HEADS(%di), %eax
	mov	%eax, %es:8(%si)
	movzbl	DISK_TRACK(%di), %eax
	mov	%eax, %es:12(%si)
	mov	DISK_SECTORS(%di), %eax
	mov	%eax, %es:16(%si)
	movl	$0, %es:20(%si)
	movw	$512, %es:24(%si)
	xor	%ah, %ah
	ret
1:	stc
	ret

	.org	BLOCKS * 512 - 1
checksum:
	.byte	0				/* by whoever finishes the image */
