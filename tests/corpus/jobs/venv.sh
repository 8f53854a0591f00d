#!/bin/bash
# A virtual environment beside the script: a link to an interpreter of the system, programs that name it by its path in their
# first lines, and a file that is sourced. The interpreter, here the shell, is where an image has it too.
#SBATCH -n 2 -J venv

cd "$SLURM_SUBMIT_DIR" || exit 1
mkdir -p venv/bin
ln -s /bin/sh venv/bin/python
cat >venv/bin/activate <<EOF
deactivate() { PATH=\$_OLD_VIRTUAL_PATH; unset VIRTUAL_ENV; }
VIRTUAL_ENV=$PWD/venv
export VIRTUAL_ENV
_OLD_VIRTUAL_PATH=\$PATH
PATH=\$VIRTUAL_ENV/bin:\$PATH
export PATH
EOF
printf '#!%s/venv/bin/python\necho "tool $1 of $(basename "$VIRTUAL_ENV")"\n' "$PWD" >venv/bin/tool
chmod +x venv/bin/tool

source venv/bin/activate
srun tool run | sort >result
srun python -c 'echo "$(command -v tool | sed "s|.*/venv|venv|")"' | sort >>result
deactivate
echo "${VIRTUAL_ENV-deactivated}" >>result
