#!/bin/bash
# Lists of machines in the forms that programs want: one line a rank, a line for ++nodelist, a Python list for Abaqus.
#SBATCH --nodes=2 --ntasks-per-node=2

srun hostname -s | sort >hosts.$SLURM_JOB_ID
[ "$(uniq hosts.$SLURM_JOB_ID | wc -l)" -ge 1 ] && wc -l <hosts.$SLURM_JOB_ID >result
nodes=$(scontrol show hostnames)
{ echo "group main"; for node in $nodes; do echo "host $node ++cpus $SLURM_NTASKS_PER_NODE"; done; } >nodelist
wc -l <nodelist >>result
list=$(for node in $nodes; do printf "['%s',%d]," "$node" "${SLURM_TASKS_PER_NODE%%(*}"; done)
echo "mp_host_list=[${list%,}]" | tr -d 0-9 >>result
for node in $nodes; do
    srun -w "$node" -N1 -n1 printenv SLURMD_NODENAME
done | diff - <(echo "$nodes") && echo "each where it should be" >>result
