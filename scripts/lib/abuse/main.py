"""Runs attacks against servers of its own and judges what they cost; see scripts/abuse."""

import argparse
import json
import multiprocessing
import os
import pathlib
import re
import selectors
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time

import tokens
import wire
from attacks import ATTACKS

MIB = 1024 * 1024
# What options set, and what the process takes besides: threads, allocator, tables, code. Loaded
# code counts fully, and a debug build has much of it.
BACKLOG_TOTAL_MIB = 32
HISTORY_TOTAL_MIB = 32
BASE_MIB = 96
HEALTHY_CLIENTS = 1000
PUBLISH_INTERVAL_S = 0.1
# Of a client that is behind and within its backlog: it must not pay for what others hold.
BEHIND_MESSAGES = 900
BEHIND_BYTES = 4000
CATCH_UP_MAX_S = 25.0
# Generous, since attackers, clients and server share whatever cores there are.
HEALTHY_P99_MAX_S = 4.0
NEWCOMER_MAX_S = 10.0
# Publishes that are kept here, since Redis' answer takes longer than they wait: a second.
LOCAL_PART_MAX = 0.2
SERVER_ARGS = [
    *("--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0", "--threads", "2"),
    *("--notify-interval", "0", "--backlog", "4MiB", "--max-broadcast-size", "1MiB"),
    *("--backlog-total", f"{BACKLOG_TOTAL_MIB}MiB", "--history-total", f"{HISTORY_TOTAL_MIB}MiB"),
    *("--client-publish", "off"),
]


