/*
 * world.c -- the freestanding world executable: one vCPU's engine in a process of its own.
 *
 * A static position-independent program without libc.  It is started with one argument, the
 * number of the descriptor that holds its struct world_page; that page names the others.  It maps
 * them, lays an engine into an anonymous arena, and then serves turns: control.command, and for
 * WORLD_RUN the exit in the control page.  Invariants:
 *
 *   W1  it touches the shared mappings only while it has the turn (but for control.attention);
 *   W2  from its first run on it makes no system calls but those that world_filter.c lets through;
 *   W3  it ends with the VMX (PR_SET_PDEATHSIG, set before it began) or by control.shutdown.
 *
 * Source: System V ABI, AMD64 supplement, 3.4.1 "Initial Stack and Register State".
 */
#include "engine.h"
#include "sysraw.h"
#include "turn.h"
#include "world_direct.h"
#include "world_filter.h"
#include "world.h"
#include "world_probe.h"

enum { READ_WRITE = 3, MAP_SHARED = 1, MAP_PRIVATE = 2, MAP_ANONYMOUS = 0x20, MAP_NORESERVE = 0x4000 };

/* ---- mappings ----------------------------------------------------------------------------------- */

static int32_t
parse_descriptor(const char *text)
{
	int32_t value = 0;

	for (; *text >= '0' && *text <= '9' && value < 1 << 24; text++)
		value = value * 10 + (*text - '0');
	return value;
}

static void *
map_kept(int32_t fd, uint64_t bytes)
{
	const int64_t at = sys_mmap(0, bytes, READ_WRITE, MAP_SHARED, fd, 0);

	if (at < 0 && at > -(int64_t)PAGE_SIZE)
		sys_exit_group(STATUS_MAPS);
	return (void *)(uintptr_t)at;
}

/* The descriptor is of no use afterwards. */
static void *
map_file(int32_t fd, uint64_t bytes)
{
	void *at = map_kept(fd, bytes);

	sys_call3(SYS_close, (uint64_t)fd, 0, 0);
	return at;
}

