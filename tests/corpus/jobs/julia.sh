#!/bin/bash
# Julia with a file of machines that is a process's output, and a depot of the job's own.
#SBATCH -N 2 --ntasks-per-node=2 -c 2 -J julia

source ~/.bashrc
module load julia
export JULIA_DEPOT_PATH=$PWD/.depot:
export JULIA_NUM_THREADS=$SLURM_CPUS_PER_TASK
mkdir -p .depot
julia --machine-file <(srun hostname -s) -t "$JULIA_NUM_THREADS" --project="$PWD" pi.jl >result
julia --machine-file=<(srun -n 4 printenv SLURMD_NODENAME | sort) -t auto --project=@. pi.jl >>result