class Process:
    """A program of ours that ends with us."""

    def __init__(self, command, log):
        self.log = log
        with open(log, "wb") as out:
            self.child = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT
            )

    def wait_for(self, pattern, seconds=20):
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            text = re.sub(r"\x1b\[[0-9;]*m", "", pathlib.Path(self.log).read_text(errors="replace"))
            found = re.search(pattern, text)
            if found:
                return found
            if self.child.poll() is not None:
                raise RuntimeError(f"ended at its start:\n{text}")
            time.sleep(0.02)
        raise RuntimeError(f"waited in vain for {pattern} in {self.log}")

    def memory(self, field):
        """VmRSS or VmHWM, MiB."""
        status = pathlib.Path(f"/proc/{self.child.pid}/status").read_text()
        return int(re.search(rf"{field}:\s+(\d+) kB", status).group(1)) / 1024

    def cpu(self):
        """Seconds of CPU that it has used."""
        fields = pathlib.Path(f"/proc/{self.child.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def end(self):
        self.child.kill()
        self.child.wait()


class Healthy:
    """Clients that read, a publisher that is answered, newcomers and probes, all measured."""

    def __init__(self, port, admin):
        self.port, self.admin = port, admin
        self.ends = [wire.websocket(port)[0] for _ in range(HEALTHY_CLIENTS)]
        for end in self.ends:
            end.setblocking(False)
        self.behind, _ = wire.websocket(port, "/ws?channel=behind", receive_bytes=4096)
        line = json.dumps({"channel": "behind", "data": "b" * BEHIND_BYTES}) + "\n"
        http = wire.Http(port)
        status, body = http.ask(
            "POST",
            "/broadcast",
            line.encode() * BEHIND_MESSAGES,
            ["Content-Type: application/x-ndjson"],
        )
        assert status in (200, 202), (status, body)
        http.close()
        self.latencies, self.answers, self.newcomers = [], [], []
        self.published = self.local = 0
        self.problems = []
        self.running = True
        self.threads = [
            threading.Thread(target=self.guarded, args=(run,))
            for run in (self.read, self.publish, self.come)
        ]

    def guarded(self, run):
        try:
            run()
        except (OSError, ConnectionError) as error:
            self.problems.append(f"{run.__name__}: {error!r}")

    def start(self):
        for thread in self.threads:
            thread.start()

    def until(self, is_so, seconds, what):
        """Waits until it is so, or it is a problem."""
        until = time.monotonic() + seconds
        while not is_so() and not self.problems:
            if time.monotonic() > until:
                self.problems.append(f"{what} within {seconds:.0f} s")
            time.sleep(0.01)

    def have_begun(self):
        """All are served: every client reads, the publisher is answered, newcomers come in."""

        def is_so():
            has_come = min(len(self.newcomers), self.published)
            return has_come and len(self.latencies) >= HEALTHY_CLIENTS

        self.until(is_so, NEWCOMER_MAX_S, "not everybody was served")

    def are_served(self):
        """All that was published is read, and somebody who comes now gets in."""
        published, come = self.published, len(self.newcomers)

        def is_so():
            is_read = len(self.latencies) >= published * HEALTHY_CLIENTS
            # A client, two probes; of the first one after another, none was on its way before.
            return is_read and len(self.newcomers) >= come + 4

        self.until(is_so, HEALTHY_P99_MAX_S + NEWCOMER_MAX_S, "not everybody was served again")

    def stop(self):
        self.running = False
        for thread in self.threads:
            thread.join()

    def catch_up(self):
        """Whoever was behind all the time, and reads now, gets all of it."""
        begun, count, rest = time.monotonic(), 0, b""
        self.behind.settimeout(CATCH_UP_MAX_S)
        self.behind.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
        while count < BEHIND_MESSAGES and time.monotonic() < begun + CATCH_UP_MAX_S:
            chunk = self.behind.recv(1 << 20)
            found, rest = wire.frames(rest + chunk)
            count += sum(opcode == 1 for opcode, _ in found)
            if not chunk or any(opcode == 8 for opcode, _ in found):
                break
        if count < BEHIND_MESSAGES:
            self.problems.append(f"who was behind got {count} of {BEHIND_MESSAGES} messages")

    def read(self):
        rests = {end: b"" for end in self.ends}
        selector = selectors.DefaultSelector()
        for end in self.ends:
            selector.register(end, selectors.EVENT_READ)
        alive = 0.0
        while self.running:
            if time.monotonic() > alive + 0.2:
                # It does not read, and lives: its pongs say so.
                self.behind.sendall(b"\x8a\x80\0\0\0\0")
                alive = time.monotonic()
            for key, _ in selector.select(0.2):
                end = key.fileobj
                chunk = end.recv(65536)
                if not chunk:
                    self.problems.append("a healthy client was cut")
                    selector.unregister(end)
                    del rests[end]
                    continue
                found, rests[end] = wire.frames(rests[end] + chunk)
                for opcode, payload in found:
                    if opcode == 1:
                        self.latencies.append(time.monotonic() - float(payload.split()[0]))
                    elif opcode == 8:
                        self.problems.append(f"a healthy client was closed: {payload!r}")
                    elif opcode == 9:
                        end.sendall(b"\x8a\x80\0\0\0\0")

    def publish(self):
        http = wire.Http(self.port)
        while self.running:
            text = f"{time.monotonic()} {'m' * 200}"
            begun = time.monotonic()
            status, body = http.ask("POST", "/broadcast", text.encode())
            self.answers.append(time.monotonic() - begun)
            self.published += 1
            if status != 202:
                self.problems.append(f"a publish was answered {status}: {body!r}")
                return
            self.local += json.loads(body)["scope"] != "cluster"
            time.sleep(PUBLISH_INTERVAL_S)

    def come(self):
        """Somebody new, and both listeners' probes, again and again."""
        while self.running:
            begun = time.monotonic()
            end, _ = wire.websocket(self.port, f"/ws?channel={wire.word()}", timeout=30)
            self.newcomers.append(time.monotonic() - begun)
            end.close()
            for port in (self.port, self.admin):
                begun = time.monotonic()
                http = wire.Http(port)
                status, _ = http.ask("GET", "/livez")
                http.close()
                self.newcomers.append(time.monotonic() - begun)
                if status != 200:
                    self.problems.append(f"/livez on {port}: {status}")
            time.sleep(0.2)


def percentile(values, share):
    values = sorted(values)
    return values[min(len(values) - 1, int(len(values) * share))] if values else 0.0


def assail(run, port, sent):
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    wire.Counted.sent = sent
    try:
        run(port)
    except (OSError, ConnectionError):
        # The server did not let it go on: its good right.
        pass


def redis_in(folder, log):
    """A Redis of ours, and its port."""
    for _ in range(20):
        port = 20_000 + int.from_bytes(os.urandom(2), "big") % 20_000
        redis = Process(
            ["redis-server", "--port", str(port), "--bind", "127.0.0.1", "--dir", folder]
            + ["--save", "", "--appendonly", "no"],
            log,
        )
        try:
            redis.wait_for("Ready to accept connections", 5)
            return redis, port
        except RuntimeError:
            redis.end()
    raise RuntimeError("no free port for Redis")


def run_attack(attack, server_path, folder):
    """Problems of one attack, and its line of the table."""
    log = os.path.join(folder, f"{attack.name}.log")
    redis, args, tls_port = None, arguments(attack), None
    try:
        if attack.redis:
            redis, redis_port = redis_in(folder, log + ".redis")
            args = args + ["--redis-url", f"redis://127.0.0.1:{redis_port}"]
        if attack.tls:
            tls_port = free_port()
            args += ["--tls-listen", f"127.0.0.1:{tls_port}", *certificate(folder)]
        if attack.has_keys:
            args += tokens.options(folder)
        server = Process([server_path, *args], log)
        try:
            return judge(attack, server, tls_port)
        finally:
            server.end()
    finally:
        if redis:
            redis.end()


def arguments(attack):
    """Those of every server, but for what the attack has otherwise."""
    usual = zip(SERVER_ARGS[::2], SERVER_ARGS[1::2])
    kept = [word for pair in usual if pair[0] not in attack.args for word in pair]
    return kept + attack.args


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


def certificate(folder):
    """The options for a certificate that nobody has to trust: no attacker gets to see it."""
    paths = [os.path.join(folder, name) for name in ("certificate.pem", "key.pem")]
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
        + ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"]
        + ["-days", "2", "-out", paths[0], "-keyout", paths[1]],
        check=True,
        capture_output=True,
    )
    return ["--tls-cert", paths[0], "--tls-key", paths[1]]


