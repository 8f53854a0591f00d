#!/bin/bash -l
# Where a script is and what it is called: idioms of the first lines of many.
#SBATCH --job-name=where
#SBATCH --ntasks=1
#SBATCH --error=where.err

cd $SLURM_SUBMIT_DIR
{
    [ "$PWD" -ef "$SLURM_SUBMIT_DIR" ] && echo "in the directory"
    echo "$SLURM_JOB_NAME, $SLURM_JOB_NUM_NODES node, $SLURM_NTASKS task, on $SLURM_JOB_PARTITION of $SLURM_CLUSTER_NAME"
    echo "script: $(basename "$(scontrol show job "$SLURM_JOB_ID" | awk -F= '/ Command=/ { print $2 }')")"
    [ "$(squeue -h -j "$SLURM_JOB_ID" -o %Z)" = "$PWD" ] && echo "as squeue has it"
    [ "$(id -un)" = "$USER" ] && echo "as $USER"
    [ "$(hostname)" = "$(srun hostname)" ] && echo "where its step is"
    ls "$0" | grep -c slurm_script
    sed -n 2p "$0"
    srun pwd -P | grep -c "$(pwd -P)"
    (mkdir -p sub && cd sub && srun pwd | sed 's|.*/||' && cd .. && rmdir sub)
} >result
echo "to the other file" >&2
