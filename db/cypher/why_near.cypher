// Why an item is near a user: what the train items, the hyperedges or the people share. Parameters: user_id, item_id.
MATCH (u:Entity)-[r:INTERACTED]->(seen:Entity)-[f]->(e:Entity)<-[g]-(i:Entity)
WHERE u.entity_id = $user_id AND i.entity_id = $item_id AND r.split = 'train' AND seen.entity_id <> i.entity_id
  AND f.relation IS NOT NULL AND g.relation IS NOT NULL
RETURN 'items share an entity' AS why, seen.entity_id AS from_id, f.relation AS relation, e.entity_id AS via_id,
       g.relation AS item_relation, max(f.confidence * g.confidence) AS strength
UNION ALL
MATCH (u:Entity)-[f]->(e:Entity)<-[g]-(i:Entity)
WHERE u.entity_id = $user_id AND i.entity_id = $item_id AND f.relation IS NOT NULL AND g.relation IS NOT NULL
RETURN 'the user has the entity' AS why, u.entity_id AS from_id, f.relation AS relation, e.entity_id AS via_id,
       g.relation AS item_relation, max(f.confidence * g.confidence) AS strength
UNION ALL
MATCH (u:Entity)-[f]->(i:Entity)
WHERE u.entity_id = $user_id AND i.entity_id = $item_id AND f.relation IS NOT NULL
RETURN 'a fact joins them' AS why, u.entity_id AS from_id, f.relation AS relation, i.entity_id AS via_id,
       '' AS item_relation, max(f.confidence) AS strength
UNION ALL
MATCH (u:Entity)<-[m:MEMBER]-(h:Hyperedge)-[n:MEMBER]->(i:Entity)
WHERE u.entity_id = $user_id AND i.entity_id = $item_id
RETURN 'one hyperedge' AS why, u.entity_id AS from_id, 'member/' + m.role AS relation, h.hyperedge_id AS via_id,
       'member/' + n.role AS item_relation, max(h.weight) AS strength
UNION ALL
MATCH (u:Entity)-[a:INTERACTED]->(seen:Entity)<-[b:INTERACTED]-(other:Entity)-[c:INTERACTED]->(i:Entity)
WHERE u.entity_id = $user_id AND i.entity_id = $item_id AND seen.entity_id <> i.entity_id
  AND other.entity_id <> u.entity_id AND a.split = 'train' AND b.split = 'train' AND c.split = 'train'
RETURN 'people with both items' AS why, seen.entity_id AS from_id, 'interacts' AS relation, other.entity_id AS via_id,
       'interacts' AS item_relation, 1.0 AS strength
