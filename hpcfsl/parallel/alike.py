"""Whether the ranks of a job, and the starts of a run, are alike enough to give the same bits.

Layer 3. Another version of the program or other settings on one rank are an error. Other libraries, processors or
devices may round differently: the result then depends on which rank trained which group, so a mix is warned about and
recorded.
"""

from __future__ import annotations

import hashlib
import json
import platform
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from hpcfsl.errors import UserError, one_line
from hpcfsl.native.library import instruction_set
from hpcfsl.parallel.communicator import Communicator, agree
from hpcfsl.provenance import node_name, package_versions, processor_name

Tree = Mapping[str, Mapping[str, Any]]
_MOST_RANGES = 4
# The sum over ranks has no order, so it has the same bits under any MPI.
_FREE_BETWEEN_STARTS = ("MPI",)


def require_same(communicator: Communicator, version: str, settings: Tree) -> None:
    """Collective. Check that all ranks run one version of hpcfsl with the same settings.

    Args:
        communicator: The ranks.
        version: This rank's version.
        settings: This rank's settings, section and key to value.

    Raises:
        AgreedError: On every rank, if a rank has another version or other settings than root.
    """
    mark = version, hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()
    if len(set(communicator.gather_all(mark))) == 1:
        return
    root_version, root_settings = communicator.broadcast((version, settings))
    agree(communicator, lambda: _hold_against(root_version, root_settings, version, settings))


def describe_process(device: torch.device, library: str) -> dict[str, str]:
    """Return what of this process may bear on bits, by name.

    Args:
        device: Where this rank computes.
        library: The MPI library.
    """
    versions = package_versions()
    return {
        **{name: versions[name] for name in ("hpcfsl", "torch", "numpy") if name in versions},
        "Python": platform.python_version(),
        "MPI": library,
        "processor": processor_name(),
        "kernels": instruction_set(),
        "torch's kernels": torch.backends.cpu.get_cpu_capability(),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
    }


def mix_of_ranks(found: Sequence[Mapping[str, str]]) -> str | None:
    """Return, in one line, in what the ranks differ and which ranks have what; None where all are alike.

    Args:
        found: `describe_process` of every rank, in the order of ranks.
    """
    parts = []
    for name in found[0]:
        ranks: dict[str, list[int]] = {}
        for rank, each in enumerate(found):
            ranks.setdefault(each.get(name, "none"), []).append(rank)
        if len(ranks) > 1:
            parts.append(f"{name}: " + ", ".join(f"{value} on {ranges(having)}" for value, having in ranks.items()))
    if not parts:
        return None
    return one_line(f"the ranks differ, which may change bits of the result: {'; '.join(parts)}")


def change_since(before: Mapping[str, str], now: Mapping[str, str]) -> str | None:
    """Return, in one line, what changed since the last start; None where nothing did that may change bits."""
    both = [name for name in now if name in before and name not in _FREE_BETWEEN_STARTS]
    parts = [f"{name}: {before[name]} then, {now[name]} now" for name in both if before[name] != now[name]]
    if not parts:
        return None
    return one_line(f"continued with something else, which may change bits of the result: {'; '.join(parts)}")


def ranges(ranks: Sequence[int]) -> str:
    """Return ascending ranks as text, neighbours together: "ranks 0 to 3, 7"."""
    pairs: list[list[int]] = []
    for rank in ranks:
        if pairs and pairs[-1][1] == rank - 1:
            pairs[-1][1] = rank
        else:
            pairs.append([rank, rank])
    texts = [str(first) if first == last else f"{first} to {last}" for first, last in pairs[:_MOST_RANGES]]
    more = sum(last - first + 1 for first, last in pairs[_MOST_RANGES:])
    return ("rank " if len(ranks) == 1 else "ranks ") + ", ".join(texts) + (f" and {more} more" if more else "")


def _hold_against(root_version: str, root_settings: Tree, version: str, settings: Tree) -> None:
    host = node_name()
    if version != root_version:
        raise UserError(
            f"the ranks run different versions of hpcfsl: {root_version} on root, {version} on {host}; "
            "give all nodes the same environment"
        )
    changed = sorted(
        f"{section}.{key}"
        for section in {*root_settings, *settings}
        for key in {*root_settings.get(section, {}), *settings.get(section, {})}
        if root_settings.get(section, {}).get(key) != settings.get(section, {}).get(key)
    )
    if changed:
        raise UserError(
            f"the ranks have different settings: {', '.join(changed)} on {host} is not as on root; "
            "give all of them the same configuration file and options"
        )
