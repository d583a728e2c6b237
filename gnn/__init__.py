"""gnn: recommenders on a collaborative knowledge graph; one training loop, one full-ranking evaluator.

Import what you need from its modules (`gnn.train`, `gnn.evaluate`, `gnn.recommend`); this file imports nothing, so that
`import gnn` stays light.
"""
