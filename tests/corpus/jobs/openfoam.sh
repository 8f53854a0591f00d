#!/bin/bash
# A case of fluid dynamics, as its tutorials are run: a mesh, a directory for each rank, the solver, the parts put together.
#SBATCH -J cavity -N 2 -n 4 -t 10 -o log.slurm

cd "${SLURM_SUBMIT_DIR:-.}" || exit 1
. ~/sw/openfoam/etc/bashrc
. "$WM_PROJECT_DIR/bin/tools/RunFunctions"

cp -r "$FOAM_TUTORIALS/cavity" cavity && cd cavity || exit 1
sed -i "s/^numberOfSubdomains.*/numberOfSubdomains $SLURM_NTASKS;/" system/decomposeParDict
runApplication blockMesh
runApplication decomposePar
srun simpleFoam -parallel >log.simpleFoam 2>&1
runApplication reconstructPar
cat log.* 100/U | sort >"$SLURM_SUBMIT_DIR/result"
