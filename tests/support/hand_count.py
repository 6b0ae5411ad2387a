"""The bytes of one client's round, counted from tensors that are really made and bytes that are really coded.

Nothing here asks a protocol or a link how many bytes anything has: every step of a client is computed, each half by
itself, and whatever has to be at the other side is put on a counting wire.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import numpy as np
from torch import Tensor, nn

from hpcfsl.models.split import SplitModel

Coder = Callable[[Tensor], list[np.ndarray]]
KINDS = ("smashed_up", "gradients_down", "labels_up", "outputs_down", "output_gradients_up", "model_up", "model_down")


class CountingWire:
    """Counts what is sent over it by kind."""

    def __init__(self) -> None:
        self.sent: Counter[str] = Counter()

    def send(self, kind: str, values: Tensor | np.ndarray) -> None:
        array = values.detach().numpy() if isinstance(values, Tensor) else values
        self.sent[kind] += len(array.tobytes())


def as_they_are(values: Tensor) -> list[np.ndarray]:
    return [values.detach().numpy()]


def as_halves(values: Tensor) -> list[np.ndarray]:
    return [values.detach().numpy().astype(np.float16)]


def as_bytes(values: Tensor) -> list[np.ndarray]:
    rows = values.detach().numpy().reshape(len(values), -1)
    scale = np.abs(rows).max(axis=1).astype(np.float32) / 127
    return [scale, np.round(rows / np.maximum(scale, 1e-30)[:, None]).astype(np.int8)]


def as_largest(share: float, *, places: bool = True) -> Coder:
    """Numbers and where they stand, by indices of whole bytes or by one bit each, whichever is shorter."""

    def code(values: Tensor) -> list[np.ndarray]:
        parts = []
        for row in values.detach().numpy().reshape(len(values), -1):
            kept = np.sort(np.argsort(-np.abs(row), kind="stable")[: int(np.ceil(share * len(row)))])
            parts.append(row[kept])
            bits = np.packbits(np.isin(np.arange(len(row)), kept))
            width = 1 if len(row) <= 256 else 2 if len(row) <= 65_536 else 3
            indices = kept.astype("<u4").view(np.uint8).reshape(-1, 4)[:, :width]
            if places and len(kept) < len(row):
                parts.append(min(bits, indices, key=lambda each: each.nbytes))
        return parts

    return code


def count_client(
    model: SplitModel,
    inputs: Tensor,
    targets: Tensor,
    *,
    batch: int,
    epochs: int,
    steps: int | None = None,
    starts: bool = True,
    uploads: bool = True,
    cut: bool = True,
    kept: tuple[str, ...] = (),
    screened: bool = False,
    up: Coder = as_they_are,
    down: Coder = as_they_are,
) -> dict[str, int]:
    """Return the bytes of one client's round by kind.

    Args:
        model: The model.
        inputs: All the client's samples.
        targets: What is true about them.
        batch: Samples in a local step.
        epochs: Passes over them.
        steps: After so many local steps the client is gone; None for never.
        starts: Whether it is there at all.
        uploads: Whether it comes to send its update.
        cut: Whether there is a server half.
        kept: Parameters that never leave the client.
        screened: Whether the server looks at everything once before it trains.
        up: How smashed data is coded.
        down: How cut gradients are coded.
    """
    wire, parts = CountingWire(), dict(model.pieces().named_children())
    held = [(name, value) for name, value in model.pieces().named_parameters() if not name.startswith("server.")]
    averaged = [value for name, value in held if name not in kept]
    if starts:
        for value in averaged:
            wire.send("model_down", value)
        if screened:
            _send_once(wire, model, parts, inputs, targets, up)
        left = float("inf") if steps is None else steps
        for _ in range(epochs):
            for first in range(0, len(inputs), batch):
                if cut and left > 0:
                    some = slice(first, first + batch)
                    _step(wire, parts, inputs[some], targets[some], up, down)
                left -= 1
    if starts and uploads:
        for value in averaged:
            wire.send("model_up", value)
    return {kind: wire.sent[kind] for kind in KINDS}


def _send_once(
    wire: CountingWire, model: SplitModel, parts: dict[str, nn.Module], inputs: Tensor, targets: Tensor, up: Coder
) -> None:
    for part in up(parts["client"](inputs)):
        wire.send("smashed_up", part)
    if "tail" not in parts:
        wire.send("labels_up", targets)


def _step(
    wire: CountingWire, parts: dict[str, nn.Module], inputs: Tensor, targets: Tensor, up: Coder, down: Coder
) -> None:
    smashed = parts["client"](inputs)
    for part in up(smashed):
        wire.send("smashed_up", part)
    at_server = smashed.detach().requires_grad_()
    returned = parts["server"](at_server)
    if "tail" in parts:
        wire.send("outputs_down", returned)
        at_client = returned.detach().requires_grad_()
        _loss(parts["tail"](at_client), targets).backward()
        assert at_client.grad is not None
        wire.send("output_gradients_up", at_client.grad)
        returned.backward(at_client.grad)
    else:
        wire.send("labels_up", targets)
        _loss(returned, targets).backward()
    assert at_server.grad is not None
    for part in down(at_server.grad):
        wire.send("gradients_down", part)


def _loss(outputs: Tensor, targets: Tensor) -> Tensor:
    if targets.is_floating_point():
        return nn.functional.mse_loss(outputs, targets)
    return nn.functional.cross_entropy(outputs.flatten(0, -2), targets.flatten())
