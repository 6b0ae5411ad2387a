"""Which device a rank computes on: a GPU of its own, or the CPU.

Layer 3. What a rank can see depends on the scheduler: all GPUs of the node, or only its own, which is then number 0 for
everybody. So the ranks tell each other which devices they see, by names that are the same on every rank, and each finds
its own from the same list.
"""

from __future__ import annotations

import os
from collections.abc import Sequence

import torch

from hpcfsl.errors import ConfigError
from hpcfsl.parallel.alike import ranges
from hpcfsl.parallel.communicator import Communicator, agree
from hpcfsl.provenance import node_name


def find_device(setting: str, communicator: Communicator, *, share: bool = False, tf32: bool = False) -> torch.device:
    """Collective. Return the device of this rank, set up for reproducible numbers.

    Args:
        setting: `run.device`.
        communicator: The ranks.
        share: `run.share_devices`: whether several ranks may take one GPU.
        tf32: Whether products and convolutions of float32 numbers on a GPU may round them to TF32.

    Raises:
        AgreedError: On every rank: a GPU is asked for and a rank sees none, or there are more ranks than GPUs.
    """
    mine = agree(communicator, lambda: tuple(map(_name, range(_count(setting)))))
    everybody = communicator.gather_all((node_name(), mine))
    return agree(communicator, lambda: _take(everybody, communicator.rank, share=share, tf32=tf32))


def device_of_rank(setting: str, local_rank: int, *, tf32: bool = False) -> torch.device:
    """Return the device that the rank with this number on its node takes if it sees all GPUs of the node.

    Raises:
        ConfigError: A GPU is asked for and there is none.
    """
    count = _count(setting)
    return _set_up(local_rank % count if count else None, tf32=tf32)


def choose_devices(visible: Sequence[Sequence[str]]) -> list[int | None]:
    """Return for each rank which of the devices that it sees it takes, as its position there; None where it sees none.

    Ranks that see the same devices take them in turn; one that a scheduler gave a device of its own takes that.

    Args:
        visible: Names of the devices that each rank sees, the same names on all ranks, in the order of ranks.
    """
    taken: dict[str, int] = {}
    chosen: list[int | None] = [None] * len(visible)
    # Those with the fewest to choose from first: the others have more to turn to.
    for rank in sorted(range(len(visible)), key=lambda rank: len(visible[rank])):
        if visible[rank]:
            best = min(visible[rank], key=lambda name: taken.get(name, 0))
            taken[best] = taken.get(best, 0) + 1
            chosen[rank] = visible[rank].index(best)
    return chosen


def require_own_devices(nodes: Sequence[str], visible: Sequence[Sequence[str]], chosen: Sequence[int | None]) -> None:
    """Raise if two ranks take the same device.

    Args:
        nodes: Name of each rank's node.
        visible: As for `choose_devices`.
        chosen: What `choose_devices` returned.

    Raises:
        ConfigError: They do; names the ranks, the node and the fix.
    """
    users: dict[str, list[int]] = {}
    for rank, (names, position) in enumerate(zip(visible, chosen, strict=True)):
        if position is not None:
            users.setdefault(names[position], []).append(rank)
    for ranks in users.values():
        if len(ranks) > 1:
            node = nodes[ranks[0]]
            there = [rank for rank, name in enumerate(nodes) if name == node and visible[rank]]
            count = len({name for rank in there for name in visible[rank]})
            fix = (
                f"{ranges(ranks)} would take one GPU: the {len(there)} ranks on {node} see {count}; start one rank a "
                "GPU there, let the scheduler give each rank its own, or allow sharing with true"
            )
            raise ConfigError("run.share_devices", False, fix)


def describe_device(device: torch.device) -> str:
    """Return a device with what tells it from others of the node: its number may be 0 for every rank."""
    return str(device) if device.type == "cpu" else f"{device} {_name(device.index or 0)}"


def _count(setting: str) -> int:
    """Return how many devices this rank sees."""
    count = torch.cuda.device_count() if setting != "cpu" else 0
    if setting == "cuda" and not count:
        raise ConfigError("run.device", setting, f"no CUDA device is visible on {node_name()}; use 'cpu' or 'auto'")
    # Read by cuBLAS when CUDA starts, which asking for a name may do; without it matrix products are not reproducible.
    if count:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    return count


def _name(index: int) -> str:
    """Return what a device is called on every rank: its identifier, or its place on the node where it has none."""
    properties = torch.cuda.get_device_properties(index)
    return str(getattr(properties, "uuid", "")) or f"{node_name()}:{getattr(properties, 'pci_bus_id', index)}"


def _take(everybody: Sequence[tuple[str, Sequence[str]]], rank: int, *, share: bool, tf32: bool) -> torch.device:
    nodes, visible = [node for node, _ in everybody], [names for _, names in everybody]
    chosen = choose_devices(visible)
    if not share:
        require_own_devices(nodes, visible, chosen)
    return _set_up(chosen[rank], tf32=tf32)


def _set_up(index: int | None, *, tf32: bool) -> torch.device:
    if index is None:
        return torch.device("cpu")
    torch.use_deterministic_algorithms(True)
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = tf32
    device = torch.device("cuda", index)
    torch.cuda.set_device(device)  # streams and graphs are made on the current one
    return device
