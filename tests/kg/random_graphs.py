"""Small random graphs with odd texts, for round trips."""

import string

from hypothesis import strategies as st

from kg.graph import Graph

_ODD = " \t\n\"'<>&%#/\\:,;{}[]^`|éß夜😀\u0301\u2028\ufeff"
TEXTS = st.text(string.ascii_letters + string.digits + _ODD, min_size=1, max_size=8)
_IRIS = st.sampled_from(
    ["http://x.org/a_b", "http://x.org/é", "urn:kglift:id:a", "urn:x:1", "http://x.org/a b", "_:b0"]
)
_IDS = st.one_of(TEXTS, _IRIS)
_UNIT = st.floats(0, 1)


@st.composite
def graphs(draw: st.DrawFn) -> Graph:
    """Entities, triples of one or two sources, a hyperedge with repeated members, all with any ids and texts."""
    ids = draw(st.lists(_IDS, min_size=1, max_size=4, unique=True))
    one_of = st.sampled_from(ids)
    sources = draw(st.lists(TEXTS, min_size=1, max_size=2, unique=True))
    facts = st.tuples(one_of, _IDS, one_of, st.sampled_from(sources))
    triples = draw(st.lists(facts, max_size=5, unique=True))
    members = st.tuples(one_of, TEXTS, st.one_of(st.none(), st.integers(0, 9)))
    return Graph.from_rows(
        entities=[
            {"entity_id": i, "type": draw(TEXTS), "name": draw(TEXTS), "text": draw(st.one_of(st.none(), TEXTS))}
            for i in ids
        ],
        triples=[
            {"head": h, "relation": r, "tail": t, "confidence": draw(st.one_of(st.just(1.0), _UNIT)), "source": s}
            for h, r, t, s in triples
        ],
        hyperedges=[
            {"hyperedge_id": "hyperedge:1", "relation": draw(TEXTS), "weight": draw(_UNIT), "source": sources[0]}
        ],
        members=[
            {"hyperedge_id": "hyperedge:1", "entity_id": e, "role": role, "position": position}
            for e, role, position in draw(st.lists(members, max_size=4, unique=True))
        ],
        sources=[
            {
                "source": s,
                "kind": "llm",
                "quote": draw(st.one_of(st.none(), TEXTS)),
                "tokens": draw(st.one_of(st.none(), st.integers(0, 2**40))),
                "shown": draw(st.one_of(st.none(), st.just([{"user_id": "u", "item_id": "ä"}]))),
            }
            for s in sources
        ],
    )


def without(graph: Graph, *names: str) -> Graph:
    """Return a graph with some tables emptied."""
    return graph.replace(**{name: graph.tables()[name].slice(0, 0) for name in names})
