#!/usr/bin/env bash
# A real Slurm on this machine: munge, one slurmctld and two slurmd, nodes n1 and n2 of four processors each. To try a
# batch script before it waits in a site's queue, and what tests/slurm runs on. Several may run beside each other.
#
#   bash jobs/slurm_here.sh install                 Debian's or Ubuntu's packages, as root or with sudo
#   bash jobs/slurm_here.sh start FOLDER            prints the line that points sbatch, srun and squeue at this cluster
#   bash jobs/slurm_here.sh stop FOLDER             ends jobs and daemons; only logs are left, in FOLDER
#   bash jobs/slurm_here.sh kill-node FOLDER NODE   a crash: SIGKILL to the slurmd and to everything that it runs
#   bash jobs/slurm_here.sh start-node FOLDER NODE  the crashed node comes back
#
# All state lies in FOLDER, which must have a path without spaces; ports are free ones of the loopback device. The
# daemons run as whoever starts them. Both nodes are this machine: SLURMD_NODENAME tells which one a process is on.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
# shellcheck source=jobs/lib.sh
source "$here/jobs/lib.sh"
PATH="$PATH:/usr/sbin:/sbin" # where Debian puts daemons

nodes=(n1 n2)
# slurm-wlm has the daemons and commands, libpmix2 is what `srun --mpi=pmix` loads.
packages=(slurm-wlm munge libpmix2)
wait_seconds=30

usage() {
    sed -n '2,/^set/{/^set/d;s/^# \{0,1\}//;p}' "${BASH_SOURCE[0]}" >&2
    exit 2
}

is_installed() {
    local program
    for program in munged slurmctld slurmd sbatch; do command -v "$program" >/dev/null || return 1; done
}

has_pmix() {
    [[ $(ldconfig -p) == *libpmix.so* ]]
}

# Print the first of five free ports in a row, below those that the kernel hands out by itself.
find_ports() {
    local base port
    for _ in {1..50}; do
        base=$((12000 + RANDOM % 18000))
        for ((port = base; port < base + 5; port++)); do
            if (: <"/dev/tcp/127.0.0.1/$port") 2>/dev/null; then continue 2; fi
        done
        printf '%s\n' "$base"
        return
    done
    fail "no free ports on 127.0.0.1"
}

# Slow defaults that matter here: cred_expire holds a requeued job back for 120 s, SlurmdTimeout notices a dead node
# after 300 s. There is no cgroup to rely on, so processes are found by their session (linuxproc).
write_configuration() {
    local base=$1 host user
    host=$(hostname)
    user=$(id -un)
    cat >"$folder/slurm.conf" <<CONF
ClusterName=here
SlurmctldHost=$host(127.0.0.1)
SlurmUser=$user
SlurmdUser=$user
AuthType=auth/munge
AuthInfo=socket=$folder/munge.socket,cred_expire=5
SlurmctldPort=$base
SlurmctldPidFile=$folder/slurmctld.pid
SlurmctldLogFile=$folder/slurmctld.log
StateSaveLocation=$folder/state
SlurmdPidFile=$folder/%n.pid
SlurmdLogFile=$folder/%n.log
SlurmdSpoolDir=$folder/spool.%n
SlurmdParameters=config_overrides
TmpFS=$folder/tmp.%n
SwitchType=switch/none
MpiDefault=none
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SchedulerParameters=batch_sched_delay=0,sched_interval=2,sched_min_interval=0
ReturnToService=2
SlurmdTimeout=10
KillWait=5
NodeName=n[1-2] NodeHostname=$host NodeAddr=127.0.0.1 Port=[$((base + 1))-$((base + 2))] CPUs=4 RealMemory=4000
PartitionName=here Nodes=ALL Default=YES State=UP OverSubscribe=YES MaxTime=INFINITE
CONF
}

# start_daemon NAME COMMAND...: start it with its own log and remember its process.
start_daemon() {
    local name=$1
    shift
    setsid "$@" >>"$folder/$name.out" 2>&1 </dev/null &
    printf '%s\n' "$!" >"$folder/$name.process"
}

start_munge() {
    dd if=/dev/urandom of="$folder/munge.key" bs=128 count=1 status=none
    chmod 600 "$folder/munge.key"
    # --force: the folder may lie below one that others may write to, such as /tmp.
    start_daemon munged munged --foreground --force --num-threads=2 --key-file="$folder/munge.key" \
        --socket="$folder/munge.socket" --pid-file="$folder/munged.pid" --seed-file="$folder/munge.seed" \
        --log-file="$folder/munged.log"
    wait_for "munged" test -S "$folder/munge.socket"
}

