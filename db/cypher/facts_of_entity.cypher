// Facts of an entity, with the source of each. Parameter: entity_id.
MATCH (e:Entity)
WHERE e.entity_id = $entity_id
OPTIONAL MATCH (e)-[f]->(t:Entity)
WHERE f.relation IS NOT NULL
WITH e, collect({head: e.entity_id, relation: f.relation, tail: t.entity_id, confidence: f.confidence,
                 source: f.source}) AS of_head
OPTIONAL MATCH (h:Entity)-[g]->(e)
WHERE g.relation IS NOT NULL AND h.entity_id <> e.entity_id
WITH of_head, collect({head: h.entity_id, relation: g.relation, tail: e.entity_id, confidence: g.confidence,
                       source: g.source}) AS of_tail
UNWIND of_head + of_tail AS fact
MATCH (s:Source)
WHERE s.source = fact.source
RETURN fact.head AS head, fact.relation AS relation, fact.tail AS tail, fact.confidence AS confidence,
       s.source AS source, s.kind AS kind, s.model AS model, s.prompt AS prompt, s.prompt_version AS prompt_version,
       s.quote AS quote
ORDER BY head, relation, tail, source
