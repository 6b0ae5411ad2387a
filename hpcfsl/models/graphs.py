"""Cutting a module of any kind after the call of a named layer, by tracing it with `torch.fx`.

Layer 1. What the named layer's output depends on becomes the client half, the rest the server half. That is possible
where tracing is (no control flow on the values of tensors) and where that output is all that the rest needs of the
client half. Parameter names stay as they were in the whole module. See https://docs.pytorch.org/docs/stable/fx.html .
"""

from __future__ import annotations

from collections.abc import Iterable

from torch import fx, nn

from hpcfsl.models.dropout import KeyedDropout
from hpcfsl.models.pooled import MeanEmbedding
from hpcfsl.models.recurrent import Gru, Lstm
from hpcfsl.models.sequences import Channels, LastPosition, MeanPosition, Steps
from hpcfsl.models.transformer import Positions

_CLOSED = (Gru, Lstm, KeyedDropout, Steps, Channels, LastPosition, MeanPosition, MeanEmbedding, Positions)


class UncuttableError(Exception):
    """Why a module cannot be cut after a layer, in words that follow the layer's name."""


class _Tracer(fx.Tracer):
    """Opens every layer written by users, except the one to cut after, so that its output is a node of the graph.

    This project's own layers stay closed too: opened, a dropout would be traced without the mask it gets in training.
    """

    def __init__(self, closed: str | None) -> None:
        super().__init__()
        self.closed = closed

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        closed = module_qualified_name == self.closed or isinstance(m, _CLOSED)
        return closed or super().is_leaf_module(m, module_qualified_name)


def list_layers(module: nn.Module) -> list[str]:
    """Return the names of all layers that `module` calls, in the order they end; none where it cannot be traced."""
    try:
        graph = _trace(module, None)
    except UncuttableError:
        return []
    return _ends(str(node.target) for node in graph.nodes if node.op == "call_module")


def trace(module: nn.Module) -> fx.Graph:
    """Return the graph of the layers and functions that `module` calls; torch's layers and this project's stay closed.

    Raises:
        UncuttableError: `module` cannot be traced, or takes more than one argument.
    """
    return _trace(module, None)


def cut_graph(module: nn.Module, cut: str) -> tuple[nn.Module, nn.Module]:
    """Return the two halves of `module`, cut after the call of the layer `cut`; they share its parameters.

    Raises:
        UncuttableError: The module cannot be traced, the layer is not called exactly once or not on the samples, or
            more than one tensor crosses the cut.
    """
    graph = _trace(module, cut)
    calls = [node for node in graph.nodes if node.op == "call_module" and node.target == cut]
    if len(calls) != 1:
        raise UncuttableError(f"is called {len(calls)} times, not once")
    client = _ancestors(calls[0])
    if not any(node.op == "placeholder" for node in client):
        raise UncuttableError("does not depend on the samples")
    crossing = _crossing(graph, client) - {calls[0].name}
    if crossing:
        raise UncuttableError(f"more than one tensor would cross the cut ({', '.join(sorted(crossing))} too)")
    return _client(module, graph, calls[0], client), _server(module, graph, calls[0], client)


def _ends(called: Iterable[str]) -> list[str]:
    """Return the layers of a trace in the order they end; a layer of layers ends with the last call inside it."""
    last: dict[str, tuple[int, int]] = {}
    for place, target in enumerate(called):
        parts = target.split(".")
        for depth in range(len(parts), 0, -1):
            last[".".join(parts[:depth])] = (place, -depth)
    return sorted(last, key=last.__getitem__)


def _trace(module: nn.Module, closed: str | None) -> fx.Graph:
    try:
        graph = _Tracer(closed).trace(module)
    except Exception as error:  # whatever the module's own code raises when it is fed proxies
        raise UncuttableError(f"torch.fx cannot trace {type(module).__name__} ({error})") from error
    if sum(node.op == "placeholder" for node in graph.nodes) != 1:
        raise UncuttableError(f"forward of {type(module).__name__} takes more than one argument")
    _drop_unneeded(graph)
    return graph


def _drop_unneeded(graph: fx.Graph) -> None:
    """Erase what the output does not depend on; a read of a shape that nobody uses must not cross a cut."""
    needed = _ancestors(next(node for node in graph.nodes if node.op == "output"))
    for node in reversed(list(graph.nodes)):
        if node not in needed and node.op != "placeholder":
            graph.erase_node(node)


def _crossing(graph: fx.Graph, client: set[fx.Node]) -> set[str]:
    """Return the names of what the server half would read from the client half, other than parameters and constants."""
    server = [node for node in graph.nodes if node not in client]
    sources = {source for node in server for source in node.all_input_nodes}
    return {source.name for source in sources & client if source.op != "get_attr"}


def _ancestors(last: fx.Node) -> set[fx.Node]:
    found, todo = {last}, [last]
    while todo:
        fresh = [node for node in todo.pop().all_input_nodes if node not in found]
        found.update(fresh)
        todo += fresh
    return found


def _client(module: nn.Module, graph: fx.Graph, last: fx.Node, inside: set[fx.Node]) -> nn.Module:
    half, copies = fx.Graph(), dict[fx.Node, fx.Node]()
    for node in graph.nodes:
        if node in inside:
            copies[node] = half.node_copy(node, copies.__getitem__)
    half.output(copies[last])
    return fx.GraphModule(module, half, "ClientHalf")


def _server(module: nn.Module, graph: fx.Graph, last: fx.Node, inside: set[fx.Node]) -> nn.Module:
    half, copies = fx.Graph(), dict[fx.Node, fx.Node]()
    copies[last] = half.placeholder("smashed")
    for node in graph.nodes:
        # Constants and parameters are no data: each half reads its own.
        if node not in inside or (node.op == "get_attr" and any(user not in inside for user in node.users)):
            copies[node] = half.node_copy(node, copies.__getitem__)
    return fx.GraphModule(module, half, "ServerHalf")
