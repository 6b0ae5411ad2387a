"""Cutting a model in two: the client half makes smashed data, the server half makes outputs from it.

A second cut leaves the server the middle alone: the tail behind it is with the client too, and so are the labels.

Layer 1. A plain `torch.nn.Sequential` is cut after any of its layers; any other module is traced with `torch.fx` and
cut after the call of a named layer. Where exactly one tensor crosses the cut, the two halves in a row compute the very
bits that the whole module computes; this is checked on a trial batch each time a model is split.
"""

from __future__ import annotations

import copy
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from math import prod
from typing import cast

from torch import Tensor, nn
from torch.func import functional_call

from hpcfsl.errors import ConfigError
from hpcfsl.models import chains, checks, graphs
from hpcfsl.models.checks import Predicts
from hpcfsl.models.initial import reset_weights
from hpcfsl.models.layout import Layout
from hpcfsl.models.link import Link
from hpcfsl.settings import suggest

NO_CUT = "none"
"""The cut that keeps the whole model on the client."""


@dataclass(frozen=True, kw_only=True)
class SplitModel:
    """A model in two halves, or three parts. They hold no state of the run: weights are always passed in.

    Attributes:
        whole: The module before the cut.
        client_half: Inputs [batch, ...] to smashed data [batch, *smashed_shape].
        server_half: Smashed data to outputs, or to what the tail takes; the identity where `cut` is "none".
        tail: What the server half returned to outputs, at the client; the identity without a second cut.
        cut: The layer after which the model is cut, or "none".
        layout: The flat update vector; names are those of the whole module behind "client.", "tail." or "server.".
        smashed_shape: Shape of the smashed data of one sample.
        returned_shape: Shape of what the server half makes of one sample.
        target_shape: Shape of the targets of one sample: () for one class, (positions,) for one at each position,
            (outputs,) for numbers.
        predicts: "classes", with logits [batch, *target_shape, classes], or "numbers", [batch, *target_shape].
        trial: The two samples on which the model was tried, [2, *sample_shape].
        link: What lies between the halves: a compression, or a plain link that passes everything on.
    """

    whole: nn.Module
    client_half: nn.Module
    server_half: nn.Module
    tail: nn.Module
    cut: str
    layout: Layout
    smashed_shape: tuple[int, ...]
    returned_shape: tuple[int, ...]
    target_shape: tuple[int, ...]
    trial: Tensor
    predicts: Predicts = "classes"
    link: Link = field(default_factory=Link)

    @property
    def up_bytes(self) -> int:
        """Bytes of one sample's smashed data on the wire."""
        return self.link.up_bytes(prod(self.smashed_shape))

    @property
    def down_bytes(self) -> int:
        """Bytes of one sample's cut gradient on the wire."""
        return self.link.down_bytes(prod(self.smashed_shape))

    def initial_weights(self, seed: int) -> Tensor:
        """Return float32 [layout.size] on the processor, a function of `seed`; by name the same at every cut."""
        module = copy.deepcopy(self.whole).cpu()
        reset_weights(module, seed)
        parameters = dict(module.named_parameters(remove_duplicate=False))
        return self.layout.flatten({name: parameters[name.partition(".")[2]].detach() for name in self.layout.names})

    def pieces(self) -> nn.Sequential:
        """Return a copy of all that a sample passes, in order; its parameters have the names of the layout."""
        link = {} if type(self.link) is Link else {"link": self.link}
        tail = {"tail": self.tail} if self.has_tail else {}
        parts = OrderedDict[str, nn.Module](client=self.client_half, **link, server=self.server_half, **tail)
        return copy.deepcopy(nn.Sequential(parts))

    @property
    def has_tail(self) -> bool:
        """Whether the client holds the end of the model too."""
        return bool(self._tail_names)

    def client_forward(self, weights: Mapping[str, Tensor], inputs: Tensor) -> Tensor:
        """Return the smashed data [batch, *smashed_shape] for weights by layout name (others' may be absent)."""
        return _call(self.client_half, self._client_names, weights, inputs)

    def server_forward(self, weights: Mapping[str, Tensor], smashed: Tensor) -> Tensor:
        """Return what the server half makes, [batch, *returned_shape], for weights by layout name."""
        return _call(self.server_half, self._server_names, weights, smashed)

    def tail_forward(self, weights: Mapping[str, Tensor], returned: Tensor) -> Tensor:
        """Return the outputs [batch, ...] of what the server half made, for weights by layout name."""
        return _call(self.tail, self._tail_names, weights, returned)

    def forward(self, weights: Mapping[str, Tensor], inputs: Tensor) -> Tensor:
        """Return the outputs [batch, ...] of inputs [batch, ...] for weights by layout name."""
        returned = self.server_forward(weights, self.link(self.client_forward(weights, inputs)))
        return self.tail_forward(weights, returned)

    @cached_property
    def _client_names(self) -> dict[str, str]:
        return _names_of(self.layout, "client.")

    @cached_property
    def _server_names(self) -> dict[str, str]:
        return _names_of(self.layout, "server.")

    @cached_property
    def _tail_names(self) -> dict[str, str]:
        return _names_of(self.layout, "tail.")


