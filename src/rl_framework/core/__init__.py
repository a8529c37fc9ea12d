"""Vocabulary that every other package speaks: trees, spaces, policies, reports, seeds, references to classes."""
