"""``python -m cli`` is ``tandem``."""

from cli import main

main()
