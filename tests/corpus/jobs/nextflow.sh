#!/bin/bash
# The head of a workflow, which submits its tasks as jobs of their own and waits for them.
#SBATCH --job-name=nf-head
#SBATCH --cpus-per-task=1
#SBATCH --mem=500M

export NXF_OPTS='-Xms250m -Xmx500m' NXF_ANSI_LOG=false
export NXF_WORK=$SLURM_SUBMIT_DIR/work
export PATH=$HOME/sw/nextflow/bin:$PATH
cd "$SLURM_SUBMIT_DIR"
nextflow run main.nf -profile slurm -resume >result
