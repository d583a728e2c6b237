"""Neo4j Browser's style and guide for a kglift graph, served to it from this machine.

Neo4j Browser takes both from an address only, and only from hosts on its list, which `localhost` is on. The guide is
made of the saved queries, so it never lags behind them.
"""

import html
import re
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.resources import files
from typing import Final

from db.errors import StoreUnreachableError
from db.queries import load_query, saved_queries

GUIDE_PORT: Final = 7475
_STYLE: Final = "kglift.grass"
_EXAMPLES: Final = {
    "gap": "0.3",
    "limit": "25",
    "below": "0.6",
    "before": "'first'",
    "after": "'second'",
    "model": "'model'",
    "relation": "'directed_by'",
    "user_id": "'user:1'",
    "item_id": "'item:1'",
    "entity_id": "'item:1'",
}
_PICTURES: Final = {
    "A user, the items, and what they share": (
        "MATCH p = (u:User)-[:INTERACTED]->(:Item)-[f]->(:Entity) WHERE u.entity_id = $user_id "
        "AND f.relation IS NOT NULL RETURN p LIMIT 40"
    ),
    "Hyperedges of a user, with their members": (
        "MATCH (u:User)<-[:MEMBER]-(h:Hyperedge)-[m:MEMBER]->(e) WHERE u.entity_id = $user_id RETURN u, h, m, e"
    ),
}


def style_text() -> str:
    """Return the style: colours, sizes and captions by label, for `:style`."""
    return (files("db") / "browser" / _STYLE).read_text(encoding="utf-8")


def guide_html(address: str) -> str:
    """Return the guide for `:play`: style and parameters, two pictures, then every saved query.

    A click puts what is shown into the editor, from where it is run.

    Args:
        address: where the style is served, e.g. `http://localhost:7475`.
    """
    style = _runnable(f":style {address}/{_STYLE}")
    parameters = "".join(_runnable(f":param {name} => {value}") for name, value in sorted(_EXAMPLES.items()))
    pictures = "".join(f"<h4>{html.escape(t)}</h4>{_runnable(cypher)}" for t, cypher in _PICTURES.items())
    slides = [
        f"<h3>A kglift graph</h3><p>Colours and captions:</p>{style}"
        f"<p>Set what the queries ask about; change the values to yours.</p>{parameters}",
        f"<h3>Pictures</h3>{pictures}",
    ]
    for name, answers in saved_queries().items():
        slides.append(f"<h3>{html.escape(name)}</h3><p>{html.escape(answers)}</p>{_runnable(load_query(name))}")
    return '<article class="guide">' + "".join(f"<slide>{slide}</slide>" for slide in slides) + "</article>"


def parameters_of(cypher: str) -> set[str]:
    """Return the names of the parameters in a query."""
    return set(re.findall(r"\$(\w+)", cypher))


def guide_server(port: int = GUIDE_PORT) -> ThreadingHTTPServer:
    """Make the server of both files on loopback; the caller runs and closes it.

    Args:
        port: 0 takes any free one.

    Raises:
        StoreUnreachableError: if the port is taken.
    """
    try:
        return ThreadingHTTPServer(("127.0.0.1", port), _Pages)
    except OSError as error:
        msg = f"port {port} is taken by another program; stop that one or choose another port (0: any)"
        raise StoreUnreachableError(msg) from error


class _Pages(BaseHTTPRequestHandler):
    def do_OPTIONS(self) -> None:
        self.send_response(204)  # the page asks whether it may ask, since it is from another port
        self._allow()
        self.end_headers()

    def do_GET(self) -> None:
        address = f"http://localhost:{self.connection.getsockname()[1]}"
        pages = {f"/{_STYLE}": (style_text(), "text/plain"), "/guide.html": (guide_html(address), "text/html")}
        if self.path not in pages:
            self.send_error(404)
            return
        text, kind = pages[self.path]
        body = text.encode()
        self.send_response(200)
        self.send_header("Content-Type", f"{kind}; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        self._allow()
        self.end_headers()
        self.wfile.write(body)

    def _allow(self) -> None:
        for what, value in (("Origin", "*"), ("Methods", "GET"), ("Headers", "*")):
            self.send_header(f"Access-Control-Allow-{what}", value)

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing: the command line belongs to the user."""


def _runnable(cypher: str) -> str:
    return f'<pre class="pre-scrollable code runnable">{html.escape(cypher)}</pre>'
