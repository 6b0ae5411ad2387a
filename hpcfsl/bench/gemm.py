"""The machine's speed at multiplying float32 matrices, the ceiling that efficiencies are measured against.

`python -m hpcfsl.bench.gemm JSON`, as many processes side by side as the contender has, one thread each. The matrices
are of a size at which torch's product has reached its full speed.
"""

from __future__ import annotations

import statistics
import sys

import torch

from hpcfsl.bench.clock import round_seconds, tell, time_rounds
from hpcfsl.bench.request import Request, configuration, read_request
from hpcfsl.parallel.communicator import SerialCommunicator
from hpcfsl.parallel.device import device_of_rank

_SIZE = {"cpu": 1024, "cuda": 8192}


def measure(request: Request) -> dict[str, object]:
    """Return when each product began and how many operations it takes."""
    torch.set_num_threads(request.threads)
    device = device_of_rank(configuration(request).run.device, 0)
    size = _SIZE[device.type]
    first, second = torch.rand(size, size, device=device), torch.rand(size, size, device=device)
    out = torch.empty_like(first)

    def product() -> None:
        torch.mm(first, second, out=out)
        if device.type == "cuda":
            torch.cuda.synchronize()

    marks = time_rounds(product, SerialCommunicator(), warmup=3, seconds=request.seconds, rounds=5)
    return {"marks": marks, "flops": 2 * size**3, "median_seconds": statistics.median(round_seconds(marks))}


if __name__ == "__main__":
    tell(measure(read_request(sys.argv[1])))
