"""The paper's experiments, run again: on BetaSeg, or on phantom cells laid out like it."""

from vemosaic.reproduce.estimate import Estimate
from vemosaic.reproduce.plan import METHODS, Plan, Selection, betaseg_plan, phantom_plan
from vemosaic.reproduce.runner import project, reproduce

__all__ = ["METHODS", "Estimate", "Plan", "Selection", "betaseg_plan", "phantom_plan", "project", "reproduce"]
