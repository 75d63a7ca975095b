/*
 * shell.c -- reads lines from the serial port and does what they say.
 */
#include "kernel.h"

#define LINE_SIZE	80
#define BACKSPACE	8
#define DELETE		127
#define MAX_WORDS	8

struct words {
	int count;
	char *at[MAX_WORDS];
};

/* While the shell waits, others run; when none can, the processor halts until an interrupt. */
static void
wait_a_moment(void)
{
	yield();
	if (!serial_waiting() && !processes_ready())
		wait_for_interrupt();
	else {
		interrupts_on();
		__asm__ volatile("nop");	/* STI takes effect after this */
		interrupts_off();
	}
}

static int
wait_for_character(void)
{
	int c;

	while ((c = serial_take()) < 0)
		wait_a_moment();
	return c;
}

/* Reads one line; Ctrl-D on an empty line gives "exit". */
static void
read_line(char line[LINE_SIZE])
{
	static bool skip_newline;
	int length = 0, c;

	for (;;) {
		c = wait_for_character();
		if (c == '\n' && skip_newline) {
			skip_newline = false;
			continue;
		}
		skip_newline = c == '\r';
		if (c == '\r' || c == '\n')
			break;
		if (c == CTRL_D && !length) {
			memcpy(line, "exit", 5);
			put_char('\n');
			return;
		}
		if (c == CTRL_C) {
			length = 0;
			put_text("^C");
			break;
		}
		if ((c == BACKSPACE || c == DELETE) && length) {
			length--;
			put_text("\b \b");
		}
		if (c >= ' ' && c < DELETE && length < LINE_SIZE - 1) {
			line[length++] = (char)c;
			put_char((char)c);
		}
	}
	line[length] = 0;
	put_char('\n');
}

static struct words
split(char *line)
{
	struct words words = { 0 };

	while (words.count < MAX_WORDS) {
		while (*line == ' ')
			*line++ = 0;
		if (!*line)
			break;
		words.at[words.count++] = line;
		while (*line && *line != ' ')
			line++;
	}
	return words;
}

static bool
parse_number(const char *text, uint32_t *number)
{
	*number = 0;
	if (!*text)
		return false;
	for (; *text; text++) {
		if (*text < '0' || *text > '9')
			return false;
		*number = *number * 10 + (uint32_t)(*text - '0');
	}
	return true;
}

static void
wait_for(uint32_t pid)
{
	while (pid ? process_by_pid(pid) != NULL : processes_alive() != 0) {
		if (serial_interrupted()) {
			if (pid)
				process_end(process_by_pid(pid));
			put_text("^C\n");
			return;
		}
		wait_a_moment();
	}
}

static void
do_run(const struct words *words)
{
	bool background = words->count == 3 && !strcmp(words->at[2], "&");
	struct process *process;
	size_t i;

	if (words->count == 2 || background)
		for (i = 0; i < programs_count; i++) {
			if (strcmp(words->at[1], programs[i].name))
				continue;
			process = process_start(programs[i].name, programs[i].run);
			if (!process)
				print("there are %d processes already\n", MAX_PROCESSES);
			else if (background)
				print("[%u] %s\n", process->pid, process->name);
			else
				wait_for(process->pid);
			return;
		}
	print("run NAME waits for the program, run NAME & does not. The programs:\n");
	for (i = 0; i < programs_count; i++)
		print("  %-9s%s\n", programs[i].name, programs[i].what);
}

static void
do_wait(const struct words *words)
{
	(void)words;
	wait_for(0);
}

static void
do_ps(const struct words *words)
{
	const struct process *p;

	(void)words;
	print("  PID NAME      RING STATE   TICKS  SWITCHES  CR3\n");
	for (p = processes; p < processes + MAX_PROCESSES; p++)
		if (p->state != FREE)
			print("%5u %-9s %4d %-6s %6u %9u  %08x\n", p->pid, p->name, p == SHELL ? 0 : 3,
			    p == current ? "runs" : p->state == ASLEEP ? "sleeps" : "ready", p->ticks, p->switches,
			    (uint32_t)p->directory);
}