/* Shared with the crew: world_crew.c. */
static void *
map_shared(uint64_t bytes)
{
	const int64_t at = sys_mmap(0, bytes, READ_WRITE, MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	if (at < 0 && at > -(int64_t)PAGE_SIZE)
		sys_exit_group(STATUS_MAPS);
	return (void *)(uintptr_t)at;
}

static void
map_all(const struct world_page *w, struct engine_map *map)
{
	uint8_t *state = map_file(w->state_fd, w->state_bytes);
	uint32_t i;

	/* The window maps these two again, page by page: world_window.c. */
	map->ram = w->direct ? map_kept(w->ram_fd, w->ram_bytes) : map_file(w->ram_fd, w->ram_bytes);
	map->dev = w->direct ? map_kept(w->dev_fd, w->dev_bytes) : map_file(w->dev_fd, w->dev_bytes);
	map->pages = map_file(w->pages_fd, w->pages_bytes);
	map->ram_bytes = w->ram_bytes;
	map->dev_bytes = w->dev_bytes;
	map->pages_bytes = w->pages_bytes;
	map->interrupts = state + w->interrupts_offset;
	for (i = 0; i < RF_VCPUS && i < w->vcpus; i++) {
		map->vcpu_of[i] = state + w->vcpu_offset[i];
		map->control_of[i] = map_file(w->control_fd[i], w->control_bytes);
	}
	map->vcpu = map->vcpu_of[w->vcpu];
	map->control = map->control_of[w->vcpu];
}

/* ---- direct execution ------------------------------------------------------------------------------ */

static int32_t
begin_direct(void *arena, const struct world_page *w)
{
	struct direct *d = map_shared(sizeof *d);

	d->eager = w->direct == DIRECT_EAGER;
	return direct_setup(arena, d, w->ram_fd, w->dev_fd) ? 0 : -ERR_HOST_REFUSED;
}

/* Before the first run every world of the machine is there, so that they can be kicked from now on. */
static bool
meet_others(struct engine *e)
{
	const uint32_t me = e->v->vcpu_id;
	uint32_t i;

	for (i = 0; i < RF_VCPUS; i++) {
		struct control *other = e->ctl_of[i];

		if (!other || other == e->ctl)
			continue;
		other->kick_fd[me] = (int32_t)sys_call3(SYS_pidfd_open, (uint64_t)other->pid, 0, 0);
		if (other->kick_fd[me] < 0)
			return false;
	}
	return true;
}

/* Give up all system calls that will not be needed; the first process of the crew kicks the others. */
static int32_t
settle(struct engine *e, const struct world_page *w, bool first)
{
	struct filter_rules rules = {
		.ram_fd = w->direct ? w->ram_fd : -1, .dev_fd = w->direct ? w->dev_fd : -1, .signal = RF_KICK_SIGNAL
	};
	const uint32_t me = e->v->vcpu_id;
	uint32_t i;

	for (i = 0; i < RF_VCPUS; i++) {
		struct control *other = e->ctl_of[i];

		if (!other || other == e->ctl)
			continue;
		rules.pidfd[rules.pidfds++] = other->kick_fd[me];
	}
	for (i = 1; e->direct && first && i < e->direct->crew; i++)
		rules.pidfd[rules.pidfds++] = e->direct->members[i].pidfd;
	return filter_install(&rules) == 0 ? 0 : -ERR_HOST_REFUSED;
}

/* ---- turns ---------------------------------------------------------------------------------------- */

static int32_t
obey(void *arena, struct control *ctl, struct world_page *w)
{
	switch (ctl->command) {
	case WORLD_RUN:
		arena_in_large_pages(arena);
		engine_run(arena, ctl->quantum_us);
		return 0;
	case WORLD_FLUSH:
		engine_flush(arena);
		return 0;
	case WORLD_TRANSLATE:
		return engine_translate(arena, w->linear, &w->gpa);
	case WORLD_SET_BREAKPOINT:
		return engine_set_breakpoint(arena, w->linear, w->length, w->kind);
	case WORLD_CLEAR_BREAKPOINT:
		return engine_clear_breakpoint(arena, w->linear, w->length, w->kind);
	default:
		return -ERR_BAD_STATE;
	}
}

NORETURN static void
serve(void *arena, struct control *ctl, struct world_page *w)
{
	bool settled = false;
	uint32_t member = 0;

	for (;;) {
		turn_give(&ctl->turn, TURN_VMX);
		turn_wait(&ctl->turn, TURN_WORLD, w->spin_ns, TURN_FOREVER);
		if (ctl->shutdown)
			sys_exit_group(STATUS_SHUTDOWN);
		if (ctl->command == WORLD_RUN && !settled) {
			if (!meet_others(arena))
				sys_exit_group(STATUS_NOT_SETTLED);
			if (w->direct)
				member = crew_muster(arena);
			if (settle(arena, w, member == 0) != 0)
				sys_exit_group(STATUS_NOT_SETTLED);
			settled = true;
		}
		if (member == 0)
			w->status = obey(arena, ctl, w);
		else
			crew_join(arena, member);
		member = 0;
	}
}

static int
is_probe(const char *argument)
{
	const char *prefix = PROBE_ARGUMENT;

	for (; *prefix; prefix++, argument++)
		if (*argument != *prefix)
			return 0;
	return 1;
}

void
world_main(const uint64_t *stack)
{
	struct world_page *w;
	struct engine_map map = { 0 };
	const char *argument;
	void *arena;

	if (stack[0] != 2)
		sys_exit_group(STATUS_ARGUMENT);
	argument = (const char *)(uintptr_t)stack[2];
	if (is_probe(argument))
		probe_main(parse_descriptor(argument + sizeof PROBE_ARGUMENT - 1));
	w = map_file(parse_descriptor(argument), sizeof *w);
	if (w->version != RF_WORLD_VERSION || w->vcpus > RF_VCPUS || w->vcpu >= w->vcpus)
		sys_exit_group(STATUS_ARGUMENT);
	map_all(w, &map);
	arena = arena_map(w->arena_bytes);
	if (!arena)
		sys_exit_group(STATUS_MAPS);
	w->status = engine_init(arena, w->arena_bytes, &map, &w->model);
	if (w->status == 0 && w->direct)
		w->status = begin_direct(arena, w);
	serve(arena, map.control, w);
}
