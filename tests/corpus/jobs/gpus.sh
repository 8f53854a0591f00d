#!/bin/bash
# Devices by the job, by the step and by the task. Which ones they are depends on who else has some.
#SBATCH --nodes=1 --ntasks=2
#SBATCH --gpus-per-node=2

count() { echo "$1: $(tr , '\n' <<<"$CUDA_VISIBLE_DEVICES" | grep -c .)"; }
export -f count
count job >result
srun --gpus=2 bash -c 'count "step, task $SLURM_PROCID"' | sort >>result
srun --ntasks=2 --gpus-per-task=1 bash -c 'count "one each, task $SLURM_PROCID"' | sort >>result
srun -n1 --gres=none bash -c 'count none' >>result
CUDA_VISIBLE_DEVICES=3 bash -c 'echo "own: $CUDA_VISIBLE_DEVICES"' >>result
