"""From calibrated frames to plate solutions and sources."""
