/*
 * main.c -- from the multiboot entry to the guest's program.
 */
#include "guest.h"

void guest_start(uint32_t multiboot_magic, const void *multiboot_info) __attribute__((noreturn));

void
guest_start(uint32_t multiboot_magic, const void *multiboot_info)
{
	console_init();
	memory_init(multiboot_magic, multiboot_info);
	cpu_init();
	pic_init();
	guest_main();
	finish();
}
