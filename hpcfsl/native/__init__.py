"""Kernels in C++ for the processor: what no library has, because no library trains thousands of small models at once.

Layer 0. The package works without them (where no C++ compiler was there when it was installed): every caller has a
path through torch. `library` loads them; `src/` holds them, written once and compiled for each instruction set.
"""
