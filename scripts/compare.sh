#!/usr/bin/env bash
# Measures wsbcast beside floor (bench/floor.c: the least a server can do) and, with --peers, the
# servers of the field; alternating, each server fresh and pinned, each run in a network of its
# own. Writes a record, raw results and tables, to bench/runs/DATE-HOST/.
#
# usage: scripts/compare.sh [--peers] [SCENARIO...]
#
#   live        1,000 clients, 128 B, 50 messages/s        CPU per delivery, latency
#   burst       1,000 clients, 128 B, 16 publishers        CPU per delivery, deliveries/s
#   serial      the same with one publisher
#   wide        15,000 clients, 128 B, 8 messages/s        CPU per delivery, latency
#   idle        18,000 clients, no messages                memory per client
#   accept      10,000 clients, no messages                CPU per accepted client
#   stall       1 KiB, 200/s, --backlog 1MiB               with and without 300 that never read
#   shards      live                                       one shard and two
#   compressed  1 KiB of JSON, 16 publishers               with and without compression
#   forms       live                                       plain, wsbcast.v1 and event streams
#   storm       live                                       with and without 15,000 that reconnect
#
# Without a name: all of them. Peers take part in the first six. Afterwards `lab table DIR`
# (the head of DIR/summary.md) has the whole record in one table. Sweeps: scripts/sweep.
#
# Environment: ROUNDS (5), SECONDS_EACH (10; storm 20, stall 60), OUT, SERVER_CPUS (0),
# LOAD_CPUS (1), SHARD_CPUS (0,1: both runs of `shards` get them), PEERS: more servers, one per
# line, as NAME=COMMAND with {port}. Needs cargo, cc, taskset and nobody else on the machine.
# Exit: 0 done, 3 done but some run lost something (the tables count them), 1 could not run.

. "$(dirname "$0")/lib/common.sh"

peers=${PEERS:-}
case ${1-} in
    -h | --help) usage; exit ;;
    --peers)
        shift
        # A peer that is not to be had here has been named; the others take part.
        peers+=$'\n'$(scripts/peers) || [ $? -eq 4 ] || die 'scripts/peers failed'
        peers=${peers//"$PWD"\//}
        ;;
esac

rounds=${ROUNDS:-5}
server_cpus=${SERVER_CPUS:-0}
load_cpus=${LOAD_CPUS:-1}
shard_cpus=${SHARD_CPUS:-0,1}
out=${OUT:-bench/runs/$(date -u +%Y-%m-%d-%H%M)-$(uname -n)}
# Relative where they can be: the record names no machine's folders.
binaries=${TARGET_DIR#"$PWD"/}/release
problems=0

cargo build --quiet --locked --release --package wsbcast --package wsload --package lab
${CC:-cc} -O3 -march=native -o "$binaries/floor" bench/floor.c

wsbcast="$binaries/wsbcast --listen 127.0.0.1:{port} --notify-interval 0 --log-level warn"

# compare SCENARIO COMPARE-ARGUMENTS... -- RUN-ARGUMENTS...
compare() {
    local code scenario=$1
    shift
    say "== $scenario"
    code=0
    "$binaries/lab" compare --scenario "$scenario" --out "$out" --rounds "$rounds" \
        --server-cpus "$server_cpus" --load-cpus "$load_cpus" \
        --note "$("$binaries/wsbcast" --version)" "$@" || code=$?
    case $code in
        0) ;;
        3) problems=3 ;;
        *) exit "$code" ;;
    esac
}

# field SCENARIO RUN-ARGUMENTS...: floor, wsbcast with one shard, and the peers.
field() {
    local peer scenario=$1 servers=(--server "floor=$binaries/floor {port}")
    shift
    servers+=(--server "wsbcast=$wsbcast --threads 1")
    while IFS= read -r peer; do
        [ -z "$peer" ] || servers+=(--server "$peer")
    done <<<"$peers"
    compare "$scenario" "${servers[@]}" -- "$@"
}

[ $# -gt 0 ] \
    || set -- live burst serial wide idle accept stall shards compressed forms storm
for name in "$@"; do
    case $name in
        live | burst | serial | wide)
            field "$name" --scenario "$name" --threads 1 --seconds "${SECONDS_EACH:-10}"
            ;;
        idle)
            field idle --scenario idle
            ;;
        accept)
            field accept --mode idle --clients 10000 --seconds 1
            ;;
        stall)
            compare stall \
                --server "without=$wsbcast --threads 1 --backlog 1MiB" \
                --server "with-300=$wsbcast --threads 1 --backlog 1MiB" \
                --run-for 'without=--clients 700 --stalled 0' -- \
                --scenario stall --seconds "${SECONDS_EACH:-60}"
            ;;
        shards)
            compare shards \
                --server "one@$shard_cpus=$wsbcast --threads 1" \
                --server "two@$shard_cpus=$wsbcast --threads 2" -- \
                --scenario live --seconds "${SECONDS_EACH:-10}"
            ;;
        compressed)
            compare compressed \
                --server "plain=$wsbcast --threads 1 --compression on" \
                --server "deflate=$wsbcast --threads 1 --compression on" \
                --run-for 'deflate=--compression' -- \
                --scenario burst --size 1KiB --payload json --seconds "${SECONDS_EACH:-10}"
            ;;
        forms)
            compare forms \
                --server "plain=$wsbcast --threads 1" \
                --server "v1=$wsbcast --threads 1" --server "sse=$wsbcast --threads 1" \
                --run-for 'v1=--form v1' --run-for 'sse=--form sse' -- \
                --scenario live --seconds "${SECONDS_EACH:-10}"
            ;;
        storm)
            compare storm \
                --server "quiet=$wsbcast --threads 1" --server "storm=$wsbcast --threads 1" \
                --run-for 'quiet=--storm-clients 0' -- \
                --scenario storm --seconds "${SECONDS_EACH:-20}"
            ;;
        *)
            die "unknown scenario $name; see scripts/compare.sh --help"
            ;;
    esac
done
"$binaries/lab" table "$out"
say "record: $out"
exit "$problems"
