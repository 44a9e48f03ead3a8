"""Reference segmentations, and scores of maps against them."""

from vemosaic.evaluation.reference import Reference, open_reference, split_spec
from vemosaic.evaluation.scope import Scope
from vemosaic.evaluation.scores import confusion, evaluate, score

__all__ = ["Reference", "Scope", "confusion", "evaluate", "open_reference", "score", "split_spec"]
