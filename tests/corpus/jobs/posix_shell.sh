#!/bin/sh
# A script for any shell, as some are careful to write: here-documents, traps, a loop over parameters.
#SBATCH --job-name=posix
#SBATCH --ntasks=2

set -eu
tmp=$(mktemp)
trap 'rm -f "$tmp"' EXIT
cat >"$tmp" <<EOF
1.0
2.5
EOF
while read -r value; do
    srun -n1 sh -c 'echo "value $1"' sh "$value" </dev/null
done <"$tmp" >result
srun sh <<'EOF' | sort >>result
echo "task $SLURM_PROCID of $SLURM_NTASKS"
EOF
(cd / && srun -n1 pwd) >>result
srun -n1 sh -c 'exit 4' || echo "status $?" >>result
