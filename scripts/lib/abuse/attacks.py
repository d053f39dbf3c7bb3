"""The attacks: what a stranger can send. Each is a function of the server's public port.

It runs in a process of its own, holds what it has opened until it is ended, and prints nothing.
`before` of an attack is done by the operator's side: history to ask for, for example.
"""

import json
import time

import floods
import tokens
import wire
from floods import hold

BIG = 1_000_000


class Attack:
    """What is done, on which server, and what it may cost."""

    def __init__(
        self,
        name,
        run,
        *,
        seconds=10,
        redis=False,
        args=(),
        before=None,
        mib=0,
        tls=False,
        has_keys=False,
    ):
        self.name = name
        self.about = run.__doc__
        self.run = run
        # How long it may take.
        self.seconds = seconds
        self.redis = redis
        self.args = list(args)
        self.before = before
        # It is against a listener of TLS.
        self.tls = tls
        # Tokens count: there are keys for them.
        self.has_keys = has_keys
        # What it may cost besides the budgets that options set, MiB.
        self.mib = mib


def big_history(port):
    wire.publish(port, "big", b"x" * BIG)


def full_histories(port):
    for channel in range(20):
        lines = json.dumps({"channel": f"full{channel}", "data": "y" * 4000}) + "\n"
        http = wire.Http(port)
        status, _ = http.ask(
            "POST",
            "/broadcast",
            (lines * 200).encode(),
            ["Content-Type: application/x-ndjson"],
        )
        http.close()
        assert status in (200, 202), status


def replay_streams(port):
    """History of one large message, asked for by event streams that never read."""

    def begin(_):
        end = wire.connect(port, receive_bytes=4096)
        end.sendall(wire.request("/sse?channel=big&last=1000000", port))
        return end

    hold(wire.flood(1800, 10, begin))


def replay_v1(port):
    """The same in the subprotocol, where it has to be encoded."""

    def begin(_):
        end = wire.connect(port, receive_bytes=4096)
        end.sendall(wire.upgrade("/ws?channel=big&last=1000000", port, "wsbcast.v1"))
        return end

    hold(wire.flood(1000, 10, begin))


def unread_answers(port):
    """Clients of the subprotocol that ask and ask, and never read an answer."""
    said = wire.text_frame('{"type":"subscribe","channel":"two words"}') * 400

    def begin(_):
        end, _ = wire.websocket(port, protocol="wsbcast.v1", receive_bytes=4096)
        end.settimeout(0.05)
        for _ in range(8):
            end.sendall(said)
        return end

    hold(wire.flood(1500, 12, begin))


def pings(port):
    """Floods of pings, whose answers nobody reads."""
    ping = b"\x89\xfd\0\0\0\0" + b"p" * 125

    def begin(_):
        end, _ = wire.websocket(port, receive_bytes=4096)
        end.settimeout(0.05)
        end.sendall(ping * 500)
        return end

    hold(wire.flood(1000, 10, begin))


def answered_and_idle(port):
    """Keep-alive connections that asked once."""

    def begin(_):
        end = wire.connect(port)
        end.sendall(wire.request("/livez", port))
        end.recv(4096)
        return end

    hold(wire.flood(4200 * 2, 12, begin))


def silent(port):
    """Connections that say nothing."""
    hold(wire.flood(4200 * 2, 12, lambda _: wire.connect(port)))


def heads(port):
    """Heads of requests that never end: 60 KiB each."""
    part = b"GET /ws HTTP/1.1\r\nHost: x\r\n" + b"X-Fill: " + b"f" * 61_000

    def begin(_):
        end = wire.connect(port, timeout=0.5)
        end.sendall(part)
        return end

    hold(wire.flood(4000, 12, begin))


def bodies(port):
    """Bodies that are announced and never sent."""
    head = (
        b"POST /broadcast HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 900000\r\n\r\n" + b"b" * 8000
    )

    def begin(_):
        end = wire.connect(port, timeout=0.5)
        end.sendall(head)
        return end

    hold(wire.flood(3000, 10, begin))


def batches(port):
    """Batches of 10,000 lines, whose answers nobody reads."""
    lines = b'{"data":0}\n' * 10_000
    head = (
        b"POST /broadcast?channel=batches HTTP/1.1\r\nHost: 127.0.0.1\r\n"
        b"Content-Type: application/x-ndjson\r\nContent-Length: %d\r\n\r\n" % len(lines)
    )

    def begin(_):
        end = wire.connect(port, timeout=5, receive_bytes=4096)
        end.sendall(head + lines)
        return end

    hold(wire.flood(3000, 10, begin))


def looks(port):
    """A hundred questions about the process at once, whose answers nobody reads."""
    asked = wire.request("/stats", port) * 100

    def begin(_):
        end = wire.connect(port, timeout=5, receive_bytes=4096)
        end.sendall(asked)
        return end

    hold(wire.flood(600, 10, begin))


