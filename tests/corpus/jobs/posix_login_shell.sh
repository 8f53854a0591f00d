#!/bin/sh -l
# The same by a login shell, which sets PATH anew.
#SBATCH -n 1

echo "$(squeue -h -j "$SLURM_JOB_ID" -o %j) in $(basename "$PWD")" >result
srun sh -lc 'squeue -h -j "$SLURM_JOB_ID" -o %j' >>result
sh -c 'trap "" HUP; exec srun echo deaf to SIGHUP' >background &
wait $!
cat background >>result
