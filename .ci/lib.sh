# Functions shared by the scripts of this folder, which source this file. Every program that a script starts is ended
# with it, by process id.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

export PATH="$PWD/target/ci/bin:$PATH:/usr/sbin:/sbin"
# Folder of the programs: `cargo build --workspace --bins --tests` builds them there.
programs=${PROGRAMS:-target/debug}
work=$(mktemp -d)
# Authentication of curl at the admin port.
auth=()
pids=()

finish() {
    local status=$? pid
    trap - EXIT INT TERM
    for pid in "${pids[@]}"; do kill "$pid" 2>/dev/null || true; done
    for pid in "${pids[@]}"; do wait "$pid" 2>/dev/null || true; done
    if declare -F finish_more >/dev/null; then finish_more "$status"; fi
    rm -rf "$work"
    exit "$status"
}
trap finish EXIT
trap 'exit 130' INT TERM

say() { printf '   %s\n' "$*"; }
die() {
    printf '   FAILED: %s\n' "$*" >&2
    exit 1
}

# eventually SECONDS WHAT COMMAND...: repeats the command until it succeeds.
eventually() {
    local deadline=$((SECONDS + $1)) what=$2
    shift 2
    until "$@" >/dev/null 2>&1; do
        [ $SECONDS -lt $deadline ] || die "not within its deadline: $what"
        sleep 0.1
    done
}

# start NAME PROGRAM ARGUMENTS...: in the background; output goes to $work/NAME.out, the log to NAME.log.
start() {
    local name=$1
    shift
    "$@" >"$work/$name.out" 2>"$work/$name.log" </dev/null &
    pids+=($!)
}

# address NAME WHAT: the host:port that a program printed after WHAT.
address() {
    eventually 20 "the $2 address of $1 (its log: $(tail -n 3 "$work/$1.log"))" grep -q "^$2 http://" "$work/$1.out"
    sed -n "s|^$2 http://||p" "$work/$1.out" | head -n 1
}

# requests_are ADMIN N: whether the report counts exactly N requests.
requests_are() {
    [ "$(curl -fsS -m 5 "${auth[@]}" "http://$1/reports/summary" | jq .requests)" = "$2" ]
}
