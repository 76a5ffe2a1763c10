//! The page at `/`, for the person on call: what this worker is doing now.
//!
//! Made on the server for each request, of what [`Snapshot`] holds and nothing else: no script, no file beside it.
//! A browser loads it anew every few seconds (`meta refresh`), which browsers do in place, without a jump; a script
//! could keep open what is unfolded, but then the page would have to allow scripts. `/?still` stands still instead, for
//! who reads or copies, and there the configuration is unfolded.
//!
//! It can be read by whoever can reach the listener, as `/metrics` can, and it changes nothing.

mod chart;
mod configuration;
mod history;
mod host;
mod in_flight;
mod parts;
mod problems;
#[cfg(test)]
mod tests;
mod verdict;
mod words;

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use axum::{
    http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use base64::{Engine, prelude::BASE64_STANDARD};
use maud::{DOCTYPE, Markup, PreEscaped, html};
use tokio::time::{Instant, MissedTickBehavior, interval};

pub use self::history::{History, STEP};
use self::{
    host::Hosts,
    verdict::{Mood, Verdict},
    words::{long, moment, since, size},
};
use crate::{
    config::Shown,
    digest::Sha256,
    metrics::resident,
    status::{Snapshot, Status},
};

const STYLE: &str = include_str!("page/style.css");
/// Between two loads of the page in a browser.
const REFRESH: Duration = Duration::from_secs(5);

/// Makes the page.
#[derive(Debug)]
pub struct Page {
    status: Arc<Status>,
    /// The effective configuration, in which secrets are hidden.
    configuration: Vec<Shown>,
    /// The longest that one event may take.
    job_time: Duration,
    host: String,
    hosts: Hosts,
    history: Mutex<History>,
    policy: HeaderValue,
}

impl Page {
    /// Of a worker with this configuration.
    pub fn new(status: Arc<Status>, configuration: Vec<Shown>, job_time: Duration) -> Self {
        let host = gethostname::gethostname().to_string_lossy().into_owned();
        Self {
            status,
            configuration,
            job_time,
            hosts: Hosts::of(&host),
            host,
            history: Mutex::default(),
            policy: policy(),
        }
    }

    /// Samples the counters for as long as it is polled; the rates are made of that.
    pub async fn sample(&self) {
        let mut ticks = interval(STEP);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
        loop {
            ticks.tick().await;
            let totals = self.status.metrics.totals();
            self.history().note(Instant::now(), &totals);
        }
    }

    fn history(&self) -> std::sync::MutexGuard<'_, History> {
        self.history.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The answer to a request for the page.
    pub fn answer(&self, headers: &HeaderMap, query: Option<&str>) -> Response {
        let asked = headers.get(header::HOST).map(HeaderValue::as_bytes);
        if !self.hosts.may_ask(asked) {
            return (StatusCode::MISDIRECTED_REQUEST, host::REFUSAL).into_response();
        }
        let now = self.status.snapshot();
        let text = self.render(&now, query == Some("still")).into_string();
        let fixed = |text| HeaderValue::from_static(text);
        let headers: [(HeaderName, HeaderValue); 7] = [
            (header::CONTENT_TYPE, fixed("text/html; charset=utf-8")),
            (header::CONTENT_SECURITY_POLICY, self.policy.clone()),
            (header::X_CONTENT_TYPE_OPTIONS, fixed("nosniff")),
            (header::X_FRAME_OPTIONS, fixed("DENY")),
            (header::CACHE_CONTROL, fixed("no-store")),
            (header::REFERRER_POLICY, fixed("no-referrer")),
            (
                HeaderName::from_static("cross-origin-resource-policy"),
                fixed("same-origin"),
            ),
        ];
        (headers, text).into_response()
    }

    fn render(&self, now: &Snapshot, still: bool) -> Markup {
        let verdict = verdict::verdict(now);
        let history = self.history();
        let sample = history::sample(&now.totals);
        let counters = (Instant::now(), &sample);
        let notes = verdict::notes(&verdict, now, self.job_time, &history, counters);
        let reaches = history.reaches(counters.0);
        html! {
            (DOCTYPE)
            html lang="en" {
                (self.head(&verdict, now, still))
                body {
                    (self.header(now, still))
                    main {
                        (told(&verdict, &notes))
                        section aria-labelledby="in-flight" {
                            h2 id="in-flight" { "In flight" }
                            (in_flight::events(now, self.job_time, still))
                        }
                        section aria-labelledby="rates" {
                            h2 id="rates" { "The last 15 minutes" }
                            @if reaches < history::SPAN {
                                p.lead { "This worker began " (long(reaches)) " ago; there is nothing from before." }
                            }
                            (chart::charts(&history, counters))
                            p.tail { (chart::since_start(&sample)) }
                        }
                        section aria-labelledby="parts" {
                            h2 id="parts" { "What it depends on" }
                            (parts::parts(now, &self.configuration))
                        }
                        section aria-labelledby="problems" {
                            h2 id="problems" { "Problems of attachments, by code" }
                            (problems::problems(now, &history))
                        }
                        (configuration::configuration(&self.configuration, still))
                    }
                    footer {
                        p {
                            "As of " (moment(now.at)) ". The same for programs: "
                            a href="/metrics" { "/metrics" } ", " a href="/readyz" { "/readyz" } ", "
                            a href="/livez" { "/livez" } "."
                        }
                    }
                }
            }
        }
    }

    fn head(&self, verdict: &Verdict, now: &Snapshot, still: bool) -> Markup {
        html! {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="robots" content="noindex";
                @if !still { meta http-equiv="refresh" content=(REFRESH.as_secs()); }
                title { (verdict.mood.mark()) ", " (now.in_flight.len()) " in flight: callvault on " (self.host) }
                // Without one a browser asks for /favicon.ico.
                link rel="icon" href=(icon(verdict.mood));
                style { (PreEscaped(STYLE)) }
            }
        }
    }

    fn header(&self, now: &Snapshot, still: bool) -> Markup {
        html! {
            header {
                h1 { "callvault on " (self.host) }
                p {
                    "version " (now.version) ", up " (long(since(now.started, now.at)))
                    @if let Some(memory) = resident().and_then(|bytes| bytes.try_into().ok()) {
                        ", " (size(memory)) " of memory"
                    }
                }
                p.turn {
                    @if still { "Stands still. " a href="/" { "Go on" } }
                    @else { "New every " (long(REFRESH)) ". " a href="/?still" { "Stand still" } }
                }
            }
        }
    }
}

