"""Thresholds: above which credit score a client is excluded this round (P6; P2 step 4; section `[threshold]`)."""

from hpcfsl.defense.threshold import rules
from hpcfsl.defense.threshold.threshold import Exclusion, Threshold, exclude, thresholds

__all__ = ["Exclusion", "Threshold", "exclude", "rules", "thresholds"]
