"""Ranks: who they are, what they say to each other, which groups each hosts. Layer 3; only `mpi` imports mpi4py."""
