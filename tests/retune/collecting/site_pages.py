"""Small pages in the manner of what generates documentation and sites, in words of our own.

Each page tells of lamps; what surrounds the text says so in words that stand nowhere else.
"""

from __future__ import annotations

LAMP = "A lamp turns current into light, and a good one lasts for ten thousand hours or even more."
BULB = "Bulbs are sold by their base: the wide one fits old lamps, the narrow one fits new lamps."
CODE = """def light(lamp):
    if not lamp.on:

        lamp.turn("on")  # twice  two
    return lamp"""
_CODE_HTML = CODE.replace('"', "&quot;")


def _in_lines(before: str, after: str) -> str:
    """The listing with an element around each of its lines."""
    return "".join(f"{before}{line}{after}" for line in _CODE_HTML.split("\n"))


_DOCUSAURUS_LINES = _in_lines(
    '<span class="token-line" style="color:#1"><span class="token plain">', "</span><br></span>"
)
_HUGO_LINES = _in_lines('<span class="line"><span class="cl">', "\n</span></span>")
_GITBOOK_LINES = _in_lines(
    '<span class="highlight-line"><span class="highlight-line-content">', "</span></span>\n"
)

SPHINX_CLASSIC = f"""<!DOCTYPE html><html lang="en"><head><title
>Lamps &#8212; Light 1.0 documentation
</title><script>var junk = "JUNK";</script></head><body>
<div class="related" role="navigation"><h3>JUNK Navigation</h3><ul><li><a href="i">JUNK</a></li
></ul></div>
<div class="document"><div class="documentwrapper"><div class="bodywrapper"><div class="body"
role="main">
<section id="lamps"><h1>Lamps<a class="headerlink" href="#lamps" title="Link to this heading">¶</a
></h1>
<p>{LAMP}</p>
<section id="bulbs"><h2>1.1. Bulbs<a class="headerlink" href="#bulbs">¶</a></h2><p>{BULB}</p>
<div class="admonition note"><p class="admonition-title">Note</p><p>Let a bulb cool down.</p></div>
<div class="highlight-python3 notranslate"><div class="highlight"><pre><span></span><span class="k"
>def</span> \
light(lamp):
    if not lamp.on:

        lamp.turn(<span class="s2">&quot;on&quot;</span>)  # twice  two
    return lamp
</pre></div></div></section></section>
<div class="clearer"></div></div></div></div>
<div class="sphinxsidebar" role="navigation"><h3>JUNK Table of Contents</h3><p>JUNK</p></div></div>
<div class="footer" role="contentinfo">&#169; JUNK. Created using <a href="s">JUNK</a>.</div></body
></html>"""

SPHINX_API = f"""<html><head><title>light — Light</title></head><body><div class="rst-content">
<div role="navigation" class="wy-breadcrumbs-box"><ul class="wy-breadcrumbs"><li>JUNK</li></ul
></div>
<div role="main" class="document" itemscope><div itemprop="articleBody"><section id="module-light">
<h1>light<a class="headerlink" href="#module-light"></a></h1><p>{LAMP}</p>
<dl class="py class"><dt class="sig sig-object py" id="light.Lamp"><em class="property"><span
>class</span> </em>
<span class="sig-name descname"><span class="pre">Lamp</span></span><span class="sig-paren">(</span
><em
class="sig-param">watts</em>)<a class="viewcode-link" href="x">[source JUNK]</a><a
class="headerlink" href="#l">¶</a></dt>
<dd><p>{BULB}</p>
<dl class="py method"><dt class="sig sig-object py" id="light.Lamp.on">on()<a class="headerlink"
href="#o">¶</a></dt>
<dt class="sig sig-object py">on(watts)</dt>
<dd><p>Turns the lamp on, and waits until it shines as brightly as it ever will, which takes
a second.</p>
<dl class="field-list simple"><dt class="field-odd">Parameters</dt><dd class="field-odd"><p><strong
>watts</strong> – how \
bright it is meant to be</p></dd></dl></dd></dl></dd></dl>
<p>After the class there is more to say of the module as a whole: it holds no state of its own at
all.</p>
</section></div></div><footer><div class="rst-footer-buttons">JUNK</div><p>© JUNK</p></footer></div
></body></html>"""

