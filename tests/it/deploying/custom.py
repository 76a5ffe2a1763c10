"""Reads custom resources from standard input as their operators' own schemas have them (models that cloudcoil makes
from KEDA's and the Prometheus operator's definitions), and says what does not fit, also a field that there is none of."""

import sys

import yaml
from cloudcoil.models.keda import v1alpha1 as keda
from cloudcoil.models.prometheus_operator import v1 as operator

MODELS = {"keda.sh/v1alpha1": keda, "monitoring.coreos.com/v1": operator}


def lost(where, written, read):
    """What was written and is not read: a model leaves out what it does not know."""
    if isinstance(written, dict) and isinstance(read, dict):
        for key, value in written.items():
            if key not in read:
                yield f"{where}.{key}: there is no such field"
            else:
                yield from lost(f"{where}.{key}", value, read[key])
    elif isinstance(written, list) and isinstance(read, list) and len(written) == len(read):
        for n, (a, b) in enumerate(zip(written, read)):
            yield from lost(f"{where}[{n}]", a, b)
    elif str(written) != str(read):
        yield f"{where}: {written!r} is read as {read!r}"


faults = []
for document in yaml.safe_load_all(sys.stdin):
    model = getattr(MODELS[document["apiVersion"]], document["kind"])
    read = model.model_validate(document).model_dump(by_alias=True, exclude_unset=True, mode="json")
    faults += lost(document["kind"], document, read)
    print("read", document["kind"], document["metadata"]["name"])
sys.exit("\n".join(faults) or 0)
