#!/bin/bash
# A step that is told by a signal to write what it has, one that is cancelled, and one that has its time.
#SBATCH -n 1 --mem=200

srun --overlap -n1 bash -c 'trap "echo checkpoint >>said" USR2; trap "echo asked to end >>said; exit 0" TERM; touch up
    while :; do sleep 0.1; done' &
until [ -e up ]; do sleep 0.1; done
scancel -s USR2 "$SLURM_JOB_ID.0"
until [ -s said ]; do sleep 0.1; done
scancel -s TERM "$SLURM_JOB_ID.0"
wait $!
echo "first $?" >result
uniq said >>result
srun --overlap -n1 sh -c 'touch asleep; exec sleep 100' &
until [ -e asleep ]; do sleep 0.1; done
scancel "$SLURM_JOB_ID.1"
wait $! || echo "second failed" >>result
timeout 1 srun --overlap -n1 sleep 100 2>/dev/null
echo "timeout $?" >>result
