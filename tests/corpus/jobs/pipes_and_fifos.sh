#!/bin/bash
# Steps that talk to each other and to programs of the script.
#SBATCH -n 2 --mem=600

mkfifo fifo
srun --overlap --mem=60 -n1 sh -c 'seq 5 >fifo' &
srun --overlap --mem=60 -n1 sh -c 'paste -sd+ fifo' >result
wait
coproc calculator { srun --overlap --mem=60 -n1 --unbuffered bash -c 'while read -r number; do echo $((number * 2)); done'; }
echo 21 >&"${calculator[1]}"
read -r answer <&"${calculator[0]}"
exec {calculator[1]}>&-
wait
echo "answer $answer" >>result
srun --overlap --mem=60 -n1 seq 3 | srun --overlap --mem=60 -n1 tac | tr '\n' ' ' >>result
exec 7<<<"from a descriptor"
srun --overlap --mem=60 -n1 cat <&7 >>result
paste <(srun --overlap --mem=60 -n1 seq 2) <(srun --overlap --mem=60 -n1 seq 3 4) >>result
