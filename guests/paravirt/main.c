/*
 * paravirt -- asking the monitor: IN EAX, DX from port 5658h with a magic number in EAX.
 *
 * On a real machine nothing answers.  ESX answers from every ring, whatever IOPL and the I/O bitmap say, because the
 * programs that ask run in ring 3.  An emulator that knows some of the commands is told apart by its own name.
 */
#include "guest.h"

#define MAGIC		0x564D5868u	/* "VMXh" */
#define PORT		0x5658u
#define NO_ANSWER	0xFFFFFFFFu
#define VERSION		6u
#define PRODUCT_ESX	2u
#define HW_VERSION_ESX3	4u
#define YEAR_2006	1136073600u	/* 1 January 2006, in seconds since 1970 */
#define UNTOUCHED	0x5A5A5A5Au
#define ONLY_HERE	"lacks the command, or answers it in its own way"

enum command {
	GETVERSION = 10, GETHWVERSION = 17, GETMEMSIZE = 20, GETTIME = 23, GETHZ = 45, UNKNOWN = 4711,
};

struct answer {
	uint32_t eax, ebx, ecx, edx, esi, edi;
	bool faulted;
};

static struct answer last;
static uint32_t magic = MAGIC;

static uint32_t
ask(uint32_t command)
{
	struct answer a = { .eax = magic, .ebx = UNTOUCHED, .ecx = command, .edx = PORT, .esi = 0x1111, .edi = 0x2222 };

	__asm__ volatile("inl %%dx, %%eax" : "+a"(a.eax), "+b"(a.ebx), "+c"(a.ecx), "+d"(a.edx), "+S"(a.esi),
	    "+D"(a.edi)
	    : : "memory");
	last = a;
	return a.eax;
}

static struct answer
backdoor(int ring, enum command command)
{
	last = (struct answer){ .eax = NO_ANSWER };
	ring_call(ring, ask, command);
	last.faulted = ring_fault().raised;
	return last;
}

static void
check_version(void)
{
	struct answer a = backdoor(0, GETVERSION);

	check("version_names_esx", a.eax == VERSION && a.ecx == PRODUCT_ESX, "version %x product %x", a.eax, a.ecx);
	check("version_keeps_esi_edi", a.esi == 0x1111 && a.edi == 0x2222, "ESI %x EDI %x", a.esi, a.edi);
	a = backdoor(0, GETHWVERSION);
	check_silicon("hardware_version_is_4", a.eax == HW_VERSION_ESX3, ONLY_HERE);
	a = backdoor(0, UNKNOWN);
	check_silicon("unknown_command_keeps_ebx", a.eax == NO_ANSWER && a.ebx == UNTOUCHED, ONLY_HERE);
}

static void
check_memory_size(void)
{
	uint32_t mib = backdoor(0, GETMEMSIZE).eax, loader_mib = (memory_bytes() + (1u << 20)) >> 20;

	check_silicon("memory_size_is_the_loaders", mib + 1 >= loader_mib && mib <= loader_mib + 1, ONLY_HERE);
}

static void
check_time(void)
{
	struct answer first = backdoor(0, GETTIME), second, hz;
	uint64_t monitor_khz;
	uint32_t ours = tsc_khz();

	check_silicon("time_is_after_2006", first.eax != NO_ANSWER && first.eax > YEAR_2006, ONLY_HERE);
	check_silicon("microseconds_are_below_a_million", first.ebx < 1000000, ONLY_HERE);
	second = backdoor(0, GETTIME);
	check_silicon("time_goes_on", first.eax != NO_ANSWER && (second.eax > first.eax || (second.eax == first.eax &&
	    second.ebx >= first.ebx)),
	    ONLY_HERE);
	hz = backdoor(0, GETHZ);
	monitor_khz = ((uint64_t)hz.ebx << 32 | hz.eax) / 1000;
	check_silicon("hz_agrees_with_the_8254", monitor_khz * 10 > ours * 9ull && monitor_khz * 10 < ours * 11ull,
	    ONLY_HERE);
}

/* Ring 3, IOPL 0, no I/O bitmap: an ordinary port would fault. */
static void
check_ring3(void)
{
	struct answer a = backdoor(3, GETVERSION);
	struct fault fault;

	check_silicon("ring3_is_answered", !a.faulted && a.ebx == MAGIC, "treats it as any other port");
	a = backdoor(3, GETMEMSIZE);
	check_silicon("ring3_learns_the_memory_size", !a.faulted && a.eax == backdoor(0, GETMEMSIZE).eax,
	    "treats it as any other port");

	magic = MAGIC + 1;
	backdoor(3, GETVERSION);
	fault = ring_fault();
	check("ring3_without_the_magic_gp", is_fault(fault, VEC_GP, 0), "vector %u error %x", fault.vector,
	    fault.error);
	a = backdoor(0, GETVERSION);
	check("ring0_without_the_magic_keeps_ebx", a.ebx == UNTOUCHED, "EBX %x", a.ebx);
	magic = MAGIC;
}

void
guest_main(void)
{
	static const char nobody[] = "no monitor answers the backdoor";
	struct answer a = backdoor(0, GETVERSION);

	if (a.eax == NO_ANSWER || a.ebx != MAGIC) {
		skip("backdoor", nobody);
		return;
	}
	print("The backdoor answers: version %u, product %u.\n", a.eax, a.ecx);
	check_version();
	check_memory_size();
	check_time();
	check_ring3();
}
