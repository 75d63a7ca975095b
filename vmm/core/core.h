/*
 * core.h -- what the C core shares with Python and with other processes.
 *
 * This header is the single source of every shared layout: the cffi declarations are
 * generated from it, and tests/vmm/test_layout.py compares each ctypes structure with it.
 * So it holds plain enums, structs and prototypes only: no bit-fields, no attributes, no
 * inline functions; explicit padding everywhere.
 *
 * Four mappings, each a file descriptor that several processes may map:
 *
 *   ram      guest memory: guest page PPN lies at byte PPN * 4096
 *   dev      device memory: ROM images, the hidden side of PAM, video memory
 *   pages    struct machine, then per-PPN arrays at the offsets it names
 *   state    struct vcpu for each vCPU and struct interrupts, at directory offsets
 *
 * and one control page per vCPU.  Everything process-private lives in the engine's arena.
 */
#ifndef RF_CORE_H
#define RF_CORE_H

#ifndef RF_CDEF
#include <stdint.h>
#endif

/* ---- registers ---------------------------------------------------------------- */

enum gpr { EAX, ECX, EDX, EBX, ESP, EBP, ESI, EDI, R_ZERO };	/* R_ZERO always reads 0 */
enum sreg { ES, CS, SS, DS, FS, GS, LDTR, TR };

/* Segment attributes: the descriptor's bits 40..47 and 52..55, and "unusable". */
enum seg_attr {
	SEG_TYPE = 0x0f, SEG_A = 0x01, SEG_W = 0x02, SEG_R = 0x02, SEG_E = 0x04, SEG_C = 0x04,
	SEG_CODE = 0x08, SEG_S = 0x10, SEG_DPL = 0x60, SEG_DPL_SHIFT = 5, SEG_P = 0x80,
	SEG_AVL = 0x1000, SEG_L = 0x2000, SEG_DB = 0x4000, SEG_G = 0x8000,
	SEG_UNUSABLE = 0x10000
};

enum eflags {
	FL_CF = 1 << 0, FL_1 = 1 << 1, FL_PF = 1 << 2, FL_AF = 1 << 4, FL_ZF = 1 << 6, FL_SF = 1 << 7,
	FL_TF = 1 << 8, FL_IF = 1 << 9, FL_DF = 1 << 10, FL_OF = 1 << 11, FL_IOPL = 3 << 12,
	FL_IOPL_SHIFT = 12, FL_NT = 1 << 14, FL_RF = 1 << 16, FL_VM = 1 << 17, FL_AC = 1 << 18,
	FL_VIF = 1 << 19, FL_VIP = 1 << 20, FL_ID = 1 << 21,
	FL_ARITH = 0x8d5
};

enum cr0 {
	CR0_PE = 1 << 0, CR0_MP = 1 << 1, CR0_EM = 1 << 2, CR0_TS = 1 << 3, CR0_ET = 1 << 4, CR0_NE = 1 << 5,
	CR0_WP = 1 << 16, CR0_AM = 1 << 18, CR0_NW = 1 << 29, CR0_CD = 1 << 30
};
/* Bit 31 does not fit an int enumerator that cffi and ISO C agree on. */
#define CR0_PG 0x80000000u

enum cr4 {
	CR4_VME = 1 << 0, CR4_PVI = 1 << 1, CR4_TSD = 1 << 2, CR4_DE = 1 << 3, CR4_PSE = 1 << 4, CR4_PAE = 1 << 5,
	CR4_MCE = 1 << 6, CR4_PGE = 1 << 7, CR4_PCE = 1 << 8, CR4_OSFXSR = 1 << 9, CR4_OSXMMEXCPT = 1 << 10
};

enum efer { EFER_SCE = 1 << 0, EFER_NXE = 1 << 11 };

enum dr6 { DR6_B0 = 1, DR6_B = 0xf, DR6_BD = 1 << 13, DR6_BS = 1 << 14, DR6_BT = 1 << 15 };

