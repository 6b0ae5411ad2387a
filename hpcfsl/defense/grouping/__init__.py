"""Grouping: which participating clients train, are scored and are summed together (P2 step 1; section `[groups]`)."""

from hpcfsl.defense.grouping import policies
from hpcfsl.defense.grouping.grouping import Grouping, groupings

__all__ = ["Grouping", "groupings", "policies"]
