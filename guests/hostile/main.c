/*
 * hostile -- user code that wants out.
 *
 * A monitor that lets ring 3 run on the host's processor lends it the host's descriptors, system calls and addresses
 * unless it takes care.  Everything here has an answer in the manual, and every machine must give that one.
 */
#include "parts.h"

#define WARM		300000u
#define WARM_QUICK	20000u

page_table *directory;

uint32_t
user_call(ring_function *function, uint32_t argument)
{
	probe.seen = (struct fault){ 0 };
	return ring_call_flags(3, function, argument, EFL_IF);
}

struct fault
user_fault(ring_function *function, uint32_t argument)
{
	user_call(function, argument);
	return ring_fault();
}

uint32_t
rounds(uint32_t usual, uint32_t quick)
{
	return has_option("quick") ? quick : usual;
}

void
guest_main(void)
{
	directory = identity_directory(MAPPED, RW);
	paging_on(directory);
	warm_rounds = rounds(WARM, WARM_QUICK);
	if (!option_is("escape", "", true)) {
		check_escape();
		return;
	}
	if (has_option("hidden")) {
		check_hidden();
		return;
	}
	check_selectors();
	check_own_descriptors();
	check_gates();
	check_addresses();
	check_storms();
	check_own_code();
	check_flags();
	check_middles();
	check_own_tables();
}
