"""What watches a training run: progress bar, tracker, checkpoint schedule, stop conditions, any callable."""
