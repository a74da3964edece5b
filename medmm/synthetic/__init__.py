"""Phantom patients with planted truth, for the demo and for tests: no real person, no download."""

from medmm.synthetic.cohort import Cohort, write_cohort
from medmm.synthetic.plan import DISEASES, PlantedCase, plan_case

__all__ = ["DISEASES", "Cohort", "PlantedCase", "plan_case", "write_cohort"]
