"""Settings, and the base of every settings model."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

Hash = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
"""A SHA-256 or a BLAKE3, in hexadecimal digits."""


class Frozen(BaseModel):
    """A settings model that cannot be changed once validated and that refuses unknown keys.

    Values are taken as they are written: the text ``"3"`` is not the number 3. (YAML 1.1 reads ``1e-4`` as
    text; :mod:`lntune.config.load` explains that one by name.)
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, protected_namespaces=())
