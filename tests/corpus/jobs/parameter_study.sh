#!/bin/bash
# A study with a directory for each set of parameters, the program in the one above, and the steps side by side.
#SBATCH --job-name=study
#SBATCH --ntasks=4
#SBATCH --mem-per-cpu=100

printf '#!/bin/sh\necho "$(cat input.txt): $(cat ../common.txt), $(basename "$PWD")"\n' >app
chmod +x app
echo shared >common.txt
for t in 280 300 320; do mkdir -p "run_$t" && echo "T=$t" >"run_$t/input.txt"; done

for run in run_*; do
    cd "$run"
    srun --exclusive --nodes=1 --ntasks=1 ../app >output.txt 2>&1 &
    cd ..
done
wait
for run in run_*; do (cd "$run" && srun -n1 -N1 tail -n 1 ./output.txt); done >result
(cd run_280 && srun -n1 -N1 --chdir=../run_300 ../app; srun -n1 -N1 sh -c 'cd ../run_320 && ../app') >>result
