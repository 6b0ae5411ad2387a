"""The client side of Flower's contender: trains one client on each message.

A module of its own, so that Ray's worker processes import it once and keep the samples and the module between clients.
"""

from __future__ import annotations

import functools
import json
import os
from typing import Any

import torch
from common import build_model, make_clients, mean_loss
from flwr.app import ArrayRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp

app = ClientApp()


@functools.lru_cache(maxsize=1)
def prepare() -> tuple[dict[str, Any], torch.nn.Module, torch.Tensor, torch.Tensor]:
    """Return the request, a module, and all clients' inputs and targets; made once a process."""
    request: dict[str, Any] = json.loads(os.environ["HPCFSL_BENCH_REQUEST"])
    torch.set_num_threads(request["threads"])
    inputs, targets = (torch.from_numpy(values) for values in make_clients(request))
    return request, build_model(request["workload"]), inputs, targets


@app.train()
def train(message: Message, context: Context) -> Message:
    """Return the weights after one epoch on the samples of this client."""
    request, module, inputs, targets = prepare()
    module.load_state_dict(message.content["arrays"].to_torch_state_dict())
    module.train()
    optimizer = torch.optim.SGD(module.parameters(), lr=request["learning_rate"])
    client, size = int(context.node_config["partition-id"]), request["batch"]
    for first in range(0, request["samples"], size):
        batch = slice(first, first + size)
        optimizer.zero_grad()
        mean_loss(module(inputs[client, batch]), targets[client, batch]).backward()
        optimizer.step()
    metrics = MetricRecord({"num-examples": request["samples"]})
    content = RecordDict({"arrays": ArrayRecord(module.state_dict()), "metrics": metrics})
    return Message(content=content, reply_to=message)
