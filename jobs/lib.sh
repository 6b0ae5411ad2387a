# shellcheck shell=bash
# What the job scripts share: environments, packages of the system, and starting ranks. Source it; it runs nothing.
#
#   make_environment FOLDER EXTRAS   a virtual environment with hpcfsl[EXTRAS], made or brought up to date
#   run_ranks N COMMAND...           COMMAND as N ranks of MPI on this machine
#   install_packages NAME...         Debian or Ubuntu packages, where root or sudo may
#
# The progress bar under a launcher: a rank's own stderr is a pipe, and Open MPI hands every rank a pseudo-terminal as
# stdout even where all output ends in a file, so a rank cannot find out whether somebody watches. The script can:
# run_ranks passes HPCFSL_PROGRESS=1 and the width as COLUMNS where its own stderr is a terminal. Elsewhere the program
# prints a line now and then, and nothing at all with HPCFSL_PROGRESS=0. Open MPI forwards whole lines only, so the bar
# must end each refresh with one.

# One thread a rank unless the configuration says otherwise: ranks with a pool of threads each share the cores badly.
export OMP_NUM_THREADS="${OMP_NUM_THREADS:-1}"

# Print how many cores this process may use. nproc takes OMP_NUM_THREADS for an answer, which is one a rank here.
num_cores() {
    env -u OMP_NUM_THREADS -u OMP_THREAD_LIMIT nproc
}

say() {
    printf '%s\n' "$*" >&2
}

fail() {
    say "error: $*"
    exit 1
}

# as_root COMMAND...: run it as root, or return 1 where that cannot be.
as_root() {
    if [ "$(id -u)" -eq 0 ]; then
        "$@"
    elif command -v sudo >/dev/null; then
        sudo "$@"
    else
        return 1
    fi
}

# install_packages NAME...: return 1 where they cannot be installed.
install_packages() {
    command -v apt-get >/dev/null || return 1
    say "installing system packages: $*"
    # Lists first: on a fresh machine there are none, or old ones.
    as_root apt-get -qq update >&2 &&
        as_root env DEBIAN_FRONTEND=noninteractive apt-get -qq install -y --no-install-recommends "$@" >/dev/null
}

# Print the first Python of at least 3.11 that can make virtual environments, or nothing.
find_python() {
    local name
    for name in "${PYTHON:-}" python3 python3.13 python3.12 python3.11; do
        if [ -n "$name" ] && "$name" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            printf '%s\n' "$name"
            return
        fi
    done
}

# need_compiler PYTHON: install what the compiled kernels are built with, or say what goes on without them.
need_compiler() {
    local header='import os, sys, sysconfig; sys.exit(not os.path.exists(sysconfig.get_path("include") + "/Python.h"))'
    if command -v "${CXX:-c++}" >/dev/null && "$1" -c "$header"; then return; fi
    install_packages g++ python3-dev || say "no C++ compiler or no headers of Python, and none could be installed: training will use torch"
}

# make_environment FOLDER EXTRAS: install hpcfsl[EXTRAS] into FOLDER unless it is there already, and put it on the PATH.
make_environment() {
    local folder=$1 extras=$2 python stamp
    stamp="$extras $(cat pyproject.toml constraints.txt | sha256sum)"
    if [ "$(cat "$folder/installed" 2>/dev/null)" != "$stamp" ] || ! "$folder/bin/python" -c 'import hpcfsl' 2>/dev/null; then
        python=$(find_python)
        if [ -z "$python" ]; then
            install_packages python3 python3-venv || true
            python=$(find_python)
        fi
        [ -n "$python" ] || fail "no Python >= 3.11 with the venv module: install python3-venv, or name one, PYTHON=/path/to/python3"
        need_compiler "$python"
        say "installing hpcfsl[$extras] into $folder (some minutes the first time)"
        "$python" -m venv --clear "$folder"
        "$folder/bin/python" -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[$extras]"
        printf '%s\n' "$stamp" >"$folder/installed"
    fi
    PATH="$(cd "$folder" && pwd)/bin:$PATH"
    export PATH
}

# Settings that Open MPI reads from the environment and other libraries ignore, for ranks that all run on this machine.
open_mpi_on_one_node() {
    # Shared memory only: looking for network hardware costs each start one second. tcp is what is left for odd set-ups.
    export OMPI_MCA_pml="${OMPI_MCA_pml:-ob1}" OMPI_MCA_btl="${OMPI_MCA_btl:-self,sm,tcp}"
}

# run_ranks N COMMAND...: start N ranks on this machine with the mpirun of the PATH, whichever MPI it belongs to.
run_ranks() {
    local ranks=$1 flags=()
    shift
    if [[ $(mpirun --version 2>/dev/null) == *"Open MPI"* ]]; then
        open_mpi_on_one_node
        flags=(--bind-to none) # its default binds the ranks of every run to the same first cores
        [ "$(id -u)" -ne 0 ] || flags+=(--allow-run-as-root)
        [ "$ranks" -le "$(num_cores)" ] || flags+=(--oversubscribe)
    fi
    tell_of_terminal
    mpirun -n "$ranks" "${flags[@]}" "$@"
}

# Export what ranks cannot find out: whether stdout (tables) and stderr (progress) end at a terminal, and how wide it is.
tell_of_terminal() {
    local size=""
    if [ -t 2 ]; then
        export HPCFSL_PROGRESS="${HPCFSL_PROGRESS:-1}"
        size=$(stty size <&2 2>/dev/null || true)
        size=${size##* }
    fi
    if [ "${size:-0}" -gt 0 ]; then export COLUMNS="$size"; else export COLUMNS="${COLUMNS:-100}"; fi
    # rich reads this one; without it Open MPI's pseudo-terminal would bring colour codes into a log.
    if [ ! -t 1 ]; then export TTY_COMPATIBLE="${TTY_COMPATIBLE:-0}"; fi
}
