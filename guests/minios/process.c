/*
 * process.c -- address spaces, the scheduler, and how a process begins and ends.
 *
 * The image's code and constants are readable by all rings, its data by the kernel alone; a process owns four pages,
 * at the same addresses as every other's.
 */
#include "kernel.h"

#define KERNEL_MEMORY	(8u << 20)
#define USER_FLAGS	(PTE_P | PTE_W | PTE_U)

/* What switch_stacks finds on the stack of a process that has not run yet. */
struct first_stack {
	uint32_t edi, esi, ebx, ebp;
	uint32_t return_address;
	struct trap_frame frame;
};

extern char image_start[], data_start[], trap_return[];

struct process processes[MAX_PROCESSES];
struct process *current = SHELL;
volatile uint32_t uptime_ticks;

static page_table *kernel_directory;
static uint32_t next_pid = 1;

static void
timer(struct trap_frame *frame)
{
	uptime_ticks++;
	current->ticks++;
	irq_eoi(IRQ_TIMER);
	serial_poll();
	if (frame->cs & RPL_MASK)
		yield();
}

/* A fault of a process ends it; one in the tour ends that step of the tour. */
static void
process_fault(struct trap_frame *frame)
{
	static const char *const names[] = {
		"divide error", "debug", "NMI", "breakpoint", "overflow", "bound", "invalid opcode", "no coprocessor",
		"double fault", "", "invalid TSS", "segment not present", "stack fault", "general protection",
		    "page fault",
	};
	struct fault fault = { .raised = true, .vector = frame->vector, .error = frame->error, .eip = frame->eip };
	const char *name = frame->vector < sizeof(names) / sizeof(names[0]) ? names[frame->vector] : "exception";

	if (ring_call_active())
		ring_call_end(fault);
	if (!(frame->cs & RPL_MASK))
		stop("kernel_does_not_fault", "vector %u error %x at %x", frame->vector, frame->error, frame->eip);
	print("[%u] %s: %s, error code %x, at %08x", current->pid, current->name, name, frame->error, frame->eip);
	if (frame->vector == VEC_PF)
		print(", address %08x", read_cr2());
	print(": ended\n");
	process_end(current);
}

void
processes_init(void)
{
	uint32_t address;
	int vector;

	kernel_directory = identity_directory(KERNEL_MEMORY, PTE_P | PTE_W);
	for (address = (uint32_t)image_start; address < (uint32_t)data_start; address += PAGE_SIZE)
		map_page(kernel_directory, address, address, PTE_P | PTE_U);
	for (address = ring_stack(3) & PTE_FRAME; address > ring_stack(2); address -= PAGE_SIZE)
		map_page(kernel_directory, address, address, USER_FLAGS);	/* for the tour */
	SHELL->state = READY;
	SHELL->pid = next_pid++;
	SHELL->name = "shell";
	SHELL->directory = kernel_directory;
	paging_on(kernel_directory);
	write_cr0(read_cr0() | CR0_WP);
	for (vector = VEC_DE; vector <= VEC_XM; vector++)
		on_trap(vector, process_fault);
	on_trap(VEC_IRQ + IRQ_TIMER, timer);
	pit_start(TICKS_PER_S);
	irq_unmask(IRQ_TIMER);
}

bool
user_readable(uint32_t address)
{
	page_table *directory = current->directory, pde = *pde_of(directory, address), pte;

	if (!(pde & PTE_P))
		return false;
	pte = *pte_of(directory, address);
	return (pde & pte & (PTE_P | PTE_U)) == (PTE_P | PTE_U);
}

/* A slot keeps its pages when its process ends; the next one finds them cleared. */
static void
give_address_space(struct process *process)
{
	uint32_t i, linear;

	if (!process->directory) {
		process->directory = allocate_pages(1);
		memcpy(process->directory, kernel_directory, PAGE_SIZE);
		for (i = 0; i < PRIVATE_PAGES; i++)
			map_page(process->directory, PRIVATE_BASE + i * PAGE_SIZE, (uint32_t)allocate_pages(1),
			    USER_FLAGS);
		process->kernel_stack_top = (uint32_t)allocate_pages(1) + PAGE_SIZE;
	}
	for (i = 0; i < PRIVATE_PAGES; i++) {
		linear = PRIVATE_BASE + i * PAGE_SIZE;
		memset((void *)(*pte_of(process->directory, linear) & PTE_FRAME), 0, PAGE_SIZE);
	}
}

struct process *
process_start(const char *name, void (*program)(void))
{
	struct process *process;
	struct first_stack *stack;

	for (process = SHELL + 1; process < processes + MAX_PROCESSES && process->state != FREE; process++)
		;
	if (process == processes + MAX_PROCESSES)
		return NULL;
	give_address_space(process);
	stack = (struct first_stack *)(process->kernel_stack_top - sizeof(*stack));
	*stack = (struct first_stack){
		.return_address = (uint32_t)trap_return,
		.frame = {
			.ds = USER_DS, .es = USER_DS, .eip = (uint32_t)program, .cs = USER_CS,
			.eflags = EFL_ONE | EFL_IF, .esp = PRIVATE_TOP - 16, .ss = USER_DS,
		},
	};
	process->kernel_esp = (uint32_t)stack;
	process->name = name;
	process->pid = next_pid++;
	process->ticks = process->switches = 0;
	process->state = READY;
	return process;
}

struct process *
process_by_pid(uint32_t pid)
{
	struct process *process;

	for (process = processes; process < processes + MAX_PROCESSES; process++)
		if (process->state != FREE && process->pid == pid)
			return process;
	return NULL;
}

uint32_t
processes_alive(void)
{
	uint32_t count = 0;
	struct process *process;

	for (process = SHELL + 1; process < processes + MAX_PROCESSES; process++)
		count += process->state != FREE;
	return count;
}

bool
processes_ready(void)
{
	struct process *process;

	for (process = SHELL + 1; process < processes + MAX_PROCESSES; process++)
		if (process->state == READY)
			return true;
	return false;
}

/* The next in line that can run; the shell always can, for it waits by yielding. */
static struct process *
choose(void)
{
	struct process *process = current;

	do {
		process = process == processes + MAX_PROCESSES - 1 ? processes : process + 1;
		if (process->state == ASLEEP && (int32_t)(uptime_ticks - process->wake_tick) >= 0)
			process->state = READY;
	} while (process->state != READY);
	return process;
}

void
yield(void)
{
	struct process *previous = current, *next = choose();

	if (next == previous)
		return;
	current = next;
	next->switches++;
	main_tss.tss.esp0 = next->kernel_stack_top;
	write_cr3((uint32_t)next->directory);
	switch_stacks(&previous->kernel_esp, next->kernel_esp);
}

void
process_sleep(uint32_t ticks)
{
	current->wake_tick = uptime_ticks + ticks;
	current->state = ASLEEP;
	yield();
}

void
process_end(struct process *process)
{
	process->state = FREE;
	if (process == current)
		yield();
}
