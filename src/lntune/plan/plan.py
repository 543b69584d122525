"""The plan: every result that a study can ask for, up to its tables and figures.

    plan = Plan(Study.read(Path("."), {}))
    table = plan.report_item("table3")      # a table or figure: a Node; its inputs are Nodes
    table.id                                # the hash of everything that makes it

Building a plan reads YAML and source files, imports no torch, and touches no result.
"""

from functools import cache

from lntune.plan.models import Models
from lntune.plan.node import Node
from lntune.plan.report_items import report_item_node
from lntune.plan.summary_tables import SUMMARIES, summary


class Plan(Models):
    """All results, each made once, so equal results are the same Node."""

    @cache  # noqa: B019 - a plan lives as long as its process
    def report_item(self, name: str) -> Node:
        """A table or figure: of workflow/report_items, or one that every study has (lntune.plan.summary_tables)."""
        return summary(self, name, self.report_item) if name in SUMMARIES else report_item_node(self, name)