MKDOCS_MATERIAL = f"""<!doctype html><html lang="pt"><body dir="ltr"><div data-md-component="skip"
><a href="#l"
class="md-skip">JUNK Skip to content</a></div><header class="md-header"><nav
class="md-header__inner">JUNK</nav></header>
<div class="md-container"><main class="md-main"><div class="md-main__inner md-grid"><div
class="md-sidebar
md-sidebar--primary"><nav class="md-nav">JUNK</nav></div><div class="md-content"><article
class="md-content__inner
md-typeset"><a href="edit" title="Edit this page" class="md-content__button md-icon"><svg><path
d="M"/></svg></a>
<h1 id="lamps">Lamps<a class="headerlink" href="#lamps" title="Permanent link">&para;</a></h1><p
>{LAMP}</p>
<h3 id="bulbs">Bulbs<a class="headerlink" href="#bulbs">&para;</a></h3><p>{BULB}</p>
<details class="tip"><summary>Tip</summary><p>Let a bulb cool down.</p></details>
<div class="tabbed-set"><input type="radio"><div class="tabbed-labels"><label for="a">Python</label
></div>
<div class="tabbed-content"><div class="tabbed-block"><div class="language-python highlight"><table
class="highlighttable">
<tr><td class="linenos"><div class="linenodiv"><pre><span></span><span class="normal">1</span>
<span class="normal">2</span></pre></div></td><td class="code"><div><pre><span></span><code
>{_CODE_HTML}
</code><button class="md-clipboard">JUNK</button></pre></div></td></tr></table></div></div></div
></div>
<aside class="md-source-file"><span>JUNK Last update: May</span></aside></article></div></div
></main>
<footer class="md-footer">JUNK</footer></div></body></html>"""

DOCUSAURUS = f"""<!doctype html><html lang="en"><body><div id="__docusaurus"><div role="region"
aria-label="Skip to main
content"><a class="skipToContent_fXgn" href="#c">JUNK</a></div><nav
class="navbar navbar--fixed-top">JUNK</nav>
<div class="theme-layout-main"><div class="docsWrapper_hBAB"><aside
class="theme-doc-sidebar-container docSidebar_b6E3">
<nav>JUNK</nav></aside><main class="docMainContainer_TBSr"><div class="container"><div class="row"
><div class="col">
<div class="docItemContainer_Djhp"><article><nav
class="theme-doc-breadcrumbs breadcrumbsContainer_Z_bl"><ul
class="breadcrumbs"><li>JUNK</li></ul></nav><div class="tocCollapsible_ETCw theme-doc-toc-mobile"
><button>JUNK</button>
</div><div class="theme-doc-markdown markdown"><header><h1>Lamps</h1></header><p>{LAMP}</p>
<h2 class="anchor anchorWithStickyNavbar_LWe7" id="bulbs">Bulbs<a href="#bulbs" class="hash-link"
aria-label="Direct link to
Bulbs" title="Direct link to Bulbs">​</a></h2><p>{BULB}</p>
<div class="theme-admonition theme-admonition-tip"><div class="admonitionHeading_Gvgb"><span><svg
></svg></span>tip</div>
<div class="admonitionContent_BuS1"><p>Let a bulb cool down.</p></div></div>
<div class="tabs-container"><ul role="tablist" class="tabs"><li role="tab">Python</li><li
role="tab">Java</li></ul>
<div role="tabpanel"><div class="language-python codeBlockContainer_Ckt0"><div
class="codeBlockContent_biex"><pre
class="prism-code language-python"><code>{_DOCUSAURUS_LINES}</code></pre><div
class="buttonGroup__atx"><button>JUNK</button></div></div></div></div>
<div role="tabpanel" hidden=""><p>In Java a lamp is an object like any other one.</p></div></div
></div>
<footer class="theme-doc-footer docusaurus-mt-lg"><a class="theme-edit-this-page">JUNK</a></footer
></article>
<nav class="pagination-nav">JUNK</nav></div></div><div class="col col--3"><div
class="tableOfContents_bqdL">JUNK</div></div>
</div></div></main></div></div></div></body></html>"""

