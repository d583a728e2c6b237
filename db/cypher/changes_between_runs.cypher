// Facts that only one of two runs states, or each with another confidence. Parameters: before, after (names of runs).
MATCH (h:Entity)-[f]->(t:Entity)
WHERE f.relation IS NOT NULL
MATCH (r:Run)-[:HAS_SOURCE]->(s:Source)
WHERE s.source = f.source AND (r.run = $before OR r.run = $after)
WITH h.entity_id AS head, f.relation AS relation, t.entity_id AS tail,
     max(CASE WHEN r.run = $before THEN f.confidence ELSE -1.0 END) AS was,
     max(CASE WHEN r.run = $after THEN f.confidence ELSE -1.0 END) AS became
WHERE was <> became
RETURN CASE WHEN was < 0 THEN 'added' WHEN became < 0 THEN 'removed' ELSE 'changed' END AS change,
       head, relation, tail, CASE WHEN was < 0 THEN null ELSE was END AS before,
       CASE WHEN became < 0 THEN null ELSE became END AS after
ORDER BY change, head, relation, tail
