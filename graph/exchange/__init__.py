"""Facts from files and into files: one module a format, chosen by the file's name.

``tsv`` holds triples (two-place facts), ``csv`` facts of any number of arguments, ``parquet`` the same for large sets,
``ttl`` RDF Turtle for other tools, ``json`` what programs read. Each carries a fact's kind, its source or rule, and the
probability of a prediction, and reads back exactly what it wrote.
"""

from graph.exchange.files import FORMATS, format_of, importable, read, write
from graph.exchange.statement import KINDS, Kind, Statement, statements_of

__all__ = [
    "FORMATS",
    "KINDS",
    "Kind",
    "Statement",
    "format_of",
    "importable",
    "read",
    "statements_of",
    "write",
]
