"""How fast the engine is: beside a client that does nothing else, from a full ledger, and with the local model."""
