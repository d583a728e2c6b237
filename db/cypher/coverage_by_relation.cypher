// For each relation: facts, distinct heads and tails, and mean confidence. No parameter.
MATCH (h:Entity)-[f]->(t:Entity)
WHERE f.relation IS NOT NULL
RETURN f.relation AS relation, count(*) AS n_facts, count(DISTINCT h.entity_id) AS n_heads,
       count(DISTINCT t.entity_id) AS n_tails, avg(f.confidence) AS mean_confidence
ORDER BY n_facts DESC, relation
