"""How actions are changed while an off-policy learner gathers experience."""
