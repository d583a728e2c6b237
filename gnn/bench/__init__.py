"""Times of the hot path beside those of its peers, measured in one run."""
