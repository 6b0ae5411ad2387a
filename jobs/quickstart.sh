#!/usr/bin/env bash
# From a fresh checkout to a first result: an environment in .venv, a run of jobs/quickstart.toml on two ranks, its report.
# Usage: bash jobs/quickstart.sh          (again: a new run in the same environment)
# Needs Python >= 3.11; on Debian or Ubuntu the missing python3-venv is installed where root or sudo may.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
# shellcheck source=jobs/lib.sh
source jobs/lib.sh

make_environment .venv run,data,openmpi,report

run="runs/quickstart-$(date +%Y%m%d-%H%M%S)"
run_ranks 2 hpcfsl run jobs/quickstart.toml --out "$run"
hpcfsl report "$run" --out "$run/report.html" >/dev/null
echo "report: $run/report.html"
