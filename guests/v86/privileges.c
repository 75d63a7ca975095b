/*
 * privileges.c -- what an 8086 program may do: CPL is 3, and IOPL has a meaning of its own.  [SDM 3, 20.2.7 and 20.2.8]
 */
#include "parts.h"

#define DELAY_PORT	0x80

static bool
faulted_at(const char *program, enum vector vector, uint32_t error)
{
	return v86_end.vector == vector && v86_end.error == error && v86_end.eip == v86_offset(program);
}

static void
expect_gp(const char *name, const char *program, uint32_t eflags, uint32_t error)
{
	v86_run(program, eflags);
	check(name, faulted_at(program, VEC_GP, error), "vector %u error %x at %x, expected error %x at %x",
	    v86_end.vector,
	    v86_end.error, v86_end.eip, error, v86_offset(program));
}

static void
expect_runs(const char *name, const char *program, uint32_t eflags)
{
	v86_run(program, eflags);
	check(name, v86_halted() && v86_end.eip != v86_offset(program), "vector %u error %x at %x", v86_end.vector,
	    v86_end.error, v86_end.eip);
}

void
check_iopl(void)
{
	expect_gp("iopl0_cli_gp", prog_cli, 0, 0);
	expect_gp("iopl0_sti_gp", prog_sti, 0, 0);
	expect_gp("iopl0_pushf_gp", prog_pushf, 0, 0);
	expect_gp("iopl0_popf_gp", prog_popf, 0, 0);
	expect_gp("iopl0_int_gp", prog_int, 0, 0);
	expect_gp("iopl2_cli_gp", prog_cli, EFL_IOPL(2), 0);
	expect_gp("iopl2_int_gp", prog_int, EFL_IOPL(2), 0);
	v86_run(prog_iret, 0);
	check("iopl0_iret_gp", v86_end.vector == VEC_GP && !v86_end.error &&
	    *(volatile uint8_t *)(V86_BASE + v86_end.eip) == OP_IRET, "vector %u at %x", v86_end.vector, v86_end.eip);
	expect_runs("iopl3_cli_runs", prog_cli, EFL_IOPL(3));
	expect_runs("iopl3_pushf_runs", prog_pushf, EFL_IOPL(3));
	expect_runs("iopl3_iret_runs", prog_iret, EFL_IOPL(3));
	v86_run(prog_flags, EFL_IOPL(3) | EFL_IF);
	check("iopl3_pushf_shows_if_and_iopl", (v86_word(saw_flags) & (EFL_IF | EFL_IOPL(3))) == (EFL_IF | EFL_IOPL(3)),
	    "FLAGS %x", v86_word(saw_flags));
	check("iopl3_cli_clears_if", !(v86_word(saw_flags2) & EFL_IF), "FLAGS %x", v86_word(saw_flags2));
	expect_gp("hlt_gp_even_with_iopl3", prog_hlt, EFL_IOPL(3), 0);
	expect_gp("mov_cr0_gp", prog_mov_cr0, EFL_IOPL(3), 0);
}

/* The I/O bitmap decides alone, whatever IOPL is. */
void
check_ports(void)
{
	expect_gp("out_without_map_gp", prog_out8, EFL_IOPL(3), 0);
	main_tss.tss.io_map_base = offsetof(struct main_tss, io_map);
	expect_gp("out_with_map_bit_set_gp", prog_out8, EFL_IOPL(3), 0);
	main_tss.io_map[DELAY_PORT / 8] &= (uint8_t)~1;
	expect_runs("out_with_map_bit_clear_runs", prog_out8, 0);
	expect_gp("out16_with_one_bit_clear_gp", prog_out16, 0, 0);
	main_tss.io_map[DELAY_PORT / 8] &= (uint8_t)~2;
	expect_runs("out16_with_two_bits_clear_runs", prog_out16, 0);
	main_tss.io_map[DELAY_PORT / 8] |= 3;
	main_tss.tss.io_map_base = NO_IO_MAP;
}

void
check_protected_only(void)
{
	static const struct {
		const char *name, *program;
	} rows[] = {
		{ "arpl_ud", prog_arpl }, { "lar_ud", prog_lar }, { "sldt_ud", prog_sldt }, { "str_ud", prog_str },
		{ "verr_ud", prog_verr },
	};
	size_t i;

	for (i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		v86_run(rows[i].program, EFL_IOPL(3));
		check(rows[i].name, faulted_at(rows[i].program, VEC_UD, 0), "vector %u at %x", v86_end.vector,
		    v86_end.eip);
	}
	v86_run(prog_limit, 0);
	check_silicon("word_across_64_kib_gp", v86_end.vector == VEC_GP && !v86_halted(),
	    "checks no segment limits on data");
	v86_run(prog_offset32, 0);
	check_silicon("offset_beyond_64_kib_gp", v86_end.vector == VEC_GP && !v86_halted(),
	    "checks no segment limits on data");
}
