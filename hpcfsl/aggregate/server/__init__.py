"""Server optimisers: how the target update moves the global model (section `[server_optimizer]`).

`server_optimizer` is the seam, `applying` takes the step, and one file a family holds the rules: `average`, `momentum`,
`adaptive` (Adam and Yogi).
"""

from hpcfsl.aggregate.server import adaptive, average, momentum
from hpcfsl.aggregate.server.applying import Moved, apply_update
from hpcfsl.aggregate.server.server_optimizer import ServerOptimizer, server_optimizers

__all__ = ["Moved", "ServerOptimizer", "adaptive", "apply_update", "average", "momentum", "server_optimizers"]
