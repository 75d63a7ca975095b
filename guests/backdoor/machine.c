/*
 * machine.c -- what the machine is: each answer, and what probing says about the same thing.
 */
#include "backdoor.h"

#define VERSION		6u
#define PRODUCT_ESX	2u
#define HW_VERSION_ESX3	4u
#define TRIES		5

#define CPUID_APIC	(1u << 9)
#define CPUID_HYPERVISOR	(1u << 31)	/* leaf 1, ECX: leaf 40000000h means something */
#define LEAF_VENDOR	0x40000000u
#define LEAF_TIMING	0x40000010u
#define MSR_APIC_BASE	0x1B
#define APIC_ENABLED	(1u << 11)
#define APIC_SVR	0x0F0
#define APIC_LVTT	0x320
#define APIC_TMICT	0x380
#define APIC_TMCCT	0x390
#define APIC_TDCR	0x3E0
#define SVR_ENABLE	0x1FFu		/* software enable, spurious vector FFh */
#define LVT_MASKED	0x10000u	/* one-shot */
#define DIVIDE_BY_1	0xBu
#define COUNT_MAX	0xFFFFFFFFu

static bool
is_near(uint64_t value, uint64_t other)
{
	return value * 10 > other * 9 && value * 10 < other * 11;
}

static volatile uint32_t *
apic(uint32_t offset)
{
	return (volatile uint32_t *)((uint32_t)read_msr(MSR_APIC_BASE) & ~0xFFFu) + offset / 4;
}

/* Counts of the APIC's timer in a second, over a hundredth of one. */
static uint64_t
measure_bus_hz(void)
{
	uint64_t start = read_tsc(), wait = tsc_khz() * 10ull, now;
	uint32_t counted;

	*apic(APIC_TMICT) = COUNT_MAX;
	while ((now = read_tsc()) - start < wait)
		;
	counted = COUNT_MAX - *apic(APIC_TMCCT);
	return (uint64_t)counted * 1000 / ((now - start) / tsc_khz());
}

static void
check_bus(uint32_t bus_hz)
{
	uint64_t measured = 0;

	if (!(cpuid(1).edx & CPUID_APIC) || !(read_msr(MSR_APIC_BASE) & APIC_ENABLED)) {
		skip("bus_hz_is_the_apics", "CPUID shows no local APIC, or it is off");
		return;
	}
	*apic(APIC_SVR) = SVR_ENABLE;
	*apic(APIC_TDCR) = DIVIDE_BY_1;
	*apic(APIC_LVTT) = LVT_MASKED;
	for (int i = 0; i < TRIES && !is_near(measured, bus_hz); i++)
		measured = measure_bus_hz();
	*apic(APIC_TMICT) = 0;
	check_silicon("bus_hz_is_the_apics", is_near(measured, bus_hz), ONLY_HERE);
}

/* A later monitor shows the same frequencies by CPUID, where it is told to show itself there at all. */
static void
check_leaves(uint64_t tsc_hz, uint32_t bus_hz)
{
	struct cpuid vendor = cpuid(LEAF_VENDOR), timing = cpuid(LEAF_TIMING);
	uint32_t name[] = { vendor.ebx, vendor.ecx, vendor.edx };

	if (!(cpuid(1).ecx & CPUID_HYPERVISOR) || memcmp(name, "VMwareVMware", sizeof(name)) != 0)
		return;
	check("leaf_tells_the_highest", vendor.eax >= LEAF_VENDOR, "EAX is %x", vendor.eax);
	if (vendor.eax >= LEAF_TIMING)
		check("timing_leaf_agrees", timing.eax == (uint32_t)(tsc_hz / 1000) && timing.ebx == bus_hz / 1000,
		    "TSC %u kHz, bus %u kHz", timing.eax, timing.ebx);
}

static void
check_frequencies(void)
{
	struct registers hz = ask(GETHZ, NO_ANSWER), mhz = ask(GETMHZ, PRESET_EBX);
	uint64_t tsc_hz = (uint64_t)hz.ebx << 32 | hz.eax;

	check_silicon("tsc_hz_is_known", answered(hz) && hz.ebx != NO_ANSWER, ONLY_HERE);
	check_silicon("tsc_hz_agrees_with_the_8254", is_near(tsc_hz / 1000, tsc_khz()), ONLY_HERE);
	check_silicon("mhz_is_the_tscs", answered(mhz) && mhz.eax == (uint32_t)(tsc_hz / 1000000), ONLY_HERE);
	check_bus(answered(hz) ? hz.ecx : 0);
	check_leaves(tsc_hz, hz.ecx);
}

static void
check_uuid(void)
{
	struct registers r = ask(GETUUID, PRESET_EBX), again = ask(GETUUID, PRESET_EBX);

	check_silicon("uuid_is_not_empty", answered(r) && (r.eax | r.ebx | r.ecx | r.edx), ONLY_HERE);
	check_silicon("uuid_is_lasting", answered(r) && r.eax == again.eax && r.ebx == again.ebx && r.ecx == again.ecx &&
	    r.edx == again.edx, ONLY_HERE);
}

void
check_machine(void)
{
	struct registers r = ask(GETVERSION, ~MAGIC);
	uint32_t mib = ask(GETMEMSIZE, PRESET_EBX).eax, loader_mib = (memory_bytes() + (1u << 20)) >> 20;

	check("version_is_6", r.eax == VERSION, "EAX is %u", r.eax);
	check("version_gives_the_magic", r.ebx == MAGIC, "EBX is %x", r.ebx);
	check_silicon("product_is_esx_server", r.ecx == PRODUCT_ESX, ONLY_HERE);
	r = ask(GETHWVERSION, PRESET_EBX);
	check_silicon("hardware_version_is_4", r.eax == HW_VERSION_ESX3, ONLY_HERE);
	check_silicon("memory_size_is_the_loaders", mib + 1 >= loader_mib && mib <= loader_mib + 1, ONLY_HERE);
	r = ask(ISACPIDISABLED, PRESET_EBX);
	check_silicon("acpi_is_yes_or_no", r.eax <= 1, ONLY_HERE);
	r = ask(CHECKFORCEBIOSSETUP, PRESET_EBX);
	check_silicon("bios_setup_is_yes_or_no", r.eax <= 1, ONLY_HERE);
	r = ask(GET_VCPU_INFO, 0);
	check_silicon("vcpu_info_is_not_known", r.eax >> 31, ONLY_HERE);
	check_uuid();
	check_frequencies();
}
