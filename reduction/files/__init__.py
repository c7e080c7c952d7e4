"""Files on disk: raw frames of every format in, pixel products out and in again."""
