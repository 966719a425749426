"""What a package must say about itself before a registry takes it: a Quilt workflow.

The rules lie in the registry, so quilt3 holds anybody to them who pushes there, with or without us.
"""

import json

from openimager.errors import BadInput
from openimager.quilt.objects import import_quilt, key, read, write

WORKFLOW = "openimager"
SCHEMA = {
    "$schema": "http://json-schema.org/draft-07/schema#",
    "type": "object",
    "required": ["categories", "licence", "metrics"],
    "properties": {
        "categories": {"type": "array", "minItems": 1, "items": {"type": "string"}},
        "licence": {
            "type": "object",
            "required": ["photos", "annotations"],
            "properties": {"photos": {"type": "array", "minItems": 1, "items": {"type": "string"}}},
        },
        "metrics": {"type": "object", "required": ["accuracy"]},
    },
}

_CONFIG = ".quilt/workflows/config.yml"
_SCHEMA = f".quilt/workflows/{WORKFLOW}.schema.json"


def write_workflow(registry: str) -> int:
    """Put our rules into a registry, beside those that it may have already.

    Parameters
    ----------
    registry : str
        A folder or ``s3://bucket``.

    Returns
    -------
    int
        How many files were written: none when all was as it should be. (In S3 every writing is a
        new version, and a revision records which version it was checked against.)
    """
    import yaml

    home = key(registry)
    old = yaml.safe_load(read(home.join(_CONFIG)) or b"") or {
        "version": "1",
        "is_workflow_required": True,
        "default_workflow": WORKFLOW,
    }
    workflow = {
        "name": "A data set that can be used",
        "description": "It says its categories, its licence and how its model scores.",
        "is_message_required": True,
        "metadata_schema": WORKFLOW,
    }
    schemas = old.get("schemas", {}) | {WORKFLOW: {"url": f"file:///{_SCHEMA}"}}
    config = old | {
        "workflows": old.get("workflows", {}) | {WORKFLOW: workflow},
        "schemas": {
            name: {**schema, "url": _here(schema, home)} for name, schema in schemas.items()
        },
    }
    written = 0
    schema = json.dumps(SCHEMA, indent=2).encode("utf-8")
    # The schema first, so that the rules never name one that is not there.
    if read(home.join(_SCHEMA)) != schema:
        write(home.join(_SCHEMA), schema)
        written += 1
    if config != old:
        write(home.join(_CONFIG), yaml.safe_dump(config, sort_keys=False).encode("utf-8"))
        written += 1
    return written


def _here(schema: dict, home) -> str:
    """Return a schema's address; one that moved with its registry gets its new one."""
    folder, _, name = schema["url"].rpartition("/")
    inside = folder.startswith("file:") and folder.endswith("/.quilt/workflows")
    return str(home.join(f".quilt/workflows/{name}")) if inside else schema["url"]


def check_metadata(metadata: dict, name: str, registry: str, message: str) -> None:
    """Hold a package to the registry's rules before its bytes are copied.

    Raises
    ------
    BadInput
        With what is missing or wrong.
    """
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
