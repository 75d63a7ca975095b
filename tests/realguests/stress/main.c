/*
 * main.c -- a user-space stress of a processor under Linux, as a static 32-bit program.
 *
 *	stress [trials=NAME,...] [not=NAME,...] [scale=N] [verbose=1]
 *				runs trials, each in a process of its own, a line for each:
 *					T: stress NAME CHECKSUM
 *					T: stress NAME FAIL why
 *				without arguments they are taken from the kernel's command line
 *	stress list		the trials' names
 *	stress stage ...	what a trial executes
 *	stress text MIB		so much text from a seeded generator on standard output
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "stress.h"

#define FNV_BASIS	2166136261u
#define FNV_PRIME	16777619u
#define LIMIT_S		900
#define LINE		256
#define COMMAND_LINE	2048
#define VOCABULARY	4096
#define WORD_MAX	10
#define BLOCK		(64 << 10)

unsigned scale = 1;

static const struct trial *const groups[] = {
	process_trials, signal_trials, memory_trials, float_trials, code_trials, thread_trials, segment_trials,
	call_trials, string_trials, trace_trials,
};
static const char *only, *without;
static int verbose;
static const char *current = "main";
static uint32_t sum = FNV_BASIS;

uint32_t
fold(uint32_t so_far, const void *data, size_t length)
{
	const uint8_t *byte = data;

	while (length--)
		so_far = (so_far ^ *byte++) * FNV_PRIME;
	return so_far;
}

/* Marsaglia's xorshift. */
uint32_t
next_random(uint32_t *state)
{
	uint32_t x = *state;

	x ^= x << 13;
	x ^= x >> 17;
	x ^= x << 5;
	return *state = x;
}

/* One write, so that lines of several processes do not mix. */
static void
say(const char *kind, const char *text)
{
	char line[LINE + 64];
	int length = snprintf(line, sizeof line, "T: %s %s %s\n", kind, current, text);

	write_all(STDOUT_FILENO, line, (size_t)length);
}

void
note(const char *format, ...)
{
	char text[LINE];
	va_list arguments;

	va_start(arguments, format);
	vsnprintf(text, sizeof text, format, arguments);
	va_end(arguments);
	sum = fold(sum, text, strlen(text) + 1);
	if (verbose)
		say("detail", text);
}

void
note_bytes(const char *what, const void *data, size_t length)
{
	note("%s %08x", what, fold(FNV_BASIS, data, length));
}

void
fail(const char *format, ...)
{
	char text[LINE] = "FAIL ";
	va_list arguments;

	va_start(arguments, format);
	vsnprintf(text + 5, sizeof text - 5, format, arguments);
	va_end(arguments);
	say("stress", text);
	_exit(1);
}

