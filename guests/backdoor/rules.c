/*
 * rules.c -- which registers a call leaves alone, which instructions are calls, and from which rings they work.
 */
#include "backdoor.h"

#define MESSAGE_SUCCESS	1u		/* in ECX 31:16 */

enum output { EAX_ = 1, EBX_ = 2, ECX_ = 4, EDX_ = 8, ESI_ = 16 };

/* A command with an argument that does no harm, and the registers it may change. */
struct row {
	enum command command;
	uint32_t argument;
	int outputs;
	const char *name;
};

static const struct row rows[] = {
	{ GETMHZ, PRESET_EBX, EAX_, "getmhz_changes_eax" },
	{ GETPTRLOCATION, PRESET_EBX, EAX_, "getptrlocation_changes_eax" },
	{ GETSELLENGTH, PRESET_EBX, EAX_, "getsellength_changes_eax" },
	{ GETNEXTPIECE, PRESET_EBX, EAX_, "getnextpiece_changes_eax" },
	{ SETSELLENGTH, 4, EAX_, "setsellength_changes_eax_at_most" },
	{ SETNEXTPIECE, PRESET_EBX, EAX_, "setnextpiece_changes_eax_at_most" },
	{ GETVERSION, PRESET_EBX, EAX_ | EBX_ | ECX_, "getversion_changes_eax_ebx_ecx" },
	{ GETDEVICELISTELEMENT, 0, EAX_ | EBX_, "getdevicelistelement_changes_eax_ebx" },
	{ GETGUIOPTIONS, PRESET_EBX, EAX_, "getguioptions_changes_eax" },
	{ GETSCREENSIZE, PRESET_EBX, EAX_, "getscreensize_changes_eax" },
	{ GETHWVERSION, PRESET_EBX, EAX_, "gethwversion_changes_eax" },
	{ GETUUID, PRESET_EBX, EAX_ | EBX_ | ECX_ | EDX_, "getuuid_changes_eax_ebx_ecx_edx" },
	{ GETMEMSIZE, PRESET_EBX, EAX_, "getmemsize_changes_eax" },
	{ GETTIME, PRESET_EBX, EAX_ | EBX_ | ECX_ | EDX_, "gettime_changes_eax_ebx_ecx_edx" },
	{ STOPCATCHUP, PRESET_EBX, EAX_, "stopcatchup_changes_eax_at_most" },
	{ ISACPIDISABLED, PRESET_EBX, EAX_, "isacpidisabled_changes_eax" },
	{ ISMOUSEABSOLUTE, PRESET_EBX, EAX_, "ismouseabsolute_changes_eax" },
	{ ABSPOINTER_STATUS, PRESET_EBX, EAX_, "abspointer_status_changes_eax" },
	{ GETHZ, PRESET_EBX, EAX_ | EBX_ | ECX_, "gethz_changes_eax_ebx_ecx" },
	{ GETTIMEFULL, PRESET_EBX, EAX_ | EBX_ | ECX_ | EDX_ | ESI_, "gettimefull_changes_eax_to_edx_esi" },
	{ NO_COMMAND, PRESET_EBX, EAX_, "an_unknown_command_changes_eax" },
};

static bool
keeps_the_rest(const struct row *row)
{
	struct registers r = ask(row->command, row->argument);

	return (row->outputs & EBX_ || r.ebx == row->argument) &&
	    (row->outputs & ECX_ || r.ecx == (uint32_t)row->command) &&
	    (row->outputs & EDX_ || r.edx == PORT) && (row->outputs & ESI_ || r.esi == PRESET_ESI) &&
	    r.edi == PRESET_EDI && r.ebp == PRESET_EBP;
}

void
check_registers(void)
{
	struct registers r;

	for (unsigned i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
		check_silicon(rows[i].name, keeps_the_rest(&rows[i]), "changes more");
	check_silicon("an_unknown_command_has_no_answer", ask(NO_COMMAND, PRESET_EBX).eax == NO_ANSWER, ONLY_HERE);

	r = ask(0x12340000u | GETMEMSIZE, PRESET_EBX);
	check("ecx_has_a_parameter_above_the_command", r.eax == ask(GETMEMSIZE, PRESET_EBX).eax, "EAX is %x", r.eax);
	r = ask(MESSAGE, PRESET_EBX);
	check_silicon("message_channel_opens_or_is_refused", r.ecx >> 16 & MESSAGE_SUCCESS || !answered(r), ONLY_HERE);

	r = (struct registers){ MAGIC, PRESET_EBX, GETVERSION, PORT, 0, 0, 0 };
	call_with(&r, OUT_DX);
	check("out_is_a_call_too", r.eax == 6 && r.ebx == MAGIC, "EAX %x EBX %x", r.eax, r.ebx);
	r = (struct registers){ MAGIC, PRESET_EBX, GETVERSION, PORT, 0, 0, 0 };
	call_with(&r, IN_DX_16);
	check_silicon("16_bits_are_no_call", r.ebx == PRESET_EBX && r.eax == (MAGIC | 0xFFFF), "takes it for a call");
	r = (struct registers){ MAGIC, PRESET_EBX, GETVERSION, PORT, 0, 0, 0 };
	call_with(&r, IN_DX_8);
	check_silicon("8_bits_are_no_call", r.ebx == PRESET_EBX && r.eax == (MAGIC | 0xFF), "takes it for a call");
	r = (struct registers){ MAGIC + 1, PRESET_EBX, GETVERSION, PORT, 0, 0, 0 };
	call_with(&r, IN_DX);
	check("another_magic_is_no_call", r.ebx == PRESET_EBX, "EBX is %x", r.ebx);
}

static uint32_t
without_magic(uint32_t unused)
{
	struct registers r = { MAGIC + 1, unused, GETVERSION, PORT, 0, 0, 0 };

	call_with(&r, IN_DX);
	return r.ebx;
}

/* IOPL 0 and no I/O bitmap: an ordinary port faults in rings 1 to 3. */
void
check_rings(void)
{
	static const char *const answers[] = { "", "ring1_is_answered", "ring2_is_answered", "ring3_is_answered" };
	static const char *const refuses[] = {
		"", "ring1_is_refused_bios_commands", "ring2_is_refused_bios_commands", "ring3_is_refused_bios_commands",
	};
	struct registers r;
	struct fault fault;

	for (int ring = 1; ring <= 3; ring++) {
		r = ask_from(ring, GETVERSION, ~MAGIC);
		check_silicon(answers[ring], !ring_fault().raised && r.ebx == MAGIC, ANY_PORT);
		r = ask_from(ring, CHECKFORCEBIOSSETUP, PRESET_EBX);
		check_silicon(refuses[ring], !ring_fault().raised && r.eax == NO_ANSWER && r.ebx == PRESET_EBX, ANY_PORT);
	}
	r = ask_from(3, GETMEMSIZE, PRESET_EBX);
	check_silicon("ring3_learns_the_memory_size", !ring_fault().raised && r.eax == ask(GETMEMSIZE, PRESET_EBX).eax,
	    ANY_PORT);
	r = ask_from(3, GETTIME, PRESET_EBX);
	check_silicon("ring3_learns_the_time", !ring_fault().raised && answered(r) && r.ebx < 1000000, ANY_PORT);

	ring_call(3, without_magic, PRESET_EBX);
	fault = ring_fault();
	check("ring3_without_the_magic_gp", is_fault(fault, VEC_GP, 0), "vector %u error %x", fault.vector, fault.error);
}
