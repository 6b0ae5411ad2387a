"""What clients do to their update before anyone sees it (P7). Layer 2."""

from hpcfsl.privacy.perturbation import Perturbation, perturbations

__all__ = ["Perturbation", "perturbations"]
