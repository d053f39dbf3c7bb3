#!/bin/sh
# Loads a running wsbcast and says what it delivered, how fast, at what cost.
#
#   scripts/load.sh                   1,000 clients, 50 messages/s, 10 s, on port 8000
#   scripts/load.sh SCENARIO          a load for a purpose:
#
#     live    1,000 clients, 128 B, 50 messages/s     latency under a usual load
#     burst   16 publishers, as fast as answered      throughput, CPU per delivery
#     serial  one publisher, as fast as answered      how long one message takes
#     wide    15,000 clients, 8 messages/s            how long until the last one has it
#     idle    18,000 clients, no messages             memory per client
#     storm   live, while 15,000 others reconnect     do the 1,000 notice? Compare with
#             again and again                         scripts/load.sh storm --storm-clients 0
#     stall   300 of 1,000 never read; 1 KiB, 200/s   memory, the others' latency (start the
#                                                     server with --backlog 1MiB)
#     big     1,000 clients, 8 KiB, 50 messages/s     bytes instead of messages
#
#   scripts/load.sh wide --clients 10000       any option of `wsload run`, also over a scenario's
#   scripts/load.sh burst --html burst.html    a page with charts, to look at or to send
#   scripts/load.sh --clients 5000 --rate 200
#   scripts/load.sh live --url ws://127.0.0.1:9000 --json
#
# Builds the load generator first if its sources changed. The server's CPU and memory are shown if
# its process can be found (a wsbcast that listens on the port; or give --server-pid). Both share
# this machine's cores: pin them apart for figures worth keeping (scripts/bench compare does).
# All options: scripts/load.sh live --help
# Exit: 0 all is well, 3 something was lost or refused, 1 could not run.
set -eu

case "${1:-}" in
-h | --help)
    sed -n '2,/^set -eu/{/^set -eu/d;s/^# \{0,1\}//;p;}' "$0"
    exit 0
    ;;
esac

root=$(cd "$(dirname "$0")/.." && pwd)
wsload="${CARGO_TARGET_DIR:-$root/target}/release/wsload"
# With cargo's own words only when there is something to wait for.
if [ -x "$wsload" ] && [ -z "$(find "$root/bench/wsload" "$root/tests/kit" "$root/Cargo.lock" \
    -type f -newer "$wsload" -print -quit)" ]; then
    quiet=--quiet
else
    quiet=
    echo 'load.sh: builds the load generator; the first time that takes some minutes' >&2
fi
cargo build $quiet --release --manifest-path "$root/Cargo.toml" --package wsload >&2

# A first word that is no option names the scenario.
case "${1:-}" in
'' | -*) ;;
*)
    scenario=$1
    shift
    set -- --scenario "$scenario" "$@"
    ;;
esac

# The port of --url, to find the server's process by.
port=8000
has_pid=no
previous=
for argument in "$@"; do
    case "$argument" in
    --server-pid | --server-pid=*) has_pid=yes ;;
    --url=*) url=${argument#--url=} ;;
    *) [ "$previous" = --url ] && url=$argument ;;
    esac
    previous=$argument
done
if [ -n "${url:-}" ]; then
    authority=${url#*://}
    authority=${authority%%/*}
    port=${authority##*:}
fi

pid=
if [ "$has_pid" = no ] && command -v ss >/dev/null; then
    pid=$(ss -Hltnp "sport = :$port" 2>/dev/null | sed -n 's/.*pid=\([0-9]*\).*/\1/p' | head -n 1)
fi
# What listens there may be a proxy, whose CPU and memory are not the server's.
if [ -n "$pid" ]; then
    name=$(cat "/proc/$pid/comm" 2>/dev/null || true)
    if [ "$name" != wsbcast ]; then
        echo "load.sh: on port $port listens ${name:-something else}, not wsbcast: without the" \
            "server's CPU and memory (name its process with --server-pid)" >&2
        pid=
    fi
fi
if [ -n "$pid" ]; then
    exec "$wsload" run --server-pid "$pid" "$@"
fi
exec "$wsload" run "$@"
