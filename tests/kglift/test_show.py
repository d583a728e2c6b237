"""`kglift show`: one page of a neighbourhood that needs no network and says in words what it draws."""

import re
from html.parser import HTMLParser
from itertools import combinations
from pathlib import Path

import pytest

from db.ladybug_store import LadybugConfig, LadybugStore
from db.memory_store import MemoryStore
from db.neo4j_store import Neo4jConfig, Neo4jStore
from kg.errors import UnknownIdError
from kg.graph import Graph, concat
from kglift.cli import main
from kglift.show import render_neighbourhood
from tests.chromium import CHROMIUM, in_chromium
from tests.db.servers import wiped
from tests.toy import toy_graph


class _Cells(HTMLParser):
    """Gathers the text of table cells, and every tag with its attributes."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.rows: list[list[str]] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self._inside = False
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")
        self._inside = tag in ("td", "th") or (self._inside and tag == "br")

    def handle_endtag(self, tag: str) -> None:
        self._inside = self._inside and tag not in ("td", "th")

    def handle_data(self, data: str) -> None:
        if self._inside:
            self.rows[-1][-1] += data


def page_of(graph: Graph, entity: str, **options: int) -> str:
    store = MemoryStore()
    store.write(graph)
    with store:
        return render_neighbourhood(store, entity, **options)


@pytest.fixture(scope="module")
def page() -> str:
    return page_of(toy_graph(), "item:7")


def test_every_edge_and_its_sources_are_in_words(page: str) -> None:
    rows = _Cells(page).rows[1:]
    assert ["7", "has mood", "dark", "0.80, 0.50"] in [row[:4] for row in rows]
    assert any("llm:aaaa (llm, scripted, item_facts): “a lie”llm:bbbb" in row[4] for row in rows)
    assert sorted(row[1] for row in rows if row[2] == "anna") == ["acted by", "directed by"]
    assert sum(row[4] == "the interactions" for row in rows) == 3


def test_a_hyperedge_is_a_node_with_a_spoke_to_each_member(page: str) -> None:
    spokes = [row for row in _Cells(page).rows if row[2] == "hyperedge:3"]
    assert sorted(row[0] for row in spokes) == ["6", "7", "8"]
    drawn = [a for tag, a in _Cells(page).tags if tag == "rect" and "hyperedge" in (a.get("class") or "")]
    assert len(drawn) == 1 + 1  # in the picture and in the key
    assert not any({row[0], row[2]} == {"6", "8"} for row in _Cells(page).rows)


def test_the_page_needs_nothing_from_elsewhere(page: str) -> None:
    cells = _Cells(page)
    assert not {"script", "link", "img", "iframe", "object", "base"} & {tag for tag, _ in cells.tags}
    assert not [value for _, a in cells.tags for name, value in a.items() if name in ("src", "href", "xlink:href")]
    assert "default-src 'none'" in page
    assert not re.search(r"url\(|@import|https?:", page)


def test_parallel_edges_and_labels_are_told_apart(page: str) -> None:
    paths = re.findall(r'<path class="edge dataset" d="(M[^"]+)"><title>', page)
    assert len(paths) == len(set(paths)) == 2
    rows = re.findall(r'<g transform="translate\((\S+) (\S+)\)">', page)
    assert len(rows) == len(set(rows)) == 1 + 6 + 1


def test_what_matters_most_is_drawn_when_not_all_is() -> None:
    page = page_of(toy_graph(), "item:7", limit=2)
    assert "2 of 6 neighbours are drawn" in page
    assert {row[2] for row in _Cells(page).rows[1:]} == {"hyperedge:3", "dark"}


def test_a_large_hyperedge_shows_the_role_that_few_have_and_says_what_is_left_out() -> None:
    ids = [f"item:{k}" for k in range(30)] + ["user:1"]
    graph = Graph.from_rows(
        entities=[{"entity_id": i, "type": i.partition(":")[0].title(), "name": i} for i in ids],
        hyperedges=[{"hyperedge_id": "h", "relation": "interest", "weight": 1.0, "source": "llm:x"}],
        members=[
            {"hyperedge_id": "h", "entity_id": i, "role": "owner" if i == "user:1" else "item", "position": k}
            for k, i in enumerate(ids)
        ],
        sources=[{"source": "llm:x", "kind": "llm"}],
    )
    page = page_of(graph, "item:7")
    assert "user:1" in {cell for row in _Cells(page).rows for cell in row}
    assert "1 of 1 neighbours are drawn; other members of the hyperedges that are not: 21." in page


def test_a_node_alone_is_a_page_too() -> None:
    page = page_of(toy_graph(), "place:paris")
    assert "0 of 0 neighbours" in page
    assert "nan" not in page


def test_hostile_names_are_text() -> None:
    bad = "<script>alert(1)</script>\"' onload=x {{ 7*7 }}"
    graph = Graph.from_rows(
        entities=[
            {"entity_id": "a", "type": bad, "name": bad, "text": bad},
            {"entity_id": "b", "type": "T", "name": bad},
        ],
        triples=[{"head": "a", "relation": bad, "tail": "b", "confidence": 0.5, "source": bad}],
        sources=[{"source": bad, "kind": "llm", "model": bad, "quote": bad}],
    )
    page = page_of(graph, "a")
    assert "<script" not in page
    assert "49" not in page
    assert not [1 for _, a in _Cells(page).tags if "onload" in a]


@pytest.mark.parametrize(
    ("text", "says"), [("item:99", "no entity `item:99`"), ("anna", "several entities are called `anna`: .*actor:anna")]
)
def test_an_entity_that_cannot_be_meant_is_said(text: str, says: str) -> None:
    twin = Graph.from_rows(entities=[{"entity_id": "actor:anna", "type": "Actor", "name": "anna"}])
    with pytest.raises(UnknownIdError, match=says):
        page_of(concat(toy_graph(), twin), text)


@pytest.mark.slow
def test_neo4j_gives_the_same_page(neo4j_uri: str, page: str) -> None:
    wiped(neo4j_uri)
    with Neo4jStore(Neo4jConfig(uri=neo4j_uri)) as store:
        store.write(toy_graph())
        assert render_neighbourhood(store, "item:7") == page


def test_a_file_is_written_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    LadybugStore(LadybugConfig(tmp_path / "graph.lbug")).write(toy_graph())
    arguments = ["show", "dark", "--at", str(tmp_path / "graph.lbug"), "-o", str(tmp_path / "dark.html")]
    for code, says in ((0, "file://"), (1, "exists already")):
        with pytest.raises(SystemExit) as stopped:
            main(arguments)
        assert stopped.value.code == code
        assert says in capsys.readouterr().err


def parallel_graph(n_entities: int, n_relations: int) -> Graph:
    """Return one node in the middle with as many facts, of several relations, to each of some neighbours."""
    ids = [f"place:{k}" for k in range(n_entities + 1)]
    return Graph.from_rows(
        entities=[{"entity_id": name, "type": "Place", "name": name} for name in ids],
        triples=[
            {"head": ids[0], "relation": f"has_relation_{r}", "tail": tail, "confidence": 1.0, "source": "rule:r"}
            for tail in ids[1:]
            for r in range(n_relations)
        ],
        sources=[{"source": "rule:r", "kind": "rule"}],
    )


@pytest.mark.parametrize(("n_entities", "n_relations"), [(1, 4), (2, 3), (3, 3), (5, 2), (8, 2), (24, 1)])
def test_no_label_of_an_edge_covers_another(n_entities: int, n_relations: int) -> None:
    page = page_of(parallel_graph(n_entities, n_relations), "place:0")
    labels = re.findall(r'<text class="relation" x="(\S+)" y="(\S+)">([^<]+)</text>', page)
    assert len(labels) == n_entities * n_relations
    for (x, y, words), (other_x, other_y, others) in combinations(labels, 2):
        far = abs(float(x) - float(other_x)) > 2.8 * (len(words) + len(others))
        assert far or abs(float(y) - float(other_y)) > 10, (words, others)


@pytest.mark.slow
@CHROMIUM
def test_a_browser_draws_it(page: str, tmp_path: Path) -> None:
    (tmp_path / "page.html").write_text(page)
    done = in_chromium((tmp_path / "page.html").as_uri(), tmp_path, f"--screenshot={tmp_path / 'page.png'}")
    assert (tmp_path / "page.png").stat().st_size > 20_000, done.stderr[-500:]
    assert "Refused to" not in done.stderr


@pytest.mark.slow
@CHROMIUM
def test_a_browser_draws_the_labels_of_parallel_edges_apart(tmp_path: Path) -> None:
    measure = """<script>
      const boxes = [...document.querySelectorAll("text.relation")].map(label => label.getBoundingClientRect());
      const meet = (a, b) => a.left < b.right && b.left < a.right && a.top + 3 < b.bottom && b.top + 3 < a.bottom;
      const met = boxes.flatMap((a, k) => boxes.slice(k + 1).filter(b => meet(a, b)));
      document.title = `${boxes.length} labels, ${met.length} meet`;
    </script>"""
    page = page_of(parallel_graph(5, 2), "place:0")
    may_run = page.replace("default-src 'none'", "default-src 'unsafe-inline'")
    (tmp_path / "page.html").write_text(may_run.replace("</body>", f"{measure}</body>"))
    done = in_chromium((tmp_path / "page.html").as_uri(), tmp_path, "--dump-dom")
    assert "<title>10 labels, 0 meet</title>" in done.stdout, done.stderr[-500:]
