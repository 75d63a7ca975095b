/*
 * call_gates.h -- the call gates of this guest.  A gate's DPL is the outermost ring that may use it.
 */
#define GATE_SAY	0x58	/* any ring -> ring 0: print a line */
#define GATE_TO_RING2	0x60	/* ring 3 -> ring 2 */
#define GATE_TO_RING1	0x68	/* ring 2 -> ring 1 */
#define GATE_TO_RING0	0x70	/* ring 1 -> ring 0 */
#define GATE_SUM	0x78	/* any ring -> ring 0, five parameters copied */
#define CONFORMING_CS	0x80	/* conforming code, DPL 0: runs at the caller's ring */
#define READABLE_DS	0x88	/* DPL 3, read-only */
#define GATE_SAY_DPL3	(GATE_SAY | 3)
