#!/usr/bin/env bash
# Everything that needs a GPU, on a machine that has one: the tests of tests/gpu, then the benchmarks of the stacked executor
# in its precisions, with and without CUDA graphs and in several chunk sizes; one table at the end, JSON in runs/gpu.
# Usage: bash jobs/gpu_check.sh [WORKLOAD...]             (default: cifar lenet mlp gru; some ten minutes)
#   PYTHON=...      a Python >= 3.11 with torch for CUDA, mpi4py, numpy and h5py (default python3); nothing is downloaded
#   WHEELS=...      a folder of wheels for what else it lacks (pydantic, click, tomli-w, rich, pytest, pytest-timeout)
#   PFL_PYTHON=...  a Python with pfl, to run it on the same card; PFL_PLANS=1x1,2x1,4x1 its processes x threads
#   SECONDS_EACH=1 REPEATS=1   how long and how often each is timed
# It ends with 2 where there is no GPU.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
# shellcheck source=jobs/lib.sh
source jobs/lib.sh

python=${PYTHON:-python3}
folder=runs/gpu
modules=(numpy h5py pydantic click tomli_w rich pytest pytest_timeout)

no_gpu() {
    say "gpu_check: there is no GPU here: $1"
    exit 2
}

# Print which of the modules $python lacks.
missing() {
    "$python" -c 'import importlib.util, sys; print(*[m for m in sys.argv[1:] if not importlib.util.find_spec(m)])' "${modules[@]}"
}

# add_wheels NAME...: what is missing, from the folder of wheels, beside the environment and not into it.
add_wheels() {
    local names=("${@//_/-}")
    [ -n "${WHEELS:-}" ] || fail "$python lacks $*: name a folder of wheels that has them, WHEELS=..."
    "$python" -m pip install --quiet --no-index --find-links "$WHEELS" --target "$folder/site" "${names[@]}"
}

compgen -G "/dev/nvidia[0-9]*" >/dev/null || command -v nvidia-smi >/dev/null || no_gpu "no /dev/nvidia0 and no nvidia-smi"
"$python" -c 'import torch, sys; sys.exit(not torch.cuda.is_available())' 2>/dev/null || no_gpu "the torch of $python sees none"

mkdir -p "$folder"
export PYTHONPATH="$PWD:$PWD/$folder/site${PYTHONPATH:+:$PYTHONPATH}"
read -r -a lacking <<<"$(missing)"
[ ${#lacking[@]} -eq 0 ] || add_wheels "${lacking[@]}"

workloads=("$@")
[ ${#workloads[@]} -gt 0 ] || workloads=(cifar lenet mlp gru)
# Two groups, the fewest there can be: a GPU wants as many clients together as it can get.
options=(--ranks 1 --repeats "${REPEATS:-1}" --seconds "${SECONDS_EACH:-1}")
options+=(--set run.device=cuda --set training.executor=stacked --set groups.number=2)
stacked=(
    --variant "float32 chunk 8:training.chunk_clients=8"
    --variant "float32 chunk 32:training.chunk_clients=32"
    --variant "float32:training.chunk_clients=1000"
    --variant "float32 graphs:training.chunk_clients=1000,training.cuda_graphs=true"
    --variant "tf32:training.chunk_clients=1000,training.precision=tf32"
    --variant "tf32 graphs:training.chunk_clients=1000,training.precision=tf32,training.cuda_graphs=true"
)
if [ -n "${PFL_PYTHON:-}" ]; then options+=(--peer pfl --pfl-python "$PFL_PYTHON" --pfl-plans "${PFL_PLANS:-1x1,2x1,4x1}"); fi

status=0
say "--- tests"
"$python" -m pytest tests/gpu -q -ra || status=1
for workload in "${workloads[@]}"; do
    say "--- $workload"
    rm -f "$folder/$workload.json"
    "$python" -m hpcfsl bench --workload "$workload" "${options[@]}" "${stacked[@]}" --json "$folder/$workload.json" >/dev/null || status=1
done
results=()
for workload in "${workloads[@]}"; do
    if [ -s "$folder/$workload.json" ]; then results+=("$folder/$workload.json"); fi
done
[ ${#results[@]} -eq 0 ] || "$python" -m hpcfsl bench --markdown "${results[@]}" | tee "$folder/table.md"
exit "$status"
