/*
 * backdoor.h -- the backdoor as a guest calls it, and the parts of this guest.
 *
 * A call is IN EAX, DX from port 5658h with "VMXh" in EAX, the command in CX and its argument in EBX; the answer comes
 * in the same registers.  [open-vm-tools 2008.02.13, backdoor_def.h]
 */
#pragma once

#include "guest.h"

#define MAGIC		0x564D5868u
#define PORT		0x5658u
#define PORT_MESSAGES	0x5659u		/* high bandwidth: strings */
#define NO_ANSWER	0xFFFFFFFFu

enum command {
	GETMHZ = 1, APMFUNCTION = 2, GETPTRLOCATION = 4, SETPTRLOCATION = 5, GETSELLENGTH = 6, GETNEXTPIECE = 7,
	SETSELLENGTH = 8, SETNEXTPIECE = 9, GETVERSION = 10, GETDEVICELISTELEMENT = 11, TOGGLEDEVICE = 12,
	GETGUIOPTIONS = 13, SETGUIOPTIONS = 14, GETSCREENSIZE = 15, GETHWVERSION = 17, GETUUID = 19, GETMEMSIZE = 20,
	GETTIME = 23, STOPCATCHUP = 24, MESSAGE = 30, ISACPIDISABLED = 34, ISMOUSEABSOLUTE = 36, ABSPOINTER_DATA = 39,
	ABSPOINTER_STATUS = 40, ABSPOINTER_COMMAND = 41, GETHZ = 45, GETTIMEFULL = 46, CHECKFORCEBIOSSETUP = 48,
	GET_VCPU_INFO = 68, NO_COMMAND = 4711,
};

struct registers {
	uint32_t eax, ebx, ecx, edx, esi, edi, ebp;
};

/* What the registers hold before a call, where nothing else is asked for. */
#define PRESET_EBX	0x5A5A5A5Au
#define PRESET_ESI	0x11112222u
#define PRESET_EDI	0x33334444u
#define PRESET_EBP	0x55556666u

/* Execute the instruction with these registers, and put what it leaves into them. */
enum form { IN_DX, OUT_DX, IN_DX_16, IN_DX_8 };
void call_with(struct registers *registers, enum form form);

/* One call from ring 0, with the presets. */
struct registers ask(enum command command, uint32_t argument);

/* The same from ring 1, 2 or 3; an exception shows in ring_fault(). */
struct registers ask_from(int ring, enum command command, uint32_t argument);

/* What QEMU's backdoor, which has five of the commands, is forgiven. */
#define ONLY_HERE	"lacks the command, or answers it in its own way"
#define ANY_PORT	"treats it as any other port"

static inline bool
answered(struct registers r)
{
	return r.eax != NO_ANSWER;
}

void check_machine(void);
void check_clock(void);
void check_desk(void);
void check_clipboard(void);
void check_pointer(void);
void check_devices(void);
void check_registers(void);
void check_rings(void);
