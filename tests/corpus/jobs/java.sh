#!/bin/bash
# Java with a share of the job's memory, a directory for temporary files, and libraries that the shell finds.
#SBATCH -n 1 -c 4 --mem=400M -J java

module() { eval "$("$HOME"/sw/modules/modulecmd bash "$@")"; }
export MODULEPATH=$HOME/sw/modulefiles
module load java
mkdir -p lib && touch lib/a.jar lib/b.jar
CLASSPATH=$(echo lib/*.jar | tr ' ' :)
export CLASSPATH
export JAVA_TOOL_OPTIONS="-XX:ParallelGCThreads=$SLURM_CPUS_PER_TASK"
srun java -Xmx$((SLURM_MEM_PER_NODE * 9 / 10))m -Djava.io.tmpdir="${SLURM_TMPDIR:-/tmp}" -jar app.jar "$@" >result
srun printenv JAVA_TOOL_OPTIONS >>result
