# For scripts that try the command: a folder of their own, a worker, and checks. Source it.
set -euo pipefail
: "${PERDURE_BUILD:?the build directory}" "${PERDURE_SOURCE:?the source directory}"
perdure=$PERDURE_BUILD/perdure
samples=$PERDURE_BUILD/samples
here=$(mktemp -d)
export PERDURE_LOG=sqlite:$here/perdure.db
worker=

worker_stop() {
    [ -z "$worker" ] && return
    kill "-${1:-TERM}" "$worker" 2>/dev/null || true
    wait "$worker" 2>/dev/null || true
    worker=
}

clean_up() {
    local code=$?
    worker_stop KILL
    if [ $code -ne 0 ] && [ -f "$here/worker.out" ]; then
        echo "--- the worker said:"
        tail -20 "$here/worker.out"
    fi
    rm -rf "$here"
}
trap clean_up EXIT

# worker_start MODULE... [--OPTION ...]: in the background; returns when it owns its partition.
worker_start() {
    local arguments=()
    while [ $# -gt 0 ] && [ "${1#--}" = "$1" ]; do
        arguments+=(--module "$1")
        shift
    done
    arguments+=("$@")
    : >"$here/worker.out"
    "$perdure" worker --no-supervisor "${arguments[@]}" >>"$here/worker.out" 2>&1 &
    worker=$!
    for _ in $(seq 100); do
        grep -q "is ours" "$here/worker.out" && return
        kill -0 "$worker" 2>/dev/null || fail "the worker ended"
        sleep 0.1
    done
    fail "the worker owns nothing after 10 s"
}

fail() {
    echo "FAILED: $*" >&2
    exit 1
}

# expect CODE PATTERN COMMAND...: its exit code, and an extended regular expression found in its output (both streams).
expect() {
    local wanted=$1 pattern=$2 code=0 output
    shift 2
    output=$(timeout 60 "$@" 2>&1) || code=$?
    [ "$code" = "$wanted" ] || fail "exit code $code, not $wanted: $*"$'\n'"$output"
    grep -Eq -- "$pattern" <<<"$output" || fail "no \"$pattern\" from: $*"$'\n'"$output"
}

# json FILTER COMMAND...: prints what python finds in its JSON; `o` is the (last) object, `rows` the list of them.
json() {
    local filter=$1
    shift
    timeout 60 "$@" | python3 -c 'import json, sys
rows = [json.loads(line) for line in sys.stdin if line.strip()]
o = rows[-1] if rows else None
print(eval(sys.argv[1]))' "$filter"
}

# same WANTED FOUND
same() {
    [ "$1" = "$2" ] || fail "\"$2\", not \"$1\""
}