void *
map_pages(unsigned pages)
{
	void *at = mmap(NULL, pages * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	REQUIRE(at != MAP_FAILED);
	return at;
}

void
write_all(int file, const void *data, size_t length)
{
	const char *from = data;

	while (length) {
		ssize_t done = write(file, from, length);

		if (done < 0 && errno == EINTR)
			continue;
		if (done <= 0)
			_exit(1);
		from += done;
		length -= (size_t)done;
	}
}

size_t
read_all(int file, void *data, size_t length)
{
	size_t got = 0;

	while (got < length) {
		ssize_t done = read(file, (char *)data + got, length - got);

		if (done < 0 && errno == EINTR)
			continue;
		REQUIRE(done >= 0);
		if (done == 0)
			break;
		got += (size_t)done;
	}
	return got;
}

void
expect_exit(pid_t child, int status)
{
	int how;

	REQUIRE(child > 0);
	REQUIRE(waitpid(child, &how, 0) == child);
	if (!WIFEXITED(how) || WEXITSTATUS(how) != status)
		fail("a child ended with status %#x, not with exit %d", (unsigned)how, status);
}

void
at_once(unsigned count, uint32_t (*work)(unsigned), uint32_t *results)
{
	const size_t bytes = count * sizeof *results;
	uint32_t *shared = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	pid_t children[64];

	REQUIRE(shared != MAP_FAILED && count <= 64);
	for (unsigned i = 0; i < count; i++) {
		children[i] = fork();
		if (children[i] == 0) {
			shared[i] = work(i);
			_exit(0);
		}
	}
	for (unsigned i = 0; i < count; i++)
		expect_exit(children[i], 0);
	memcpy(results, shared, bytes);
	REQUIRE(munmap(shared, bytes) == 0);
}

static int
is_in(const char *list, const char *name)
{
	const size_t length = strlen(name);

	for (const char *at = list; (at = strstr(at, name)) != NULL; at += length)
		if ((at == list || at[-1] == ',') && (at[length] == ',' || at[length] == '\0'))
			return 1;
	return 0;
}

static void
run_trial(const struct trial *trial)
{
	static const struct timespec limit = { .tv_sec = LIMIT_S };
	char text[LINE];
	sigset_t child_ends;
	pid_t child;
	int how;

	sigemptyset(&child_ends);
	sigaddset(&child_ends, SIGCHLD);
	sigprocmask(SIG_BLOCK, &child_ends, NULL);
	current = trial->name;
	child = fork();
	if (child == 0) {
		sigprocmask(SIG_UNBLOCK, &child_ends, NULL);
		setpgid(0, 0);
		trial->run();
		snprintf(text, sizeof text, "%08x", sum);
		say("stress", text);
		_exit(0);
	}
	if (child < 0)
		return say("stress", "FAIL fork");
	if (sigtimedwait(&child_ends, NULL, &limit) < 0)
		say("stress", "FAIL it did not end");
	kill(-child, SIGKILL);	/* whatever it has left behind */
	waitpid(child, &how, 0);
	if (WIFSIGNALED(how)) {
		snprintf(text, sizeof text, "FAIL died of signal %d", WTERMSIG(how));
		say("stress", text);
	}
}

static void
each_trial(void (*what)(const struct trial *))
{
	for (size_t group = 0; group < sizeof groups / sizeof groups[0]; group++)
		for (const struct trial *trial = groups[group]; trial->name; trial++)
			if ((!only || is_in(only, trial->name)) && !(without && is_in(without, trial->name)))
				what(trial);
}

static void
print_name(const struct trial *trial)
{
	puts(trial->name);
}

static void
take_option(const char *word)
{
	if (!strncmp(word, "trials=", 7))
		only = word + 7;
	else if (!strncmp(word, "not=", 4))
		without = word + 4;
	else if (!strncmp(word, "scale=", 6))
		scale = (unsigned)strtoul(word + 6, NULL, 10);
	else if (!strncmp(word, "verbose=", 8))
		verbose = atoi(word + 8);
}

static void
take_options_of_the_kernel(void)
{
	static char line[COMMAND_LINE];
	int file = open("/proc/cmdline", O_RDONLY);

	REQUIRE(file >= 0);
	line[read_all(file, line, sizeof line - 1)] = '\0';
	close(file);
	for (char *word = strtok(line, " \n"); word; word = strtok(NULL, " \n"))
		take_option(word);
}

/* Words of a made-up vocabulary, the first ones most often, so that a compressor finds what it finds in prose. */
static int
print_text(unsigned mib)
{
	static char words[VOCABULARY][WORD_MAX], block[BLOCK + WORD_MAX + 1];
	uint32_t state = SEED;
	size_t used = 0;

	for (unsigned i = 0; i < VOCABULARY; i++) {
		const unsigned letters = 2 + next_random(&state) % (WORD_MAX - 3);

		for (unsigned k = 0; k < letters; k++)
			words[i][k] = (char)('a' + next_random(&state) % 26);
		words[i][letters] = next_random(&state) % 12 ? ' ' : '\n';
	}
	for (uint64_t left = (uint64_t)mib << 20; left;) {
		const uint32_t random = next_random(&state);
		const char *word = words[(random & 0xfff) >> (random >> 12 & 7)];
		const size_t length = strnlen(word, WORD_MAX);

		memcpy(block + used, word, length);
		used += length;
		if (used >= BLOCK || used >= left) {
			const size_t out = used < left ? used : (size_t)left;

			write_all(STDOUT_FILENO, block, out);
			left -= out;
			used = 0;
		}
	}
	return 0;
}

int
main(int argc, char **argv)
{
	if (argc > 2 && !strcmp(argv[1], "stage"))
		return run_stage(argc - 2, argv + 2);
	if (argc > 2 && !strcmp(argv[1], "text"))
		return print_text((unsigned)strtoul(argv[2], NULL, 10));
	if (argc > 1 && !strcmp(argv[1], "list")) {
		each_trial(print_name);
		return 0;
	}
	for (int i = 1; i < argc; i++)
		take_option(argv[i]);
	if (argc == 1)
		take_options_of_the_kernel();
	each_trial(run_trial);
	return 0;
}
