#!/bin/bash
# Several programs in one step, of which a file says which task is which; it is made by the script.
#SBATCH --nodes=2
#SBATCH --ntasks=4

mkdir -p bin && printf '#!/bin/sh\necho "server with $# arguments: $*"\n' >bin/server && chmod +x bin/server
cat >mpmd.conf <<'EOF'
# task   program
0        ./bin/server %t of %o
1-2      sh -c 'echo "client of $SLURM_PROCID, offset %o"'
*        echo rest %t
EOF
srun --multi-prog mpmd.conf | sort >result
echo "0-1 echo again %t" >again.conf
srun -l -n 2 -N 1 --multi-prog again.conf | sort >>result