# SLURMD_NODENAME comes down to everything that the node runs, launchers and ranks included: kill-node goes by it.
start_node() {
    mkdir -p "$folder/spool.$1" "$folder/tmp.$1"
    start_daemon "$1" env SLURMD_NODENAME="$1" SLURM_CONF="$folder/slurm.conf" slurmd -D -N "$1" -f "$folder/slurm.conf"
}

# wait_for WHAT COMMAND...: until the command succeeds; after wait_seconds show the logs and fail.
wait_for() {
    local what=$1 end=$((SECONDS + wait_seconds))
    shift
    until "$@"; do
        if [ "$SECONDS" -ge "$end" ]; then
            tail -n 20 "$folder"/*.log "$folder"/*.out >&2 || true
            fail "$what did not start within $wait_seconds s"
        fi
        sleep 0.1
    done
}

all_idle() {
    [ "$(sinfo --noheader --Node --format=%T 2>/dev/null | sort -u)" = "idle" ]
}

# The controller takes a node that crashed for alive until it misses it, so ask the node itself too.
node_is_up() {
    local first
    first=$(sed -n 's/.*Port=\[\([0-9]*\)-.*/\1/p' "$folder/slurm.conf")
    (: <"/dev/tcp/127.0.0.1/$((first + ${1#n} - 1))") 2>/dev/null &&
        [[ $(sinfo --noheader --nodes="$1" --format=%T 2>/dev/null) =~ ^(idle|mixed|allocated)$ ]]
}

# processes_of NODE: print the processes that a node runs, its slurmd included. Their environment says so.
processes_of() {
    local file
    # A process may end between the two looks, and then its file is gone.
    { grep -lzxF "SLURMD_NODENAME=$1" /proc/[0-9]*/environ || true; } 2>/dev/null |
        while read -r file; do
            if grep -qzxF "SLURM_CONF=$folder/slurm.conf" "$file" 2>/dev/null; then basename "${file%/environ}"; fi
        done
}

# Twice over: what the first look missed, because it was being started, the next one finds.
kill_node() {
    local process found
    for _ in {1..20}; do
        found=$(processes_of "$1")
        [ -n "$found" ] || return 0
        for process in $found; do kill -KILL "$process" 2>/dev/null || true; done
        sleep 0.1
    done
    fail "processes of $1 cannot be killed: $found"
}

# stop_daemon NAME: SIGTERM, then SIGKILL after five seconds.
stop_daemon() {
    local process
    process=$(cat "$folder/$1.process" 2>/dev/null) || return 0
    for signal in TERM KILL; do
        kill "-$signal" "$process" 2>/dev/null || break
        for _ in {1..50}; do
            kill -0 "$process" 2>/dev/null || break 2
            sleep 0.1
        done
    done
    rm -f "$folder/$1.process"
}

start() {
    is_installed || fail "Slurm is not installed: bash jobs/slurm_here.sh install"
    [ ! -e "$folder/slurmctld.process" ] || fail "$folder: a cluster runs here; stop it, or choose another folder"
    mkdir -p "$folder/state"
    write_configuration "$(find_ports)"
    trap 'stop' ERR
    start_munge
    start_daemon slurmctld slurmctld -D -f "$folder/slurm.conf"
    local node
    for node in "${nodes[@]}"; do start_node "$node"; done
    wait_for "Slurm" all_idle
    trap - ERR
    printf 'export SLURM_CONF=%s\n' "$folder/slurm.conf"
}

stop() {
    local node
    # The controller first, which would requeue the jobs of nodes that it sees die.
    stop_daemon slurmctld
    for node in "${nodes[@]}"; do
        kill_node "$node"
        rm -f "$folder/$node.process"
    done
    stop_daemon munged
    rm -rf "$folder/state" "$folder"/spool.* "$folder"/tmp.* "$folder"/munge.* "$folder"/*.pid
}

[ $# -ge 1 ] || usage
command=$1
if [ "$command" = install ]; then
    if is_installed && has_pmix; then exit; fi
    install_packages "${packages[@]}" || fail "SLURM CANNOT BE INSTALLED, its tests are skipped; packages: ${packages[*]}"
    exit
fi
[ $# -ge 2 ] || usage
mkdir -p "$2"
folder=$(cd "$2" && pwd)
export SLURM_CONF="$folder/slurm.conf"
case $command in
start) start ;;
stop) stop ;;
kill-node) kill_node "${3:?the node, n1 or n2}" ;;
start-node)
    start_node "${3:?the node, n1 or n2}"
    wait_for "$3" node_is_up "$3"
    ;;
*) usage ;;
esac
