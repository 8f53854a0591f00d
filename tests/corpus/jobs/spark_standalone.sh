#!/bin/bash
# Spark's own cluster in a job: the master by the script, a worker on each node by srun, then an application.
#SBATCH --job-name=spark
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --cpus-per-task=4
#SBATCH --exclusive=user

export SPARK_HOME=$HOME/sw/spark
export SPARK_LOG_DIR=$SLURM_SUBMIT_DIR/spark-logs SPARK_WORKER_DIR=${TMPDIR:-/tmp}/spark-$SLURM_JOB_ID
export SPARK_NO_DAEMONIZE=1
mkdir -p "$SPARK_LOG_DIR"
trap 'srun --ntasks-per-node=1 rm -rf "$SPARK_WORKER_DIR"' EXIT

"$SPARK_HOME/sbin/start-master.sh" >"$SPARK_LOG_DIR/master.out" 2>&1 &
until grep -q 'Starting Spark master at' "$SPARK_LOG_DIR/master.out" 2>/dev/null; do sleep 0.1; done
master=$(sed -n 's/.*Starting Spark master at //p' "$SPARK_LOG_DIR/master.out")

srun --output="$SPARK_LOG_DIR/worker-%N.out" "$SPARK_HOME/sbin/start-worker.sh" "$master" \
    -c "$SLURM_CPUS_PER_TASK" -m 200M &
wait
{ tail -n 1 "$SPARK_LOG_DIR/master.out"; cat "$SPARK_LOG_DIR"/worker-*.out; } >result
