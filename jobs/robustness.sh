#!/usr/bin/env bash
# Digits by writer, 28 clients, 6 of them attackers: the method and plain averaging, each without attack, under label flips
# and under sign flips of five times the norm, over several seeds. Prints the table and writes a page over the first seed.
# Usage: bash jobs/robustness.sh [SEEDS [all]]      (default 5 seeds: some 4 minutes on two cores; `all` 8 cases, not 3: 9 minutes)
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

# The cases: a name, then its settings. `all` adds the attacks that hide near the centre, which scores see less well.
cases=(
    "attack-free"
    "label-flip --set threat.attack=label-flip --set threat.clients=6"
    "sign-flip-x5 --set threat.attack=sign-flip --set threat.clients=6 --set threat.scale=5.0"
)
if [ "${2:-}" = all ]; then
    cases+=(
        "sign-flip --set threat.attack=sign-flip --set threat.clients=6"
        "alie --set threat.attack=alie --set threat.clients=6"
        "ipm --set threat.attack=ipm --set threat.clients=6"
        "mimic --set threat.attack=mimic --set threat.clients=6"
        "nan --set threat.attack=non-finite --set threat.clients=6"
    )
fi

# One line a run: preset, case, seed, then the case's settings.
list_runs() {
    local preset seed case
    for ((seed = 0; seed < seeds; seed++)); do
        for preset in averaging hardened; do
            for case in "${cases[@]}"; do
                echo "$preset ${case%% *} $seed${case#"${case%% *}"}"
            done
        done
    done
}

# One rank a run and one run a core: independent runs need no MPI between them.
# shellcheck disable=SC2016 # the inner shell expands these
list_runs | xargs -P "$(num_cores)" -L 1 bash -c '
    preset=$1 case=$2 seed=$3
    shift 3
    hpcfsl run jobs/robustness.toml --out "$0/$preset-$case-$seed" --set run.preset="$preset" --set run.seed="$seed" "$@" >/dev/null
' "$folder"

python analysis/robustness.py "$folder"/*
hpcfsl report "$folder"/*-0 --out "$folder/report.html"
