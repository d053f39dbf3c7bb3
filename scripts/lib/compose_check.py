"""Checks a compose file: valid by the Compose Specification, and shaped as docs/deploying.md says.

usage: compose_check.py COMPOSE.YAML

Needs the PyPI package compose-spec.
"""

import sys

from compose_spec import PyCompose

# service -> keys without which the file would not keep that page's promises.
NEEDED = {
    "wsbcast": ["build", "environment", "ports", "stop_grace_period", "depends_on"],
    "redis": ["image", "healthcheck"],
}


def main(path):
    with open(path, encoding="utf-8") as file:
        text = file.read()
    try:
        compose = PyCompose.from_yaml(text)
        compose.validate()
    except Exception as error:  # the package names no type of its own
        sys.exit(f"error: {path}: {error}")
    services = compose.to_dict()["services"]
    if "WSBCAST_API_TOKEN: ${WSBCAST_API_TOKEN:?" not in text:
        sys.exit(f"error: {path} starts without a token of its user's own")
    # An address, a port and a port: in any other form it may be published to everybody.
    ports = [line for line in text.splitlines() if line.lstrip().startswith('- "')]
    open_ports = [line.strip() for line in ports if not line.lstrip().startswith('- "127.0.0.1:')]
    if open_ports or not ports:
        sys.exit(f"error: {path} publishes on other addresses than loopback: {open_ports}")
    missing = [f"{service}.{key}" for service, keys in NEEDED.items() for key in keys
               if key not in services.get(service, {})]
    if missing:
        sys.exit(f"error: {path} lacks {', '.join(missing)}")
    print(f"{path} is valid: services {', '.join(sorted(services))}")


if __name__ == "__main__":
    main(*sys.argv[1:])