def ports(server):
    admin = int(server.wait_for(r"admin listening on 127\.0\.0\.1:(\d+)").group(1))
    port = int(server.wait_for(r"(?<!admin )listening on 127\.0\.0\.1:(\d+)").group(1))
    until = time.monotonic() + 20
    while wire.Http(port).ask("GET", "/readyz")[0] != 200:
        if time.monotonic() > until:
            raise RuntimeError("never ready")
        time.sleep(0.05)
    return port, admin


def judge(attack, server, tls_port):
    port, admin = ports(server)
    target = tls_port or port
    if attack.before:
        attack.before(port)
    healthy = Healthy(port, admin)
    healthy.start()
    healthy.have_begun()
    # The CPU that a message to all the healthy takes, and what they do in its time.
    cpu, published = server.cpu(), healthy.published
    time.sleep(2)
    usual = (server.cpu() - cpu) / max(healthy.published - published, 1)
    before, cpu, published = server.memory("VmRSS"), server.cpu(), healthy.published
    sent = multiprocessing.Value("Q", 0)
    assailant = multiprocessing.Process(target=assail, args=(attack.run, target, sent), daemon=True)
    assailant.start()
    assailant.join(attack.seconds)
    most, cpu = server.memory("VmHWM"), server.cpu() - cpu
    cpu -= usual * (healthy.published - published)
    healthy.guarded(healthy.catch_up)
    is_failed = assailant.exitcode not in (None, 0)
    assailant.kill()
    assailant.join()
    healthy.are_served()
    healthy.stop()
    problems = healthy.problems
    if is_failed:
        problems.append("the attack was not carried out: see above")
    allowed = BASE_MIB + BACKLOG_TOTAL_MIB + HISTORY_TOTAL_MIB + attack.mib
    p99 = percentile(healthy.latencies, 0.99)
    slowest = max(healthy.newcomers, default=0.0)
    if most > allowed:
        problems.append(f"{most:.0f} MiB, at most {allowed} are accounted for")
    if p99 > HEALTHY_P99_MAX_S:
        problems.append(f"healthy clients waited {p99:.2f} s (p99)")
    if slowest > NEWCOMER_MAX_S:
        problems.append(f"a newcomer or a probe waited {slowest:.2f} s")
    if not healthy.latencies:
        problems.append("no message arrived")
    if attack.redis and healthy.local > LOCAL_PART_MAX * healthy.published:
        problems.append(f"{healthy.local} of {healthy.published} publishes were not clustered")
    if server.child.poll() is not None:
        problems.append(f"the server ended: {server.child.returncode}")
    figures = {
        "sent": sent.value / MIB,
        "cpu": max(cpu, 0.0),
        # Next to nothing is not divided by.
        "price": f"{sent.value / cpu / 1000:,.0f}" if cpu > 0.1 else "–",
        "before": before,
        "most": most,
        "allowed": allowed,
        "p99": p99 * 1000,
        "publish": percentile(healthy.answers, 0.99) * 1000,
        "newcomer": slowest * 1000,
    }
    return problems, figures


