/*
 * tour.c -- the command `rings`: a message from each ring, and what each is refused.
 */
#include "kernel.h"

/* In the ring that is visited. */
static uint32_t
visit(uint32_t ring)
{
	static const char *const lines[4] = {
		"", "    hello from ring 1: supervisor pages are open to me, CLI and the ports are not\n",
		"        hello from ring 2: as ring 1, but I cannot load ring 1's segments\n",
		"            hello from ring 3: user pages are all I have\n",
	};

	system_call(SYS_WRITE, (uint32_t)lines[ring]);
	return (uint32_t)current_ring();
}

static uint32_t
read_kernel_data(uint32_t address)
{
	return *(volatile uint32_t *)address;
}

static uint32_t
turn_interrupts_off(uint32_t unused)
{
	(void)unused;
	__asm__ volatile("cli");
	return 0;
}

static void
print_outcome(const char *what)
{
	struct fault fault = ring_fault();

	if (fault.raised)
		print("%s -> vector %u, error code %x\n", what, fault.vector, fault.error);
	else
		print("%s -> done\n", what);
}

void
tour_rings(void)
{
	static const char indent[] = "            ";
	int ring;

	print("hello from ring 0, the kernel; I call the others\n");
	for (ring = 1; ring <= 3; ring++) {
		ring_call(ring, visit, (uint32_t)ring);
		print("%s", indent + 12 - 4 * ring);
		ring_call(ring, read_kernel_data, (uint32_t)processes);
		print_outcome("it reads kernel data");
		print("%s", indent + 12 - 4 * ring);
		ring_call(ring, turn_interrupts_off, 0);
		print_outcome("it executes CLI");
	}
	print("back in ring %d\n", current_ring());
}
