//! Problems by code: what each means, and what to do about it, in one line.

use maud::{Markup, html};

use super::{history::History, verdict::sentence, words::count};
use crate::status::Snapshot;

/// Rows: an origin may answer with hundreds of statuses.
const ROWS: usize = 30;

pub(super) fn problems(now: &Snapshot, history: &History) -> Markup {
    let all = &now.totals.problems;
    if all.is_empty() {
        return html! { p.empty { "None since the worker began." } };
    }
    let lately = history.lately(all);
    html! {
        table role="table" aria-labelledby="problems" {
            thead role="rowgroup" {
                tr role="row" {
                    th role="columnheader" scope="col" { "Code" }
                    th.number role="columnheader" scope="col" { "Last 15 min" }
                    th.number role="columnheader" scope="col" { "In all" }
                    th role="columnheader" scope="col" { "What it means, and what to do" }
                }
            }
            tbody role="rowgroup" {
                @for (code, total) in all.iter().take(ROWS) {
                    @let (what, mend) = meaning(code);
                    tr role="row" {
                        th role="rowheader" scope="row" { code { (code) } }
                        td.number.short role="cell" data-label="last 15 min" {
                            (count(lately.get(code.as_str()).copied().unwrap_or(0)))
                        }
                        td.number.short role="cell" data-label="in all" { (count(*total)) }
                        td role="cell" {
                            @if !what.is_empty() { (sentence(what)) " " }
                            span.soft { (sentence(mend)) }
                        }
                    }
                }
            }
            @if let Some(more @ 1..) = all.len().checked_sub(ROWS) {
                caption { "And " (count(more as u64)) " more codes, in /metrics." }
            }
        }
    }
}

/// What a code means, and what is to be done.
pub(super) fn meaning(code: &str) -> (&'static str, &'static str) {
    match code {
        "connect" => ("the origin cannot be reached", RETRIED),
        "timeout" => (
            "the origin was silent, or too slow for limits.job_time",
            RETRIED,
        ),
        "tls" => (
            "the origin's certificate or TLS is not right",
            "ask the provider; a private authority goes into SSL_CERT_FILE",
        ),
        "body_incomplete" => ("the file did not arrive whole", RETRIED),
        "too_many_redirects" => (
            "redirected more often than fetch.max_redirects",
            "ask the provider, or raise it; then replay",
        ),
        "too_large" => (
            "larger than its kind's max_size, or than limits.spool",
            "raise the limit, then replay; or drop it",
        ),
        "url_expired" => (
            "the signed URL was over before the file could be had",
            "have the provider send the event again",
        ),
        "scheme_not_allowed" => (
            "a URL that is not https",
            "find out who sends it; fetch.allow_http is for development",
        ),
        "host_not_allowed" => (
            "a host that fetch.allowed_hosts does not name",
            "find out who sends it; if it is the provider's, add it and replay",
        ),
        "address_not_allowed" => (
            "a URL that leads to an address that is not public",
            "find out who sends it: it may be an attack",
        ),
        "key_taken" => (
            "another event with the same ids has stored other bytes",
            "find out who sends it; the first one's archive stays as it is",
        ),
        "local" => (
            "this machine could not take the download",
            "look at its open files and at the disk of limits.spool_dir",
        ),
        _ if code.starts_with("wav_") => (wav(code), QUARANTINED),
        _ if code.starts_with("json_") => (json(code), QUARANTINED),
        _ => code.strip_prefix("http_").map_or(UNKNOWN, http),
    }
}

const RETRIED: &str = "tried again by itself; if it lasts, ask the provider, then replay what died";
const QUARANTINED: &str = "kept unchanged in the quarantine; its manifest has the detail";
const UNKNOWN: (&str, &str) = ("", "the manifest of the call has the detail");

fn http(status: &str) -> (&'static str, &'static str) {
    match status {
        "401" | "403" => (
            "the origin refused: the URL's signature is wrong or over",
            "ask the provider; then replay, or have the event sent again",
        ),
        "404" | "410" => (
            "the origin has no such file",
            "final once it was tried fetch.refusals times; ask the provider, then replay",
        ),
        "408" | "425" | "429" => ("the origin asks for patience", RETRIED),
        _ if status.starts_with('5') => ("the origin failed", RETRIED),
        _ => (
            "an answer that is neither the file nor a reason to try again",
            "final; ask the provider",
        ),
    }
}

fn wav(code: &str) -> &'static str {
    match code {
        "wav_not_riff" => "a recording that is no WAV file",
        "wav_no_fmt" | "wav_no_data" => "a WAV file without its format, or without its sound",
        "wav_bad_fmt" => "a WAV file whose format contradicts itself",
        "wav_unsupported_codec" => "a WAV file with a codec that is not accepted",
        "wav_limits" => "a WAV file with channels or a rate that its kind does not accept",
        "wav_truncated" => "a WAV file that ends before its sound does",
        _ => "a recording that failed its check",
    }
}

fn json(code: &str) -> &'static str {
    match code {
        "json_not_utf8" => "a JSON file that is not UTF-8",
        "json_syntax" => "a file that is no JSON",
        "json_too_deep" => "a JSON file nested 128 levels deep or more",
        "json_shape" => "a JSON file that its kind's schema does not accept",
        _ => "a JSON file that failed its check",
    }
}
