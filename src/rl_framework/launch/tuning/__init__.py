"""Hyper-parameter search: a study of trials on Optuna, several at once, each a process that may die."""
