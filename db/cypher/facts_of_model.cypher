// Facts that a model stated, the surest first, with the words that support them. Parameters: model, limit.
MATCH (h:Entity)-[f]->(t:Entity)
WHERE f.relation IS NOT NULL
MATCH (s:Source)
WHERE s.source = f.source AND s.model = $model
RETURN h.entity_id AS head, f.relation AS relation, t.entity_id AS tail, f.confidence AS confidence,
       s.source AS source, s.prompt AS prompt, s.prompt_version AS prompt_version, s.quote AS quote
ORDER BY confidence DESC, head, relation, tail, source
LIMIT $limit