enum vector {
	V_DE, V_DB, V_NMI, V_BP, V_OF, V_BR, V_UD, V_NM, V_DF, V_CSO, V_TS, V_NP, V_SS, V_GP, V_PF,
	V_MF = 16, V_AC, V_MC, V_XM
};

enum activity { ACT_RUNNING, ACT_HALTED, ACT_WAIT_SIPI, ACT_SHUTDOWN };

/* Interrupt shadow: what the last instruction inhibits at the next boundary. */
enum inhibit { INHIBIT_STI = 1, INHIBIT_SS = 2 };

/* One segment register with its hidden part.  `limit` is in bytes, already scaled by G. */
struct segment {
	uint32_t selector;
	uint32_t base;
	uint32_t limit;
	uint32_t attr;		/* enum seg_attr */
};

struct dtable {
	uint32_t base;
	uint32_t limit;		/* 16 bits */
};

/*
 * The architectural state of one vCPU, all of it: laid over the state file.  Between runs
 * it is canonical (eflags complete, FPU state in fx).
 */
struct vcpu {
	uint32_t r[9];		/* enum gpr */
	uint32_t eip;
	uint32_t eflags;
	uint32_t cpl;
	struct segment seg[8];	/* enum sreg */
	struct dtable gdtr;
	struct dtable idtr;
	uint32_t cr0;
	uint32_t cr2;
	uint32_t cr3;
	uint32_t cr4;
	uint32_t dr[8];		/* 0..3, 6, 7 */
	uint64_t pdpte[4];	/* loaded by MOV CR3 when PAE */
	uint64_t efer;
	uint32_t activity;	/* enum activity */
	uint32_t inhibit;	/* enum inhibit */
	uint32_t nmi_pending;	/* 0/1 */
	uint32_t nmi_blocked;	/* from delivery until IRET */
	uint32_t init_pending;
	uint32_t sipi_vector;	/* 0x100 | vector when a SIPI waits */
	uint32_t pending_dr6;	/* #DB causes to report at the next boundary */
	uint32_t a20_mask;	/* 0xffffffff or 0xffefffff, applied to physical addresses */
	uint64_t msr_tsc_offset;	/* added to the machine's TSC */
	uint64_t msr_apic_base;
	uint32_t msr_sysenter_cs;
	uint32_t msr_sysenter_esp;
	uint32_t msr_sysenter_eip;
	uint32_t vcpu_id;
	uint64_t msr_pat;
	uint64_t msr_misc_enable;
	uint64_t msr_mtrr_def;
	uint64_t msr_mtrr_fix[11];
	uint64_t msr_mtrr_var[16];
	uint64_t msr_mcg_status;
	uint64_t msr_microcode;
	uint64_t msr_debugctl;
	uint64_t msr_ebl_cr_poweron;
	uint32_t ignne;		/* IGNNE#: port F0h was written while an x87 error was pending, CR0.NE clear */
	uint32_t reserved_fpu;
	uint64_t reserved[8];
	uint8_t fx[512];	/* FXSAVE image; 16-byte aligned within the struct */
};

/* ---- guest physical memory ---------------------------------------------------- */

enum slot_kind { SLOT_NONE, SLOT_RAM, SLOT_ROM, SLOT_MMIO, SLOT_FRAMEBUFFER };

/* A range of PPNs.  `file_page` is an index into ram (SLOT_RAM) or dev (others). */
struct slot {
	uint32_t first_ppn;
	uint32_t pages;
	uint32_t kind;		/* enum slot_kind */
	uint32_t in_dev;	/* 1: backed by dev rather than ram */
	uint64_t file_page;
	uint64_t dirty_offset;	/* SLOT_FRAMEBUFFER: bytes into pages, one byte per page */
};

#define RF_SLOTS 64
#define RF_VCPUS 4
#define RF_MACHINE_VERSION 1

