"""kglift: the front door. Command line, pipeline, benchmark, report; it imports extract, db, gnn and kg."""