JAVADOC = f"""<!DOCTYPE HTML><html lang="en"><head><title>Lamp (Light)</title></head><body
class="class-declaration-page">
<div class="flex-box"><header role="banner" class="flex-header"><nav role="navigation"><div
class="top-nav">JUNK</div></nav>
</header><div class="flex-content"><main role="main"><div class="header"><div class="sub-title"
><span>Package</span>
 <a href="p">light</a></div><h1 title="Class Lamp" class="title">Class Lamp</h1></div>
<section class="class-description" id="class-description"><div class="type-signature"
>public class Lamp</div>
<div class="block">{LAMP}</div></section><section class="details"><ul class="details-list"><li
><section
class="method-details" id="method-detail"><h2>Method Details</h2><ul class="member-list"><li
><section class="detail"
id="on(int)"><h3>Bulbs</h3><div class="member-signature"><span>public void</span>&nbsp;<span
>on</span><wbr>(int&nbsp;watts)
</div><div class="block">{BULB}</div><dl class="notes"><dt>Parameters:</dt><dd><code>watts</code
> - how bright</dd></dl>
<pre>{_CODE_HTML}</pre></section></li></ul></section></li></ul></section></main>
<footer role="contentinfo"><p class="legal-copy"><small>JUNK</small></p></footer></div></div></body
></html>"""

PLAIN = f"""<HTML><HEAD><TITLE>Lamps</TITLE></HEAD><BODY BGCOLOR="#FFFFFF"><H1>Lamps</H1>
<P>{LAMP}<P>It is cheap.<H2><A NAME="bulbs">Bulbs</A></H2>{BULB}<BR>First line.<BR>Second line.
<PRE>{_CODE_HTML}</PRE><HR><P><A HREF="1">JUNK prev</A> | <A HREF="2">JUNK up</A> | <A HREF="3"
>JUNK next</A></BODY></HTML>"""

WORDPRESS = f"""<html lang="en-US"><head><title>Lamps – My Blog</title></head><body
class="post-template-default single">
<div id="page" class="site"><a class="skip-link screen-reader-text" href="#content">JUNK Skip</a
><header id="masthead"
class="site-header"><p class="site-title"><a href="/">JUNK Blog</a></p></header><div id="content"
class="site-content">
<div id="primary" class="content-area"><article id="post-1" class="post hentry"><header
class="entry-header">
<h1 class="entry-title">Lamps</h1><div class="entry-meta"><span class="byline">JUNK by me</span
></div></header>
<div class="entry-content"><p>{LAMP}</p><p class="has-text-align-center"><strong>And cheap.</strong
></p><h2
class="wp-block-heading">Bulbs</h2><p>{BULB}</p><pre class="wp-block-code"><code>{_CODE_HTML}</code
></pre>
<div class="sharedaddy sd-sharing-enabled"><h3 class="sd-title">JUNK Share this:</h3></div>
<div id="jp-relatedposts" class="jp-relatedposts"><h3>JUNK Related</h3></div></div>
<footer class="entry-footer">JUNK Posted in</footer></article><div id="comments"
class="comments-area"><h2>JUNK 2
thoughts</h2><ol class="comment-list"><li><p
>JUNK Nice lamps, thank you very much for writing about them.</p></li></ol></div>
</div><aside id="secondary" class="widget-area"><h2>JUNK Recent</h2></aside></div>
<div id="cookie-law-info-bar"><p
>JUNK We use cookies on this site to make it better for you, accept them all.</p></div>
<footer id="colophon" class="site-footer">JUNK</footer></div></body></html>"""

