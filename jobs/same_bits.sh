#!/usr/bin/env bash
# The same bits on any number of ranks: runs a configuration on 1, 2, 3, 4 and 8 ranks of this machine (more ranks than
# cores is fine) and prints each run's digest. Ends with 1 if they are not all equal.
# Usage: bash jobs/same_bits.sh [CONFIG [SECTION.KEY=VALUE ...]]     (default jobs/quickstart.toml, 10 rounds: a minute)
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
# shellcheck source=jobs/lib.sh
source jobs/lib.sh

config=${1:-jobs/quickstart.toml}
overrides=()
for override in "${@:2}"; do overrides+=(--set "$override"); done
[ $# -gt 1 ] || overrides=(--set run.rounds=10)

make_environment .venv run,data,openmpi,report
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
export HPCFSL_PROGRESS=0

digests=()
for ranks in 1 2 3 4 8; do
    run_ranks "$ranks" hpcfsl run "$config" --out "$folder/$ranks" "${overrides[@]}" >/dev/null
    digests+=("$(hpcfsl digest "$folder/$ranks")")
    echo "$ranks ranks: ${digests[-1]}"
done
if [ "$(printf '%s\n' "${digests[@]}" | sort -u | wc -l)" -ne 1 ]; then
    echo "the digests differ; name the first difference with: hpcfsl compare RUN RUN"
    exit 1
fi
echo "all equal"
