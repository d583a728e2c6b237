"""db: see README.md."""
