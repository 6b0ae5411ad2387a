"""Aggregation: inside a group (P2 step 7), across groups (step 8), and the order-free sum below both. Layer 3."""

from hpcfsl.aggregate import rules
from hpcfsl.aggregate.across import GlobalAggregation, GroupMasses, TargetUpdate, global_aggregations
from hpcfsl.aggregate.exact import exact_sum
from hpcfsl.aggregate.group import GroupOperation, group_operations

__all__ = [
    "GlobalAggregation",
    "GroupMasses",
    "GroupOperation",
    "TargetUpdate",
    "exact_sum",
    "global_aggregations",
    "group_operations",
    "rules",
]
