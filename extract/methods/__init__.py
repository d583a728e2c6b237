"""Extraction methods: a member is one file."""
