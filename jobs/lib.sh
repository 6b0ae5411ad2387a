# shellcheck shell=bash
# What the job scripts share: environments, packages of the system, and starting ranks. Source it; it runs nothing.
#
#   make_environment FOLDER EXTRAS   a virtual environment with hpcfsl[EXTRAS], made or brought up to date
#   make_mpich BASE FOLDER           a second one that sees all of BASE and has MPICH's library and launcher
#   make_system_mpi BASE FOLDER      the same with the distribution's MPI, and mpi4py compiled for it
#   run_ranks N COMMAND...           COMMAND as N ranks of MPI on this machine
#   one_a_core FUNCTION NAME...      FUNCTION with each NAME, one process a core at a time
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

# make_beside BASE FOLDER: an environment of some kilobytes that sees everything in BASE; what it has itself comes first.
# mpi4py's wheel looks for an MPI in the environment that it runs in, so another MPI needs another environment: two
# wheels of MPI in one would overwrite each other's mpirun.
make_beside() {
    "$1/bin/python" -m venv --clear --without-pip "$2"
    "$2/bin/python" - "$1" <<'EOF'
import pathlib, subprocess, sys, sysconfig

code = "import sysconfig; print(sysconfig.get_path('purelib'))"
base = subprocess.run([sys.argv[1] + "/bin/python", "-c", code], capture_output=True, text=True, check=True).stdout
# addsitedir: unlike a plain path it also reads the .pth files there, one of which leads to hpcfsl.
line = f"import site; site.addsitedir({base.strip()!r})\n"
pathlib.Path(sysconfig.get_path("purelib"), "beside.pth").write_text(line)
EOF
}

# beside_is_made BASE FOLDER: whether FOLDER was made beside this Python.
beside_is_made() {
    [ "$(cat "$2/installed" 2>/dev/null)" = "$("$1/bin/python" -VV) $(sha256sum <constraints.txt)" ] && [ -x "$2/bin/mpirun" ]
}

mark_beside() {
    printf '%s\n' "$("$1/bin/python" -VV) $(sha256sum <constraints.txt)" >"$2/installed"
}

# make_mpich BASE FOLDER: MPICH beside BASE. Run its mpirun with its python.
make_mpich() {
    beside_is_made "$1" "$2" && return
    say "installing MPICH into $2"
    make_beside "$1" "$2" &&
        "$1/bin/python" -m pip --python "$2/bin/python" install --quiet --disable-pip-version-check -c constraints.txt mpich &&
        mark_beside "$1" "$2"
}

# make_system_mpi BASE FOLDER: Debian's or Ubuntu's Open MPI beside BASE; return 1 where it cannot be installed.
make_system_mpi() {
    beside_is_made "$1" "$2" && return
    command -v mpicc.openmpi >/dev/null || install_packages libopenmpi-dev openmpi-bin || return 1
    say "compiling mpi4py for the system's Open MPI into $2 (half a minute)"
    make_beside "$1" "$2" || return 1
    # Not optimised, which saves most of the time: mpi4py only hands pointers over.
    CFLAGS=-O0 MPICC=$(command -v mpicc.openmpi) "$1/bin/python" -m pip --python "$2/bin/python" install --quiet \
        --disable-pip-version-check --no-binary mpi4py --no-cache-dir --no-deps --ignore-installed \
        "mpi4py==$("$1/bin/python" -c 'from importlib.metadata import version; print(version("mpi4py"))')" || return 1
    # Not a link: Open MPI looks for its own files beside the path by which it is called.
    printf '#!/bin/sh\nexec %s "$@"\n' "$(command -v mpirun.openmpi)" >"$2/bin/mpirun"
    chmod +x "$2/bin/mpirun"
    mark_beside "$1" "$2"
}

# Settings that Open MPI reads from the environment and other libraries ignore, for ranks that all run on this machine.
open_mpi_on_one_node() {
    # Shared memory and tcp only: looking for network hardware costs each start one second. The others are left out
    # instead of those two named, because Open MPI 4 and 5 call shared memory differently.
    export OMPI_MCA_pml="${OMPI_MCA_pml:-ob1}" OMPI_MCA_btl="${OMPI_MCA_btl:-^ofi,uct}"
}

# run_ranks N COMMAND...: start N ranks on this machine with the mpirun of the PATH, whichever MPI it belongs to.
run_ranks() {
    local ranks=$1 flags=() session="" code=0
    shift
    if [[ $(mpirun --version 2>/dev/null) == *@("Open MPI"|OpenRTE)* ]]; then
        open_mpi_on_one_node
        # A session folder of its own: Open MPI names them by process number, and mpirun does not start where a killed
        # one left a folder of that name. Open MPI 5 reads the first variable, 4 the second.
        session=$(mktemp -d)
        local -x PRTE_MCA_prte_tmpdir_base="$session" OMPI_MCA_orte_tmpdir_base="$session"
        flags=(--bind-to none) # its default binds the ranks of every run to the same first cores
        [ "$(id -u)" -ne 0 ] || flags+=(--allow-run-as-root)
        [ "$ranks" -le "$(num_cores)" ] || flags+=(--oversubscribe)
    elif [ "$ranks" -gt "$(num_cores)" ]; then
        # MPICH's waiting ranks keep their core unless told to give it away; where each has one, that costs half a
        # millisecond a collective and brings nothing.
        export MPIR_CVAR_ENABLE_HEAVY_YIELD="${MPIR_CVAR_ENABLE_HEAVY_YIELD:-1}"
    fi
    tell_of_terminal
    mpirun -n "$ranks" "${flags[@]}" "$@" || code=$?
    if [ -n "$session" ]; then rm -rf "$session"; fi
    return "$code"
}

# one_a_core FUNCTION NAME...: call FUNCTION with each NAME in a process of its own, in this order, one a core at a time.
one_a_core() {
    local function=$1 name running=0
    shift
    for name in "$@"; do
        if [ "$running" -ge "$(num_cores)" ]; then
            wait -n
            running=$((running - 1))
        fi
        "$function" "$name" &
        running=$((running + 1))
    done
    wait
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
