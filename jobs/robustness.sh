#!/usr/bin/env bash
# Digits by writer, 28 clients, 6 of them attackers: the method and plain averaging, each without attack, under label flips
# and under sign flips of five times the norm, over several seeds. Prints the table and writes a page over the first seed.
# Usage: bash jobs/robustness.sh [SEEDS]          (default 5: about 10 minutes on two cores)
# Runs that are already there are not repeated; delete runs/robustness to start again.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
# shellcheck source=jobs/lib.sh
source jobs/lib.sh

seeds=${1:-5}
folder=runs/robustness
make_environment .venv run,data,openmpi,report
mkdir -p "$folder"
export HPCFSL_PROGRESS=0

# One line a run: preset, case, seed, then the case's settings.
list_runs() {
    local preset seed
    for ((seed = 0; seed < seeds; seed++)); do
        for preset in averaging hardened; do
            echo "$preset attack-free $seed"
            echo "$preset label-flip $seed --set threat.attack=label-flip --set threat.clients=6"
            echo "$preset sign-flip-x5 $seed --set threat.attack=sign-flip --set threat.clients=6 --set threat.scale=5.0"
        done
    done
}

# One rank a run and one run a core: independent runs need no MPI between them.
# shellcheck disable=SC2016 # the inner shell expands these
list_runs | xargs -P "$(nproc)" -L 1 bash -c '
    preset=$1 case=$2 seed=$3
    shift 3
    hpcfsl run jobs/robustness.toml --out "$0/$preset-$case-$seed" --set run.preset="$preset" --set run.seed="$seed" "$@" >/dev/null
' "$folder"

python analysis/robustness.py "$folder"/*
hpcfsl report "$folder"/*-0 --out "$folder/report.html"
