#!/bin/bash
# A job of unlike parts: one task with much memory that leads, and a group of workers; a step of each, and one of both.
#SBATCH --job-name=coupled
#SBATCH --ntasks=1 --cpus-per-task=2 --mem=300
#SBATCH hetjob
#SBATCH --ntasks=3 --cpus-per-task=1 --mem=200

# SLURM_CPUS_PER_TASK is not asked for: where a step has two components, srun of 26.05 sets now the one's and now the other's.
printf '#!/bin/sh\necho "ocean $SLURM_PROCID"\n' >ocean
printf '#!/bin/sh\necho "atmosphere $SLURM_PROCID"\n' >atmosphere
chmod +x ocean atmosphere
srun --het-group=0 hostname >/dev/null && echo "groups $SLURM_HET_SIZE" >result
srun --het-group=1 -n3 sh -c 'echo "alone $SLURM_PROCID"' | sort >>result
srun --het-group=0 -c2 ./ocean : --het-group=1 ./atmosphere | sort >>result
