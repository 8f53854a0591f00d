#!/bin/bash
# A script that ends at the first mistake, says where, and passes on how the step ended. A program that is not found ends a
# step with 2 on the host, and with 127 in an image, as in a shell.
#SBATCH -n 2

set -Eeuo pipefail
trap 'echo "line with: $BASH_COMMAND, status $?" >>result' ERR
srun true
srun -n1 sh -c 'kill -USR1 $$' || echo "killed: $?" >result
srun -n1 no-such-program || echo "not found" >>result
srun -n1 sh -c 'exit 7' || code=$?
echo "code $code" >>result
if ! srun --quit-on-interrupt -K sh -c 'exit $SLURM_PROCID'; then echo "one failed" >>result; fi
srun -n1 sh -c 'exit 9'
echo never >>result
