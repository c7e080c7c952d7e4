"""Raw frames: taken in, and classified."""
