/*
 * processes.c -- many short processes: fork, vfork, execve, pipes, and memory that is copied when it is written.
 */
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "stress.h"

#define SELF		"/proc/self/exe"
#define FORKS		48
#define TOGETHER	8
#define PIPELINES	3
#define SPAWNS		12
#define PIPELINE_BYTES	(96 << 10)	/* more than a pipe holds */
#define COW_PAGES	48
#define COW_CHILDREN	4
#define WORK_ROUNDS	2000

static uint32_t
some_work(uint32_t seed)
{
	uint32_t state = seed * 2654435761u + 1, table[64] = { 0 };

	for (unsigned i = 0; i < WORK_ROUNDS; i++)
		table[next_random(&state) % 64] += state ^ i;
	return fold(seed, table, sizeof table);
}

/* The children come and go TOGETHER at a time; each answers through a pipe of its own. */
static void
forks(void)
{
	for (unsigned batch = 0; batch < FORKS * scale / TOGETHER; batch++) {
		int pipes[TOGETHER][2];
		pid_t children[TOGETHER];

		for (unsigned i = 0; i < TOGETHER; i++) {
			REQUIRE(pipe(pipes[i]) == 0);
			children[i] = fork();
			if (children[i] == 0) {
				const uint32_t answer = some_work(batch * TOGETHER + i);

				write_all(pipes[i][1], &answer, sizeof answer);
				_exit((int)(answer & 0x7f));
			}
			close(pipes[i][1]);
		}
		for (unsigned i = 0; i < TOGETHER; i++) {
			uint32_t answer;

			REQUIRE(read_all(pipes[i][0], &answer, sizeof answer) == sizeof answer);
			REQUIRE(answer == some_work(batch * TOGETHER + i));
			close(pipes[i][0]);
			expect_exit(children[i], (int)(answer & 0x7f));
			note("%08x", answer);
		}
	}
}

static pid_t
start(char *const arguments[], int in, int out)
{
	pid_t child = fork();

	if (child == 0) {
		dup2(in, STDIN_FILENO);
		dup2(out, STDOUT_FILENO);
		for (int file = 3; file < 32; file++)
			close(file);
		execv(SELF, arguments);
		_exit(127);
	}
	return child;
}

/* make | mix | sort | sum: each a program that is executed anew. */
static void
pipelines(void)
{
	for (unsigned turn = 0; turn < PIPELINES * scale; turn++) {
		char seed[16], answer[9] = "";
		char *stages[4][5] = {
			{ "stress", "stage", "make", seed }, { "stress", "stage", "mix" },
			{ "stress", "stage", "sort" }, { "stress", "stage", "sum" },
		};
		pid_t children[4];
		int in = STDIN_FILENO;

		snprintf(seed, sizeof seed, "%u", turn + 1);
		for (unsigned i = 0; i < 4; i++) {
			int between[2];

			REQUIRE(pipe(between) == 0);
			children[i] = start(stages[i], in, between[1]);
			close(between[1]);
			if (in != STDIN_FILENO)
				close(in);
			in = between[0];
		}
		REQUIRE(read_all(in, answer, 8) == 8);
		close(in);
		for (unsigned i = 0; i < 4; i++)
			expect_exit(children[i], 0);
		note("%s", answer);
	}
}

/* With vfork the parent sleeps until its child, which uses the parent's memory, has executed something. */
static void
spawns(void)
{
	volatile unsigned in_child = 0;

	for (unsigned turn = 0; turn < SPAWNS * scale; turn++) {
		char number[16];
		pid_t child;

		snprintf(number, sizeof number, "%u", turn % 100);
		child = vfork();
		if (child == 0) {
			in_child++;
			execl(SELF, "stress", "stage", "exit", number, NULL);
			_exit(127);
		}
		REQUIRE(in_child == turn + 1);
		expect_exit(child, (int)(turn % 100));
	}
	note("%u", in_child);
}

static uint32_t
rewrite(uint32_t *pages, unsigned who)
{
	const unsigned words = COW_PAGES * PAGE / 4;

	for (unsigned i = who; i < words; i += 16 + who)
		pages[i] ^= 0x01010101u * (who + 1);
	return fold(who, pages, words * 4);
}

static void
copy_on_write(void)
{
	uint32_t *own = map_pages(COW_PAGES), *expected = map_pages(COW_PAGES);
	uint32_t *shared = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	uint32_t state = SEED;

	REQUIRE(shared != MAP_FAILED);
	for (unsigned turn = 0; turn < 2 * scale; turn++) {
		pid_t children[COW_CHILDREN];

		for (unsigned i = 0; i < COW_PAGES * PAGE / 4; i++)
			own[i] = next_random(&state);
		for (unsigned who = 0; who < COW_CHILDREN; who++) {
			children[who] = fork();
			if (children[who] == 0) {
				pid_t grandchild = fork();

				if (grandchild == 0) {
					shared[COW_CHILDREN + who] = rewrite(own, who + COW_CHILDREN);
					_exit(0);
				}
				shared[who] = rewrite(own, who);
				expect_exit(grandchild, 0);
				_exit(0);
			}
		}
		memcpy(expected, own, COW_PAGES * PAGE);
		rewrite(own, 2 * COW_CHILDREN);		/* while the children write theirs */
		for (unsigned who = 0; who < COW_CHILDREN; who++)
			expect_exit(children[who], 0);
		for (unsigned who = 0; who < 2 * COW_CHILDREN; who++) {
			rewrite(expected, who);
			REQUIRE(shared[who] == fold(who, expected, COW_PAGES * PAGE));
			rewrite(expected, who);
			note("%08x", shared[who]);
		}
		rewrite(expected, 2 * COW_CHILDREN);
		REQUIRE(memcmp(expected, own, COW_PAGES * PAGE) == 0);
	}
}

static int
by_value(const void *a, const void *b)
{
	const uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

	return (x > y) - (x < y);
}

int
run_stage(int argc, char **argv)
{
	uint32_t *data = malloc(PIPELINE_BYTES), state;
	const char *word = argv[0];
	char text[16];
	size_t got;

	if (!strcmp(word, "exit"))
		return argc > 1 ? atoi(argv[1]) : 0;
	if (!strcmp(word, "make")) {
		state = SEED + (uint32_t)atoi(argv[1]);
		for (unsigned i = 0; i < PIPELINE_BYTES / 4; i++)
			data[i] = next_random(&state);
		write_all(STDOUT_FILENO, data, PIPELINE_BYTES);
		return 0;
	}
	got = read_all(STDIN_FILENO, data, PIPELINE_BYTES);
	if (!strcmp(word, "mix"))
		for (size_t i = 0; i < got / 4; i++)
			data[i] = (data[i] << 11 | data[i] >> 21) ^ (uint32_t)i;
	else if (!strcmp(word, "sort"))
		qsort(data, got / 4, 4, by_value);
	else if (!strcmp(word, "sum")) {
		snprintf(text, sizeof text, "%08x", fold(SEED, data, got));
		write_all(STDOUT_FILENO, text, 8);
		return 0;
	} else
		return 2;
	write_all(STDOUT_FILENO, data, got);
	return 0;
}

const struct trial process_trials[] = {
	{ "forks", forks }, { "pipelines", pipelines }, { "spawns", spawns }, { "copy_on_write", copy_on_write },
	{ NULL, NULL },
};
