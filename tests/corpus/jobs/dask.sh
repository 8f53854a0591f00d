#!/bin/bash
# A cluster of Dask within a job: the scheduler and the workers are steps in the background, and the client is the script.
#SBATCH --job-name=dask
#SBATCH --nodes=2
#SBATCH --ntasks=4
#SBATCH --mem-per-cpu=200

export PATH=$HOME/sw:$PATH
srun --overlap -N1 -n1 --mem=0 hub serve scheduler.json 8 >scheduler.log &
scheduler=$!
until [ -s scheduler.json ]; do sleep 0.1; done
srun --overlap -n "$SLURM_NTASKS" hub work scheduler.json &
wait "$scheduler"
cp scheduler.log result
wait