fn told(verdict: &Verdict, notes: &[String]) -> Markup {
    html! {
        section class={ "verdict " (verdict.mood.class()) } aria-label="Verdict" {
            p { span.mark { (verdict.mood.mark()) } }
            p.headline { (verdict.headline) }
            @if !verdict.advice.is_empty() { p.advice { (verdict.advice) } }
            @if !verdict.reason.is_empty() { p.reason { (verdict.reason) } }
            @if !notes.is_empty() {
                ul { @for note in notes { li { (words::marked(note)) } } }
            }
        }
    }
}

/// The mark for a browser's tab: another form for each mood, not another colour alone.
fn icon(mood: Mood) -> String {
    let drawing = match mood {
        Mood::Well => "<circle cx='8' cy='8' r='7' fill='%231f8a4f'/>",
        Mood::Waiting => "<path d='M8 1 15 15H1z' fill='%23d98a00'/>",
        Mood::Ending => "<path d='M3 2h4v12H3zm6 0h4v12H9z' fill='%232f6fb3'/>",
        Mood::Stuck => "<path d='M2 2h12v12H2z' fill='%23c62828'/>",
    };
    format!(
        "data:image/svg+xml,<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 16 16'>{drawing}</svg>"
    )
}

/// Nothing runs, nothing is loaded, nobody frames it: were something of an event's text ever taken for markup, it
/// could still do nothing.
fn policy() -> HeaderValue {
    let style = BASE64_STANDARD.encode(Sha256::of(STYLE.as_bytes()).as_bytes());
    let policy = format!(
        "default-src 'none'; style-src 'sha256-{style}'; img-src data:; base-uri 'none'; form-action 'none'; \
         frame-ancestors 'none'"
    );
    // Base64 and the words above are a header's.
    HeaderValue::try_from(policy).unwrap_or_else(|_| HeaderValue::from_static("default-src 'none'"))
}
