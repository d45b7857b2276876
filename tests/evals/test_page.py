"""Self-contained pages."""

from html.parser import HTMLParser

import pytest

from memzoo.evals.page import Section, figure, grid, notes, write_page
from memzoo.evals.table import Table, column
from memzoo.train.writing import SaveError


class Outline(HTMLParser):
    """Elements left open at the end, and everything that refers somewhere."""

    def __init__(self, text):
        super().__init__()
        self.open, self.points, self.words = [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        if tag not in ("meta", "br"):
            self.open.append(tag)
        self.points += [v for k, v in attrs if k in ("href", "src")]

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.words.append(data)


TABLE = Table(columns=[column("x & y"), column("z")], rows=[("1", "2")])


@pytest.fixture
def page(tmp_path):
    sections = [
        Section(title="A & b", lead="what < this", parts=[notes(["one <b>", "two"])]),
        Section(
            title="C", parts=[grid([figure("<svg></svg>", "T", "c & d")], "small")]
        ),
        Section(title="D", parts=["<i>0</i>", TABLE]),
    ]
    path = tmp_path / "new" / "report.html"
    written = write_page(path, title="T < u", finding="f & g", sections=sections)
    assert written == path
    return path


def test_a_page_is_well_formed_and_says_what_it_was_given(page):
    text = page.read_text()
    outline = Outline(text)
    assert outline.open == []
    words = "".join(outline.words)
    for said in ("T < u", "f & g", "A & b", "what < this", "one <b>", "c & d", "x & y"):
        assert said in words


def test_a_page_fetches_and_runs_nothing(page):
    text = page.read_text()
    assert Outline(text).points == []
    for outside in ("http:", "https:", "//", "<script", "@import", "<link", "url("):
        assert outside not in text


def test_no_draft_is_left_behind(page):
    assert [p.name for p in page.parent.iterdir()] == ["report.html"]


def test_a_page_that_cannot_be_written_leaves_the_old_one(page, monkeypatch):
    before = page.read_text()

    def fail(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("pathlib.Path.replace", fail)
    with pytest.raises(SaveError, match=r"report\.html: No space left"):
        write_page(page, title="new", finding="", sections=[])
    assert page.read_text() == before
    assert [p.name for p in page.parent.iterdir()] == ["report.html"]


def test_cells_carry_the_name_of_their_column():
    section = Section(title="D", parts=["<i>0</i>", TABLE])
    assert section.tables == [TABLE]
    assert section.body.startswith("<i>0</i><table>")
    assert '<td data-label="z">2</td>' in section.body
    assert '<th scope="row">1</th>' in section.body
