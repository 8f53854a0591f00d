#!/bin/bash
# The user's own settings, sourced; and variables, umask and limits as they go on to steps.
#SBATCH -n 2

source ~/.bashrc
export OMP_NUM_THREADS=$SLURM_CPUS_PER_TASK
umask 027
ulimit -c 0
alias | grep -c ll= >result || true
srun bash -c 'echo "$PROJECT, $(umask), core $(ulimit -c)"' | sort -u >>result
touch made && srun -n1 stat -c %a made >>result
srun -n1 bash -c 'cd ~ && ls .bashrc' >>result
