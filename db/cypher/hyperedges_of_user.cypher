// Hyperedges that a user is in, with all their members in order. Parameter: user_id.
MATCH (u:Entity)<-[:MEMBER]-(h:Hyperedge)
WHERE u.entity_id = $user_id
WITH DISTINCT h
MATCH (h)-[m:MEMBER]->(e:Entity)
RETURN h.hyperedge_id AS hyperedge_id, h.relation AS relation, h.weight AS weight, h.source AS source,
       m.role AS role, m.position AS position, e.entity_id AS entity_id, e.name AS name
ORDER BY hyperedge_id, position, role, entity_id
