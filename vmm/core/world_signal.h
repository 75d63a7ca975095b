/*
 * world_signal.h -- the signals of a world.  Source: Linux, arch/x86/include/uapi/asm/signal.h.
 */
#ifndef RF_WORLD_SIGNAL_H
#define RF_WORLD_SIGNAL_H

enum world_signal {
	SIGNAL_ILL = 4, SIGNAL_TRAP = 5, SIGNAL_BUS = 7, SIGNAL_FPE = 8, SIGNAL_SEGV = 11, SIGNAL_TIMER = 14, SIGNAL_CHILD = 17,
	SIGNAL_SYS = 31,
	SIGNAL_KICK = 10	/* RF_KICK_SIGNAL of core.h */
};

#endif
