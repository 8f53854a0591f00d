#!/bin/bash
# Distributed training, one torchrun on each node that starts a worker for each of its GPUs.
#SBATCH --job-name=ddp
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --gres=gpu:2
#SBATCH --cpus-per-task=4
#SBATCH --output=%x-%j.out

set -euo pipefail
export PATH=$HOME/sw/torch/bin:$PATH
nodes=($(scontrol show hostnames "$SLURM_JOB_NODELIST"))
head_node=${nodes[0]}
head_node_ip=$(srun --nodes=1 --ntasks=1 -w "$head_node" hostname --ip-address | awk '{print $1}')
port=$(expr 10000 + $(echo -n "$SLURM_JOBID" | tail -c 4))

export LOGLEVEL=INFO NCCL_DEBUG=WARN
mkdir -p checkpoints
srun torchrun --nnodes "$SLURM_NNODES" --nproc_per_node 2 --rdzv_id "$SLURM_JOB_ID" --rdzv_backend c10d \
    --rdzv_endpoint "$head_node_ip:$port" \
    bash -c 'echo "rank $RANK of $WORLD_SIZE, local $LOCAL_RANK" >checkpoints/$RANK'
cat checkpoints/* >result
