"""Ringfence beside other ways to run the same guest code; `python -m bench` prints the ratios."""
