/*
 * backdoor -- asking the monitor instead of probing: memory size, time, frequencies and identity in one instruction each.
 *
 * A kernel that knows itself to be in a virtual machine needs no BIOS for its memory size, no real-time clock for the
 * date and no 8254 to calibrate TSC and APIC: it asks, and `tell` is all the code that takes.  The checks then go
 * through every call: is the answer plausible, does it agree with what probing finds, which registers does it leave
 * alone, and from which rings does it work.  On a real machine nobody answers.  QEMU knows some of the calls.
 */
#include "backdoor.h"

static const char *
product_name(uint32_t product)
{
	static const char *const names[] = { "unknown", "Express", "ESX Server", "GSX Server", "Workstation" };

	return names[product < sizeof(names) / sizeof(names[0]) ? product : 0];
}

static void
tell_uuid(void)
{
	struct registers r = ask(GETUUID, PRESET_EBX);
	uint32_t words[] = { r.eax, r.ebx, r.ecx, r.edx };

	if (!answered(r))
		return;
	print("  uuid     ");
	for (unsigned i = 0; i < sizeof(words); i++)
		print("%02x", ((uint8_t *)words)[i]);
	put_char('\n');
}

/* The example: what a kernel wants to know first, without touching any hardware. */
static void
tell(struct registers version)
{
	struct registers r;

	print("The monitor answers: interface %u, product %u (%s)\n", version.eax, version.ecx,
	    product_name(version.ecx));
	if (answered(r = ask(GETHWVERSION, PRESET_EBX)))
		print("  hardware version %u\n", r.eax);
	if (answered(r = ask(GETMEMSIZE, PRESET_EBX)))
		print("  memory   %u MiB\n", r.eax);
	if (answered(r = ask(GETTIME, PRESET_EBX)))
		print("  time     %u.%06u s after 1970\n", r.eax, r.ebx);
	r = ask(GETHZ, NO_ANSWER);
	if (answered(r) && r.ebx != NO_ANSWER)
		print("  tsc      %u kHz\n  bus      %u kHz\n",
		    (uint32_t)(((uint64_t)r.ebx << 32 | r.eax) / 1000), r.ecx / 1000);
	tell_uuid();
}

void
guest_main(void)
{
	struct registers version = ask(GETVERSION, ~MAGIC);

	if (!answered(version) || version.ebx != MAGIC) {
		skip("backdoor", "no monitor answers on port 5658h");
		return;
	}
	tell(version);
	check_machine();
	check_clock();
	check_desk();
	check_clipboard();
	check_pointer();
	check_devices();
	check_registers();
	check_rings();
}
