#!/usr/bin/env bash
# Everything that a change must pass, set up from nothing: linters, types, layers, the tests with ranks under mpirun, and
# how much of the code they execute.
# Usage: bash jobs/test.sh [arguments of pytest]          (with arguments, such as -k trace, no coverage floor is held)
# Keeps its environment in .venv-test. On Debian or Ubuntu, missing tools are installed where root or sudo may.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
# shellcheck source=jobs/lib.sh
source jobs/lib.sh

need_tools() {
    local packages=()
    [ -d /usr/share/datasets/fashion-mnist ] || packages+=(dataset-fashion-mnist)
    command -v shellcheck >/dev/null || packages+=(shellcheck)
    command -v chromium >/dev/null || command -v chromium-browser >/dev/null || packages+=(chromium)
    [ ${#packages[@]} -eq 0 ] || install_packages "${packages[@]}" || say "could not install ${packages[*]}: their tests are skipped"
    # tests/slurm start a real one. Where it can be had, and in continuous integration, a missing one is a failure.
    if bash jobs/slurm_here.sh install || [ "${CI:-}" = true ]; then export HPCFSL_NEED_SLURM=1; fi
}

# check NAME COMMAND...: run one check, say how long it took, and remember a failure instead of stopping at it.
failed=()
check() {
    local name=$1 start=$SECONDS
    shift
    say "--- $name"
    if "$@"; then say "    ok, $((SECONDS - start)) s"; else
        say "    FAILED: $*"
        failed+=("$name")
    fi
}

# No standard input: a launcher must not wait for one. Each part's log is kept for its last line.
pytest_of() {
    coverage run -m pytest "${@:2}" </dev/null | tee "$logs/$1"
}

# Tests that start ranks wait half of the time, so the others run beside them, and those on a Slurm after these; the log
# of the first comes at the end.
tests() {
    coverage erase || return
    if [ $# -gt 0 ]; then
        pytest_of all "$@"
        return
    fi
    local ranks code=0
    pytest_of ranks tests/mpi >/dev/null 2>&1 &
    ranks=$!
    pytest_of others --ignore=tests/mpi --ignore=tests/slurm || code=1
    pytest_of slurm tests/slurm || code=1
    wait "$ranks" || code=1
    cat "$logs/ranks"
    return "$code"
}

floors() {
    coverage combine --quiet && coverage json --quiet -o coverage.json && python jobs/coverage_floors.py coverage.json
}

need_tools
make_environment .venv-test run,data,parquet,openmpi,report,analysis,dev
open_mpi_on_one_node
make_mpich .venv-test .venv-test-mpich
export HPCFSL_TEST_MPICH="$PWD/.venv-test-mpich"
if make_system_mpi .venv-test .venv-test-system-mpi; then
    export HPCFSL_TEST_SYSTEM_MPI="$PWD/.venv-test-system-mpi"
elif [ "${CI:-}" = true ]; then fail "no MPI of the distribution, and none could be installed"; else
    say "no MPI of the distribution, and none could be installed: ITS TESTS ARE SKIPPED"
fi
# Tests start mpirun themselves, up to 8 ranks on however few cores there are.
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 PRTE_MCA_rmaps_default_mapping_policy=:oversubscribe
logs=$(mktemp -d)
trap 'rm -rf "$logs"' EXIT

check "ruff" ruff check --quiet
check "format" ruff format --check --quiet
check "types" mypy
check "layers" lint-imports --no-logo
check "scripts" shellcheck jobs/*.sh jobs/*.sbatch .ci/run
check "tests" tests "$@"
if [ $# -eq 0 ]; then check "coverage" floors; fi

echo
tail -qn 1 "$logs"/*
if [ ${#failed[@]} -gt 0 ]; then
    echo "result: FAILED: ${failed[*]} ($((SECONDS / 60)) min $((SECONDS % 60)) s)"
    exit 1
fi
echo "result: all checks passed ($((SECONDS / 60)) min $((SECONDS % 60)) s)"
