/*
 * pointer.c -- the absolute pointer, as a mouse driver turns it on and off.
 *
 * Its packets come when somebody moves the mouse; here it is the handshake that counts.  [Linux, vmmouse.c]
 */
#include "backdoor.h"

#define ENABLE		0x45414552u	/* "READ" */
#define DISABLE		0x000000F5u
#define ABSOLUTE	0x53424152u
#define VERSION_WORD	0x3442554Au
#define ERROR_BITS	0xFFFF0000u

static bool
in_error(void)
{
	return (ask(ABSPOINTER_STATUS, PRESET_EBX).eax & ERROR_BITS) == ERROR_BITS;
}

static uint32_t
waiting(void)
{
	return ask(ABSPOINTER_STATUS, PRESET_EBX).eax & ~ERROR_BITS;
}

void
check_pointer(void)
{
	uint32_t word;

	ask(ABSPOINTER_COMMAND, DISABLE);
	check_silicon("pointer_is_off_when_disabled", in_error(), ONLY_HERE);
	ask(ABSPOINTER_COMMAND, ENABLE);
	check_silicon("pointer_has_a_word_when_enabled", !in_error() && waiting() == 1, ONLY_HERE);
	word = ask(ABSPOINTER_DATA, 1).eax;
	check_silicon("pointer_tells_its_version", word == VERSION_WORD, ONLY_HERE);
	check_silicon("pointer_words_are_taken_off", !in_error() && waiting() == 0, ONLY_HERE);
	ask(ABSPOINTER_COMMAND, ABSOLUTE);
	check_silicon("mouse_is_absolute", ask(ISMOUSEABSOLUTE, PRESET_EBX).eax == 1, ONLY_HERE);
	ask(ABSPOINTER_DATA, 4);
	check_silicon("pointer_words_that_are_not_there_are_an_error", in_error(), ONLY_HERE);
	check_silicon("mouse_is_relative_again", ask(ISMOUSEABSOLUTE, PRESET_EBX).eax == 0, ONLY_HERE);
	ask(ABSPOINTER_COMMAND, DISABLE);
}
