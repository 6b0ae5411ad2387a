"""Presets: defaults for the method's sections. Whatever a configuration says itself goes before its preset.

Layer 4. `hardened` is ours: the description's frame with the guards of `docs/method.md`. `literal` is the description's
words and nothing more. `averaging` switches the method off: plain federated averaging, for baselines.
"""

from __future__ import annotations

from typing import Any

PRESETS: dict[str, dict[str, dict[str, Any]]] = {
    "hardened": {
        "groups": {"rule": "random", "min_survivors": 2},
        "score": {"rule": "composite", "half": "both", "memory": 0.8},
        "threshold": {"rule": "mad", "scope": "pooled", "k": 3.0, "max_excluded": 0.5},
        "influence": {"rule": "norm"},
        "normalisation": {"rule": "survivors"},
        "bounds": {"lower": 1.0, "upper": 8.0, "sum_over": "survivors"},
        "weights": {"reading": "model"},
        "group_operation": {"rule": "weighted-sum"},
        "global_aggregation": {"rule": "geometric-median", "masses": "survivors"},
    },
    "literal": {
        "groups": {"rule": "random", "min_survivors": 1},
        "score": {"rule": "distance", "half": "both"},
        "threshold": {"rule": "mean-std", "scope": "group", "max_excluded": 1.0},
        "influence": {"rule": "one"},
        "normalisation": {"rule": "constant", "value": 1.0},
        "bounds": {"lower": 0.0, "upper": 1e300, "sum_over": "all"},
        "weights": {"reading": "model"},
        "group_operation": {"rule": "weighted-sum"},
        "global_aggregation": {"rule": "weighted", "masses": "survivors"},
    },
    "averaging": {
        "groups": {"rule": "random", "min_survivors": 1},
        "score": {"rule": "none"},
        "threshold": {"rule": "none"},
        "influence": {"rule": "one"},
        "normalisation": {"rule": "survivors"},
        "bounds": {"lower": 1.0, "upper": 1.0},
        "weights": {"reading": "model"},
        "group_operation": {"rule": "weighted-sum"},
        "global_aggregation": {"rule": "weighted", "masses": "survivors"},
        "protocol": {"undo": "none"},
    },
}
