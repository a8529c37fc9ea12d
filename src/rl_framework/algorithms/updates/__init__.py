"""Update rules of the off-policy learner: what a batch of transitions teaches."""
