#!/bin/bash
# A molecular dynamics run: preparation by one process, the run by all ranks, and its continuation from a checkpoint.
#SBATCH --job-name=lysozyme
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=2
#SBATCH --cpus-per-task=2
#SBATCH --time=00:10:00
#SBATCH --output=%x.%j.out

source ~/.bashrc
module purge
module load gromacs/2024.2
module list

export OMP_NUM_THREADS=${SLURM_CPUS_PER_TASK:-1}
export SRUN_CPUS_PER_TASK=$SLURM_CPUS_PER_TASK

echo "integrator = md" >md.mdp
gmx_mpi grompp -f md.mdp -c conf.gro -p topol.top -o md.tpr
srun gmx_mpi mdrun -deffnm md -ntomp "$OMP_NUM_THREADS" -maxh 0.1
srun gmx_mpi mdrun -deffnm md -ntomp "$OMP_NUM_THREADS" -cpi md.cpt -append
sort md.log >result
