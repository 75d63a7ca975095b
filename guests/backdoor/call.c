/*
 * call.c -- the instruction itself, with every register but ESP as input and output.
 */
#include "backdoor.h"

/* In memory with a name of its own, so that no register is needed to find it. */
struct registers door;

#define LOAD										\
	"pushl %%ebp\n\t"								\
	"movl door+0, %%eax; movl door+4, %%ebx; movl door+8, %%ecx; movl door+12, %%edx\n\t"	\
	"movl door+16, %%esi; movl door+20, %%edi; movl door+24, %%ebp\n\t"
#define STORE										\
	"\n\tmovl %%eax, door+0; movl %%ebx, door+4; movl %%ecx, door+8; movl %%edx, door+12\n\t"	\
	"movl %%esi, door+16; movl %%edi, door+20; movl %%ebp, door+24\n\t"		\
	"popl %%ebp"
#define CALL(insn) __asm__ volatile(LOAD insn STORE : : : "eax", "ebx", "ecx", "edx", "esi", "edi", "memory", "cc")

static uint32_t
execute(uint32_t form)
{
	switch (form) {
	case IN_DX:
		CALL("inl %%dx, %%eax");
		break;
	case OUT_DX:
		CALL("outl %%eax, %%dx");
		break;
	case IN_DX_16:
		CALL("inw %%dx, %%ax");
		break;
	default:
		CALL("inb %%dx, %%al");
		break;
	}
	return door.eax;
}

void
call_with(struct registers *registers, enum form form)
{
	door = *registers;
	execute(form);
	*registers = door;
}

static struct registers
presets(enum command command, uint32_t argument)
{
	return (struct registers){ MAGIC, argument, command, PORT, PRESET_ESI, PRESET_EDI, PRESET_EBP };
}

struct registers
ask(enum command command, uint32_t argument)
{
	struct registers r = presets(command, argument);

	call_with(&r, IN_DX);
	return r;
}

struct registers
ask_from(int ring, enum command command, uint32_t argument)
{
	door = presets(command, argument);
	ring_call(ring, execute, IN_DX);
	return door;
}
