#!/bin/sh
# Measures wsbcast beside floor (bench/floor.c: the least a server can do), alternating, each
# server fresh and pinned; writes raw results and tables to bench/runs/DATE-HOST/.
#
#   scripts/compare.sh                  all scenarios, 5 rounds each
#   scripts/compare.sh live burst       some of them: live burst idle stall shards
#   ROUNDS=3 SECONDS_EACH=5 OUT=/tmp/x scripts/compare.sh live
#
#   live    1,000 clients, 128 B, 50 messages/s          CPU per delivery, latency
#   burst   1,000 clients, 128 B, 16 publishers          CPU per delivery, deliveries/s
#   idle    10,000 clients, no messages                  memory per client
#   stall   1,000 clients, 1 KiB, 200/s, --backlog 1MiB  with and without 300 that never read
#   shards  live with one shard and with two             CPU per delivery
#
# Environment: ROUNDS (5), SECONDS_EACH (10; stall 60), OUT, SERVER_CPUS (0), LOAD_CPUS (1),
# SHARD_CPUS (0,1: both runs of `shards` get them), PEERS: more servers for live, burst and idle,
# one per line, as NAME=COMMAND with {port}. Needs cargo, cc, taskset and nobody else on the
# machine.
# Exit: 0 done, 3 done but some run lost something (the tables count them), 1 could not run.
set -eu

case "${1:-}" in
-h | --help)
    sed -n '2,/^set -eu/{/^set -eu/d;s/^# \{0,1\}//;p;}' "$0"
    exit 0
    ;;
esac

root=$(cd "$(dirname "$0")/.." && pwd)
cd "$root"
rounds=${ROUNDS:-5}
server_cpus=${SERVER_CPUS:-0}
load_cpus=${LOAD_CPUS:-1}
shard_cpus=${SHARD_CPUS:-0,1}
out=${OUT:-bench/runs/$(date -u +%Y-%m-%d-%H%M)-$(uname -n)}
binaries=${CARGO_TARGET_DIR:-target}/release

cargo build --quiet --release --package wsbcast --package wsload
${CC:-cc} -O3 -march=native -o "$binaries/floor" bench/floor.c

floor="$binaries/floor {port}"
wsbcast="$binaries/wsbcast --listen 127.0.0.1:{port} --notify-interval 0 --log-level warn"
problems=0

# compare SCENARIO "COMPARE ARGUMENTS…" -- RUN ARGUMENTS…
compare() {
    scenario=$1
    shift
    "$binaries/wsload" compare --scenario "$scenario" --out "$out" --rounds "$rounds" \
        --server-cpus "$server_cpus" --load-cpus "$load_cpus" \
        --note "$("$binaries/wsbcast" --version)" "$@" || {
        code=$?
        [ "$code" -eq 3 ] || exit "$code"
        problems=3
    }
}

# with_peers SCENARIO RUN ARGUMENTS…: floor, wsbcast with one shard, and PEERS.
with_peers() {
    scenario=$1
    shift
    set -- -- "$@"
    while IFS= read -r peer; do
        [ -z "$peer" ] || set -- --server "$peer" "$@"
    done <<END
${PEERS:-}
END
    compare "$scenario" --server "floor=$floor" --server "wsbcast=$wsbcast --threads 1" "$@"
}

[ $# -gt 0 ] || set -- live burst idle stall shards
for name in "$@"; do
    case "$name" in
    live)
        with_peers live --clients 1000 --size 128 --rate 50 --seconds "${SECONDS_EACH:-10}"
        ;;
    burst)
        with_peers burst --mode burst --publishers 16 --clients 1000 --size 128 \
            --seconds "${SECONDS_EACH:-10}"
        ;;
    idle)
        with_peers idle --mode idle --clients 10000 --seconds 3
        ;;
    stall)
        for stalled in 0 300; do
            compare "stall-$stalled" \
                --server "wsbcast=$wsbcast --threads 1 --backlog 1MiB" -- \
                --clients $((700 + stalled)) --stalled "$stalled" --size 1KiB --rate 200 --publishers 4 \
                --seconds "${SECONDS_EACH:-60}"
        done
        ;;
    shards)
        compare shards \
            --server "one@$shard_cpus=$wsbcast --threads 1" \
            --server "two@$shard_cpus=$wsbcast --threads 2" -- \
            --clients 1000 --size 128 --rate 50 --seconds "${SECONDS_EACH:-10}"
        ;;
    *)
        echo "compare.sh: unknown scenario $name: live burst idle stall shards" >&2
        exit 1
        ;;
    esac
done
echo "raw results: $out" >&2
exit "$problems"
