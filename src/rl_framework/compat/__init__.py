"""Repairs of upstream libraries: scoped, gated by version, each with a link and a test that ends it."""
