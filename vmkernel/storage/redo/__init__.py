"""Redo logs: what is done with the links of a chain as files: made, folded into their parents, moved, emptied."""
