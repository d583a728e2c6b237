"""Recorded answers of strong models, in the formats in which others published them: a member is one file."""
