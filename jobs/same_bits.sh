#!/usr/bin/env bash
# The same bits whoever runs it and however often it dies: runs the configurations of jobs/same_bits/ on 1, 2, 3, 4 and 8
# ranks of Open MPI and of MPICH, and of the system's MPI where there is one; with the groups on other ranks each round;
# killed by SIGKILL in the middle of each and continued, on the same and on other ranks and MPIs; without shared data;
# in other chunks. Prints a Markdown table of the digests and ends with 1 if any differs. Takes 4 minutes on 2 cores.
# Usage: bash jobs/same_bits.sh [--quick] [CONFIG [SECTION.KEY=VALUE ...]]
#   --quick   fewer numbers of ranks: a minute
#   CONFIG    this one instead of those in jobs/same_bits/
# VENV=FOLDER names an environment to use instead of .venv, where this installs what is missing.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
# shellcheck source=jobs/lib.sh
source jobs/lib.sh

open_mpi_sizes=(1 2 3 4 8)
mpich_sizes=(1 2 3 4 8)
if [ "${1:-}" = --quick ]; then
    open_mpi_sizes=(2 4)
    mpich_sizes=(3)
    shift
fi
configs=(jobs/same_bits/*.toml)
[ $# -eq 0 ] || configs=("$1")
overrides=()
for override in "${@:2}"; do overrides+=(--set "$override"); done

base=${VENV:-.venv}
if [ -z "${VENV:-}" ]; then make_environment .venv run,data,openmpi,report; fi
base=$(cd "$base" && pwd)
make_mpich "$base" "$base-mpich"
system=()
if make_system_mpi "$base" "$base-system-mpi"; then system=(3); else say "no MPI of the distribution here: left out"; fi

out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT
export HPCFSL_PROGRESS=0
rows=()

# on ENVIRONMENT RANKS ROW [OPTION ...]: run all configurations into the folder ROW; 0 ranks means without a launcher.
on() {
    local environment=$1 ranks=$2 row=$3
    shift 3
    local command=("$environment/bin/python" jobs/same_bits.py run "$out/$row" "${configs[@]}" "${overrides[@]}" "$@")
    if [ "$ranks" -eq 0 ]; then "${command[@]}"; else PATH="$environment/bin:$PATH" run_ranks "$ranks" "${command[@]}"; fi
}

# row NAME ENVIRONMENT RANKS [OPTION ...]: a row of the table.
row() {
    say "$1"
    on "$2" "$3" "$1" "${@:4}" >/dev/null
    rows+=("$1")
}

# killed ROW LINES CONFIG ENVIRONMENT RANKS: the same, but SIGKILL to all once CONFIG has written so many rounds.
killed() {
    local leader
    set -m # a process group of its own, which is what is killed
    on "$4" "$5" "$1" >/dev/null 2>&1 &
    leader=$!
    set +m
    "$base/bin/python" jobs/same_bits.py wait "$out/$1/$(basename "$3" .toml)" "$2"
    kill -KILL -- "-$leader"
    # The launcher may have put ranks into groups of their own; their command line has our folder's name in it.
    pkill -KILL -f -- "$out/$1" || true
    { wait "$leader" || true; } 2>/dev/null
    [ "$(cat "$out/$1/$(basename "$3" .toml)/status")" != finished ] || fail "$1: $3 was done before it was killed"
}

row "no launcher" "$base" 0
for ranks in "${open_mpi_sizes[@]}"; do row "Open MPI, $ranks" "$base" "$ranks"; done
for ranks in "${mpich_sizes[@]}"; do row "MPICH, $ranks" "$base-mpich" "$ranks"; done
for ranks in "${system[@]}"; do row "the system's MPI, $ranks" "$base-system-mpi" "$ranks"; done
row "groups on other ranks each round, 3" "$base" 3 --set run.placement=rotating
row "data not shared, commit every round, 2" "$base" 2 --set run.share_data=false --set run.checkpoint_rounds=1

name="killed in each, continued, 2"
say "$name"
for config in "${configs[@]}"; do killed "$name" 4 "$config" "$base" 2; done
row "$name" "$base" 2

name="killed in each, continued on other ranks and MPIs"
say "$name"
ranks=2 environment=$base
for config in "${configs[@]}"; do
    killed "$name" 5 "$config" "$environment" "$ranks"
    ranks=$((ranks % 4 + 1))
    if [ "$environment" = "$base" ]; then environment=$base-mpich; else environment=$base; fi
done
row "$name" "$environment" "$ranks"

# The kernels train one client after another, so the chunk of `stacked` means nothing to them.
chunked=()
for config in "${configs[@]}"; do grep -q 'executor = "stacked"' "$config" || chunked+=("$config"); done
if [ ${#chunked[@]} -gt 0 ]; then
    configs=("${chunked[@]}")
    row "chunks of 3 clients (kernels), 2" "$base" 2 --set training.chunk_clients=3
fi

"$base/bin/python" jobs/same_bits.py table "$out" "${rows[@]}"
