"""What the stages that set our tables beside the paper's are told: the paper's files by digest, and our tables."""

from pydantic import Field

from lntune.config import Frozen
from lntune.config.catalog import Sha256


class Settings(Frozen):
    """The paper's files by digest, and our tables and figures in the order of the inputs."""

    files: dict[str, Sha256] = Field(min_length=1)
    tables: tuple[str, ...] = Field(strict=False)
    scale: str
    scale_note: str
    protocol: str


class Execution(Frozen):
    """Where the paper's files lie."""

    paths: dict[str, str]
