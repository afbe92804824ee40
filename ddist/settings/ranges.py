"""Types of settings, for annotations of the constructors that take them; the command reads them
there and refuses other values before it loads anything (ddist/cli/validate.py)."""

from typing import Annotated, Literal

from annotated_types import Ge, Gt, Le, Lt

PositiveInt = Annotated[int, Ge(1)]
NonNegativeInt = Annotated[int, Ge(0)]
Positive = Annotated[float, Gt(0)]
NonNegative = Annotated[float, Ge(0)]
Share = Annotated[float, Ge(0), Le(1)]
Momentum = Annotated[float, Ge(0), Lt(1)]  # also what a moving average keeps at each step

Precision = Literal["32-true", "bf16-mixed"]  # of networks that are trained on and tested with
