/*
 * load.h -- what the programs have in common that a benchmark times in a Linux guest: words of the kernel's command line,
 * and the end when something cannot be done.
 */
#pragma once

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static inline void
fail(const char *what)
{
	printf("T: load failed: ");
	fflush(stdout);
	perror(what);
	exit(1);
}

/* What is behind `name`, which ends with "=", on the kernel's command line. */
static inline const char *
word(const char *name)
{
	static char line[4096];
	FILE *file = fopen("/proc/cmdline", "r");
	char *found;

	if (!file || !fgets(line, sizeof(line), file))
		fail("/proc/cmdline");
	fclose(file);
	found = strstr(line, name);
	return found ? found + strlen(name) : "";
}

static inline unsigned
number(const char *name)
{
	return (unsigned)strtoul(word(name), NULL, 10);
}
