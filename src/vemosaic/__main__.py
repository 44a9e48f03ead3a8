"""``python -m vemosaic``: the same as the command ``vemosaic``."""

from vemosaic.cli import main

main()
