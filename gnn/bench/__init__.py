"""`python -m gnn bench`: what is timed, and beside what; a task is one file that subclasses `gnn.bench.task.Task`."""
