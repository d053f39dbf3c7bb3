#!/bin/sh
# Loads a running wsbcast and says what it delivered, how fast, at what cost.
#
#   scripts/load.sh                            1,000 clients, 50 messages/s, 10 s, on port 8000
#   scripts/load.sh --clients 5000 --rate 200  any option of `wsload run` (see wsload run --help)
#   scripts/load.sh --mode burst --publishers 16
#   scripts/load.sh --mode idle --clients 10000
#   scripts/load.sh --url ws://127.0.0.1:9000 --json
#
# Builds the load generator first if its sources changed. The server's CPU and memory are shown
# if its process can be found (by its port; or give --server-pid). Both share this machine's
# cores: pin them apart for figures worth keeping (scripts/compare.sh does).
# Exit: 0 all is well, 3 something was lost or refused, 1 could not run.
set -eu

case "${1:-}" in
-h | --help)
    sed -n '2,/^set -eu/{/^set -eu/d;s/^# \{0,1\}//;p;}' "$0"
    exit 0
    ;;
esac

root=$(cd "$(dirname "$0")/.." && pwd)
cargo build --quiet --release --manifest-path "$root/Cargo.toml" --package wsload
wsload="${CARGO_TARGET_DIR:-$root/target}/release/wsload"

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
if [ -n "$pid" ]; then
    exec "$wsload" run --server-pid "$pid" "$@"
fi
exec "$wsload" run "$@"
