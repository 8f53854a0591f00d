#!/bin/bash
# A directory for the job's files that a trap removes, whatever happens: data are copied in, worked on there, and the result
# is copied back.
#SBATCH -J scratch -n 2 -N 1

set -e
work=$(mktemp -d "${SLURM_TMPDIR:-${TMPDIR:-/tmp}}/scratch.XXXXXXXX")
cleanup() {
    cp "$work"/out.* "$SLURM_SUBMIT_DIR"/ || true
    rm -rf "$work"
    [ -e "$work" ] || echo "clean, after $1" >>"$SLURM_SUBMIT_DIR/result"
}
trap 'cleanup $?' EXIT
trap 'exit 143' TERM

echo data >input
cp input "$work"/
cd "$work"
srun sh -c 'tr a-z A-Z <input >out.$SLURM_PROCID'
cat out.0 out.1 >"$SLURM_SUBMIT_DIR/result"
srun --output="$SLURM_SUBMIT_DIR/where.%t" sh -c 'cmp "$(pwd)/input" "$SLURM_SUBMIT_DIR/input" && echo same'
cat "$SLURM_SUBMIT_DIR"/where.? >>"$SLURM_SUBMIT_DIR/result"
srun -n1 false
echo never >>"$SLURM_SUBMIT_DIR/result"
