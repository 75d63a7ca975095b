/*
 * system_calls.c -- INT 80h: the number in EAX, the argument in EBX, the result in EAX.
 *
 * Nothing a program passes is trusted: a text is read byte by byte, as far as its own ring could read it.
 */
#include "kernel.h"

#define MAX_TEXT	256

static void
write_text(uint32_t address)
{
	uint32_t i;

	for (i = 0; i < MAX_TEXT; i++) {
		if (!user_readable(address + i) || !*(const char *)(address + i))
			return;
		put_char(*(const char *)(address + i));
	}
}

static void
handle(struct trap_frame *frame)
{
	switch (frame->eax) {
	case SYS_WRITE:
		write_text(frame->ebx);
		break;
	case SYS_EXIT:
		process_end(current);
		break;
	case SYS_SLEEP:
		process_sleep(frame->ebx);
		break;
	case SYS_PID:
		frame->eax = current->pid;
		break;
	case SYS_UPTIME:
		frame->eax = uptime_ticks;
		break;
	default:
		frame->eax = 0xFFFFFFFFu;
	}
}

void
system_calls_init(void)
{
	on_trap(VEC_SYSTEM_CALL, handle);
	idt[VEC_SYSTEM_CALL] = gate(KERNEL_CS, trap_stub(VEC_SYSTEM_CALL), TYPE_INT32, 3, 0);
}
