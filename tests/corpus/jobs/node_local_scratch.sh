#!/bin/bash
# Data for each node's own directory, by sbcast and by a step of one task a node; the results come back the same way.
#SBATCH -N 2 --ntasks-per-node=2

SCRATCH=/tmp/$USER.$SLURM_JOB_ID
export SCRATCH
srun -N "$SLURM_NNODES" --ntasks-per-node=1 mkdir -p "$SCRATCH"
tar -cf input.tar -C "$SLURM_SUBMIT_DIR" job.sh
sbcast --force input.tar "$SCRATCH/input.tar"
srun -N "$SLURM_NNODES" --ntasks-per-node=1 tar -xf "$SCRATCH/input.tar" -C "$SCRATCH"
srun bash -c 'cd $SCRATCH && cmp -s job.sh "$SLURM_SUBMIT_DIR/job.sh" && echo "task $SLURM_PROCID has it" >"$SLURM_SUBMIT_DIR/out.$SLURM_PROCID"'
cat out.? >result
srun -N "$SLURM_NNODES" --ntasks-per-node=1 rm -rf "$SCRATCH"
