"""The command line of Tandem: from a catalog to a running service, and questions to it. Wiring only."""

from cli.program import app, main
from cli.settings import Settings

__all__ = ["Settings", "app", "main"]
