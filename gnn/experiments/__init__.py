"""Experiments on real data: a TOML file each, one runner, one result file each.

`plan` reads the TOML, `runs` trains and evaluates, `report` sums up. Run one by `python -m gnn experiment NAME`.
"""
