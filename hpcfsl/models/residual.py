"""Residual blocks: of convolutions with group norm for images, of causal dilated convolutions for windows of time.

Layer 1. A block is one layer of an `nn.Sequential`: a model is cut between blocks, never inside, where the shortcut
would be a second tensor to send. Importing this module imports torch.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional


class ResidualBlock(nn.Module):
    """Two 3 x 3 convolutions, each with group norm, around which the input is added (He et al., CVPR 2016).

    Args:
        inward: Channels of the input.
        outward: Channels of the output.
        stride: Step of the first convolution; beyond 1, or with other channels, the shortcut is a 1 x 1 convolution.
        groups: Groups of each norm; divides `outward`.
    """

    def __init__(self, inward: int, outward: int, stride: int, groups: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inward, outward, 3, stride, padding=1, bias=False)
        self.norm1 = nn.GroupNorm(groups, outward)
        self.conv2 = nn.Conv2d(outward, outward, 3, padding=1, bias=False)
        self.norm2 = nn.GroupNorm(groups, outward)
        self.shortcut = nn.Sequential()
        if stride != 1 or inward != outward:
            self.shortcut.append(nn.Conv2d(inward, outward, 1, stride, bias=False))
            self.shortcut.append(nn.GroupNorm(groups, outward))

    def forward(self, inputs: Tensor) -> Tensor:
        """Return [n, outward, height / stride, width / stride] of inputs [n, inward, height, width]."""
        hidden = functional.relu(self.norm1(self.conv1(inputs)))
        return functional.relu(self.norm2(self.conv2(hidden)) + self.shortcut(inputs))


class CausalBlock(nn.Module):
    """Two dilated convolutions that see no later position, around which the input is added (Bai et al., 2018).

    Args:
        inward: Channels of the input.
        outward: Channels of the output; where they differ from `inward`, the shortcut is a convolution of width 1.
        kernel: Width of both convolutions.
        dilation: Positions from one tap to the next.
        dropout: Share of the numbers dropped after each convolution.
    """

    def __init__(self, inward: int, outward: int, kernel: int, dilation: int, dropout: float) -> None:
        super().__init__()
        self.reach = (kernel - 1) * dilation
        self.conv1 = nn.Conv1d(inward, outward, kernel, dilation=dilation)
        self.dropout1 = nn.Dropout(dropout)
        self.conv2 = nn.Conv1d(outward, outward, kernel, dilation=dilation)
        self.dropout2 = nn.Dropout(dropout)
        self.shortcut = nn.Identity() if inward == outward else nn.Conv1d(inward, outward, 1)

    def forward(self, inputs: Tensor) -> Tensor:
        """Return [n, outward, positions] of inputs [n, inward, positions]."""
        hidden = self.dropout1(functional.relu(self.conv1(functional.pad(inputs, (self.reach, 0)))))
        hidden = self.dropout2(functional.relu(self.conv2(functional.pad(hidden, (self.reach, 0)))))
        return functional.relu(hidden + self.shortcut(inputs))
