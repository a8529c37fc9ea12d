"""Pure functions: nothing here keeps state, writes logs, or moves data between devices."""