def channel_hoard(port):
    """Clients that name a thousand new channels each, until not one more is let in."""

    def begin(count):
        prefix = wire.word()
        names = "&".join(f"channel={prefix}{name}" for name in range(count))
        return wire.websocket(port, f"/ws?{names}")[0]

    held = []
    for count, clients in ((1000, 260), (100, 30), (10, 30), (1, 30)):
        held += wire.flood(clients, 15, lambda _, count=count: begin(count))
    hold(held)


def same_channels(port):
    """Many handshakes at once of the same thousand channels."""
    target = "/ws?" + "&".join(f"channel=s{name}" for name in range(1000))
    asked = []

    def begin(_):
        end = wire.connect(port)
        end.sendall(wire.upgrade(target, port))
        asked.append(end)
        return end

    hold(wire.flood(300, 10, begin))


def random_channels(port):
    """Handshakes of random channels, one after the other: names that nobody publishes to."""

    def begin(_):
        names = "&".join(f"channel={wire.word()}" for _ in range(500))
        end, _ = wire.websocket(port, f"/ws?{names}")
        end.close()
        return end

    wire.flood(10_000, 9, begin)


def history_and_reset(port):
    """Histories asked for, and the connection reset before they come."""

    def begin(number):
        end = wire.connect(port)
        end.setsockopt(1, 13, b"\x01\0\0\0\0\0\0\0")  # SO_LINGER: close is a reset.
        channel = number % 20
        end.sendall(wire.request(f"/sse?channel=full{channel}&last=1000000", port))
        end.close()
        return end

    wire.flood(5000, 9, begin)


def claims(port):
    """Positions far beyond everything, on one channel."""
    epoch = wire.publish(port, "claimed", b"one")["epoch"]

    def begin(_):
        end = wire.connect(port)
        target = f"/ws?channel=claimed&since={epoch}:9000000000"
        end.sendall(wire.upgrade(target, port))
        return end

    hold(wire.flood(6000, 15, begin))


def refused(port):
    """Handshakes and publishes that are refused, for the log's sake."""
    bad = wire.request("/ws?channel=two%20words", port)
    until = time.monotonic() + 7
    while time.monotonic() < until:
        end = wire.connect(port)
        end.sendall(bad)
        wire.readable(end, 5)
        end.close()


def slow_readers(port):
    """Readers that never read, on the channel that everybody hears."""
    hold(wire.flood(1500, 10, lambda _: wire.websocket(port, receive_bytes=4096)[0]))


# Their own messages are read, kept and broadcast.
PUBLISHING = ["--client-publish", "broadcast"]
COMPRESSED = ["--compression", "on"]

ATTACKS = [
    Attack("replay-streams", replay_streams, before=big_history),
    Attack("replay-v1", replay_v1, before=big_history),
    Attack("resumes", floods.resumes, before=full_histories),
    Attack("unread-answers", unread_answers),
    Attack("unread-streams", floods.unread_streams),
    Attack("slow-readers", slow_readers),
    Attack("pings", pings),
    Attack("empty-frames", floods.empty_frames, args=PUBLISHING),
    Attack("unfinished", floods.unfinished, args=PUBLISHING, mib=64),
    Attack("bombs", floods.bombs, args=PUBLISHING + COMPRESSED, mib=64),
    Attack("churn", floods.churn),
    Attack("idle", answered_and_idle, seconds=13),
    Attack("silent", silent, seconds=13),
    Attack("half-handshakes", floods.half_handshakes, mib=64),
    Attack("silent-tls", floods.silent_tls, mib=64, tls=True),
    Attack("heads", heads, seconds=13, mib=64),
    Attack("slow-heads", floods.slow_heads, mib=64),
    Attack("bodies", bodies, seconds=13, mib=64),
    Attack("slow-bodies", floods.slow_bodies, mib=64),
    Attack("batches", batches, seconds=13, mib=192),
    Attack("idempotency", floods.idempotency, mib=160),
    Attack("looks", looks, mib=64),
    Attack("refused", refused, args=["--log-level", "debug"]),
    Attack("bad-tokens", tokens.bad_tokens, has_keys=True),
    Attack("bad-publishers", tokens.bad_publishers, has_keys=True),
    Attack("bad-renewals", tokens.bad_renewals, seconds=13, has_keys=True),
    Attack("claims", claims, seconds=13),
    Attack("channel-hoard", channel_hoard, seconds=20, mib=128),
    Attack("same-channels", same_channels, redis=True, mib=200),
    Attack("random-channels", random_channels, redis=True, mib=128),
    Attack("history-and-reset", history_and_reset, redis=True, before=full_histories),
]
