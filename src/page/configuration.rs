//! The effective configuration, folded.

use maud::{Markup, html};

use crate::config::Shown;

/// Unfolded where the page stands still: what is new every few seconds would fold it again.
pub(super) fn configuration(shown: &[Shown], still: bool) -> Markup {
    html! {
        section aria-labelledby="configuration" {
            @if still {
                details open {
                    summary { h2 id="configuration" { "Configuration" } }
                    (sections(shown))
                }
            } @else {
                h2 id="configuration" { "Configuration" }
                p { a href="/?still#configuration" { "All " (shown.len()) " keys" } ", on a page that stands still." }
            }
        }
    }
}

fn sections(shown: &[Shown]) -> Markup {
    html! {
        p.soft { "What it runs with, and where each value is from. What may be a secret is hidden." }
        @for section in shown.chunk_by(|a, b| a.section == b.section) {
            @if let Some(first) = section.first() {
                h3 { code { "[" (first.section) "]" } }
                table.keys role="table" {
                    thead role="rowgroup" {
                        tr role="row" {
                            th role="columnheader" scope="col" { "Key" }
                            th role="columnheader" scope="col" { "Value" }
                            th role="columnheader" scope="col" { "From" }
                        }
                    }
                    tbody role="rowgroup" {
                        @for entry in section {
                            tr role="row" {
                                th role="rowheader" scope="row" { code { (entry.key) } }
                                td role="cell" { code { (entry.value) } }
                                td.soft role="cell" { (entry.from) }
                            }
                        }
                    }
                }
            }
        }
    }
}
