#!/usr/bin/env -S bash -l
# A first line with an option, by env.
#SBATCH -n 1

shopt -q login_shell && echo "a login shell of ${PROJECT:-no project}" >result
srun env -S 'A=1 B="2 3" printenv B' >>result
