// Heads to which a relation that should have one tail gives two, with the sources of both. Parameter: relation.
MATCH (a:Entity)<-[f]-(h:Entity)-[g]->(b:Entity)
WHERE f.relation = $relation AND g.relation = $relation AND a.entity_id < b.entity_id
RETURN h.entity_id AS head, f.relation AS relation, a.entity_id AS tail, f.confidence AS confidence,
       f.source AS source, b.entity_id AS other_tail, g.confidence AS other_confidence, g.source AS other_source
ORDER BY head, tail, other_tail, source, other_source
