/*
 * hello -- the smallest guest: it prints what it runs on and powers off.
 */
#include "guest.h"

#define CPUID_FAMILY(eax)	((eax) >> 8 & 0xF)
#define CPUID_MODEL(eax)	((eax) >> 4 & 0xF)

void
guest_main(void)
{
	struct cpuid vendor = cpuid(0), version = cpuid(1);
	uint32_t name[3] = { vendor.ebx, vendor.edx, vendor.ecx };

	print("Hello from ring %d.\n", current_ring());
	print("The processor is a ");
	for (unsigned i = 0; i < sizeof(name); i++)
		put_char(((char *)name)[i]);
	print(", family %u model %u; the machine has %u MiB.\n", CPUID_FAMILY(version.eax), CPUID_MODEL(version.eax),
	    memory_bytes() >> 20);
	check("ring0", current_ring() == 0, "CPL is %d", current_ring());
	check("protected_mode", read_cr0() & CR0_PE, "CR0 is %x", read_cr0());
}
