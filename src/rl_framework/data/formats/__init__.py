"""The forms in which episodes are stored: found by content or by name, each read lazily and written as a stream."""
