"""File formats that become a graph; a member is one file that subclasses `kg.source.Source`."""
