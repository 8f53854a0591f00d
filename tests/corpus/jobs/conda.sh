#!/bin/bash
# An environment of conda's that the script activates, with what `conda init` writes and without.
#SBATCH --job-name=conda --ntasks=2

eval "$(sed -n '1,$p' ~/sw/miniconda3/etc/profile.d/conda.sh)"
conda activate ml
srun python -u train.py --epochs 3 | sort >result
srun bash -c 'source ~/sw/miniconda3/etc/profile.d/conda.sh && conda activate ml && python -V' | sort -u >>result
command -v python | sed "s|$HOME|~|" >>result
