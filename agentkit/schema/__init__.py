"""Types to JSON Schema, and a model's text to validated arguments.

- a function: `signature` describes it and `results` its result, with `annotations`,
  `owners`, `context`, `docstrings` and `generator`
- a model's text: `parse` reads it (`repair`, `unwrap`), converts it (`coerce`) and validates it (`validate`)
- a server's limits: `loosen` and `strict` rewrite a schema
- `node` is the view of a schema that all of them use
"""

from __future__ import annotations

from .annotations import described_as
from .results import result_schema, result_type, yields
from .signature import Arguments, Signature, brief, describe, one_key

__all__ = ["Arguments", "Signature", "brief", "describe", "described_as", "one_key", "result_schema", "result_type", "yields"]
