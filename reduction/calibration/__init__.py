"""From raw frames to calibrated ones: detectors, masters, cosmic rays, fixed patterns."""
