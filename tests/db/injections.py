"""Strings that would do harm if any of them became part of a query."""

from itertools import product

_BREAKS = (
    *("{}", "`{}", "` {} //", "') {} //", '") {} //', "'}}) {} //", "`) {} //"),
    *("`]->() {} //", "x; {}", "\\u0060 {} //", "*/ {} /*", "\n{}\n", "${{{}}}"),
)
_DEEDS = (
    "MATCH (n) DETACH DELETE n",
    "CREATE (:Pwned)",
    "MATCH (s:Source) SET s.kind = 'dataset'",
    "LOAD CSV FROM 'file:///etc/passwd' AS l CREATE (:Pwned)",
    "CALL db.clearQueryCaches()",
    "DROP TABLE Entity",
    "COPY Entity FROM '/etc/passwd'",
    "DROP CONSTRAINT kglift_entity",
    "CREATE USER eve SET PASSWORD 'hunter222'",
    "UNION MATCH (n) RETURN n",
    "CALL { MATCH (n) DELETE n } IN TRANSACTIONS",
    "INSTALL httpfs",
)
INJECTIONS = [a.format(b) for a, b in product(_BREAKS, _DEEDS)]