def cut_points(module: nn.Module) -> list[str]:
    """Return the layers after which `split` can cut `module`, in the order they run; "none" is always possible too.

    A cut must leave parameters on both sides and share none of them.
    """
    module = copy.deepcopy(module)  # tracing stores the constants it meets in the module
    return [name for name in _layers(module) if _can_cut(module, name)]


def tail_points(module: nn.Module, cut: str) -> list[str]:
    """Return the layers after which the tail can begin once `module` is cut after `cut`, in the order they run.

    As at the first cut, parameters must be left on both sides, and none shared.
    """
    return cut_points(cut_at(copy.deepcopy(module), cut)[1])


def split(
    module: nn.Module,
    cut: str,
    sample_shape: tuple[int, ...],
    key: str = "model.cut",
    *,
    tail: str | None = None,
    tail_key: str = "protocol.tail",
    target_shape: tuple[int, ...] = (),
    vocabulary: int = 0,
    predicts: Predicts = "classes",
) -> SplitModel:
    """Cut a module in two.

    Args:
        module: Takes inputs [batch, *sample_shape] to logits [batch, *target_shape, classes]; it is copied, never
            changed.
        cut: A name from `cut_points`, or "none".
        sample_shape: Shape of one sample.
        key: The setting that errors name.
        tail: A name from `tail_points`, "" for the last of them; None for no second cut.
        tail_key: The setting that errors about the second cut name.
        target_shape: Shape of the targets of one sample: () for one class, (positions,) for one at each position,
            (outputs,) for numbers.
        vocabulary: Number of symbols where the inputs are symbols, int64; 0 where they are numbers, float32.
        predicts: What the targets are; for "numbers" the module returns them as they are, [batch, *target_shape].

    Raises:
        ConfigError: The module cannot be split here, or not at all; says why and what to do.
    """
    section = key.rpartition(".")[0] or key
    checks.refuse_layers(module, section)
    module = checks.prepare(module, section)
    checks.refuse_parameters(module, section)
    inputs = checks.trial_inputs(sample_shape, vocabulary)
    logits = checks.try_whole(module, inputs, target_shape, section, predicts=predicts)
    checks.measure_dropout(module, inputs, section)
    client, server = _halves(module, cut, key)
    server, after = (server, nn.Identity()) if tail is None else _cut_tail(server, cut, tail, key, tail_key)
    smashed_shape, returned_shape = checks.try_parts((client, server, after), inputs, logits, key, cut)
    return SplitModel(
        whole=module,
        client_half=client,
        server_half=server,
        tail=after,
        cut=cut,
        layout=_layout(module, client, after, server),
        smashed_shape=smashed_shape,
        returned_shape=returned_shape,
        target_shape=target_shape,
        trial=inputs,
        predicts=predicts,
    )


