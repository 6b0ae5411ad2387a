"""Cutting a `torch.nn.Sequential` after one of its children, without tracing.

Layer 1. Sequentials inside a Sequential are opened, so "features.3" is a cut as well as "features". Parameter names
stay as they were in the whole module. For modules of any other kind see `graphs`.
"""

from __future__ import annotations

from collections import OrderedDict

from torch import nn


def is_chain(module: nn.Module) -> bool:
    """Return whether `module` runs its children one after the other and does nothing else."""
    return isinstance(module, nn.Sequential) and type(module).forward is nn.Sequential.forward


def list_layers(module: nn.Module) -> list[str]:
    """Return the names of all layers of a chain, in the order they run; inner layers before the chain they are in."""
    names = []
    # Not named_children, which leaves out a layer that occurs twice.
    for name, child in module._modules.items():
        if child is not None and is_chain(child):
            names += [f"{name}.{inner}" for inner in list_layers(child)]
        names.append(name)
    return names


def cut_chain(module: nn.Module, cut: str) -> tuple[nn.Sequential, nn.Sequential]:
    """Return the layers of a chain up to and with `cut`, and those after it; the children are shared, not copied."""
    before: OrderedDict[str, nn.Module] = OrderedDict()
    after: OrderedDict[str, nn.Module] = OrderedDict()
    head, _, inner = cut.partition(".")
    side = before
    for name, child in module._modules.items():
        assert child is not None
        side[name] = child
        if name == head:
            side = after
            if inner:
                before[name], after[name] = cut_chain(child, inner)
    return nn.Sequential(before), nn.Sequential(after)
