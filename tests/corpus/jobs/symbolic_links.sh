#!/bin/bash
# Directories that are reached by links, as a home's link to scratch space: whoever goes there by one name finds it by both.
#SBATCH -n 1

mkdir -p real/run data
ln -sfn "$PWD/real" scratch
ln -sfn ../../data real/run/input
echo x=1 >data/parameters
cd scratch/run || exit 1
pwd | sed 's|.*/scratch|scratch|' >"$SLURM_SUBMIT_DIR/result"
srun pwd -P | sed 's|.*/real|real|' >>"$SLURM_SUBMIT_DIR/result"
srun cat input/parameters >>"$SLURM_SUBMIT_DIR/result"
cd "$(pwd -P)" && srun cat ../../scratch/run/input/parameters >>"$SLURM_SUBMIT_DIR/result"
srun --chdir="$SLURM_SUBMIT_DIR/scratch/run" sh -c 'cat input/parameters; echo written >out' >>"$SLURM_SUBMIT_DIR/result"
cat "$SLURM_SUBMIT_DIR/real/run/out" >>"$SLURM_SUBMIT_DIR/result"
