#!/bin/bash
# Programs for the steps that are in the script itself: a here-document for a shell's input, with and without variables of
# the script, a here-string, and a function.
#SBATCH -n 2

name=outer
srun bash -s one two <<'EOF' | sort >result
echo "$SLURM_PROCID: $# arguments, ${name-unset}"
EOF
srun -n1 bash -s <<EOF >>result
echo "$name in a step"
while read -r line; do echo "read \$line"; done <<INNER
one
two
INNER
EOF
srun -n1 cat <<<"a here-string" >>result
greet() { echo "function says $1 in $SLURM_NTASKS"; }
export -f greet
srun bash -c 'greet hello' | sort -u >>result
srun --input=none wc -c | sort -u >>result
printf 'b\na\n' | while read -r item; do srun -n1 echo "item $item" </dev/null; done >>result
