"""Raw frames: taken in, and told apart."""
