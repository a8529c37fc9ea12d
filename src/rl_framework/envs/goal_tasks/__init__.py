"""Tasks with goals that are batched tensors; each is also there as one Gymnasium environment.

Their names for the command line stand in `envs.tensor_source`.
"""
