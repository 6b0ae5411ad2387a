"""How a data set is divided into clients. One file a partition; `partitions` is the registry.

| choose | when |
|---|---|
| `natural` | the data has owners (writers, speakers, devices): the differences between clients are real |
| `iid` | a baseline without differences between clients |
| `dirichlet` | label skew of a chosen strength on data without owners |
| `shards` | label skew as in the first papers on federated learning |
| `quantity` | clients that differ in size only |
| `drawing` | more clients than the data has rows, up to two billion |

A partition outside this tree subclasses `Partition`; its package names it in the entry point group
`hpcfsl.partition`.
"""

from __future__ import annotations

from hpcfsl.data.partitions import dirichlet, drawing, iid, natural, quantity, shards
from hpcfsl.data.partitions.base import Partition, partitions

__all__ = ["Partition", "dirichlet", "drawing", "iid", "natural", "partitions", "quantity", "shards"]
