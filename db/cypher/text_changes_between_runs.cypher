// Texts that only one of two runs states. Parameters: before, after (names of runs).
MATCH (x:Text)
MATCH (r:Run)-[:HAS_SOURCE]->(s:Source)
WHERE s.source = x.source AND (r.run = $before OR r.run = $after)
WITH CASE WHEN x.entity_id ENDS WITH ('@' + x.source)
          THEN left(x.entity_id, size(x.entity_id) - size(x.source) - 1) ELSE x.entity_id END AS head,
     'text/' + x.kind AS relation, x.text AS tail,
     max(CASE WHEN r.run = $before THEN 1 ELSE 0 END) AS was, max(CASE WHEN r.run = $after THEN 1 ELSE 0 END) AS became
WHERE was <> became
RETURN CASE WHEN was = 0 THEN 'added' ELSE 'removed' END AS change, head, relation, tail
ORDER BY change, head, relation, tail
