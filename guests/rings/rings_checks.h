/*
 * rings_checks.h -- what each ring may not do, and that it does the rest.
 */
#pragma once

void check_privileged_instructions(void);
void check_ports(void);
void check_interrupt_flag(void);
void check_segment_loads(void);
void check_transfers(void);
void check_supervisor_pages(void);
void check_bursts(void);
