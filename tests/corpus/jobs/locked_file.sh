#!/bin/bash
# A file that all elements of an array and all of their tasks write to, each under a lock.
#SBATCH --array=0-2
#SBATCH --ntasks=2 --mem=100
#SBATCH --output=array_%A_%a.log

srun bash -c '
    exec 9>>lock
    flock 9
    count=$(cat count 2>/dev/null || echo 0)
    sleep 0.1
    echo $((count + 1)) >count
'
(
    flock 200
    echo "element $SLURM_ARRAY_TASK_ID" >>done.txt
    if [ "$(wc -l <done.txt)" = 3 ]; then { cat count; sort done.txt; } >result; fi
) 200>lock
