"""The demo night: simulated raw frames with a hidden truth, and the comparison of what a reduction made of them."""

from __future__ import annotations

from starledger.demo.simulate import simulate_night
from starledger.demo.truth import Truth, read_truth

__all__ = ["Truth", "read_truth", "simulate_night"]
