/*
 * escape.c -- a far jump to the selector of the host's 64-bit code.
 *
 * Here the selector names data of ring 1, so it is #GP.  A monitor that lets the jump happen must end the machine;
 * whoever gets further than that, and comes back, says what the host answered.
 */
#include "parts.h"
#include "escape.h"

#define PAGE_OF_MINE	((uint32_t)text)

struct host_call {
	uint32_t number, arguments[5], how, arrived;
	uint64_t answer;
};
_Static_assert(offsetof(struct host_call, arguments) == ARGUMENTS && offsetof(struct host_call, how) == HOW &&
    offsetof(struct host_call, arrived) == ARRIVED && offsetof(struct host_call, answer) == ANSWER, "escape.h");

extern char plain_jump_33[], hidden_jump_33[], rewritten[];
extern struct host_call host_call;
struct host_call host_call;		/* named in assembly */
uint32_t clean_eax;

static char text[] = "/etc/passwd";

/* Numbers are those of 64-bit Linux, but for int80. */
static const struct escape {
	const char *name;
	uint32_t number, arguments[5], how;
} escapes[] = {
	{ "open", 2, { PAGE_OF_MINE }, HOW_SYSCALL },
	{ "write", 1, { 2, PAGE_OF_MINE, sizeof(text) - 1 }, HOW_SYSCALL },
	{ "socket", 41, { 2, 1 }, HOW_SYSCALL },
	{ "ptrace", 101, { 0 }, HOW_SYSCALL },
	{ "execve", 59, { PAGE_OF_MINE }, HOW_SYSCALL },
	{ "kill", 62, { 1 }, HOW_SYSCALL },
	{ "fork", 57, { 0 }, HOW_SYSCALL },
	{ "mmap", 9, { 0, 0x1000, 7, 0x22, 0xFFFFFFFF }, HOW_SYSCALL },
	{ "munmap", 11, { 0x10000, 0xFFFE0000 }, HOW_SYSCALL },
	{ "sigreturn", 15, { 0 }, HOW_SYSCALL },
	{ "exit", 231, { 77 }, HOW_SYSCALL },
	{ "int80", 1, { 77 }, HOW_INT80 },
	{ "read", 0, { 0 }, HOW_READ },
	{ "spin", 0, { 0 }, HOW_SPIN },
};

static struct fault
jump(void)
{
	clean_eax = 0;
	if (option_is("via", "rewritten", false))
		return user_fault(clean_rewrite, (uint32_t)rewritten);
	if (option_is("via", "alias", false)) {
		map_page(directory, WINDOW, (uint32_t)rewritten, RW);
		invalidate_page((void *)WINDOW);
		return user_fault(clean_rewrite, WINDOW);
	}
	return user_fault(clean_call, (uint32_t)(option_is("via", "hidden", false) ? hidden_jump_33 : plain_jump_33));
}

void
check_escape(void)
{
	struct fault fault;
	const struct escape *escape = escapes, *end = escapes + sizeof(escapes) / sizeof(escapes[0]);

	while (escape < end && !option_is("escape", escape->name, false))
		escape++;
	if (escape == end)
		stop("escape_is_known", "the command line is %s", command_line());
	host_call.number = escape->number;
	host_call.how = escape->how;
	memcpy(host_call.arguments, escape->arguments, sizeof(host_call.arguments));
	fault = jump();
	check("jump_to_33h_gp", is_fault(fault, VEC_GP, HOST_CODE64 & ~RPL_MASK), "vector %u error %x", fault.vector,
	    fault.error);
	check("the_hosts_code_is_out_of_reach", !host_call.arrived, "%s was answered with %llx", escape->name,
	    host_call.answer);
}
