"""Holds what was seen of the system against its documents: `check.py FOLDER`.

The folder has `openapi.json` and `asyncapi.json` as they were served, and what was seen, each a list: `records.json` with
`{topic, key, headers, value}`, `pushed.json` with the data of live events, `answers.json` with
`{operation, status, content_type, body}`. Fields that no schema names are faults here, although clients would ignore them.
"""

import json
import pathlib
import sys

import jsonschema_rs

PROBLEM = "application/problem+json"

faults = []


def close(schema):
    """The same schema without room for fields that it does not name."""
    if isinstance(schema, list):
        return [close(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    closed = {name: close(part) for name, part in schema.items()}
    if "properties" in closed:
        closed.setdefault("additionalProperties", False)
    return closed


def check(what, schema, value):
    validator = jsonschema_rs.Draft202012Validator(close(schema), validate_formats=True)
    faults.extend(f"{what}: {error.message} at /{'/'.join(map(str, error.instance_path))}" for error in validator.iter_errors(value))


def operations(openapi):
    for path, item in openapi["paths"].items():
        for method, operation in item.items():
            yield f"{method.upper()} {path}", operation


def response(openapi, operation, status):
    """A documented response; None where there is none."""
    found = operation["responses"].get(str(status))
    if found and "$ref" in found:
        found = openapi["components"]["responses"][found["$ref"].rsplit("/", 1)[1]]
    return found


def check_examples(openapi):
    """Every example of a body, an answer and a parameter."""
    count = 0

    def visit(what, node):
        nonlocal count
        if isinstance(node, list):
            for part in node:
                visit(what, part)
        elif isinstance(node, dict):
            if "schema" in node:
                schema = {**node["schema"], "components": openapi["components"]}
                examples = [node["example"]] if "example" in node else []
                examples += [example["value"] for example in node.get("examples", {}).values()]
                examples += node["schema"].get("examples", [])
                for example in examples:
                    count += 1
                    check(f"{what}: an example", schema, example)
            for part in node.values():
                visit(what, part)

    for what, operation in operations(openapi):
        visit(what, operation)
    return count


def check_asyncapi(asyncapi):
    """The document by AsyncAPI's own schema, which npm brings."""
    version = asyncapi["asyncapi"]
    path = pathlib.Path(__file__).parent / f"node_modules/@asyncapi/specs/schemas/{version}.json"
    if not path.exists():
        print(f"SKIPPED: {path} is missing; `./dev test` fetches it where there are Node.js and npm")
        return
    validator = jsonschema_rs.validator_for(json.loads(path.read_text()), validate_formats=True)
    what = f"asyncapi.json by AsyncAPI {version}"
    faults.extend(f"{what}: {error.message} at /{'/'.join(map(str, error.instance_path))}" for error in validator.iter_errors(asyncapi))


def check_records(asyncapi, records):
    messages = asyncapi["components"]["messages"]
    seen = set()
    for record in records:
        kind = record["headers"].get("ce_type")
        what = f"{record['topic']}: {kind}"
        if kind not in asyncapi["channels"][record["topic"]]["messages"]:
            faults.append(f"{what} is not on this topic")
            continue
        seen.add(kind)
        for part, value in (("headers", record["headers"]), ("payload", record["value"])):
            schema = messages[kind][part]["schema"]
            jsonschema_rs.meta.validate(schema)
            check(f"{what}: {part}", schema, value)
        # A mail about an account is about no order.
        about = record["value"].get("order_id", record["value"].get("user_id"))
        if not record["key"] == record["headers"]["ce_subject"] == about:
            faults.append(f"{what}: key, ce_subject and what it is about differ")
    faults.extend(f"{kind} was never seen" for kind in messages.keys() - seen)


def check_pushed(openapi, pushed):
    for data in pushed:
        schema = {"$ref": "#/components/schemas/LiveEvent", "components": openapi["components"]}
        check(f"pushed: {data['type']}", schema, data)


def check_answers(openapi, answers):
    known = {operation["operationId"]: operation for _, operation in operations(openapi)}
    for answer in answers:
        what = f"{answer['operation']} {answer['status']}"
        documented = response(openapi, known[answer["operation"]], answer["status"])
        if documented is None:
            faults.append(f"{what} is not documented")
            continue
        content = documented.get("content", {})
        if not content:
            if answer["body"] is not None:
                faults.append(f"{what} has a body")
        elif answer["content_type"] not in content:
            faults.append(f"{what} is {answer['content_type']}")
        else:
            schema = {**content[answer["content_type"]]["schema"], "components": openapi["components"]}
            check(what, schema, answer["body"])


def main(folder):
    def read(name):
        return json.loads((folder / name).read_text())

    openapi, asyncapi = read("openapi.json"), read("asyncapi.json")
    records, pushed, answers = read("records.json"), read("pushed.json"), read("answers.json")
    examples = check_examples(openapi)
    check_asyncapi(asyncapi)
    check_records(asyncapi, records)
    check_pushed(openapi, pushed)
    check_answers(openapi, answers)
    counts = {"examples": examples, "records": len(records), "pushed": len(pushed), "answers": len(answers)}
    print(", ".join(f"{count} {what}" for what, count in counts.items()))
    for what, count in counts.items():
        if not count:
            faults.append(f"no {what} were checked")
    print("\n".join(faults))
    return bool(faults)


if __name__ == "__main__":
    sys.exit(main(pathlib.Path(sys.argv[1])))
