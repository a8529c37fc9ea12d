"""Tasks that are batched tensors: Gymnasium's classic control, step for step, and the two that rlstack times itself on.

Their names for the command line stand in `envs.tensor_source`.
"""
