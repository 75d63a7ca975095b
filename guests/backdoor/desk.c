/*
 * desk.c -- what a desktop's Tools ask: the pointer, the options, the screen, the clipboard, the devices.
 */
#include "backdoor.h"

#define NOT_GRABBED	0xFF9CFF9Cu	/* -100, -100 */
#define OPTION_SYNC	0x400u
#define OPTION_GRAB	0x001u
#define TEXT_BYTES	11u
#define RECORD_BYTES	40u
#define NAME_BYTES	32u
#define DEVICES_MAX	64u
#define TOGGLE_ON	0x80000000u
#define NO_DEVICE	0xFFFEu

void
check_desk(void)
{
	struct registers r = ask(GETPTRLOCATION, PRESET_EBX), before;

	check_silicon("pointer_is_somewhere_or_ungrabbed", answered(r) && (r.eax == NOT_GRABBED || r.eax >> 16 < 0x8000),
	    ONLY_HERE);
	ask(SETPTRLOCATION, 100u << 16 | 50u);
	r = ask(GETPTRLOCATION, PRESET_EBX);
	check_silicon("pointer_goes_where_it_is_set", r.eax == NOT_GRABBED || r.eax == (100u << 16 | 50u), ONLY_HERE);

	before = ask(GETGUIOPTIONS, PRESET_EBX);
	ask(SETGUIOPTIONS, OPTION_SYNC | OPTION_GRAB);
	r = ask(GETGUIOPTIONS, PRESET_EBX);
	check_silicon("gui_options_are_kept", r.eax == (OPTION_SYNC | OPTION_GRAB), ONLY_HERE);
	if (answered(before))
		ask(SETGUIOPTIONS, before.eax);

	r = ask(GETSCREENSIZE, PRESET_EBX);
	check_silicon("screen_has_a_size", answered(r) && r.eax >> 16 && r.eax & 0xFFFF, ONLY_HERE);
}

static bool
clipboard_holds(const char *text)
{
	uint32_t piece, at;

	if (ask(GETSELLENGTH, PRESET_EBX).eax != TEXT_BYTES)
		return false;
	for (at = 0; at < TEXT_BYTES; at += 4) {
		piece = ask(GETNEXTPIECE, PRESET_EBX).eax;
		if (memcmp(&piece, text + at, TEXT_BYTES - at < 4 ? TEXT_BYTES - at : 4))
			return false;
	}
	return true;
}

void
check_clipboard(void)
{
	static const char text[TEXT_BYTES + 1] = "hello, host";
	uint32_t piece, at;

	ask(SETSELLENGTH, TEXT_BYTES);
	for (at = 0; at < TEXT_BYTES; at += 4) {
		memcpy(&piece, text + at, 4);
		if (at + 4 >= TEXT_BYTES)
			check_silicon("half_a_clipboard_is_not_ready", ask(GETSELLENGTH, PRESET_EBX).eax == NO_ANSWER,
			    ONLY_HERE);
		ask(SETNEXTPIECE, piece);
	}
	check_silicon("clipboard_holds_what_was_set", clipboard_holds(text), ONLY_HERE);
	check_silicon("clipboard_ends_in_zeros", ask(GETNEXTPIECE, PRESET_EBX).eax == 0, ONLY_HERE);
	check_silicon("clipboard_is_read_twice", clipboard_holds(text), ONLY_HERE);
}

/* One record, four bytes at a time; false when there is none of this index. */
static bool
read_device(uint32_t index, uint32_t record[RECORD_BYTES / 4])
{
	struct registers r;

	for (uint32_t at = 0; at < RECORD_BYTES; at += 4) {
		r = ask(GETDEVICELISTELEMENT, index << 16 | at);
		if (!answered(r) || r.eax == 0)
			return false;
		record[at / 4] = r.ebx;
	}
	return true;
}

void
check_devices(void)
{
	struct registers end;
	uint32_t record[RECORD_BYTES / 4], count;
	bool named = true;

	for (count = 0; count < DEVICES_MAX && read_device(count, record); count++) {
		const char *name = (const char *)record;

		named = named && name[0] && !name[NAME_BYTES - 1];
		print("  device   %s: %s\n", name, record[9] & 0xFF ? "connected" : "disconnected");
	}
	end = ask(GETDEVICELISTELEMENT, count << 16);
	check_silicon("device_list_ends", end.eax == 0, ONLY_HERE);
	check_silicon("devices_have_names", end.eax == 0 && named, ONLY_HERE);
	check_silicon("no_device_is_no_success", ask(TOGGLEDEVICE, TOGGLE_ON | NO_DEVICE).eax == 0, ONLY_HERE);
}
