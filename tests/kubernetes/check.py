"""Holds rendered objects against their schemas: those of Kubernetes against its own, those of operators against their CRDs.

    check.py VERSION CRDS FILE

VERSION is that of Kubernetes, CRDS a folder of CustomResourceDefinitions, FILE the objects. Prints what does not fit, field by
field, and ends with 1 if anything does not. A field that a schema does not know is a fault: Kubernetes would drop it silently.
"""

import sys
from pathlib import Path

import jsonschema
import kubernetes_validate
import yaml


def closed(schema):
    """The schema with no other fields than those it names."""
    if isinstance(schema, list):
        return [closed(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    schema = {name: closed(part) for name, part in schema.items()}
    opened = schema.get("x-kubernetes-preserve-unknown-fields") or "additionalProperties" in schema
    if isinstance(schema.get("properties"), dict) and schema.get("type") == "object" and not opened:
        schema["additionalProperties"] = False
    return schema


def definitions(folder):
    """The schemas of the CRDs, by apiVersion and kind."""
    found = {}
    for path in sorted(Path(folder).glob("*.yaml")):
        spec = yaml.safe_load(path.read_text())["spec"]
        for version in spec["versions"]:
            schema = closed(version["schema"]["openAPIV3Schema"])
            # The metadata that every object has is Kubernetes' own.
            schema["properties"]["metadata"] = {"type": "object"}
            found[f"{spec['group']}/{version['name']}", spec["names"]["kind"]] = schema
    return found


def faults(thing, version, crds):
    schema = crds.get((thing["apiVersion"], thing["kind"]))
    if schema:
        yield from jsonschema.Draft202012Validator(schema).iter_errors(thing)
        return
    try:
        kubernetes_validate.validate(thing, version, strict=True)
    except (jsonschema.ValidationError, kubernetes_validate.SchemaNotFoundError) as fault:
        yield fault


def main(version, folder, file):
    crds = definitions(folder)
    things = [thing for thing in yaml.safe_load_all(Path(file).read_text()) if thing]
    count = 0
    for thing in things:
        for fault in faults(thing, version, crds):
            count += 1
            where = "/".join(str(part) for part in getattr(fault, "absolute_path", []))
            print(f"{thing['kind']} {thing['metadata']['name']}: {where}: {fault.message}")
    print(f"{len(things)} objects, {count} faults, {len(crds)} CRDs")
    return 1 if count or not things else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
