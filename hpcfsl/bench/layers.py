"""Where the native engine spends its time: seconds and operations of each layer, forward and backward.

The engine takes the time around each layer itself, one client after another on one thread. The figures are those of the
fastest of several passes: what a layer takes when nothing else is in the way.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from hpcfsl.bench.flops import LayerFlops, count_layers
from hpcfsl.bench.request import Request, configuration
from hpcfsl.parallel.communicator import SerialCommunicator
from hpcfsl.state import initial_state
from hpcfsl.training.native.binding import NativeEngine
from hpcfsl.training.native.executor import NativeExecutor
from hpcfsl.training.native.program import compile_program
from hpcfsl.training.updates import LocalData
from hpcfsl.world import World, build_world

PRODUCTS = ("linear", "shared-linear", "convolution", "gru")
_CLIENTS, _PASSES = 8, 7
Row = dict[str, Any]


def measure_layers(request: Request) -> Row:
    """Return the engine's time for each layer of a workload's model, in microseconds a local step; none elsewhere."""
    world = build_world(configuration(request), SerialCommunicator())
    executor = world.executor
    if not isinstance(executor, NativeExecutor):
        return {"executor": executor.name, "layers": []}
    engine = NativeEngine(compile_program(world.model, executor.plan, timed=True).words)
    data, start = _some_clients(world), initial_state(world).weights
    updates = start.new_empty(len(data.clients), len(start))
    steps = int(-(-data.counts // executor.plan.batch).sum())
    passes = []
    for _ in range(_PASSES):
        executor.train_with(engine, start, data, updates, seed=0, round=0)
        passes.append(engine.layer_seconds())
    microseconds = 1e6 * np.min(passes, axis=0) / steps
    flops = count_layers(world.model.whole, world.model.trial[:1])
    return {
        "executor": executor.name,
        "batch": executor.plan.batch,
        "layers": _rows(executor.program.layers, microseconds, flops, executor.plan.batch),
    }


def _some_clients(world: World) -> LocalData:
    import torch

    clients = np.arange(_CLIENTS)
    rows = world.population.train_rows_of(clients)
    return LocalData(
        clients=clients,
        counts=world.population.train_counts(clients),
        inputs=torch.from_numpy(world.feed.inputs(rows)),
        targets=torch.from_numpy(world.feed.targets(rows)),
    )


def _rows(kinds: tuple[str, ...], times: np.ndarray, flops: list[LayerFlops], batch: int) -> list[Row]:
    counted = iter(flops)
    rows = []
    for place, kind in enumerate(kinds):
        layer = next(counted) if kind in PRODUCTS else None
        forward, backward = float(times[2 * place]), float(times[2 * place + 1])
        rows.append(
            {
                "layer": layer.name if layer else "",
                "kind": kind,
                "forward_us": forward,
                "backward_us": backward,
                "gflops_per_second": 1e-3 * batch * layer.training / (forward + backward) if layer else None,
            }
        )
    rows.append({"layer": "", "kind": "loss", "forward_us": float(times[-2]), "backward_us": 0.0})
    rows.append({"layer": "", "kind": "samples and step", "forward_us": float(times[-1]), "backward_us": 0.0})
    return [{"gflops_per_second": None, **row} for row in rows]
