"""Federated split learning with trust-scored aggregation, simulated at scale under MPI and recorded to be analysed."""

from __future__ import annotations

__version__ = "0.1.0"
