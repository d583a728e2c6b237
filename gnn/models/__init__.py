"""One recommender in each file; a new file is found by the registry."""
