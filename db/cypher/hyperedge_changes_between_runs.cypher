// Hyperedges and members that only one of two runs states, or each with another weight. Parameters: before, after.
MATCH (h:Hyperedge)
MATCH (r:Run)-[:HAS_SOURCE]->(s:Source)
WHERE s.source = h.source AND (r.run = $before OR r.run = $after)
OPTIONAL MATCH (h)-[m:MEMBER]->(e:Entity)
WITH CASE WHEN h.hyperedge_id ENDS WITH ('@' + h.source)
          THEN left(h.hyperedge_id, size(h.hyperedge_id) - size(h.source) - 1) ELSE h.hyperedge_id END AS head,
     CASE WHEN m.role IS NULL THEN h.relation ELSE h.relation + '/' + m.role END AS relation,
     coalesce(e.entity_id, '') AS tail,
     max(CASE WHEN r.run = $before THEN h.weight ELSE -1.0 END) AS was,
     max(CASE WHEN r.run = $after THEN h.weight ELSE -1.0 END) AS became
WHERE was <> became
RETURN CASE WHEN was < 0 THEN 'added' WHEN became < 0 THEN 'removed' ELSE 'changed' END AS change,
       head, relation, tail, CASE WHEN was < 0 THEN null ELSE was END AS before,
       CASE WHEN became < 0 THEN null ELSE became END AS after
ORDER BY change, head, relation, tail
