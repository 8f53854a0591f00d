#!/usr/bin/env bash
# Stands for Spark's master: says where it is, and ends with the only application.
"$SPARK_HOME/../hub" serve "$SPARK_LOG_DIR/address" 6 &
until [ -s "$SPARK_LOG_DIR/address" ]; do sleep 0.1; done
echo "INFO Master: Starting Spark master at $(sed 's/^tcp/spark/' "$SPARK_LOG_DIR/address")"
wait
