#!/bin/bash
# A chain of jobs: an array, each element of which has a line of a file, then a job that depends on all of it, then one that
# depends on that. It submits them from within a job, as a first one of a chain does.
#SBATCH -J chain --ntasks=1 --mem=200

printf 'alpha 1\nbeta 2\ngamma 3\n' >params.txt
cat >element.sh <<'EOF'
#!/bin/bash
#SBATCH --output=element_%A_%a.log --mem=200
read -r name value < <(sed -n "${SLURM_ARRAY_TASK_ID}p" params.txt)
echo "$SLURM_ARRAY_TASK_ID of $SLURM_ARRAY_TASK_COUNT: $(srun printf '%s=%d' "$name" "$((value * value))")" >"out.$SLURM_ARRAY_TASK_ID"
EOF
first=$(sbatch --parsable --array=1-3%2 element.sh)
second=$(sbatch --parsable --dependency=afterok:"${first%%;*}" --output=collect.log --mem=200 --wrap 'cat out.? >collected')
third=$(sbatch --parsable --dependency=afterany:"${second%%;*}" --output=last.log --mem=200 --wrap 'wc -l <collected >last')
until [ -s last ]; do sleep 0.2; done
{ cat collected; echo "$(<last) lines"; } >result
