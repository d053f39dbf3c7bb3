"""Attacks that go on for as long as they may: drops that never end, and floods of small things."""

import json
import os
import time
import zlib

import wire

SECONDS = 8


def hold(ends):
    """Keeps what was opened, and reads nothing."""
    while ends:
        time.sleep(1)


def drip(ends, drop):
    """A drop down each connection every second, until the last of them is closed."""
    while ends:
        begun = time.monotonic()
        for end in list(ends):
            try:
                end.sendall(drop)
            except OSError:
                ends.remove(end)
        time.sleep(max(0.0, 1 - (time.monotonic() - begun)))


def pour(ends, data, answers=False):
    """As much of `data` down each connection as it takes; answers are read, or left."""
    until = time.monotonic() + SECONDS
    for end in ends:
        end.settimeout(0.05)
    while ends and time.monotonic() < until:
        for end in list(ends):
            try:
                end.sendall(data() if callable(data) else data)
                while answers and wire.readable(end, 0):
                    if not end.recv(1 << 16):
                        raise ConnectionError
            except TimeoutError:
                # Its end of the connection is full; a frame that was cut may not be continued.
                ends.remove(end)
            except OSError:
                ends.remove(end)
    hold(ends)


def saying(port, data):
    """How a connection begins that says `data` and waits."""

    def begin(_):
        end = wire.connect(port, timeout=0.5)
        end.sendall(data)
        return end

    return begin


def slow_heads(port):
    """Heads that come byte by byte, one a second."""
    head = b"GET /ws HTTP/1.1\r\nHost: x\r\nX-Slow: "
    drip(wire.flood(4000, 6, saying(port, head)), b"s")


def slow_bodies(port):
    """Bodies that come byte by byte, one a second."""
    head = b"POST /broadcast HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 900000\r\n\r\n"
    drip(wire.flood(4000, 6, saying(port, head)), b"s")


def half_handshakes(port):
    """Opening handshakes that stop in their middle."""
    half = wire.upgrade("/ws", port)
    hold(wire.flood(6000, SECONDS, saying(port, half[: len(half) // 2])))


def unfinished(port):
    """Messages of which two thirds are sent, and the rest never."""
    begun = wire.text_frame("u" * 60_000)[:40_000]

    def begin(_):
        end, _ = wire.websocket(port, f"/ws?channel={wire.word()}")
        end.settimeout(0.2)
        end.sendall(begun)
        return end

    hold(wire.flood(600, SECONDS, begin))


def empty_frames(port):
    """One message in fragments without a byte, for as long as the server reads them."""
    ends = wire.flood(60, 4, lambda _: wire.websocket(port, f"/ws?channel={wire.word()}")[0])
    for end in ends:
        end.sendall(b"\x01\x80\0\0\0\0")
    pour(ends, b"\x00\x80\0\0\0\0" * 2000)


def bombs(port):
    """Compressed messages, a thousand times as long as what is sent."""
    deflate = zlib.compressobj(9, zlib.DEFLATED, -15)
    data = deflate.compress(b"\0" * 60_000) + deflate.flush(zlib.Z_SYNC_FLUSH)
    data = data[:-4]
    bomb = bytes([0xC1, 0x80 | len(data)]) + b"\0\0\0\0" + data
    assert len(data) < 126, len(data)

    def begin(_):
        target = f"/ws?channel={wire.word()}"
        return wire.websocket(port, target, extensions="permessage-deflate")[0]

    pour(wire.flood(5, 4, begin), bomb * 4, answers=True)


def churn(port):
    """Subscriptions that come and go, with all answers read."""
    ends = [wire.websocket(port, protocol="wsbcast.v1")[0] for _ in range(50)]

    def turns():
        name = wire.word()
        commands = [
            wire.text_frame(json.dumps({"type": kind, "channel": f"{name}{number}"}))
            for number in range(20)
            for kind in ("subscribe", "unsubscribe")
        ]
        return b"".join(commands)

    pour(ends, turns, answers=True)


def idempotency(port):
    """Publications with a new key of full length each, and all answers read."""
    ends = wire.flood(30, 4, lambda _: wire.connect(port))

    def keyed():
        head = (
            "POST /broadcast?channel=keyed HTTP/1.1\r\nHost: 127.0.0.1\r\n"
            f"Idempotency-Key: {os.urandom(64).hex()}\r\nContent-Length: 1\r\n\r\nx"
        )
        return head.encode()

    pour(ends, lambda: b"".join(keyed() for _ in range(20)), answers=True)


def resumes(port):
    """Clients that come back again and again for all of a full history."""
    epoch = wire.publish(port, "full0", b"one")["epoch"]

    def begin(_):
        end, _ = wire.websocket(port, f"/ws?channel=full0&since={epoch}:1")
        wire.readable(end, 1)
        end.close()
        return end

    wire.flood(100_000, SECONDS, begin)


def unread_streams(port):
    """Event streams that never read, of the channel that everybody hears."""

    def begin(_):
        end = wire.connect(port, receive_bytes=4096)
        end.sendall(wire.request("/sse", port))
        return end

    hold(wire.flood(1500, SECONDS, begin))


def silent_tls(port):
    """TLS connections that say nothing, or the half of a first word."""

    def begin(number):
        end = wire.connect(port, timeout=0.5)
        if number % 2:
            # A record of 512 bytes with the beginning of a ClientHello.
            end.sendall(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03")
        return end

    hold(wire.flood(6000, SECONDS, begin))
