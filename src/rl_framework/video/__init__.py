"""Recordings of a policy at work, as files that every browser plays."""
