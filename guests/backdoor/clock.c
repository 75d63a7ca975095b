/*
 * clock.c -- the time of day, which the monitor keeps.
 */
#include "backdoor.h"

#define YEAR_2006	1136073600u	/* 1 January 2006, in seconds since 1970 */
#define WAIT_MS		20
#define HOURS_14	(14 * 60u)	/* the farthest time zone, in minutes */
#define US_PER_S	1000000u

static uint64_t
microseconds(struct registers time)
{
	return (uint64_t)time.eax * US_PER_S + time.ebx;
}

static void
wait_ms(uint32_t ms)
{
	uint64_t start = read_tsc(), cycles = (uint64_t)tsc_khz() * ms;

	while (read_tsc() - start < cycles)
		;
}

void
check_clock(void)
{
	struct registers first = ask(GETTIME, PRESET_EBX), full, second;
	uint32_t west = first.edx;

	check_silicon("time_is_after_2006", answered(first) && first.eax > YEAR_2006, ONLY_HERE);
	check_silicon("microseconds_are_below_a_million", answered(first) && first.ebx < US_PER_S, ONLY_HERE);
	check_silicon("time_lag_is_positive", answered(first) && (int32_t)first.ecx > 0, ONLY_HERE);
	check_silicon("time_zone_exists", answered(first) && west + HOURS_14 <= 2 * HOURS_14, ONLY_HERE);

	full = ask(GETTIMEFULL, PRESET_EBX);
	check_silicon("full_time_gives_the_magic", full.eax == MAGIC, ONLY_HERE);
	check_silicon("full_time_is_the_same_time", full.eax == MAGIC && full.esi == 0 && full.ebx < US_PER_S &&
	    full.edx >= first.eax, ONLY_HERE);

	wait_ms(WAIT_MS);
	second = ask(GETTIME, PRESET_EBX);
	check_silicon("time_goes_on", answered(second) &&
	    microseconds(second) >= microseconds(first) + WAIT_MS * 1000 / 2, ONLY_HERE);
}
