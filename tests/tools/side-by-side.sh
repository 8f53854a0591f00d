# Sourced, after `prepare`: `side_by_side RELEASE:KIND…` runs the Slurm tests in each of these, where the release `own` is this
# machine's. They wait for Slurm four times as long as they compute, so that one more than there are processors run at the
# same time; CHARIOT_TEST_AT_ONCE says otherwise. Each is in namespaces of its own: mount, pid, net, uts and ipc.
running=""
declare -A unit_of started

side_by_side() {
    local waiting=("$@") failed="" ended at_once=${CHARIOT_TEST_AT_ONCE:-$(($(nproc) + 1))}
    mkdir -p "$place/logs"
    while [ ${#waiting[@]} -gt 0 ] || [ -n "$running" ]; do
        while [ "$(wc -w <<<"$running")" -lt "$at_once" ] && start_next; do :; done
        # In the background, because bash heeds a signal only once what it runs in the foreground has ended.
        if wait -n -p ended $running; then tell_end "$ended" passed; else tell_end "$ended" FAILED; failed="$failed ${unit_of[$ended]}"; fi
        running=$(tr ' ' '\n' <<<"$running" | grep -vx "$ended" | xargs)
    done
    echo "== what was run"
    (cd "$place/logs" && grep -aE '^== Slurm|^test result' "$@") || true
    [ -z "$failed" ] || { echo "$0: failed in:$failed" >&2; return 1; }
}

# Starts the first that waits and may start now; their cgroups would have the same names.
start_next() {
    local at unit release root
    for at in "${!waiting[@]}"; do
        unit=${waiting[at]}
        case $unit in *:site) ! is_running site || continue ;; esac
        unset "waiting[at]"
        release=${unit%:*} root=$place/root-${unit/:/-}
        [ "$release" = own ] || tests/tools/make-root "$release" "$root" || exit 1
        echo "== $unit starts"
        unshare --mount --pid --net --uts --ipc --fork --kill-child=KILL \
            tests/tools/in-namespaces "$release" "$root" "${unit#*:}" >"$place/logs/$unit" 2>&1 &
        running="$running $!"
        unit_of[$!]=$unit
        started[$!]=$SECONDS
        return 0
    done
    return 1
}

# Whether one with this kind runs.
is_running() {
    local pid
    for pid in $running; do case ${unit_of[$pid]} in *":$1") return 0 ;; esac; done
    return 1
}

# Their output is told as one piece.
tell_end() {
    local unit=${unit_of[$1]}
    cat "$place/logs/$unit"
    echo "== $unit $2 after $((SECONDS - started[$1])) seconds"
    [ -n "${CHARIOT_KEEP:-}" ] || rm -rf --one-file-system "$place/root-${unit/:/-}"
}
