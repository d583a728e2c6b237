// Entities that the most train items of a user have facts with. Parameters: user_id, limit.
MATCH (u:Entity)-[r:INTERACTED]->(i:Entity)-[f]->(e:Entity)
WHERE u.entity_id = $user_id AND r.split = 'train' AND f.relation IS NOT NULL
RETURN e.entity_id AS entity_id, e.type AS type, e.name AS name, count(DISTINCT i.entity_id) AS n_items,
       avg(f.confidence) AS mean_confidence
ORDER BY n_items DESC, mean_confidence DESC, entity_id
LIMIT $limit
