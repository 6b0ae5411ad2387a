"""One local step of many clients, by running the traced model with stacked layers on the folded batch.

The model is traced with `torch.fx`; its layers with parameters are replaced by stacked ones, all else (layers without
parameters, the module's own functions) runs as it is, on clients * batch samples. What mixes samples in such a place
would give wrong updates, which the trial in `trial` finds out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, fx, nn

from hpcfsl.models.dropout import KeyedDropout
from hpcfsl.models.link import Link
from hpcfsl.models.split import SplitModel
from hpcfsl.training.loss import sample_losses
from hpcfsl.training.precision import autocast
from hpcfsl.training.settings import TrainingSettings
from hpcfsl.training.stacked.layers import StackedLayer, stacked_layer


class UnstackableError(Exception):
    """Why a model cannot be trained stacked, in words that follow "because"."""


class GraphStep:
    """The forward and backward pass of a step, of stacked layers.

    Args:
        model: The split model.
        settings: Of local training.
        device: Where to train.

    Raises:
        UnstackableError: The model cannot be traced, or a parameter is used outside of the layers that are known.
    """

    def __init__(self, model: SplitModel, settings: TrainingSettings, device: torch.device) -> None:
        self._settings, self._device = settings, device
        halves = model.pieces().to(device).train()
        places = places_of(halves, model)
        self._forward, self._bound = stack_layers(halves, places)
        self.dropouts = [layer for layer in self._forward.modules() if isinstance(layer, KeyedDropout)]

    def __call__(
        self,
        weights: Sequence[Tensor],
        inputs: Tensor,
        targets: Tensor,
        shares: Tensor | None,
        masks: Sequence[Tensor],
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Return the loss of each client, float32 [clients], and its gradients, [clients, *shape] a parameter.

        Args:
            weights: One leaf [clients, *shape] a parameter, in the order of the layout.
            inputs: [clients * batch, ...], client after client.
            targets: [clients * batch, ...].
            shares: Part of each sample in its client's mean loss, [clients, batch]; None where all have the same.
            masks: One [clients * batch, *features] for each of `dropouts`.
        """
        for layer in self._bound:
            layer.bind(weights)
        for dropout, mask in zip(self.dropouts, masks, strict=False):
            dropout.mask = mask
        with autocast(self._settings, self._device):
            losses = sample_losses(self._forward(inputs), targets, self._settings.loss).view(len(weights[0]), -1)
        means = losses.mean(dim=1) if shares is None else (losses * shares).sum(dim=1)
        return means.detach(), torch.autograd.grad(means.sum(), weights, materialize_grads=True)


class BoundLayer(nn.Module):
    """Stands in the graph for a layer, and reads its weights from those of the step."""

    def __init__(self, layer: nn.Module, function: StackedLayer, places: Mapping[str, int]) -> None:
        super().__init__()
        # In a tuple the layer is no part of this module: its own parameters are not in use.
        self._layer, self._function, self._places = (layer,), function, places
        self._weights: dict[str, Tensor] = {}

    def bind(self, weights: Sequence[Tensor]) -> None:
        """Use these weights from now on."""
        self._weights = {name: weights[place] for name, place in self._places.items()}

    def forward(self, *args: Any, **options: Any) -> Any:
        """Return what the layer makes of its inputs, with the step's weights."""
        return self._function(self._layer[0], self._weights, *args, **options)


class _Tracer(fx.Tracer):
    """Leaves closed what is stacked or is handed its mask; opens what users wrote."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        closed = isinstance(m, KeyedDropout | Link) or stacked_layer(m) is not None
        return closed or super().is_leaf_module(m, module_qualified_name)


def places_of(halves: nn.Module, model: SplitModel) -> dict[int, int]:
    """Return where in the layout each parameter of `halves` stands, by its id."""
    order = {name: place for place, name in enumerate(model.layout.names)}
    return {id(parameter): order[name] for name, parameter in halves.named_parameters()}


def stack_layers(halves: nn.Module, places: Mapping[int, int]) -> tuple[fx.GraphModule, list[BoundLayer]]:
    """Return a module traced, with its layers stacked, and these layers, to be bound to the weights of each step.

    Raises:
        UnstackableError: The module cannot be traced, or a parameter is used outside of the layers that are known.
    """
    try:
        module = fx.GraphModule(halves, _Tracer().trace(halves), "StackedModel")
    except Exception as error:  # whatever the module's own code raises when it is fed proxies
        raise UnstackableError(f"torch.fx cannot trace the model ({error})") from error
    bound: dict[str, BoundLayer] = {}
    for node in module.graph.nodes:
        if node.op == "get_attr" and isinstance(_attribute(module, str(node.target)), nn.Parameter):
            raise UnstackableError(f"parameter {node.target} is used outside of a known layer")
        if node.op == "call_module" and str(node.target) not in bound:
            layer = module.get_submodule(str(node.target))
            if next(layer.parameters(), None) is not None:
                bound[str(node.target)] = _bind(str(node.target), layer, places)
    for target, stand_in in bound.items():
        parent, _, name = target.rpartition(".")
        setattr(module.get_submodule(parent), name, stand_in)
    return module, list(bound.values())


def _bind(target: str, layer: nn.Module, places: Mapping[int, int]) -> BoundLayer:
    function = stacked_layer(layer)
    if function is None:
        raise UnstackableError(f"layer {target} ({type(layer).__name__}) has no stacked form")
    named = layer.named_parameters(remove_duplicate=False)
    return BoundLayer(layer, function, {name: places[id(parameter)] for name, parameter in named})


def _attribute(module: nn.Module, target: str) -> Any:
    found: Any = module
    for name in target.split("."):
        found = getattr(found, name)
    return found
