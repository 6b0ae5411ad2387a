#!/usr/bin/env bash
# Pictures, speech, text and forecasts, attacked and defended: the method and plain averaging in splitfed-v1, parallel and
# u-shaped, without attack, under label flips, sign flips of five times the norm and noise on smashed data; pictures also
# with either way of undoing. Puts the tables into docs/results.md.
# Usage: bash jobs/robustness_kinds.sh [KIND...]    (image image-undo speech text forecast; all)
#
# Runs that are already there are not repeated; delete runs/robustness_kinds to start again. More seeds: `seeds` in
# jobs/robustness_kinds/KIND.sweep.toml.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
# shellcheck source=jobs/lib.sh
source jobs/lib.sh

folder=runs/robustness_kinds
# The longest first.
kinds=(text image forecast image-undo speech)
[ $# -eq 0 ] || kinds=("$@")
if ! command -v hpcfsl >/dev/null; then make_environment .venv run,data,report; fi
mkdir -p "$folder"
export HPCFSL_PROGRESS=0

# fetch NAME: the public data set, where it is not there yet.
fetch() {
    [ -f "data/$1.npz" ] || hpcfsl data fetch "$1" >/dev/null
}

one() {
    case $1 in
        speech) fetch vowels ;;
        forecast) fetch smartwatch ;;
    esac
    hpcfsl sweep "jobs/robustness_kinds/$1.sweep.toml" --out "$folder/$1" --local --no-check >"$folder/$1.log" 2>&1 ||
        say "$1: some runs did not finish, see $folder/$1.log"
}

for kind in "${kinds[@]}"; do
    [ -f "jobs/robustness_kinds/$kind.sweep.toml" ] || fail "no kind $kind"
done
one_a_core one "${kinds[@]}"

python analysis/robustness_kinds.py "$folder" --into docs/results.md