def run_all(chosen, server_path, is_written):
    """How many failed."""
    print(
        "attack             sent MiB   CPU s  B/CPU ms   MiB before, most (allowed)"
        "   p99 ms of message, publish   newcomer ms"
    )
    failed = 0
    with tempfile.TemporaryDirectory() as folder:
        for attack in chosen:
            try:
                problems, figures = run_attack(attack, server_path, folder)
                if is_written and not problems:
                    write(attack, figures)
                print(
                    "{name:18} {sent:8.1f} {cpu:7.1f} {price:>9} {before:8.0f} {most:5.0f}"
                    " ({allowed:3d}) {p99:14.0f} {publish:13.0f} {newcomer:13.0f}".format(
                        name=attack.name, **figures
                    ),
                    flush=True,
                )
            except (OSError, RuntimeError, AssertionError) as error:
                problems = [repr(error)]
            for problem in sorted(set(problems)):
                print(f"    FAILED {attack.name}: {problem}", flush=True)
            failed += bool(problems)
    print(f"{len(chosen) - failed} passed, {failed} failed")
    return failed


def write(attack, figures):
    """Puts the row of an attack into the table of the documentation."""
    document = pathlib.Path("docs/limits.md")
    begin, end = "<!-- abuse: begin -->\n", "<!-- abuse: end -->"
    head, rest = document.read_text().split(begin)
    before, rest = rest.split(end)
    rows = {line.split("`")[1]: line for line in before.splitlines() if line.startswith("| `")}
    about = attack.about.strip().rstrip(".")
    rows[attack.name] = (
        "| `{name}` | {about} | {sent:.1f} | {price} | {most:.0f} ({allowed}) "
        "| {p99:.0f} | {newcomer:.0f} |".format(name=attack.name, about=about, **figures)
    )
    lines = [
        "| attack | what it does | sent, MiB | bytes for 1 ms of CPU | memory, MiB (budget) "
        "| healthy, p99 in ms | newcomer, ms |",
        "|---|---|---|---|---|---|---|",
        *(rows[attack.name] for attack in ATTACKS if attack.name in rows),
    ]
    document.write_text(head + begin + "\n" + "\n".join(lines) + "\n\n" + end + rest)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--list", action="store_true")
    parser.add_argument("--write", action="store_true")
    parser.add_argument("--server")
    parser.add_argument("attacks", nargs="*")
    options = parser.parse_args()
    if options.list:
        for attack in ATTACKS:
            print(f"{attack.name:18} {attack.about}")
        return 0
    known = {attack.name: attack for attack in ATTACKS}
    unknown = [name for name in options.attacks if name not in known]
    if unknown:
        print(f"no such attack: {', '.join(unknown)}; --list names them", file=sys.stderr)
        return 2
    chosen = [known[name] for name in options.attacks] or ATTACKS
    return 1 if run_all(chosen, options.server, options.write) else 0


if __name__ == "__main__":
    sys.exit(main())