MAN = f"""<!DOCTYPE html><html><head><title>LAMP(1)</title></head><body><table class="head"><tr><td
class="head-ltitle">LAMP(1)</td><td class="head-vol">General Commands Manual</td></tr></table><div
class="manual-text">
<section class="Sh"><h1 class="Sh" id="NAME"><a class="permalink" href="#NAME">Lamps</a></h1><p
class="Pp"><code
class="Nm">lamp</code> — {LAMP}</p></section><section class="Sh"><h2 class="Ss" id="b"><a
class="permalink"
href="#b">Bulbs</a></h2><p class="Pp">{BULB}</p><dl class="Bl-tag"><dt id="q"><a class="permalink"
href="#q"><code
class="Fl">-q</code></a></dt><dd>Be quiet.</dd></dl><pre>{_CODE_HTML}</pre></section></div></body
></html>"""

HUGO = f"""<!doctype html><html lang="en"><head><meta name="generator" content="Hugo 0.1"><title
>Lamps | Light</title></head>
<body class="td-page"><header><nav class="td-navbar">JUNK</nav></header><div
class="container-fluid td-outer"><div
class="td-main"><div class="row"><aside class="col-12 td-sidebar d-print-none">JUNK</aside><aside
class="d-none td-sidebar-toc">
<div class="td-page-meta"><a>JUNK Edit this page</a></div></aside><main class="col-12" role="main"
><nav
class="td-breadcrumbs"><ol class="breadcrumb"><li>JUNK</li></ol></nav><div class="td-content"><h1
>Lamps</h1><p>{LAMP}</p>
<h2 id="bulbs">Bulbs<a class="td-heading-self-link" href="#bulbs" aria-label="Heading self-link"
></a></h2><p>{BULB}</p>
<div class="highlight"><div class="chroma"><table class="lntable"><tr><td class="lntd"><pre
tabindex="0" class="chroma"><code>
<span class="lnt">1
</span><span class="lnt">2
</span></code></pre></td><td class="lntd"><pre tabindex="0" class="chroma"><code
class="language-python" data-lang="python">
{_HUGO_LINES}</code></pre>
</td></tr></table></div></div><section class="td-page-feedback feedback"><h2>JUNK Feedback</h2
></section></div></main></div>
</div></div><footer class="td-footer">JUNK</footer></body></html>"""

TABLES = f"""<html><head><title>Lamps</title></head><body><table width="100%"><tr><td colspan="2"
><center><font size="+3">
JUNK Shop</font></center></td></tr><tr><td width="20%" valign="top"><a href="a">JUNK one</a><br><a
href="b">JUNK two</a><br>
<a href="c">JUNK three</a></td><td class="content"><h1>Lamps</h1><p>{LAMP}</p><h2>Bulbs</h2><p
>{BULB}</p>
<table border="1"><tr><th>base</th><th>lamps</th></tr><tr><td>wide</td><td>old</td></tr></table>
<pre>{_CODE_HTML}</pre></td></tr></table><p>Copyright © JUNK</p></body></html>"""

GITBOOK = f"""<!DOCTYPE html><html><body class="bg-tint-base"><div class="flex flex-col"><header
class="site-header">JUNK</header>
<div class="flex"><aside class="page-api-block:xl sidebar"><a href="1">JUNK</a></aside><div
class="flex-1"><main class="relative">
<header class="max-w-3xl"><h1 class="text-4xl">Lamps</h1></header><div class="grid"><p
class="mx-auto">{LAMP}</p><div
class="flex"><h2 class="group" id="bulbs"><div class="grid"><a href="#bulbs"
aria-label="Direct link to heading"><svg></svg>
</a></div><div class="flex-1">Bulbs</div></h2></div><p>{
    BULB
}</p><div class="hint">Let a bulb cool down.</div>
<div class="codeblock"><button>JUNK Copy</button><pre><code>{
    _GITBOOK_LINES
}</code></pre></div></div><div
class="page-navigation"><a>JUNK Previous</a></div><p class="last-updated">JUNK</p></main></div>
</div></div></body></html>"""

