// Items that go with an item, by a fact between both or between what they are; relations `complement...`, not denied. Parameter: item_id.
MATCH (i:Entity)-[f]-(other:Entity)
WHERE i.entity_id = $item_id AND f.relation STARTS WITH 'complement' AND f.confidence > 0 AND other.type = 'Item'
RETURN other.entity_id AS item_id, other.name AS name, '' AS entity_id, '' AS other_entity_id,
       f.relation AS relation, f.confidence AS confidence, f.source AS source
UNION
MATCH (i:Entity)-[a]->(x:Entity)-[f]-(y:Entity)<-[b]-(other:Entity)
WHERE i.entity_id = $item_id AND f.relation STARTS WITH 'complement' AND f.confidence > 0 AND other.type = 'Item'
  AND a.relation IS NOT NULL AND b.relation IS NOT NULL AND other.entity_id <> i.entity_id
  AND NOT a.relation STARTS WITH 'complement' AND NOT b.relation STARTS WITH 'complement'
RETURN other.entity_id AS item_id, other.name AS name, x.entity_id AS entity_id, y.entity_id AS other_entity_id,
       f.relation AS relation, f.confidence AS confidence, f.source AS source
