"""The machine: steps declared, put in order, planned, run and written down."""
