"""pfl's simulation at work: `python pfl_worker.py JSON` in an environment that has `pfl[pytorch]`.

Real pfl throughout: its federated averaging on its simulated backend, its PyTorch model, its sampler. Several
processes are pfl's own distributed mode: PFL_WORKER_RANK and PFL_WORKER_ADDRESSES in the environment, sums over
torch.distributed. Its evaluation is on in the first round only, which is not timed.
"""

from __future__ import annotations

import os
from typing import Any

import torch
from common import Clock, build_model, make_clients, mean_loss, peak_memory_bytes, read_request, tell

if torch.cuda.device_count() == 1 and "PFL_WORKER_ADDRESSES" in os.environ:
    # pfl takes NCCL where there is a GPU, but NCCL refuses two processes on one card; Gloo sums their updates there.
    start_group = torch.distributed.init_process_group
    torch.distributed.init_process_group = lambda backend, **others: start_group("gloo", **others)

from pfl.aggregate.simulate import SimulatedBackend
from pfl.algorithm.base import NNAlgorithmParams
from pfl.algorithm.federated_averaging import FederatedAveraging
from pfl.callback.base import TrainingProcessCallback
from pfl.data.dataset import Dataset
from pfl.data.federated_dataset import FederatedDataset
from pfl.data.sampling import get_user_sampler
from pfl.hyperparam.base import NNEvalHyperParams, NNTrainHyperParams
from pfl.internal.ops import pytorch_ops
from pfl.metrics import Metrics, Weighted
from pfl.model.pytorch import PyTorchModel

_NEVER = 1_000_000_000


class Trained(torch.nn.Module):
    """A module with the two methods that pfl asks for."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.body = build_model(name)

    def loss(self, inputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Return the loss of a batch in training."""
        self.train()
        loss: torch.Tensor = mean_loss(self.body(inputs), targets)
        return loss

    @torch.no_grad()
    def metrics(self, inputs: torch.Tensor, targets: torch.Tensor) -> dict[str, Any]:
        """Return the loss of a batch in evaluation."""
        self.eval()
        return {"loss": Weighted(mean_loss(self.body(inputs), targets).item() * len(inputs), len(inputs))}


class StopWhenTimed(TrainingProcessCallback):
    """Marks rounds; root says when to stop, and all processes stop in the same round."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock

    def after_central_iteration(
        self, aggregate_metrics: Metrics, model: Any, *, central_iteration: int
    ) -> tuple[bool, Metrics]:
        """Return whether it is enough."""
        enough = torch.tensor([float(self._clock.round_done())])
        if pytorch_ops.distributed.world_size > 1:
            torch.distributed.broadcast(enough, src=0)
        return bool(enough.item()), Metrics()


def make_model(request: dict[str, Any]) -> PyTorchModel:
    """Return pfl's model: plain SGD at the client and at the server."""
    torch.manual_seed(0)
    module = Trained(request["workload"])
    return PyTorchModel(module, torch.optim.SGD, torch.optim.SGD(module.parameters(), lr=1.0))


def make_backend(request: dict[str, Any]) -> SimulatedBackend:
    """Return pfl's simulation over the generated clients, their samples in memory as tensors."""
    inputs, targets = (torch.from_numpy(values) for values in make_clients(request))

    def make_dataset(client: int) -> Dataset:
        return Dataset([inputs[client], targets[client]], user_id=client)

    sampler = get_user_sampler("minimize_reuse", range(request["population"]))
    clients = FederatedDataset(make_dataset, sampler)
    return SimulatedBackend(training_data=clients, val_data=clients)


def main() -> None:
    """Run rounds until enough are timed; the first process prints what was measured."""
    request, distributed = read_request(), pytorch_ops.distributed
    clock = Clock(request, root=distributed.global_rank == 0)
    FederatedAveraging().run(
        algorithm_params=NNAlgorithmParams(
            central_num_iterations=_NEVER,
            evaluation_frequency=_NEVER,
            train_cohort_size=request["cohort"],
            val_cohort_size=0,
        ),
        backend=make_backend(request),
        model=make_model(request),
        model_train_params=NNTrainHyperParams(
            local_num_epochs=1, local_learning_rate=request["learning_rate"], local_batch_size=request["batch"]
        ),
        model_eval_params=NNEvalHyperParams(local_batch_size=request["samples"]),
        callbacks=[StopWhenTimed(clock)],
        send_metrics_to_platform=False,
    )
    tell(request, clock.marks, [peak_memory_bytes()], ("pfl",))


if __name__ == "__main__":
    main()