/* pmap entry: the state in the low byte, a pool index or swap slot in bits 12 and up. */
enum pmap_state { PMAP_ABSENT, PMAP_PRIVATE, PMAP_SHARED, PMAP_BALLOONED, PMAP_SWAPPED };

enum page_flag {
	PG_TRACED = 1,		/* a guest page table that some shadow depends on */
	PG_WINDOW = 16		/* << vCPU: its user window maps the page writable: window.h */
};

/* At offset 0 of the pages mapping.  Offsets are bytes from its start. */
struct machine {
	uint32_t version;
	uint32_t vcpus;
	uint64_t ram_pages;	/* the top PPN of RAM + 1; every per-PPN array has this many entries */
	uint64_t dev_pages;
	uint64_t stamps;	/* uint32_t per PPN: bumped by every write that cached code or tables must see */
	uint64_t codemap;	/* uint64_t per PPN: bit n set if bytes n*64.. were decoded */
	uint64_t flags;		/* uint8_t per PPN: enum page_flag */
	uint64_t pmap;		/* uint64_t per PPN */
	uint64_t interrupts;	/* unused by the core: where the VMX put struct interrupts in state */
	uint32_t slot_count;
	uint32_t slot_generation;	/* bumped with every change of slots */
	struct slot slots[RF_SLOTS];	/* sorted by first_ppn, not overlapping */
	uint64_t watch_epoch;	/* counts the requests to give up write tags: watch.h */
	uint64_t changes;	/* counts the times that stamps moved other than by a vCPU's own stores with one vCPU */
};

/* ---- the control page: one per vCPU ------------------------------------------- */

enum exit_kind {
	EXIT_NONE, EXIT_IO, EXIT_MMIO, EXIT_HLT, EXIT_HYPERCALL, EXIT_QUANTUM, EXIT_KICK,
	EXIT_FAULT_PPN, EXIT_SHUTDOWN, EXIT_DEBUG, EXIT_ERROR
};
#define RF_EXIT_KINDS 11

enum error_reason {
	ERR_NONE, ERR_ARENA_FULL, ERR_BAD_STATE, ERR_RUNAWAY_FAULTS, ERR_WORLD_DIED, ERR_MEMORY_ORDER,
	ERR_GUEST_ESCAPED,	/* the guest reached 64-bit code of the world's process */
	ERR_HOST_SELECTOR,	/* it jumped through a selector of the host's */
	ERR_HOST_REFUSED	/* the host lacks what direct execution needs, or has no filter for system calls */
};

/* Why ring 1-3 code was not run directly. */
enum decline {
	DECLINE_NONE,
	DECLINE_MODE,		/* virtual-8086, real or 16-bit code or stack */
	DECLINE_FLAGS,		/* IF clear, IOPL, TF, NT, AC, RF */
	DECLINE_FPU,		/* CR0.TS or EM, or an ignored x87 error */
	DECLINE_DEBUG,		/* debug registers, single step, the debugger */
	DECLINE_CLOCK,		/* a counted clock */
	DECLINE_SEGMENT,	/* the host cannot express a segment */
	DECLINE_CODE,		/* the page holds instructions that answer wrongly outside ring 0 */
	DECLINE_PAGE,		/* code that the window cannot show: a device, page 0, no mapping yet */
	DECLINE_COLD,		/* a burst was given up: its pages cost more than it gained */
	RF_DECLINES
};

/* Stop with DEBUG_STEP after one instruction; STEP_ALONE also holds INTR off, unless halted. */
enum step { STEP_OFF, STEP_ONE, STEP_ALONE };

enum debug_reason { DEBUG_BREAKPOINT = 1, DEBUG_WATCHPOINT, DEBUG_STEP };

enum attention {	/* bits of control.attention; set by any thread with an atomic or */
	ATTN_KICK = 1, ATTN_INTERRUPT = 2, ATTN_FLUSH = 4,
	ATTN_WATCH = 8		/* from another vCPU: machine.watch_epoch has moved */
};

