"""Functions and methods of tensors that equal a layer of the compiled engine: `torch.relu(x)` is `nn.ReLU()(x)`."""

from __future__ import annotations

import torch
from torch import fx, nn
from torch.nn import functional

from hpcfsl.training.native.layers import UnknownLayerError

_MAXIMUM = ("kernel_size", "stride", "padding", "dilation", "ceil_mode", "return_indices")
_AVERAGE = ("kernel_size", "stride", "padding", "ceil_mode", "count_include_pad")

# Each with its layer, and what it calls its arguments after the first.
_FUNCTIONS: dict[object, tuple[type[nn.Module], tuple[str, ...]]] = {
    torch.relu: (nn.ReLU, ()),
    functional.relu: (nn.ReLU, ("inplace",)),
    "relu": (nn.ReLU, ()),
    torch.tanh: (nn.Tanh, ()),
    functional.tanh: (nn.Tanh, ()),
    "tanh": (nn.Tanh, ()),
    torch.sigmoid: (nn.Sigmoid, ()),
    functional.sigmoid: (nn.Sigmoid, ()),
    "sigmoid": (nn.Sigmoid, ()),
    torch.flatten: (nn.Flatten, ("start_dim", "end_dim")),
    "flatten": (nn.Flatten, ("start_dim", "end_dim")),
    functional.max_pool1d: (nn.MaxPool1d, _MAXIMUM),
    functional.max_pool2d: (nn.MaxPool2d, _MAXIMUM),
    torch.max_pool2d: (nn.MaxPool2d, _MAXIMUM),
    functional.avg_pool1d: (nn.AvgPool1d, _AVERAGE),
    functional.avg_pool2d: (nn.AvgPool2d, _AVERAGE),
    functional.adaptive_avg_pool2d: (nn.AdaptiveAvgPool2d, ("output_size",)),
    functional.adaptive_max_pool2d: (nn.AdaptiveMaxPool2d, ("output_size", "return_indices")),
}


def layer_of_function(node: fx.Node) -> nn.Module:
    """Return the layer that a traced call of a function equals.

    Raises:
        UnknownLayerError: There is none.
    """
    name = f"call of {getattr(node.target, '__name__', node.target)}"
    if node.target not in _FUNCTIONS:
        raise UnknownLayerError(name)
    layer, names = _FUNCTIONS[node.target]
    settings = {"start_dim": 0} if layer is nn.Flatten else {}  # where the function begins, unlike the layer
    try:
        return layer(**settings | dict(zip(names, node.args[1:], strict=False)) | node.kwargs)
    except TypeError as error:
        raise UnknownLayerError(f"{name} ({error})") from error
