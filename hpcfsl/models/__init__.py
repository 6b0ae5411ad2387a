"""The models that can be trained and cut in two: settings classes, the update layout and the split.

Layer 1. `models` is the registry of model settings; one file a model. `hpcfsl.models.split.split` cuts any
`torch.nn.Module` into a client half and a server half, and `hpcfsl.models.layout.Layout` is the flat vector that holds
the parameters of both. Importing this package does not import torch.
"""

from __future__ import annotations

from hpcfsl.models import (
    cifar_cnn,
    digits_cnn,
    gru_forecast,
    gru_lm,
    lenet5,
    lstm_lm,
    mlp,
    resnet18,
    sentence_classifier,
    speech_cnn1d,
    speech_cnn2d,
    speech_gru,
    tcn,
    transformer_lm,
)
from hpcfsl.models.model import Model, Samples, models

__all__ = [
    "Model",
    "Samples",
    "cifar_cnn",
    "digits_cnn",
    "gru_forecast",
    "gru_lm",
    "lenet5",
    "lstm_lm",
    "mlp",
    "models",
    "resnet18",
    "sentence_classifier",
    "speech_cnn1d",
    "speech_cnn2d",
    "speech_gru",
    "tcn",
    "transformer_lm",
]
