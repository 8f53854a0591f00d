#!/usr/bin/env bash
# Stands for Spark's worker.
mkdir -p "$SPARK_WORKER_DIR/$SLURMD_NODENAME"
sed 's/^spark/tcp/' <<<"$1" >"$SPARK_WORKER_DIR/$SLURMD_NODENAME/address"
"$SPARK_HOME/../hub" work "$SPARK_WORKER_DIR/$SLURMD_NODENAME/address"
shift
echo "worker ended: $*"
