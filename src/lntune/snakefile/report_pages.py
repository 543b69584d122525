"""The pages as Snakemake sees them: what each is made from, and what `snakemake --report` says of it."""

from typing import Any

from lntune.errors import UserError
from lntune.plan.node import Node, is_done, manifest_path, result_folder
from lntune.plan.pages import Caption, caption_of, category, label, page_path
from lntune.plan.targets import is_right, shown_names
from lntune.snakefile.workflow import Workflow, stale_trigger, stop


class ReportPages:
    """The pages of a workflow's tables and figures, as functions of a rule's wildcard ``name``."""

    def __init__(self, workflow: Workflow) -> None:
        self.plan = workflow.plan
        self.names = shown_names(self.plan)

    def result(self, wildcards: Any) -> str:
        """The manifest of the table or figure that a page shows."""
        return str(manifest_path(self.plan.store, self._node(wildcards)))

    def outdated(self, wildcards: Any) -> list[str]:
        """What makes a page that is there, and does not show its result, be written again (`Workflow.stale`)."""
        path = page_path(wildcards.name)
        return [] if not path.exists() or is_right(self.plan, path) else stale_trigger(path)

    def caption(self, wildcards: Any) -> Caption:
        """What the report says beside a page; as long as there is no result, its name."""
        node = self._node(wildcards)
        if not is_done(self.plan.store, node):
            return Caption(wildcards.name)
        return caption_of(result_folder(self.plan.store, node), wildcards.name)

    def category(self, wildcards: Any) -> str:
        """The report's category of a page."""
        return category(wildcards.name)

    def labels(self, wildcards: Any) -> dict[str, str]:
        """What the report calls a page.

        Only a report asks for it, and Snakemake would report whatever a page holds: here it stops at one that does not
        show this config's result. One label alone, because Snakemake makes a switch of a second with two values.
        """
        path = page_path(wildcards.name)
        if not is_right(self.plan, path):
            stop(UserError(f"{path}: does not show this config's result; run `snakemake` first"))
        return {"Shown": label(wildcards.name, self.names)}

    def _node(self, wildcards: Any) -> Node:
        try:
            return self.plan.report_item(wildcards.name)
        except UserError as error:
            stop(error)
