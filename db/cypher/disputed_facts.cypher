// Facts whose sources differ in how sure they are, the widest gap first. Parameters: gap (of confidences), limit.
MATCH (h:Entity)-[f]->(t:Entity)
WHERE f.relation IS NOT NULL
WITH h.entity_id AS head, f.relation AS relation, t.entity_id AS tail, min(f.confidence) AS lowest,
     max(f.confidence) AS highest, count(*) AS n_sources
WHERE highest - lowest >= $gap AND n_sources > 1
RETURN head, relation, tail, lowest, highest, n_sources
ORDER BY highest - lowest DESC, head, relation, tail
LIMIT $limit
