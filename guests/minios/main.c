/*
 * minios -- the demonstration: processes in ring 3, each in its own address space, switched by the timer; a shell.
 */
#include "kernel.h"

void
guest_main(void)
{
	processes_init();
	system_calls_init();
	serial_init();
	print("\nminios: %u MiB of memory, a timer at %u Hz. Type help.\n", memory_bytes() >> 20, TICKS_PER_S);
	shell();
}