#define RF_IO_BUFFER 1024

/* What left run(), and room for the answer.  Python treats every field as hostile. */
struct exit_info {
	uint32_t kind;		/* enum exit_kind */
	uint32_t write;		/* IO, MMIO: 1 = from the guest; FAULT_PPN: a write access */
	uint32_t width;		/* IO, MMIO: bytes, 1, 2, 4 (MMIO: also 8, 16) */
	uint32_t count;		/* IO: units; > 1 only for string instructions, data in `buffer` */
	uint64_t address;	/* IO: port; MMIO: gpa; FAULT_PPN: ppn; DEBUG: linear address */
	uint64_t data[2];	/* IO with count 1, MMIO: little-endian; HYPERCALL: unused */
	uint32_t reason;	/* ERROR, DEBUG: enum */
	uint32_t vector;	/* SHUTDOWN: first vector of the chain that ended in it */
	uint32_t interruptible;	/* HLT: IF was set */
	uint32_t string;	/* IO: 1 for INS/OUTS */
	uint8_t buffer[RF_IO_BUFFER];	/* IO with count > 1: count * width bytes */
};

/* Monotonic counters; never saved. */
struct run_stats {
	uint64_t insns;		/* retired */
	uint64_t insns_user;	/* of them at CPL 3 */
	uint64_t exits[16];	/* by enum exit_kind */
	uint64_t transitions[16];	/* from ring * 4 + to ring */
	uint64_t ns_user;	/* sampled at event polls */
	uint64_t ns_system;
	uint64_t ns_halted;
	uint64_t interrupts;
	uint64_t exceptions[32];
	uint64_t true_faults;
	uint64_t hidden_faults;	/* shadow fills */
	uint64_t tlb_fills;
	uint64_t tlb_flushes;
	uint64_t cr3_loads;
	uint64_t spt_kept;	/* shadow leaf tables found still true at a CR3 load */
	uint64_t spt_dropped;
	uint64_t blocks_decoded;
	uint64_t block_lookups;
	uint64_t code_writes;	/* stores that dropped decoded code */
	uint64_t trace_hits;	/* stores to traced page tables */
	uint64_t polls;
	uint64_t ns_direct;	/* in guest code, the ways in and out included */
	uint64_t direct_bursts;	/* times that direct execution began */
	uint64_t direct_hidden;	/* faults that only the window made */
	uint64_t direct_traced;	/* stores that had to be seen: page tables, decoded or scanned code */
	uint64_t direct_faults;	/* exceptions left to the interpreter, which finds the guest's own faults */
	uint64_t direct_privileged;	/* of them #GP: privileged instructions, INT n, segment loads */
	uint64_t direct_calls;	/* system calls of the host caught */
	uint64_t direct_kicks;	/* signals for attention, or from the timer */
	uint64_t window_maps;	/* calls that mapped something */
	uint64_t window_pages;	/* pages that they mapped */
	uint64_t window_unmaps;
	uint64_t window_switches;	/* to another address space or view */
	uint64_t direct_declines[16];	/* by enum decline */
	uint64_t direct_stays[4];	/* in guest code, by ring */
	uint64_t direct_longer;	/* waits made longer, for a burst had not paid */
	uint64_t direct_shorter;	/* the opposite */
	uint64_t direct_retrials;	/* waits made shorter to see whether it pays by now */
	uint64_t direct_trusted;	/* pages of code that run directly with SCAN_PLAIN instructions in them */
	uint64_t crew_turns;	/* hand-overs to the process that has another address space's window */
};

/* Trace events go to a ring that the reader empties after each run(). */
enum trace_kind { TRACE_IO = 1, TRACE_IRQ = 2, TRACE_FAULT = 4, TRACE_CR = 8, TRACE_INT = 16 };

