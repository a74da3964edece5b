"""What training cost: time, and an estimate of energy and carbon that says what it assumes."""

import os
import platform
import time
from dataclasses import dataclass, field

# A processor core at work, with its share of the machine; a rough figure for servers of the last ten years.
WATT_A_CORE = 12.0
WATT_A_GPU = 300.0
# World average of electricity in 2023 (Ember, Global Electricity Review 2024).
GRAMS_CO2_A_KWH = 480.0


def _cpu_seconds() -> float:
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


@dataclass(slots=True)
class Effort:
    """Starts counting when made. `cpu_s` are seconds of processor time of this process and its children."""

    _start_wall: float = field(default_factory=time.perf_counter)
    _start_cpu: float = field(default_factory=_cpu_seconds)
    wall_s: float = 0.0
    cpu_s: float = 0.0

    def stop(self) -> None:
        """Stop counting."""
        self.wall_s = time.perf_counter() - self._start_wall
        self.cpu_s = _cpu_seconds() - self._start_cpu

    def __str__(self) -> str:
        import torch

        n_gpus = torch.cuda.device_count()
        kwh = (self.cpu_s * WATT_A_CORE + n_gpus * self.wall_s * WATT_A_GPU) / 3.6e6
        gpu = f" and {n_gpus} x {torch.cuda.get_device_name(0)} ({WATT_A_GPU:.0f} W each)" if n_gpus else ""
        return (
            f"{self.wall_s / 60:.1f} min on {platform.machine()}, {os.cpu_count()} cores{gpu}; {self.cpu_s / 60:.1f} "
            f"min of processor time. Estimated from {WATT_A_CORE:.0f} W a busy core: {kwh:.4f} kWh, "
            f"{kwh * GRAMS_CO2_A_KWH:.1f} g CO2 at {GRAMS_CO2_A_KWH:.0f} g/kWh. Runs before a resume are not counted."
        )
