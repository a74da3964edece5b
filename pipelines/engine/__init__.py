"""How many cases are run: stages with bounded queues, orderly stops, and what a failure of one case is."""

from pipelines.engine.attempts import Refused, StageClock, attempt
from pipelines.engine.local import Outcome, run_local
from pipelines.engine.stop import StopSwitch, listening

__all__ = ["Outcome", "Refused", "StageClock", "StopSwitch", "attempt", "listening", "run_local"]
