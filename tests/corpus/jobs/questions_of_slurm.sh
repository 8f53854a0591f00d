#!/bin/bash
# What scripts ask Slurm, and tell it.
#SBATCH -J questions -n 1 -t 10 --comment=first

{
    squeue --me -h -n questions -o %j | sort -u
    squeue -h -j "$SLURM_JOB_ID" -O "NumNodes:5,TimeLimit:10" | xargs
    sinfo -h -o %P
    scontrol show partition main | grep -o 'PartitionName=main'
    scontrol update JobId="$SLURM_JOB_ID" Comment=second && scontrol show job "$SLURM_JOB_ID" | grep -o 'Comment=.*'
    scontrol show hostlist a1,a2,a3
    scontrol show config | grep -c '^ClusterName '
    scontrol ping | grep -c UP
    sprio -V | cut -d' ' -f1
    srun --version | cut -d' ' -f1
    sacct -j "$SLURM_JOB_ID" >/dev/null 2>&1; echo "sacct $?"
    scontrol listpids "$SLURM_JOB_ID.batch" | awk 'NR > 1 { print "listed" }' | sort -u
    scontrol wait_job "$SLURM_JOB_ID" && echo ready
    command -v srun >/dev/null && type -P sbatch >/dev/null && which scancel >/dev/null && echo found
} >result 2>questions.err
