"""Public fakes and contract suites, for this library's tests and for those of its users."""
