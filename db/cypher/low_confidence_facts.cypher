// The facts that their sources are least sure of. Parameters: below (a confidence), limit.
MATCH (h:Entity)-[f]->(t:Entity)
WHERE f.relation IS NOT NULL AND f.confidence < $below
RETURN h.entity_id AS head, f.relation AS relation, t.entity_id AS tail, f.confidence AS confidence, f.source AS source
ORDER BY confidence, head, relation, tail, source
LIMIT $limit
