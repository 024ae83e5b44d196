"""Language models behind one port. Importing this package loads no model library; `registry.create` loads the one it
needs, and only serving calls it: every question to an LLM goes through the gateway."""

from models.llm.config import LLMConfig
from models.llm.naming import name_of
from models.llm.spans import StringValue, span_logprob, string_values
from models.llm.weights import local_folder, materialize_default

__all__ = [
    "LLMConfig",
    "StringValue",
    "local_folder",
    "materialize_default",
    "name_of",
    "span_logprob",
    "string_values",
]