static void
do_kill(const struct words *words)
{
	uint32_t pid;
	struct process *process;

	if (words->count != 2 || !parse_number(words->at[1], &pid))
		print("kill PID ends a process; ps lists them\n");
	else if (!(process = process_by_pid(pid)))
		print("no process has the number %u\n", pid);
	else if (process == SHELL)
		print("that is the shell; use exit\n");
	else {
		process_end(process);
		print("[%u] %s: ended\n", pid, process->name);
	}
}

static void
do_mem(const struct words *words)
{
	extern char image_start[], image_end[], data_start[];

	(void)words;
	print("memory      %6u KiB\n", memory_bytes() / 1024);
	print("code        %6u KiB at %08x, readable by all rings\n", (uint32_t)(data_start - image_start) / 1024,
	    (uint32_t)image_start);
	print("kernel data %6u KiB at %08x, rings 0 to 2\n", (uint32_t)(image_end - data_start) / 1024,
	    (uint32_t)data_start);
	print("pages       %6u KiB for tables, stacks and processes\n", allocated_bytes() / 1024);
	print("a process   %6u KiB at %08x, its own\n", PRIVATE_PAGES * PAGE_SIZE / 1024, PRIVATE_BASE);
}

static void
do_uptime(const struct words *words)
{
	(void)words;
	print("%u.%02u s, %u ticks\n", uptime_ticks / TICKS_PER_S, uptime_ticks % TICKS_PER_S, uptime_ticks);
}

static void
do_rings(const struct words *words)
{
	(void)words;
	tour_rings();
}

static void
do_echo(const struct words *words)
{
	int i;

	for (i = 1; i < words->count; i++)
		print("%s%s", words->at[i], i + 1 < words->count ? " " : "");
	put_char('\n');
}

static void
do_exit(const struct words *words)
{
	uint32_t status = 0;

	if (words->count > 1 && (!parse_number(words->at[1], &status) || status > 255)) {
		print("exit STATUS: a number up to 255\n");
		return;
	}
	print("Power off after %u.%02u s, status %u.\n", uptime_ticks / TICKS_PER_S, uptime_ticks % TICKS_PER_S,
	    status);
	power_off((uint8_t)status);
}

static void do_help(const struct words *words);

static const struct {
	const char *name;
	void (*run)(const struct words *words);
	const char *what;
} commands[] = {
	{ "help", do_help, "this list" },
	{ "run", do_run, "run a program; run alone lists them" },
	{ "ps", do_ps, "the processes" },
	{ "kill", do_kill, "kill PID: end a process" },
	{ "wait", do_wait, "wait until all programs have ended; Ctrl-C stops waiting" },
	{ "rings", do_rings, "a tour through the four rings" },
	{ "mem", do_mem, "what the memory is used for" },
	{ "uptime", do_uptime, "how long the machine has been running" },
	{ "echo", do_echo, "say something" },
	{ "exit", do_exit, "exit [STATUS]: power off" },
	{ "halt", do_exit, "the same" },
};

static void
do_help(const struct words *words)
{
	size_t i;

	(void)words;
	for (i = 0; i < sizeof(commands) / sizeof(commands[0]); i++)
		print("  %-9s%s\n", commands[i].name, commands[i].what);
}

void
shell(void)
{
	char line[LINE_SIZE];
	struct words words;
	size_t i;

	for (;;) {
		put_text("minios> ");
		read_line(line);
		words = split(line);
		if (!words.count)
			continue;
		for (i = 0; i < sizeof(commands) / sizeof(commands[0]); i++)
			if (!strcmp(words.at[0], commands[i].name))
				break;
		if (i < sizeof(commands) / sizeof(commands[0]))
			commands[i].run(&words);
		else
			print("%s is no command; try help\n", words.at[0]);
	}
}
