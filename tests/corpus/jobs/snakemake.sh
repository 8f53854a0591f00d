#!/bin/bash -l
# The head of a workflow whose rules are jobs of their own, which are submitted by --wrap.
#SBATCH -J snakemake -n 1 --mem=500 -t 20

export PATH=$HOME/sw/snakemake/bin:$PATH
snakemake --executor slurm --jobs 10 --default-resources mem_mb=200 >result 2>snakemake.log
