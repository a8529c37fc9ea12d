"""Networks as files that run without this library, and without torch."""
