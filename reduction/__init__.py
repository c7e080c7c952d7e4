"""The reduction: one module a step, in the order of the night (see `reduction.pipeline.order`)."""
