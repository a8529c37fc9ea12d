"""Where agents and their numbers go: a store moves folders, a tracker takes numbers; neither sees an agent."""
