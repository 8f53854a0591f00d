#!/bin/bash
# What a step gets of a script's variables.
#SBATCH -n 1

export A='a b' B=$'two\nlines' EMPTY= LC_ALL=C TZ=UTC
show='printf "%s|%s|%s|%s\n" "${A-unset}" "${B-unset}" "${EMPTY-unset}" "${C-unset}"'
{
    srun sh -c "$show"
    C=once srun sh -c "$show"
    srun --export=ALL,C=3 sh -c "$show"
    srun --export=A,C=4 /bin/sh -c "$show"
    srun --export=NONE /bin/sh -c "$show"
    env -u A srun sh -c "$show"
    env -i PATH="$PATH" SLURM_JOB_ID="$SLURM_JOB_ID" ${SLURM_CONF:+SLURM_CONF="$SLURM_CONF"} srun -n1 /bin/sh -c "$show"
    srun sh -c 'echo "$TZ $LC_ALL $(date +%Z)"'
    srun printenv SLURM_JOB_ID SLURM_JOBID SLURM_STEP_ID SLURM_PROCID SLURM_LOCALID SLURM_NTASKS | wc -l
} >result
