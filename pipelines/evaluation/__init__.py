"""Evaluation of a model on labelled cases: answers, metrics with intervals, controls, comparisons, and the report."""
