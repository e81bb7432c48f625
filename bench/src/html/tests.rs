//! The page: the golden one, and whole.

use super::*;
use crate::fixture;

#[test]
fn the_page_is_the_golden_one() {
    let page = render(&fixture::results(), &fixture::settings());
    fixture::assert_golden("report.html", include_str!("../../golden/report.html"), &page);
}

#[test]
fn the_page_stands_alone_and_its_elements_are_closed() {
    let page = render(&fixture::results(), &fixture::settings());
    for foreign in ["http://", "https://", "<script", "src=", "@import", "url("] {
        assert!(!page.contains(foreign), "{foreign}");
    }
    for element in
        ["html", "head", "body", "style", "figure", "svg", "table", "tr", "ul", "li", "details", "pre", "div"]
    {
        let opened = page.matches(&format!("<{element}>")).count() + page.matches(&format!("<{element} ")).count();
        assert_eq!(opened, page.matches(&format!("</{element}>")).count(), "{element}");
    }
    assert!(page.contains("&lt;on&gt;"), "text of others is escaped");
    assert!(page.contains("prefers-color-scheme: dark"));
}

#[test]
fn every_mode_has_a_colour() {
    for mode in crate::mode::Mode::ALL {
        assert!(STYLE.contains(&format!("rect.{mode} ")), "{mode}");
    }
}
