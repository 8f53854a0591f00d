#!/bin/bash
# A job that is told before its time is over, saves what it has, and submits its continuation. Slurm's own signal comes up to
# a minute late, so the job sends it to itself here.
#SBATCH --job-name=long
#SBATCH --signal=B:USR1@60
#SBATCH --open-mode=append
#SBATCH --output=long.log
#SBATCH --time=00:10:00

checkpoint() {
    echo "caught USR1 in run $run" >>progress
    kill -TERM "$step"
    wait "$step"
    # As --wait, so that whoever waits for this job waits for both.
    sbatch --parsable --wait job.sh $((run + 1)) >next
}
run=${1:-1}
trap checkpoint USR1
echo "run $run begins with $(cat state 2>/dev/null || echo nothing)" >>progress

if [ "$run" = 2 ]; then
    srun -n1 sh -c 'cat state' >>progress
    cp progress result
    exit 0
fi
srun -n1 bash -c 'trap "echo half-way >state; exit 0" TERM; touch ready; while :; do sleep 0.1; done' &
step=$!
until [ -e ready ]; do sleep 0.1; done
scancel --signal=USR1 --batch "$SLURM_JOB_ID" &
wait "$step"
wait