struct trace_event {
	uint32_t kind;		/* enum trace_kind */
	uint32_t what;		/* port, vector or register number */
	uint32_t eip;
	uint32_t cs;
	uint32_t value;		/* data, error code, new value */
	uint32_t extra;		/* IO: width | write << 8; FAULT: CR2; INT: EAX */
	uint64_t time_ns;
};

#define RF_TRACE_EVENTS 256

struct control {
	uint32_t attention;	/* enum attention; also the futex a halted runner sleeps on */
	uint32_t running;	/* 1 while a runner is inside run() */
	uint32_t halted;	/* 1 while it sleeps there */
	uint32_t reserved1;
	uint32_t quantum_us;	/* worlds: the argument of run() */
	uint32_t single_step;	/* enum step */
	uint32_t trace_mask;	/* enum trace_kind */
	uint32_t trace_count;	/* events written since the reader last set it to 0; may exceed the ring */
	uint32_t resume_breakpoint;	/* do not stop at a breakpoint on the first instruction */
	uint32_t shutdown;	/* worlds: 1 = leave */
	uint32_t command;	/* worlds: enum world_command of the next turn */
	uint32_t reserved0;
	struct exit_info exit;
	struct run_stats stats;
	struct trace_event trace[RF_TRACE_EVENTS];
	uint64_t watched;	/* machine.watch_epoch as of the last time that this vCPU gave up its write tags */
	uint32_t direct;	/* 1 while guest code may be running directly: a kick must be a signal */
	int32_t pid;		/* worlds: the process */
	int32_t crew[8];	/* and the others that belong to it, 0 where there is none: world_crew.c */
	int32_t kick_fd[8];	/* a pidfd of that process, in the process of vCPU n's world; [RF_VCPUS]: in the VMX */
	uint8_t before_turn[16];	/* whoever spins looks at a cache line that nothing else is stored to */
	uint32_t turn;		/* worlds: whose turn it is: enum turn (futex) */
	uint8_t after_turn[60];
};

/* ---- CPU model ----------------------------------------------------------------- */

struct cpuid_leaf {
	uint32_t leaf;
	uint32_t subleaf;	/* 0xffffffff: any */
	uint32_t eax, ebx, ecx, edx;
};

#define RF_CPUID_LEAVES 32

/* What CPUID answers, after masks.  Hidden features still execute. */
struct cpu_model {
	uint32_t count;
	uint32_t max_phys_bits;	/* 36 */
	uint32_t reserved[2];
	struct cpuid_leaf leaves[RF_CPUID_LEAVES];
};

/* ---- the engine ---------------------------------------------------------------- */

/* Host addresses of the mappings, for engine_init; valid in one process. */
struct engine_map {
	void *ram;
	void *dev;
	void *pages;
	void *interrupts;	/* struct interrupts */
	void *vcpu;		/* struct vcpu */
	void *control;		/* struct control */
	void *control_of[RF_VCPUS];	/* every vCPU's, for kicks */
	void *vcpu_of[RF_VCPUS];
	uint64_t ram_bytes;
	uint64_t dev_bytes;
	uint64_t pages_bytes;
};

#define RF_ARENA_MIN 0x1000000ul

/* Lay an engine into `arena` (page aligned, zeroed).  0, or a negative error_reason. */
int engine_init(void *arena, uint64_t arena_bytes, const struct engine_map *map, const struct cpu_model *model);

/* Power-on or RESET# state: Intel SDM 3A, 9.1.1, "Processor State After Reset". */
void vcpu_reset(struct vcpu *v, uint32_t vcpu_id, uint32_t signature);

/* Run until something needs the rest of the system; the exit is in the control page. */
int engine_run(void *arena, uint32_t quantum_us);

/* Set attention bits, and wake a halted runner or interrupt direct execution.  Any thread of the VMX. */
void control_kick(struct control *ctl, uint32_t bits);

