#!/bin/bash
# Modules before a step, in a script that was written for the host's software. Where there are no modules, as in most
# images, bash says that `module` is not found, and the programs are those of the image.
#SBATCH -J modules
#SBATCH -n 2

module purge
module load gcc openmpi/4.1
which awk >/dev/null || exit 1
srun --cpu-bind=none awk 'BEGIN { print "awk in", ENVIRON["SLURM_NTASKS"], "tasks" }' >result
