"""The pages as Snakemake sees them: targets, which are out of date, and what `snakemake --report` says of each."""

from pathlib import Path
from typing import Any

from lntune.errors import UserError
from lntune.nodes import is_done, result_folder
from lntune.pages import PAGES, Caption, caption_of, category, in_order, label, page_text
from lntune.summaries import names as summaries
from lntune.workflow import Workflow, notice, stop

NOT_REPORTED = ("data",)
"""The summaries that nothing but a wish of their own makes."""


class ReportPages:
    """The pages of a workflow's tables and figures, and of what stands beside the paper."""

    def __init__(self, workflow: Workflow) -> None:
        self.plan = workflow.plan
        about_paper = [name for name in summaries(self.plan) if name not in NOT_REPORTED]
        self.names = in_order([*workflow.study.settings.experiments, *about_paper])

    def targets(self) -> list[str]:
        """Every page that the report shows."""
        return [str(page_path(name)) for name in self.names]

    def outdated(self, wildcards: Any) -> list[str]:
        """What makes a page that is there, and does not show its result, be written again (`Workflow.withdrawn`)."""
        path = page_path(wildcards.name)
        return [] if not path.exists() or self._is_right(wildcards.name) else notice(path)

    def caption(self, wildcards: Any) -> Caption:
        """What the report says beside a page; as long as there is no result, its name."""
        node = self.plan.table(wildcards.name)
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
        if not self._is_right(wildcards.name):
            stop(UserError(f"{page_path(wildcards.name)}: does not show this config's result; run `snakemake` first"))
        return {"Shown": label(wildcards.name, self.names)}

    def _is_right(self, name: str) -> bool:
        node = self.plan.table(name)
        try:
            shown = page_path(name).read_text()
            return is_done(self.plan.store, node) and page_text(result_folder(self.plan.store, node), name) == shown
        except FileNotFoundError:
            return False


def page_path(name: str) -> Path:
    """Where the page of a table or figure is or will be."""
    return Path(PAGES) / f"{name}.html"
