"""Cutting a module of any kind after the call of a named layer, by tracing it with `torch.fx`.

Layer 1. What the named layer's output depends on becomes the client half, the rest the server half. That is possible
where tracing is (no control flow on the values of tensors) and where that output is all that the rest needs of the
client half. Parameter names stay as they were in the whole module. See https://docs.pytorch.org/docs/stable/fx.html .
"""

from __future__ import annotations

from collections.abc import Iterator

from torch import fx, nn

from hpcfsl.errors import ConfigError
from hpcfsl.settings import suggest

Halves = tuple[nn.Module, nn.Module]


class _UntraceableError(Exception):
    """Why a module cannot be traced, or cannot be cut at a layer."""


class _Tracer(fx.Tracer):
    """Opens every layer written by users, except the one to cut after, so that its output is a node of the graph."""

    def __init__(self, closed: str | None) -> None:
        super().__init__()
        self.closed = closed

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return module_qualified_name == self.closed or super().is_leaf_module(m, module_qualified_name)


def list_cuts(module: nn.Module) -> Iterator[tuple[str, Halves]]:
    """Yield each layer that `module` can be cut after with its halves, in the order the layers run."""
    try:
        graph = _trace(module, None)
    except _UntraceableError:
        return
    seen: set[str] = set()
    called = [str(node.target) for node in graph.nodes if node.op == "call_module"]
    for place, target in enumerate(called):
        # A layer of layers ends with the last call inside it.
        outer = [target[:end] for end, letter in enumerate(target) if letter == "."]
        later = called[place + 1 :]
        for name in [target, *reversed([name for name in outer if not any(t.startswith(name + ".") for t in later)])]:
            if name in seen:
                continue
            seen.add(name)
            try:
                yield name, _cut(module, name)
            except _UntraceableError:
                continue


def cut_graph(module: nn.Module, cut: str, key: str) -> Halves:
    """Return the two halves of `module`, cut after the call of the layer `cut`; they share its parameters.

    Raises:
        ConfigError: There is no such layer, the module cannot be traced, or more than one tensor crosses the cut.
    """
    if cut not in dict(module.named_modules()):
        raise ConfigError(key, cut, suggest(cut, [*(name for name, _ in list_cuts(module)), "none"]))
    try:
        return _cut(module, cut)
    except _UntraceableError as error:
        choices = ", ".join([*(name for name, _ in list_cuts(module)), "none"])
        raise ConfigError(key, cut, f"{error}; choose one of {choices}") from error


def _trace(module: nn.Module, closed: str | None) -> fx.Graph:
    try:
        graph = _Tracer(closed).trace(module)
    except Exception as error:  # whatever the module's own code raises when it is fed proxies
        raise _UntraceableError(f"torch.fx cannot trace {type(module).__name__} ({error})") from error
    if sum(node.op == "placeholder" for node in graph.nodes) != 1:
        raise _UntraceableError(f"forward of {type(module).__name__} takes more than one argument")
    graph.eliminate_dead_code()
    return graph


def _cut(module: nn.Module, cut: str) -> Halves:
    graph = _trace(module, cut)
    calls = [node for node in graph.nodes if node.op == "call_module" and node.target == cut]
    if len(calls) != 1:
        raise _UntraceableError(f"is called {len(calls)} times, not once")
    client = _ancestors(calls[0])
    crossing = {
        source.name
        for node in graph.nodes
        if node not in client
        for source in node.all_input_nodes
        if source in client and source is not calls[0] and source.op != "get_attr"
    }
    if crossing:
        raise _UntraceableError(f"more than one tensor would cross the cut ({', '.join(sorted(crossing))} too)")
    return _client(module, graph, calls[0], client), _server(module, graph, calls[0], client)


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
