#!/bin/bash
# Many small runs in one job: steps in the background, by xargs, and a step whose tasks take what is next.
#SBATCH -n 4 --mem-per-cpu=100

seq 6 | xargs -P 4 -I{} srun --exact -N1 -n1 --mem-per-cpu=100 sh -c 'echo $(({} * {})) >square.{}'
cat square.? >result
for i in 1 2 3; do
    srun --exact -N1 -n1 --mem-per-cpu=100 sh -c "echo started $i; exit $i" >farm.$i &
    pids[$i]=$!
done
for i in 1 2 3; do wait "${pids[$i]}"; echo "step $i ended with $?"; done >>result
cat farm.? >>result
seq 20 >queue
srun bash -c '
    while exec 9>>queue.lock; flock 9; item=$(head -n 1 queue); [ -n "$item" ]; do
        sed -i 1d queue; exec 9>&-
        echo "$item" >>taken.$SLURM_PROCID
    done'
cat taken.* | sort -n | uniq | wc -l >>result
