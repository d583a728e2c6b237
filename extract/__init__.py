"""extract: see README.md."""
