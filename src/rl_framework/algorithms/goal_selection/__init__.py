"""Which goals an off-policy learner sets itself."""
