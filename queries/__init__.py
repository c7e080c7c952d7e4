"""The read side: light curves, cones, targets, masks and a person's own SQL."""
