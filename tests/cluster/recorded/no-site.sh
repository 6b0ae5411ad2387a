#!/bin/bash
# hpcfsl run on 2 nodes with 8 ranks
# Written by hpcfsl; made to be read, changed and handed to sbatch again.
#SBATCH --job-name=hpcfsl-first
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=4
#SBATCH --cpus-per-task=1
#SBATCH --time=01:00:00
#SBATCH --signal=B:USR2@300
#SBATCH --requeue
#SBATCH --chdir=/home/ada
#SBATCH --output=/home/ada/runs/first/job/slurm-%j.out
#SBATCH --open-mode=append
# shellcheck disable=SC1090,SC1091,SC2317 # it cannot see files that are sourced, nor what a trap calls

run=/home/ada/runs/first
config=$run/job/config.toml # what was submitted; later changes of your own file do not reach this job

# Slurm warns this shell before the time is up: the run is asked to finish its round, commit and leave.
warned="" ranks=""
stop_run() {
    warned=yes
    echo "$(date '+%F %T') the time is nearly up: asking the run to stop"
    if [ -n "$ranks" ]; then ask & fi
}
# A run that was still starting removes the file as an old one, so it is asked until it leaves.
ask() {
    while kill -0 "$ranks" 2>/dev/null; do
        touch "$run/stop"
        sleep 1
    done
}
trap stop_run USR2

export OMP_NUM_THREADS=1 HPCFSL_PROGRESS="${HPCFSL_PROGRESS:-lines}"
# Open MPI refuses to work for root, as in some containers, unless it is told twice.
if [ "$(id -u)" -eq 0 ]; then export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1; fi

status() {
    cat "$run/status" 2>/dev/null || echo none
}
newest_checkpoint() {
    local files=("$run"/checkpoints/round_*.h5)
    echo "${files[-1]}"
}
# leave STATUS: for good, whatever else could go on.
leave() {
    exit "$1"
}

before=$(newest_checkpoint)
echo "$(date '+%F %T') job $SLURM_JOB_ID starts $run on $SLURM_JOB_NODELIST"
launch=(
    mpirun -n 8 --map-by ppr:4:node:pe=1 --bind-to core
    /home/ada/.venv/bin/python -m hpcfsl run "$config" --out "$run"
)
"${launch[@]}" &
ranks=$!
if [ -n "$warned" ]; then ask & fi # it came before there was anybody to ask
# `wait` returns early when the warning comes, so it is entered again.
while kill -0 "$ranks" 2>/dev/null; do wait "$ranks"; done
wait "$ranks"
code=$?

# How it ended is what the run's status says. The exit status of a launcher does not: some change it.
echo "$(date '+%F %T') status $(status), exit status $code"
case "$(status)" in
resumable)
    if [ -z "$warned" ]; then leave "$code"; fi # somebody made the file stop, or the run could not begin
    ;;
running) # cut off, as when a node fails
    if ! flock --shared --wait 10 "$run/lock" true; then
        echo "another job is running $run"
        leave 2
    fi
    tries=$run/job/cut_off
    if [ "$(newest_checkpoint)" != "$before" ]; then rm -f "$tries"; fi
    echo "$SLURM_JOB_ID" >>"$tries"
    if [ "$(wc -l <"$tries")" -ge 3 ]; then
        echo "cut off 3 times without a new checkpoint: giving up; submit again to go on"
        rm -f "$tries"
        leave 1
    fi
    ;;
finished) leave "$code" ;;
*) leave $((code ? code : 1)) ;;
esac
echo "back into the queue"
scontrol requeue "$SLURM_JOB_ID" || echo "the job could not be requeued; submit again to go on"
exit 3
