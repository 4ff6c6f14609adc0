import pytest
from hypothesis import given
from hypothesis import strategies as st

from usersim.page_text import is_page_text, to_markdown

CODE = "if a < b && c:\n\n\n    x = '  two  '  # é\n\tdone(\"&amp;\")\n"
ANSWER = """<div class="markdown prose"><p>Use <strong>one</strong> of <em>these</em>:</p>
<pre><div class="box"><div><span>python</span><button>Copy code</button></div>
<div><code class="hljs language-python"><span class="k">if</span> a &lt; b:
    x = <span>"  two  "</span>
</code></div></div></pre>
<ol><li><p>First <code>a_b  c</code></p></li><li>Second<ul><li>inner</li></ul></li></ol>
<h2>More</h2><p>See <a href="https://example.org/x">this</a> &amp; that<br>here.</p></div>"""


def escaped(text):
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def test_a_scraped_answer_becomes_markdown():
    assert is_page_text(ANSWER)
    assert to_markdown(ANSWER) == (
        "Use **one** of *these*:\n\n"
        '```python\nif a < b:\n    x = "  two  "\n```\n\n'
        "1. First `a_b  c`\n2. Second\n  * inner\n\n"
        "## More\n\nSee [this](https://example.org/x) & that\nhere."
    )


@given(st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1).map(lambda t: t + CODE))
def test_code_is_kept_byte_for_byte(code):
    page = f"<pre><div>c++<button>Copy code</button></div><code>{escaped(code)}</code></pre>"
    assert to_markdown(page) == f"```\n{code}```"


@pytest.mark.parametrize("page", ["<p>one <pre><code>x = 1</p>", "<p>one <code>x = 1</p>"])
def test_code_that_is_never_closed_is_kept(page):
    assert "x = 1" in to_markdown(page)


@pytest.mark.parametrize(
    "text",
    [
        "Use a <div> here",
        "<3 you",
        "'<div>a</div>'",
        "Answer: <p>not all of it</p>",
        "```html\n<p>x</p>\n```",
        "",
    ],
)
def test_talk_about_tags_is_no_page(text):
    assert not is_page_text(text)