def _halves(module: nn.Module, cut: str, key: str) -> tuple[nn.Module, nn.Module]:
    if cut == NO_CUT:
        return module, nn.Identity()
    known = _layers(module) if chains.is_chain(module) else [name for name, _ in module.named_modules() if name]
    if cut not in known:
        raise ConfigError(key, cut, suggest(cut, [*cut_points(module), NO_CUT]))
    try:
        return cut_at(module, cut)
    except graphs.UncuttableError as error:
        raise ConfigError(key, cut, f"{error}; choose one of {', '.join([*cut_points(module), NO_CUT])}") from error


def _cut_tail(server: nn.Module, cut: str, tail: str, key: str, tail_key: str) -> tuple[nn.Module, nn.Module]:
    """Return the middle of the model and its tail."""
    if cut == NO_CUT:
        raise ConfigError(key, cut, "leaves the server nothing that a tail could follow; cut the model")
    points = cut_points(server)
    if not points:
        fix = "leaves the server too few layers for a second cut; choose an earlier cut, or another protocol"
        raise ConfigError(key, cut, fix)
    if tail and tail not in points:
        raise ConfigError(tail_key, tail, f"no tail can begin there after cut {cut!r}: {suggest(tail, points)}")
    return cut_at(server, tail or points[-1])


def _layers(module: nn.Module) -> list[str]:
    return chains.list_layers(module) if chains.is_chain(module) else graphs.list_layers(module)


def _can_cut(module: nn.Module, cut: str) -> bool:
    try:
        cut_at(module, cut)
    except graphs.UncuttableError:
        return False
    return True


def cut_at(module: nn.Module, cut: str) -> tuple[nn.Module, nn.Module]:
    """Return the two halves of a module, which share its parameters; none of the checks of `split` is made.

    Raises:
        graphs.UncuttableError: It cannot be cut there.
    """
    client, server = (chains.cut_chain if chains.is_chain(module) else graphs.cut_graph)(module, cut)
    clients = {id(parameter): name for name, parameter in client.named_parameters()}
    servers = {id(parameter) for parameter in server.parameters()}
    if not clients:
        raise graphs.UncuttableError("leaves the client nothing to train")
    if not servers:
        raise graphs.UncuttableError("leaves the server nothing to train")
    shared = [name for number, name in clients.items() if number in servers]
    if shared:
        raise graphs.UncuttableError(f"parameter {shared[0]!r} would be on both sides")
    return client, server


def _layout(module: nn.Module, client: nn.Module, tail: nn.Module, server: nn.Module) -> Layout:
    order = {name: place for place, (name, _) in enumerate(module.named_parameters(remove_duplicate=False))}
    names: list[str] = []
    shapes: list[tuple[int, ...]] = []
    for prefix, half in (("client.", client), ("tail.", tail), ("server.", server)):
        # Tracing may list the layers in another order than the module does; the module's own order holds.
        for name, parameter in sorted(half.named_parameters(), key=lambda item: order[item[0]]):
            names.append(prefix + name)
            shapes.append(tuple(parameter.shape))
    client_size = sum(parameter.numel() for half in (client, tail) for parameter in half.parameters())
    return Layout(names=tuple(names), shapes=tuple(shapes), client_size=client_size)


def _names_of(layout: Layout, prefix: str) -> dict[str, str]:
    return {name.removeprefix(prefix): name for name in layout.names if name.startswith(prefix)}


def _call(half: nn.Module, names: Mapping[str, str], weights: Mapping[str, Tensor], inputs: Tensor) -> Tensor:
    parameters = {short: weights[name] for short, name in names.items()}
    return cast(Tensor, functional_call(half, parameters, (inputs,)))
