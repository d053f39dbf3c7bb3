"""Bad tokens by the thousand, wherever one can be shown; and the keys by which they are bad."""

import base64
import hashlib
import hmac
import itertools
import json
import os
import pathlib
import select
import subprocess
import time

import wire
from floods import SECONDS, hold

SECRET = "0123456789abcdef0123456789abcdef"
KEY_ID = "known"
HANDSHAKES_AT_ONCE = 200
# Each connection has these tokens on their way at once.
RENEWALS_AT_ONCE = 20


def options(folder):
    """A secret, and a set of keys with an RSA key whose private half nobody has."""
    key = os.path.join(folder, "rsa.pem")
    subprocess.run(["openssl", "genrsa", "-out", key, "2048"], check=True, capture_output=True)
    told = subprocess.run(
        ["openssl", "rsa", "-in", key, "-noout", "-modulus"], check=True, capture_output=True
    )
    modulus = bytes.fromhex(told.stdout.decode().strip().split("=")[1])
    jwk = {"kty": "RSA", "alg": "RS256", "kid": KEY_ID, "n": text(modulus), "e": "AQAB"}
    keys = os.path.join(folder, "keys.json")
    pathlib.Path(keys).write_text(json.dumps({"keys": [jwk]}))
    # The healthy show no token.
    return ["--jwt-secret", SECRET, "--jwt-jwks", keys, "--public-channels", "*"]


def text(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def unsigned(header, expires_in):
    """The two first parts of a token that nobody has shown."""
    claims = {
        "sub": wire.word(),
        "exp": int(time.time()) + expires_in,
        "wsbcast": {"subscribe": ["*"], "publish": ["*"]},
    }
    return ".".join(text(json.dumps(part).encode()) for part in (header, claims))


def garbage():
    return text(os.urandom(300))


def wrongly_signed():
    begun = unsigned({"alg": "RS256", "kid": KEY_ID}, 3600)
    # Less than any modulus: the whole verification is done.
    signature = b"\0" + os.urandom(255)
    return f"{begun}.{text(signature)}"


def of_unknown_key():
    begun = unsigned({"alg": "RS256", "kid": wire.word()}, 3600)
    return f"{begun}.{text(os.urandom(256))}"


def expired():
    begun = unsigned({"alg": "HS256"}, -3600)
    signed = hmac.new(SECRET.encode(), begun.encode(), hashlib.sha256).digest()
    return f"{begun}.{text(signed)}"


def bad():
    """Tokens of every kind in turn, each another one."""
    return (kind() for kind in itertools.cycle([garbage, wrongly_signed, of_unknown_key, expired]))


def check(status, kind):
    # Else it would be another attack.
    assert status == 401, f"{kind} was answered {status}"


def bad_tokens(port):
    """Handshakes with bad tokens: garbage, wrongly signed, of an unknown key, expired."""
    until, tokens = time.monotonic() + SECONDS, bad()

    def begin():
        end = wire.connect(port)
        shown = f"Authorization: Bearer {next(tokens)}"
        end.sendall(wire.upgrade("/ws", port, headers=[shown]))
        return end

    while time.monotonic() < until:
        for end in [begin() for _ in range(HANDSHAKES_AT_ONCE)]:
            check(wire.read_head(end)[0], "a handshake")
            end.close()


def bad_publishers(port):
    """Publications with bad tokens of the same kinds, each connection used again."""
    until = time.monotonic() + SECONDS
    http = wire.Http(port)
    for token in bad():
        if time.monotonic() > until:
            break
        status, _ = http.ask("POST", "/broadcast", b"x", [f"Authorization: Bearer {token}"])
        check(status, "a publication")


def bad_renewals(port):
    """Bad tokens of the same kinds in place of another, over open connections, as fast as read."""
    tokens = bad()

    def renewal():
        return wire.text_frame(json.dumps({"type": "token", "token": next(tokens)}))

    def begin(_):
        end, _ = wire.websocket(port, f"/ws?channel={wire.word()}", protocol="wsbcast.v1")
        end.sendall(b"".join(renewal() for _ in range(RENEWALS_AT_ONCE)))
        return end

    ends = {end.fileno(): end for end in wire.flood(500, 4, begin)}
    poll = select.poll()
    for number in ends:
        poll.register(number, select.POLLIN)
    until, refused = time.monotonic() + SECONDS, 0
    while time.monotonic() < until:
        for number, _ in poll.poll(100):
            told = ends[number].recv(1 << 16)
            if not told:
                poll.unregister(number)
                continue
            count = told.count(b'"bad_token"')
            refused += count
            ends[number].sendall(b"".join(renewal() for _ in range(count)))
    assert refused, "no token was refused"
    hold(list(ends.values()))
