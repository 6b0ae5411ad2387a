"""Faults of clients: who leaves, whose upload is lost, whose upload arrives broken. Layer 2.

A rule (section `[faults]`) draws at most one fault for each participating client and round, keyed by seed, round and
client. What follows from a fault is the same for every rule: `leaving` says how far a client came, `corruption` breaks
uploads.
"""

from hpcfsl.faults import no_faults, random
from hpcfsl.faults.faults import Faults, faults
from hpcfsl.faults.kinds import DROPPED, LOST, Fault

__all__ = ["DROPPED", "LOST", "Fault", "Faults", "faults", "no_faults", "random"]
