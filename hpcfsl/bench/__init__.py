"""Benchmarks: the same work by this program and by its peers, taking turns on one machine.

Layer 4. `hpcfsl bench` is a command for people and job scripts; no test times anything, and no run reads what it
measured. A *contender* is one way to do the work (2 ranks of ours, pfl as 2 processes, ...). In every repeat each
contender starts afresh and runs once, in turn, so that a slow spell of the machine falls on all of them alike; what is
compared are medians over repeats and ratios inside a repeat. `docs/performance.md` says what is measured and how.
"""
