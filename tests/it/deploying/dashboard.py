"""Reads a Grafana dashboard from standard input as Grafana's own schema has it (its Foundation SDK, made from that),
and says what does not fit, also a field that there is none of."""

import json
import sys

from grafana_foundation_sdk.cog import plugins
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.dashboard import Dashboard


def lost(where, written, read):
    """What was written and is not read: a model leaves out what it does not know."""
    if isinstance(written, dict) and isinstance(read, dict):
        for key, value in written.items():
            if key not in read:
                # What is nothing is not written out either.
                if value is not None:
                    yield f"{where}.{key}: there is no such field"
            else:
                yield from lost(f"{where}.{key}", value, read[key])
    elif isinstance(written, list) and isinstance(read, list) and len(written) == len(read):
        for n, (a, b) in enumerate(zip(written, read)):
            yield from lost(f"{where}[{n}]", a, b)
    elif written != read:
        yield f"{where}: {written!r} is read as {read!r}"


plugins.register_default_plugins()
written = json.load(sys.stdin)
read = json.loads(JSONEncoder().encode(Dashboard.from_json(written)))
print("read", len(read["panels"]), "panels")
sys.exit("\n".join(lost("dashboard", written, read)) or 0)
