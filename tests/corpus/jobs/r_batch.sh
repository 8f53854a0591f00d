#!/bin/bash
# R by a script, by a here-document, and as many as there are tasks, each with its own seed.
#SBATCH --job-name=R
#SBATCH --ntasks=3
#SBATCH --cpus-per-task=2

. ~/.bashrc
module load R/4.4
export R_LIBS=$SLURM_SUBMIT_DIR/library MC_CORES=$SLURM_CPUS_PER_TASK
mkdir -p library
printf 'args <- commandArgs(trailingOnly = TRUE)\nset.seed(args[1])\n' >sim.R
Rscript --vanilla sim.R 0 >result
Rscript --no-save - one two >>result <<EOF
x <- 1
y <- 2
print(x + y)
EOF
srun bash -c 'Rscript --vanilla sim.R $((100 + SLURM_PROCID))' | sort >>result
