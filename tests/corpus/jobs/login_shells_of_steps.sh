#!/bin/bash
# Steps that are login shells, since the job is submitted without an environment.
#SBATCH -n 2 --export=NONE

unset SLURM_EXPORT_ENV
echo "HOME is $([ -d "$HOME" ] && echo there), ${PROJECT-no project}" >result
srun bash -lc 'echo "$SLURM_PROCID: $(id -un | wc -w) user, PATH with $(tr : "\n" <<<"$PATH" | grep -c "^/usr/bin$")"' | sort >>result
srun bash -l -c 'shopt -q login_shell && echo login' | sort >>result
srun --export=NONE,A=1 /bin/bash -c 'echo "A=$A B=$B"' | sort -u >>result
