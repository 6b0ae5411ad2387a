#!/usr/bin/env bash
# The whole benchmark table: this program beside pfl and Flower on the same work, ranks beside independent runs, the cost of
# the method, of the exact sum and of the trace, memory. Makes an environment for each peer the first time, and leaves JSON
# and a Markdown table in runs/bench.
# Usage: bash jobs/bench_peers.sh [REPEATS [SECONDS]]    (default 5 repeats of 4 s: two hours on two cores; nothing else may run)
# Measured again where the JSON is missing: delete runs/bench to start anew. `bash jobs/bench_peers.sh 1 0.5` tries it out.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
# shellcheck source=jobs/lib.sh
source jobs/lib.sh

repeats=${1:-5}
seconds=${2:-4}
folder=runs/bench
torch="torch==2.13.0"

# make_peer FOLDER MODULE PACKAGE...: an environment with torch first, the very version that ours has, then the peer.
make_peer() {
    local path=$1 module=$2 python
    shift 2
    if "$path/bin/python" -c "import torch, $module" 2>/dev/null; then return; fi
    python=$(find_python)
    [ -n "$python" ] || fail "no Python >= 3.11 with the venv module: install python3-venv, or name one, PYTHON=/path/to/python3"
    say "installing $* into $path (some minutes the first time)"
    "$python" -m venv --clear "$path"
    "$path/bin/python" -m pip install --quiet --disable-pip-version-check "$torch"
    "$path/bin/python" -m pip install --quiet --disable-pip-version-check "$torch" "$@"
}

# measure NAME OPTIONS...: one run of hpcfsl bench, kept in the folder.
measure() {
    local name=$1
    shift
    if [ -s "$folder/$name.json" ]; then return; fi
    say "--- $name"
    hpcfsl bench --repeats "$repeats" --seconds "$seconds" --json "$folder/$name.json" "$@"
}

make_environment .venv run,data,openmpi,report
make_peer .venv-pfl pfl "pfl[pytorch]==0.6.0"
make_peer .venv-flower flwr "flwr[simulation]==1.41.0"
mkdir -p "$folder"
peers=(--peer pfl --pfl-python .venv-pfl/bin/python --peer flower --flower-python .venv-flower/bin/python)

for workload in mlp lenet cifar gru; do measure "$workload" --workload "$workload" "${peers[@]}"; done
measure digits --workload digits
for workload in mlp lenet cifar gru; do measure "pair-$workload" --workload "$workload" --pair; done
measure method --method
measure overheads --overheads --ranks 2
measure memory --workload lenet-10000 --workload population-20m --ranks 2

hpcfsl bench --markdown "$folder"/{mlp,lenet,cifar,gru,digits,pair-mlp,pair-lenet,pair-cifar,pair-gru,method,overheads,memory}.json |
    tee "$folder/table.md"
