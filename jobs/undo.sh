#!/usr/bin/env bash
# Digits by writer, 28 clients, 6 of them with flipped labels, whose groups share a server half: what undoing its lessons
# buys, with the same defence but for `protocol.undo`. Prints accuracy after 30 rounds, and the share of time spent undoing.
# Usage: bash jobs/undo.sh [SEEDS]      (default 1 seed: some 6 minutes on two cores)
# Runs that are already there are not repeated; delete runs/undo to start again.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
# shellcheck source=jobs/lib.sh
source jobs/lib.sh

seeds=${1:-1}
folder=runs/undo
make_environment .venv run,data,openmpi,report
mkdir -p "$folder"
export HPCFSL_PROGRESS=0

# "hardened" allows no undo = "none", so its sections are written out under "literal".
python - "$folder" <<'PYTHON'
import sys
from pathlib import Path

import tomli_w

from hpcfsl.presets import PRESETS

common = {
    "run": {"preset": "literal", "rounds": 30},
    "partition": {"rule": "natural", "parts": 2},
    "training": {"learning_rate": 0.3, "batch_size": 16},
    "evaluation": {"every": 5},
    "trace": {"updates": "none"},
    **PRESETS["hardened"],
    "groups": {**PRESETS["hardened"]["groups"], "number": 4},
}
Path(sys.argv[1], "undo.toml").write_text(tomli_w.dumps(common))
PYTHON

# One line a run: protocol, case, seed, then the settings. In turn the server half takes many steps for one of the others.
list_runs() {
    local seed protocol rate flips="--set threat.attack=label-flip --set threat.clients=6"
    for ((seed = 0; seed < seeds; seed++)); do
        for protocol in parallel splitfed-v2 u-shaped; do
            rate="--set training.learning_rate=$([ $protocol = splitfed-v2 ] && echo 0.05 || echo 0.3)"
            echo "$protocol attack-free $seed $rate --set protocol.undo=replay"
            echo "$protocol replay $seed $rate $flips --set protocol.undo=replay"
            echo "$protocol none $seed $rate $flips --set protocol.undo=none"
        done
    done
}

# shellcheck disable=SC2016 # the inner shell expands these
list_runs | xargs -P "$(num_cores)" -L 1 bash -c '
    protocol=$1 case=$2 seed=$3
    shift 3
    hpcfsl run "$0/undo.toml" --out "$0/$protocol-$case-$seed" --set protocol.name="$protocol" --set run.seed="$seed" "$@" >/dev/null
' "$folder"

python - "$folder" <<'PYTHON'
import sys
from pathlib import Path

import numpy as np

import hpcfsl

print("| protocol | case | test accuracy, mean over seeds | seconds undoing, share |\n|---|---|---|---|")
for protocol in ("parallel", "splitfed-v2", "u-shaped"):
    for case in ("attack-free", "replay", "none"):
        runs = [hpcfsl.open(path) for path in sorted(Path(sys.argv[1]).glob(f"{protocol}-{case}-*"))]
        accuracy = np.mean([run.column("rounds", "test_accuracy")[-1] for run in runs])
        undone = np.concatenate([run.column("timings", "phase") for run in runs])
        seconds = np.concatenate([run.column("timings", "seconds") for run in runs])
        share = seconds[undone == runs[0].labels("timings", "phase").index("undo")].sum() / seconds.sum()
        print(f"| `{protocol}` | {case} | {accuracy:.2%} | {share:.0%} |")
PYTHON
