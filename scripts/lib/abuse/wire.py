"""What both sides of an attack need of HTTP and WebSocket: blocking, of the standard library."""

import json
import os
import select
import socket
import struct
import time

KEY = "dGhlIHNhbXBsZSBub25jZQ=="


class Counted(socket.socket):
    """Counts what this process has sent: an attacker's effort."""

    sent = None

    def sendall(self, data, *flags):
        super().sendall(data, *flags)
        if Counted.sent is not None:
            Counted.sent.value += len(data)


def connect(port, timeout=20, receive_bytes=None):
    """A connection to the server; with `receive_bytes`, one whose kernel holds little."""
    end = Counted()
    if receive_bytes:
        end.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
    end.settimeout(timeout)
    # Beyond some 14,000 connections from one address the search for ports gets slow.
    end.connect(("127.0.0.1", port))
    return end


def readable(end, seconds):
    """Whether something can be read within that time, however many descriptors there are."""
    poll = select.poll()
    poll.register(end, select.POLLIN)
    return bool(poll.poll(seconds * 1000))


def request(target, port, headers=()):
    lines = [f"GET {target} HTTP/1.1", f"Host: 127.0.0.1:{port}", *headers, "", ""]
    return "\r\n".join(lines).encode()


def upgrade(target, port, protocol=None, extensions=None, headers=()):
    headers = [
        *headers,
        "Upgrade: websocket",
        "Connection: Upgrade",
        f"Sec-WebSocket-Key: {KEY}",
        "Sec-WebSocket-Version: 13",
    ]
    if protocol:
        headers.append(f"Sec-WebSocket-Protocol: {protocol}")
    if extensions:
        headers.append(f"Sec-WebSocket-Extensions: {extensions}")
    return request(target, port, headers)


def read_head(end, buffer=b""):
    """The status of an answer, and what came behind its head."""
    while b"\r\n\r\n" not in buffer:
        chunk = end.recv(65536)
        if not chunk:
            return 0, b""
        buffer += chunk
    head, rest = buffer.split(b"\r\n\r\n", 1)
    return int(head.split(b" ", 2)[1]), rest


def websocket(port, target="/ws", protocol=None, extensions=None, **options):
    """A connected client, and what it has already got; raises where it is refused."""
    end = connect(port, **options)
    end.sendall(upgrade(target, port, protocol, extensions))
    status, rest = read_head(end)
    if status != 101:
        end.close()
        raise ConnectionRefusedError(f"{target}: {status}")
    return end, rest


def text_frame(text):
    """A client's frame, masked with zeros."""
    payload = text.encode()
    length = len(payload)
    if length < 126:
        header = struct.pack("!BB", 0x81, 0x80 | length)
    elif length < 65536:
        header = struct.pack("!BBH", 0x81, 0x80 | 126, length)
    else:
        header = struct.pack("!BBQ", 0x81, 0x80 | 127, length)
    return header + b"\0\0\0\0" + payload


def frames(buffer):
    """The whole frames at the head of `buffer`, as (opcode, payload), and the rest of it."""
    found = []
    while len(buffer) >= 2:
        length, at = buffer[1] & 127, 2
        if length == 126:
            if len(buffer) < 4:
                break
            length, at = struct.unpack("!H", buffer[2:4])[0], 4
        elif length == 127:
            if len(buffer) < 10:
                break
            length, at = struct.unpack("!Q", buffer[2:10])[0], 10
        if len(buffer) < at + length:
            break
        found.append((buffer[0] & 15, buffer[at : at + length]))
        buffer = buffer[at + length :]
    return found, buffer


class Http:
    """One keep-alive connection that asks and waits; made anew when the server has closed it."""

    def __init__(self, port):
        self.port = port
        self.end = None

    def ask(self, method, target, body=b"", headers=()):
        """Status and body of the answer."""
        lines = [f"{method} {target} HTTP/1.1", f"Host: 127.0.0.1:{self.port}", *headers]
        lines += [f"Content-Length: {len(body)}", "", ""]
        message = "\r\n".join(lines).encode() + body
        for attempt in (1, 2):
            if self.end is None:
                self.end = connect(self.port)
            try:
                self.end.sendall(message)
                answer = self.read_answer()
                if answer:
                    return answer
            except (ConnectionError, BrokenPipeError):
                if attempt == 2:
                    raise
            self.close()
        raise ConnectionError(f"{method} {target}: no answer")

    def read_answer(self):
        buffer = b""
        while b"\r\n\r\n" not in buffer:
            chunk = self.end.recv(65536)
            if not chunk:
                return None
            buffer += chunk
        head, body = buffer.split(b"\r\n\r\n", 1)
        fields = dict(
            line.lower().split(b":", 1) for line in head.split(b"\r\n")[1:] if b":" in line
        )
        wanted = int(fields.get(b"content-length", b"0"))
        while len(body) < wanted:
            body += self.end.recv(65536)
        if b"close" in fields.get(b"connection", b""):
            self.close()
        return int(head.split(b" ", 2)[1]), body

    def close(self):
        if self.end is not None:
            self.end.close()
            self.end = None


def publish(port, channel, data):
    """Publishes once; the answer as JSON."""
    http = Http(port)
    status, body = http.ask("POST", f"/broadcast?channel={channel}", data)
    http.close()
    if status != 202:
        raise ConnectionError(f"publishing: {status} {body!r}")
    return json.loads(body)


def flood(count, seconds, begin):
    """Calls `begin(number)` for up to `count` connections within `seconds`; those that stood."""
    until = time.monotonic() + seconds
    standing = []
    for number in range(count):
        if time.monotonic() > until:
            break
        try:
            standing.append(begin(number))
        except OSError:
            # Refused or cut: what an attacker has to reckon with.
            continue
    return standing


def word():
    """A name that nobody has used."""
    return os.urandom(8).hex()