MEDIAWIKI = f"""<html lang="en"><head><title>Lamps - Wiki</title></head><body><div
class="mw-page-container"><div id="siteNotice">
</div><main id="content" class="mw-body"><header class="mw-body-header"><h1 id="firstHeading"><span
>Lamps</span></h1></header>
<div id="bodyContent"><div id="siteSub" class="noprint" style="display:none">JUNK From Wiki</div
><div class="mw-parser-output">
<p>{LAMP}<sup id="c" class="reference"><a href="#n">[JUNK1]</a></sup></p><div id="toc" class="toc"
><h2>JUNK Contents</h2></div>
<div class="mw-heading mw-heading2"><h2 id="B">Bulbs</h2><span class="mw-editsection">[<a
href="x?action=edit">JUNK edit</a>]
</span></div><p>{BULB}</p><div class="mw-highlight mw-highlight-lang-python3"><pre
>{_CODE_HTML}</pre></div><ol class="references">
<li>JUNK</li></ol></div></div><div id="catlinks" class="catlinks">JUNK</div></main></div></body
></html>"""

DOCBOOK = f"""<?xml version="1.0" encoding="UTF-8"?><!DOCTYPE html PUBLIC
"-//W3C//DTD XHTML 1.0 Strict//EN" "x.dtd">
<html xmlns="http://www.w3.org/1999/xhtml"><head><title>Lamps</title><script src="a.js"
type="text/javascript"/></head><body>
<div class="navheader"><table><tr><td><a href="p">JUNK Prev</a></td></tr></table><hr/></div><div
class="chapter"><div
class="titlepage"><h1 class="title"><a id="lamps"/>Lamps</h1></div><p>{LAMP}</p><div
class="section"><p class="title"><b>Bulbs
</b></p><p>{BULB}</p><div class="note"><h3 class="title">Note</h3><p>Let a bulb cool down.</p></div
><pre
class="programlisting">{_CODE_HTML}</pre></div></div><div class="navfooter"><a href="n"
>JUNK Next</a></div></body></html>"""

ASCIIDOCTOR = f"""<!DOCTYPE html><html><head><title>Lamps</title></head><body class="article"><div
id="header"><h1>Lamps</h1>
<div id="toc" class="toc"><div id="toctitle">JUNK</div></div></div><div id="content"><div
id="preamble"><div
class="sectionbody"><div class="paragraph"><p>{LAMP}</p></div></div></div><div class="sect1"><h2
id="_b">Bulbs</h2><div
class="sectionbody"><div class="paragraph"><p>{BULB}</p></div><div class="admonitionblock note"
><table><tr><td class="icon">
<div class="title">Note</div></td><td class="content">Let a bulb cool down.</td></tr></table></div
><div class="listingblock">
<div class="title">A listing</div><div class="content"><pre class="highlight"><code
data-lang="python">{_CODE_HTML}</code></pre>
</div></div></div></div></div><div id="footer"><div id="footer-text">Last updated JUNK</div></div
></body></html>"""

WRAPPED_IN_ROLE = f"""<html><body><div role="banner">JUNK</div><div role="main"><div><div
role="heading" aria-level="1">Lamps</div>
<p>{LAMP}</p><section><div role="heading" aria-level="4">Bulbs</div><p>{BULB}</p><pre
>{_CODE_HTML}</pre></section></div></div>
<noscript>JUNK Enable JavaScript</noscript><div aria-hidden="true">JUNK</div><div
style="display: none">JUNK</div></body></html>"""

UNNAMED = f"""<html><body><div><div><div><div class="x1"><h1><a href="#l">Lamps</a></h1><div
>{LAMP}</div></div><div
class="x2"><a href="#b"><h2>Bulbs</h2></a><div>{BULB}</div><div class="x3"><pre>{_CODE_HTML}</pre
></div></div></div></div></div>
</body></html>"""

PAGES = {
    "sphinx classic": SPHINX_CLASSIC,
    "mkdocs material": MKDOCS_MATERIAL,
    "docusaurus": DOCUSAURUS,
    "javadoc": JAVADOC,
    "plain": PLAIN,
    "wordpress": WORDPRESS,
    "man": MAN,
    "hugo": HUGO,
    "tables": TABLES,
    "gitbook": GITBOOK,
    "mediawiki": MEDIAWIKI,
    "docbook": DOCBOOK,
    "asciidoctor": ASCIIDOCTOR,
    "roles": WRAPPED_IN_ROLE,
    "unnamed": UNNAMED,
}
"""Pages with a section Lamps, a section Bulbs below it, and a listing."""
