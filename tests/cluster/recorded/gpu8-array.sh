#!/bin/bash
# hpcfsl run on 2 nodes with 16 ranks
# Written by hpcfsl; made to be read, changed and handed to sbatch again.
#SBATCH --job-name=hpcfsl-first
#SBATCH --partition=h100
#SBATCH --account=proj-1234
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=8
#SBATCH --cpus-per-task=1
#SBATCH --gpus-per-node=8
#SBATCH --time=04:00:00
#SBATCH --signal=B:USR2@300
#SBATCH --no-requeue
#SBATCH --array=1-20%1
#SBATCH --exclusive
#SBATCH --chdir=/home/ada
#SBATCH --output=/home/ada/runs/first/job/slurm-%A_%a.out
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

# What makes the program and its launcher available here.
module load openmpi/5.0.11

export OMP_NUM_THREADS=1 HPCFSL_PROGRESS="${HPCFSL_PROGRESS:-lines}"
export TMPDIR=/nvme # scratch files
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
    scancel --state=PENDING "$SLURM_ARRAY_JOB_ID"
    exit "$1"
}

# An earlier element may have finished the run, or shown that it cannot go on.
if [ "$SLURM_ARRAY_TASK_ID" -gt "$SLURM_ARRAY_TASK_MIN" ]; then
    case "$(status)" in
    finished) leave 0 ;;
    failed) leave 1 ;;
    esac
fi

before=$(newest_checkpoint)
echo "$(date '+%F %T') job $SLURM_JOB_ID starts $run on $SLURM_JOB_NODELIST"
launch=(
    mpirun -n 16 --map-by ppr:8:node:pe=1 --bind-to core --mca btl_tcp_if_include ib0
    apptainer exec --nv --bind "$run" --bind /project/proj-1234 --bind /nvme /project/proj-1234/hpcfsl.sif
    hpcfsl run "$config" --out "$run"
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
echo "the next element of the array goes on"
exit 3
