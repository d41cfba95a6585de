"""``python -m xsearch``."""

from xsearch.cli.main import main

main()
