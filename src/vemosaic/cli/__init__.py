"""The command line: parse, call the API, show progress. Heavy imports stand inside the commands."""

from vemosaic.cli import judging, mapping, measuring, viewing
from vemosaic.cli.application import app, main
from vemosaic.cli.options import parse_clusters

__all__ = ["app", "judging", "main", "mapping", "measuring", "parse_clusters", "viewing"]
