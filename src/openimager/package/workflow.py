"""What a package must say about itself before a registry takes it: a Quilt workflow.

The rules are in the registry, so quilt3 applies them to everybody who pushes there.
"""

import re
from pathlib import Path

import yaml

from openimager.errors import BadInput
from openimager.package.objects import import_quilt, key, read, write

WORKFLOW = "openimager"
_CONFIG = ".quilt/workflows/config.yml"
_SCHEMA = f".quilt/workflows/{WORKFLOW}.schema.json"
_DEFAULTS = {"version": "1", "is_workflow_required": True, "default_workflow": WORKFLOW}
_RULES = {
    "name": "A dataset that can be used",
    "description": "It states its categories, its licence and its model's scores.",
    "is_message_required": True,
    "metadata_schema": WORKFLOW,
}


def write_workflow(registry: str) -> int:
    """Put our rules into a registry, beside those that it has; return how many files it took.

    That is 0 if nothing has to change: in S3 every write is a new version, and a revision records
    which version it was checked against. A registry that moved gets its schemas' new addresses.
    """
    home = key(registry)
    old = (read(home.join(_CONFIG)) or b"").decode("utf-8")
    here = f"{home.join('.quilt/workflows')}/"
    moved = re.sub(r"file:\S*/\.quilt/workflows/", lambda _: here, old)
    found = yaml.safe_load(moved) or _DEFAULTS
    config = found | {
        "workflows": found.get("workflows", {}) | {WORKFLOW: _RULES},
        "schemas": found.get("schemas", {}) | {WORKFLOW: {"url": str(home.join(_SCHEMA))}},
    }
    # The schema first, so that the rules never name one that is not there.
    schema = Path(__file__).with_suffix(".json").read_bytes()
    files = {} if read(home.join(_SCHEMA)) == schema else {_SCHEMA: schema}
    if moved != old or config != found:
        files[_CONFIG] = yaml.safe_dump(config, sort_keys=False).encode("utf-8")
    for path, content in files.items():
        write(home.join(path), content)
    return len(files)


def checked_package(metadata: dict, name: str, registry: str, message: str):
    """Return an empty quilt3 package with `metadata`; raise BadInput if the registry refuses it."""
    package = import_quilt().Package().set_meta(metadata)
    from quilt3.backends import get_package_registry
    from quilt3.util import QuiltException, validate_package_name
    from quilt3.workflows import validate

    home = get_package_registry(registry)
    try:
        validate_package_name(name)
        validate(registry=home, workflow=WORKFLOW, name=name, pkg=package, message=message)
    except QuiltException as error:
        raise BadInput(f"{registry} refuses {name}. {error.message}") from error
    return package
