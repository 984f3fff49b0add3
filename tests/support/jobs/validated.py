"""A handler whose arguments are a pydantic model.

Apart from the other handlers, which every fork server imports: pydantic takes longer than all.
"""

from __future__ import annotations

from typing import ClassVar

import pydantic

import synk


class ModelArgs(pydantic.BaseModel):
    kind: ClassVar[str] = "model"
    width: pydantic.PositiveInt


@synk.worker
def model(job: synk.Job[ModelArgs]) -> int:
    return job.args.width
