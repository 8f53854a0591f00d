#!/bin/bash -l
# A login shell, which reads the profile of the home directory that defines `module`; the steps' shells do so too.
#SBATCH -J modules -n 2

module load R java
echo "$LOADEDMODULES" >result
srun bash -c 'module load julia && echo "$SLURM_PROCID: $LOADEDMODULES, ${JAVA_HOME#$HOME/}"' | sort >>result
srun bash -lc 'echo "$SLURM_PROCID: $PROJECT"' | sort >>result
