// Items of which no triple says anything, the most used first. No parameter.
MATCH (i:Entity)
WHERE i.type = 'Item' AND NOT EXISTS { MATCH (i)-[f]-(:Entity) WHERE f.relation IS NOT NULL }
OPTIONAL MATCH (i)<-[r:INTERACTED]-(:Entity)
RETURN i.entity_id AS item_id, i.name AS name, count(r) AS n_interactions
ORDER BY n_interactions DESC, item_id
