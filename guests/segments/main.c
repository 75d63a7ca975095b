/*
 * segments -- descriptors and what the processor makes of them.
 */
#include "parts.h"

void
guest_main(void)
{
	check_reset_ldtr();
	check_types();
	check_queries();
	check_limits();
	check_loads();
	check_ldt();
	check_stack16();
	check_real_mode();
}
