"""What a package must say about itself before a registry takes it: a Quilt workflow.

The rules are in the registry, so quilt3 applies them to everybody who pushes there.
"""

import json
import re

import yaml

from openimager.errors import BadInput
from openimager.package.objects import Registry, import_quilt

WORKFLOW = "openimager"
_FOLDER = ".quilt/workflows"
_SCHEMA = {
    "$schema": "http://json-schema.org/draft-07/schema#",
    "type": "object",
    "required": ["categories", "licence", "metrics"],
    "properties": {
        "categories": {"type": "array", "minItems": 1, "items": {"type": "string"}},
        "licence": {
            "type": "object",
            "required": ["photos", "annotations"],
            "properties": {"photos": {"type": "array", "minItems": 1}},
        },
        "metrics": {"type": "object", "required": ["accuracy"]},
    },
}
_RULES = {
    "name": "A dataset that can be used",
    "description": "It states its categories, its licence and its model's scores.",
    "is_message_required": True,
    "metadata_schema": WORKFLOW,
}
_DEFAULTS = {"version": "1", "is_workflow_required": True, "default_workflow": WORKFLOW}


def write_workflow(place: Registry) -> int:
    """Put our rules into a registry, beside those that it has; return how many files this wrote.

    Unchanged files are not written: in S3 every write may be a new version, and a revision records
    which one it was checked against. Schemas in a registry that moved get new addresses.
    """
    folder = f"{place.key}/{_FOLDER}/"
    old = (place.read(f"{_FOLDER}/config.yml") or b"").decode("utf-8")
    moved = re.sub(rf"file:\S*/{re.escape(_FOLDER)}/", lambda _: folder, old)
    found = yaml.safe_load(moved) or _DEFAULTS
    schema = f"{WORKFLOW}.schema.json"
    config = found | {
        "workflows": found.get("workflows", {}) | {WORKFLOW: _RULES},
        "schemas": found.get("schemas", {}) | {WORKFLOW: {"url": folder + schema}},
    }
    # The schema first, so that the rules never name one that is not there.
    content = json.dumps(_SCHEMA, indent=2).encode("utf-8")
    changed = {} if place.read(f"{_FOLDER}/{schema}") == content else {schema: content}
    if moved != old or config != found:
        changed["config.yml"] = yaml.safe_dump(config, sort_keys=False).encode("utf-8")
    for name, content in changed.items():
        place.write(f"{_FOLDER}/{name}", content)
    return len(changed)


def checked_package(metadata: dict, name: str, place: Registry, message: str):
    """Return an empty quilt3 package with `metadata`; raise BadInput if the registry refuses it."""
    package = import_quilt().Package().set_meta(metadata)
    from quilt3.backends import get_package_registry
    from quilt3.util import QuiltException, validate_package_name
    from quilt3.workflows import validate

    home = get_package_registry(place.address)
    try:
        validate_package_name(name)
        validate(registry=home, workflow=WORKFLOW, name=name, pkg=package, message=message)
    except QuiltException as error:
        raise BadInput(f"{place.address} refuses {name}. {error.message}") from error
    return package
