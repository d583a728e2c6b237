"""Providers: where answers come from. A member is one file."""
