"""Class names and ids that generators of sites give to what surrounds the text.

Whole names only: ``bar`` is no ``sidebar``, and a page about cookies may name its sections so.
"""

from __future__ import annotations

import re

from retune.collecting.page_text import CHROME, HIDDEN, NAVIGATION_TEXT, NOTES

_NAVIGATION = """
    toc toctree toctree-wrapper table-of-contents tableofcontents toc-wrapper toc-container
    toc-drawer toc-mobile toc-title toctitle toc-sidebar page-toc local-toc localtoc on-this-page
    page-outline vpdoc-aside vpdocaside-outline
    headerlink anchorjs-link hash-link header-anchor heading-anchor direct-link anchor-link
    sphinxsidebar sphinxsidebarwrapper wy-nav-side wy-nav-top wy-breadcrumbs wy-breadcrumbs-aside
    rst-footer-buttons rst-versions sidebar-drawer sidebar-container sidebar-tree mobile-header
    back-to-top related-pages content-icon-container viewcode-link viewcode-back
    md-header md-sidebar md-tabs md-nav md-footer md-content-button md-top md-source-file md-skip
    theme-doc-breadcrumbs breadcrumbs-container theme-doc-toc-mobile theme-doc-toc-desktop
    toc-collapsible theme-doc-footer pagination-nav theme-doc-sidebar-container
    theme-edit-this-page theme-last-updated last-updated table-of-content
    breadcrumb breadcrumbs crumbs bread-crumbs pagination pager prev-next prevnext
    edit-link edit-page edit-this-page edit-page-link edit-on-github editthispage mw-editsection
    mw-jump-link skip-link skip-to-content skip-nav skiplink skip-to-main page-edit
    site-header site-footer site-navigation main-navigation main-nav site-nav navbar nav-bar
    nav navigation topnav top-nav topbar bottomnav bottom-nav subnav sub-nav subnavlist navlist
    navheader navfooter nav-header nav-footer nav-links nav-previous nav-next post-navigation
    posts-navigation sidebar side-bar sidenav side-nav sidebar-nav page-nav page-navigation
    left-nav right-nav leftnav rightnav menu-main main-menu nav-menu menubar
    td-sidebar td-sidebar-toc td-page-meta book-menu book-toc book-header book-footer nav-path
    navpath widget-area chapter-nav nav-chapters mobile-nav-chapters sidebar-scrollbox
    nav-panel footer page-footer titlearea main-nav
    catlinks printfooter out-of-band rustdoc-breadcrumbs
    flex-header head-of-page foot-of-page doc-nav docs-nav docs-sidebar
"""
_CHROME = """
    share sharing share-buttons share-links social social-share social-links social-media
    sharedaddy sd-sharing addtoany a2a-kit newsletter subscribe subscription-form
    related-posts relatedposts jp-relatedposts related-articles yarpp-related read-next
    comments comment-list comments-area comment-respond respond disqus-thread utterances giscus
    advertisement advert ads adsbygoogle ad-container ad-slot sponsor sponsored promo promotion
    byline entry-meta post-meta post-info author-box author-bio entry-footer post-tags tags-links
    feedback page-feedback was-this-helpful helpful theme-doc-version-banner announcement
    announcement-bar announcementbar rst-other-versions copyright legal-copy site-info
    onetrust-banner-sdk onetrust-consent-sdk cc-window cc-banner gdpr gdpr-banner consent-banner
    jp-inputprompt jp-outputprompt input-prompt output-prompt
    consent popup modal modal-dialog toast snackbar admin-bar
"""
_NOTES = """
    footnote footnotes footnote-list footnote-reference footnote-ref footnote-definition
    footnotes-list endnotes reference-list mw-references-wrap references
"""
_HIDDEN = """
    sr-only visually-hidden visuallyhidden screen-reader-text screen-reader-only show-for-sr
    u-visually-hidden vp-visually-hidden hideme noscript mw-hidden
"""

REASON_BY_NAME = {
    name: reason
    for reason, listed in (
        (NAVIGATION_TEXT, _NAVIGATION),
        (CHROME, _CHROME),
        (NOTES, _NOTES),
        (HIDDEN, _HIDDEN),
    )
    for name in listed.split()
}

COOKIES = re.compile(
    r"(^|-)(cookies?|gdpr|lgpd)-(banner|bar|consent|notice|popup|message|modal|law|info|warning"
    r"|policy-banner|alert|overlay|dialog|container)(-|$)|^cookie-?(consent|notice|banner|bar)"
)
"""Notices about cookies, under the many names that they have."""

MOSTLY_LINKS = frozenset({"contents", "toc-entry", "related", "menu", "index-links", "toc-list"})
"""Names of navigation where most of the text is linked, of anything else where it is not."""
