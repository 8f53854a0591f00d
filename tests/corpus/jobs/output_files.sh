#!/bin/bash
# Where output goes: a file for each task and for each node, standard error apart, labels, tee, and the status of a pipeline.
#SBATCH --nodes=2 --ntasks=4
#SBATCH --output=%x.log
#SBATCH --job-name=output

set -o pipefail
srun --output=out.%t sh -c 'echo "task $SLURM_PROCID"'
srun --output=node.%n --ntasks-per-node=1 -n2 sh -c 'echo "node $SLURM_NODEID"'
srun -n1 -N1 --error=err.%s sh -c 'echo wrong >&2; echo right' >right
srun --label sh -c 'echo labelled' | sort | tee labelled >/dev/null
srun -n1 -N1 sh -c 'exit 3' | tee nothing
echo "pipeline $?" >status
srun sh -c 'echo "task $SLURM_PROCID"' 2>&1 | tee >(sort >sorted) | wc -l >count
srun -n2 --output=none echo nowhere
srun -u -n1 -N1 printf 'no end of line' >unbuffered
srun --open-mode=append --output=twice -n1 -N1 echo one
srun --open-mode=append --output=twice -n1 -N1 echo two
wait
cat out.? node.? err.* right labelled status sorted count unbuffered twice >result
