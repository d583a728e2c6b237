"""What Neo4j Browser gets: a style for every label and a guide with every saved query, from an address of its own."""

import asyncio
import html
import os
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import pyarrow.compute as pc
import pytest

from db import load_query, saved_queries
from db.browser import guide_html, guide_server, parameters_of, style_text
from db.errors import StoreUnreachableError
from db.model import ENTITY, HYPEREDGE, RUN, SOURCE, TEXT
from db.neo4j_store import Neo4jConfig, Neo4jStore
from db.server import Server
from tests.chromium import CHROMIUM, Tab, tab
from tests.db.servers import wiped
from tests.toy import toy_graph


@pytest.fixture
def address() -> Iterator[str]:
    with guide_server(0) as pages:
        threading.Thread(target=pages.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{pages.server_address[1]}"
        pages.shutdown()


def test_the_style_knows_every_label_and_is_one_block_each() -> None:
    text = style_text()
    assert {ENTITY, "User", "Item", HYPEREDGE, SOURCE, TEXT, RUN} <= set(re.findall(r"^node\.(\w+) \{$", text, re.M))
    assert text.count("{\n") == text.count("}\n")
    colours = re.findall(r"^  color: (#\w+);", text, re.M)
    assert len(set(colours)) >= 8


def test_the_guide_runs_every_saved_query_and_sets_every_parameter() -> None:
    guide = guide_html("http://localhost:1")
    runnable = [html.unescape(text) for text in re.findall(r'runnable">(.*?)</pre>', guide, re.DOTALL)]
    assert {load_query(name) for name in saved_queries()} <= set(runnable)
    assert ":style http://localhost:1/kglift.grass" in runnable
    needed = {name for text in runnable for name in parameters_of(text)}
    assert needed == {text.split()[1] for text in runnable if text.startswith(":param ")}


def test_both_are_served_to_a_page_from_another_port(address: str) -> None:
    own = address.replace("127.0.0.1", "localhost")
    for name, text in (("kglift.grass", style_text()), ("guide.html", guide_html(own))):
        with urlopen(f"{address}/{name}") as answer:
            assert answer.read().decode() == text
            assert answer.headers["Access-Control-Allow-Origin"] == "*"
    with urlopen(Request(f"{address}/kglift.grass", method="OPTIONS")) as answer:
        assert (answer.status, answer.headers["Access-Control-Allow-Headers"]) == (204, "*")
    with pytest.raises(HTTPError, match="404"):
        urlopen(f"{address}/../../etc/passwd")


def test_a_taken_port_is_named() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(StoreUnreachableError, match=f"port {port} is taken"):
            guide_server(port)


def test_the_address_of_the_browser_connects_by_itself_where_no_password_is_asked_for() -> None:
    def url(*, auth: bool) -> str | None:
        return Server(1, Path("home"), 7687, 7474, auth).browser_url

    page = "http://127.0.0.1:7474/browser/?connectURL=bolt://127.0.0.1:7687"
    assert url(auth=False) == f"{page}&preselectAuthMethod=NO_AUTH"
    assert url(auth=True) == page


def test_the_command_says_what_to_type_and_ends_by_ctrl_c() -> None:
    command = [sys.executable, "-u", "-m", "db", "server", "guide", "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env={**os.environ, "COLUMNS": "200"}) as process:
        assert process.stdout is not None
        said = [process.stdout.readline() for _ in range(4)]
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 0
    assert re.search(r":style http://localhost:\d+/kglift\.grass", "".join(said))
    assert re.search(r":play http://localhost:\d+/guide\.html", "".join(said))


@pytest.mark.slow
@pytest.mark.timeout(900)
@CHROMIUM
def test_neo4j_browser_draws_a_picture_of_the_guide_in_our_style(
    own_neo4j: Server, address: str, tmp_path: Path
) -> None:
    wiped(own_neo4j.bolt_uri)
    with Neo4jStore(Neo4jConfig(uri=own_neo4j.bolt_uri)) as store:
        store.write(toy_graph())
    guide = f"{address.replace('127.0.0.1', 'localhost')}/guide.html"
    members = toy_graph().members.filter(pc.equal(toy_graph().members["hyperedge_id"], "hyperedge:1"))
    colours = dict(re.findall(r"^node\.(\w+) \{.*?  color: (#\w+);", style_text(), re.M | re.DOTALL))
    kinds = ["Hyperedge", *(i.partition(":")[0].title() for i in members["entity_id"].to_pylist())]
    page = f"{own_neo4j.browser_url}&cmd=play&arg={guide}"
    drawn = asyncio.run(_hyperedges_of_user_1(page, tmp_path, n_nodes=len(kinds)))
    assert sorted(drawn) == sorted(colours[kind] for kind in kinds)


async def _hyperedges_of_user_1(url: str, folder: Path, n_nodes: int) -> list[str]:
    """Click through the guide as a user does; return the colours of the nodes that are drawn."""
    async with tab(url, folder) as page:
        await page.until("document.querySelector('[data-testid=activeEditor]').innerText.includes('neo4j$')")
        await _run(page, ":style ", "node.Hyperedge")
        await _run(page, ":param user_id ", '"user_id": "user:1"')
        await page.until("document.querySelector('[data-testid=nextSlide]').click() || true")
        await _run(page, "(h:Hyperedge)", "MEMBER")
        await page.until(f"document.querySelectorAll('g.node circle.b-outline').length === {n_nodes}")
        colours = "[...document.querySelectorAll('g.node circle.b-outline')].map(c => c.getAttribute('fill'))"
        return list(await page.value(colours))


async def _run(page: Tab, text: str, answer: str) -> None:
    """Put what the guide shows into the editor, run it, and wait for words of the newest answer."""
    editor = "document.querySelector('[data-testid=activeEditor]')"
    n_frames = await page.value("document.querySelectorAll('[data-testid=frame]').length")
    shown = f"[...document.querySelectorAll('pre.runnable')].find(p => p.innerText.includes({text!r}))"
    await page.until(f"{shown}.click() || true")
    await page.until(f"{editor}.innerText.replace(/\\s/g, ' ').includes({text.strip()!r})")
    await page.until("document.querySelector('[data-testid=editor-Run]').click() || true")
    await page.until(f"document.querySelectorAll('[data-testid=frame]').length > {n_frames}")
    await page.until(f"document.querySelector('[data-testid=frame]').innerText.includes({answer!r})")
