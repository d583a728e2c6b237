"""gnn: see README.md."""
