#!/bin/bash
# One process of many threads: OMP_NUM_THREADS, an unlimited stack, and how long it took.
#SBATCH --nodes=1
#SBATCH --ntasks=1
#SBATCH --cpus-per-task=4
#SBATCH --hint=nomultithread
#SBATCH --output=%j.out

export OMP_NUM_THREADS=$SLURM_CPUS_PER_TASK OMP_PLACES=cores OMP_PROC_BIND=close
export OMP_STACKSIZE=512M
ulimit -s unlimited
echo "stack $(ulimit -s)" >result
TIMEFORMAT='%R seconds'
{ time srun --cpus-per-task="$SLURM_CPUS_PER_TASK" sh -c 'echo "$OMP_NUM_THREADS threads, stack $(ulimit -s)"'; } >>result 2>time.log
grep -c '^[0-9.]* seconds$' time.log >>result
/bin/sh -c 'time -p srun true' 2>&1 | grep -c '^real\|not found' >>result
srun --mem-bind=local --distribution=block:block printenv OMP_PLACES >>result
