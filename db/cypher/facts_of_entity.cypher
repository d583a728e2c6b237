// Facts of an entity, with the source of each. Parameter: entity_id.
MATCH (h:Entity)-[f]->(t:Entity)
WHERE h.entity_id = $entity_id AND f.relation IS NOT NULL
MATCH (s:Source)
WHERE s.source = f.source
RETURN h.entity_id AS head, f.relation AS relation, t.entity_id AS tail, f.confidence AS confidence,
       s.source AS source, s.kind AS kind, s.model AS model, s.prompt AS prompt, s.prompt_version AS prompt_version,
       s.quote AS quote
UNION
MATCH (h:Entity)-[f]->(t:Entity)
WHERE t.entity_id = $entity_id AND f.relation IS NOT NULL
MATCH (s:Source)
WHERE s.source = f.source
RETURN h.entity_id AS head, f.relation AS relation, t.entity_id AS tail, f.confidence AS confidence,
       s.source AS source, s.kind AS kind, s.model AS model, s.prompt AS prompt, s.prompt_version AS prompt_version,
       s.quote AS quote