/* Bytes of `count` pages from first_ppn have changed by other ways than a vCPU: move their stamps.  Any thread. */
void machine_bump(struct machine *m, uint64_t first_ppn, uint64_t count);

/* Forget every cached translation and decoded block. */
void engine_flush(void *arena);

/* Breakpoints of the debugger: linear addresses.  kind 0 execute, 1 write, 2 read/write. */
int engine_set_breakpoint(void *arena, uint32_t linear, uint32_t length, uint32_t kind);
int engine_clear_breakpoint(void *arena, uint32_t linear, uint32_t length, uint32_t kind);

/* Translate as a supervisor read would, without setting A.  0, or -1 when not mapped. */
int engine_translate(void *arena, uint32_t linear, uint64_t *gpa);

/* ---- worlds: an engine in a process of its own (world.c, turn.c) ----------------- */

/*
 * control.turn.  Whoever does not have the turn waits for it, and sets TURN_ASLEEP before it
 * sleeps: only then does handing over cost a system call.
 */
enum turn { TURN_VMX, TURN_WORLD, TURN_ASLEEP };

enum world_command { WORLD_RUN, WORLD_FLUSH, WORLD_TRANSLATE, WORLD_SET_BREAKPOINT, WORLD_CLEAR_BREAKPOINT };

/* Does a world run rings 1-3 on the host processor?  EAGER: whether it pays or not. */
enum direct_mode { DIRECT_OFF, DIRECT_ON, DIRECT_EAGER };

#define RF_KICK_SIGNAL 10
#define RF_WORLD_VERSION 2

/*
 * What a world is told when it starts, and the arguments and answers of its commands: a file of
 * its own, whose descriptor is the program's argument.  Sizes and offsets are in bytes; the
 * descriptors are the world's.
 */
struct world_page {
	uint32_t version;
	uint32_t vcpu;			/* which of the vCPUs this world runs */
	uint32_t vcpus;
	uint32_t spin_ns;		/* wait so long for a turn before sleeping; 0 with one host CPU */
	int32_t ram_fd;
	int32_t dev_fd;
	int32_t pages_fd;
	int32_t state_fd;
	int32_t control_fd[RF_VCPUS];
	uint64_t ram_bytes;
	uint64_t dev_bytes;
	uint64_t pages_bytes;
	uint64_t state_bytes;
	uint64_t control_bytes;
	uint64_t arena_bytes;
	uint64_t interrupts_offset;	/* in state */
	uint64_t vcpu_offset[RF_VCPUS];	/* in state */
	int32_t status;			/* of engine_init, then of the last command: 0 is good */
	uint32_t linear;		/* commands: engine_translate's and the breakpoints' arguments */
	uint32_t length;
	uint32_t kind;
	uint64_t gpa;
	uint32_t direct;		/* enum direct_mode */
	uint32_t reserved;
	struct cpu_model model;
};

/*
 * Start the program in image_fd with one argument, in a new session, with `fds` and nothing else
 * open; it dies with the calling thread.  Its process id, or a negative errno.
 */
int world_spawn(int32_t image_fd, const int32_t *fds, uint32_t count, const char *argument);

enum world_run_failure {
	RUN_LATE = -1,		/* the turn is not back yet: wait for it */
	RUN_NOT_OURS = -2	/* the world had the turn already: nothing was asked of it */
};

/* A whole WORLD_RUN: the exit's kind, or enum world_run_failure. */
int world_run(struct control *ctl, uint32_t quantum_us, uint32_t spin_ns, uint64_t timeout_ns);

/* Give the world its turn, for control.command; then wait as world_wait does. */
int world_turn(struct control *ctl, uint32_t spin_ns, uint64_t timeout_ns);

/* 1 when the VMX has the turn (again), 0 when it did not come within timeout_ns. */
int world_wait(struct control *ctl, uint32_t spin_ns, uint64_t timeout_ns);

#endif
