#!/bin/bash
# Jobs without scripts, which a job submits and waits for.
#SBATCH -n 1

export MESSAGE='with "quotes" and $dollars'
sbatch --wait -Q -o wrapped.log --mem=100 --wrap 'echo "$0 says $MESSAGE" | sed "s|.*says|says|"; cd / && pwd' &
sbatch --wait -Q -o step.log --mem=100 -n2 --wrap="srun bash -c 'echo \$SLURM_PROCID of \$SLURM_NTASKS' | sort" &
sbatch --wait -Q -o input.log --mem=100 <<'EOF' &
#!/bin/sh
#SBATCH -J from-input
echo "$SLURM_JOB_NAME in $(basename "$PWD")"
EOF
wait
cat wrapped.log step.log input.log >result
