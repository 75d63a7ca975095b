/*
 * report.h -- the verdict: one line for each fact checked, and the end of the run.
 *
 *	PASS name		the machine does what the manual says
 *	FAIL name: why		it does not
 *	SKIP name: why		the machine lacks the feature, or is an emulator that is known to be wrong here
 *	DONE n passed, m failed
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

void pass(const char *name);
void fail(const char *name, const char *why, ...) __attribute__((format(printf, 2, 3)));
void skip(const char *name, const char *why);

bool check(const char *name, bool ok, const char *why, ...) __attribute__((format(printf, 3, 4)));
bool check_equal(const char *name, uint32_t found, uint32_t expected);

/*
 * What the processor does and one popular emulator is known to get wrong.  There, and only there, a wrong answer is a
 * SKIP that says what the emulator does instead.
 */
bool check_silicon(const char *name, bool ok, const char *emulator_does);
bool on_tcg(void);

/* The same for what must not even be tried there, because the wrong answer would end the guest. */
bool skip_on_tcg(const char *name, const char *emulator_does);

/* A check that failed so badly that nothing after it makes sense. */
void stop(const char *name, const char *why, ...) __attribute__((noreturn, format(printf, 2, 3)));

/* Print DONE and power off with status 0, or 1 if anything failed. */
void finish(void) __attribute__((noreturn));
void power_off(uint8_t status) __attribute__((noreturn));
