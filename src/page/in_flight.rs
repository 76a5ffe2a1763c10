//! What is in flight: the oldest first, each with what is done with it.

use std::time::Duration;

use maud::{Markup, html};

use super::words::{count, long, many, size};
use crate::status::{InFlight, Snapshot};

/// Rows on the page that is new every few seconds, below which the rest is to be seen without much scrolling.
const FEW: usize = 12;
/// Rows on the page that stands still; a worker may have thousands of events.
const MANY: usize = 200;
/// Stages that are summed up.
const KINDS: usize = 6;
/// Stages in a row; an event has up to eight attachments under way.
const STAGES: usize = 3;

pub(super) fn events(now: &Snapshot, job_time: Duration, still: bool) -> Markup {
    let all = &now.in_flight;
    let rows = if still { MANY } else { FEW };
    if all.is_empty() {
        let why = if now.stopping.is_some() {
            "Nothing: what was in flight is settled."
        } else if !now.broker.connected {
            "Nothing: without the broker nothing new comes."
        } else if !now.not_ready.is_empty() {
            "Nothing."
        } else {
            "Nothing: the queue has nothing for this worker."
        };
        return html! { p.empty { (why) } };
    }
    html! {
        p.lead { (summary(all)) }
        table role="table" aria-labelledby="in-flight" {
            thead role="rowgroup" {
                tr role="row" {
                    th role="columnheader" scope="col" { "Age, of " (long(job_time)) }
                    th role="columnheader" scope="col" { "What is done with it" }
                    th.number role="columnheader" scope="col" { "Received" }
                    th role="columnheader" scope="col" { "Attempt" }
                    th.ids role="columnheader" scope="col" { "Call, request" }
                }
            }
            tbody role="rowgroup" {
                @for event in all.iter().take(rows) { (row(event, job_time)) }
            }
            @if let Some(more @ 1..) = all.len().checked_sub(rows) {
                caption {
                    "And " (many(more as u64, "younger one", "younger ones"))
                    @if still { "." } @else { ", of which " a href="/?still#in-flight" { "the page that stands still" } " has more." }
                }
            }
        }
    }
}

/// All of them by what is done first with each: `20 fetching recording, 4 storing recording`.
fn summary(all: &[InFlight]) -> String {
    let mut stages: Vec<(&str, u64)> = Vec::new();
    for event in all {
        let words = event
            .stages
            .first()
            .map_or("beginning", |doing| &doing.words);
        match stages.iter_mut().find(|(told, _)| *told == words) {
            Some((_, times)) => *times += 1,
            None => stages.push((words, 1)),
        }
    }
    stages.sort_by_key(|(_, times)| std::cmp::Reverse(*times));
    let told = stages
        .iter()
        .take(KINDS)
        .map(|(words, times)| format!("{} {words}", count(*times)));
    let rest: u64 = stages.iter().skip(KINDS).map(|(_, times)| times).sum();
    let rest = (rest > 0).then(|| format!("{} at something else", count(rest)));
    format!("{}.", told.chain(rest).collect::<Vec<_>>().join(", "))
}

fn row(event: &InFlight, job_time: Duration) -> Markup {
    html! {
        tr role="row" {
            td.age role="cell" { (long(event.age)) (bar(event.age, job_time)) }
            td role="cell" {
                @for (index, doing) in event.stages.iter().take(STAGES).enumerate() {
                    @if index > 0 { br; }
                    (doing.words) " " span.soft.age { (long(doing.age)) }
                }
                @if event.stages.is_empty() { "begins" }
                @if let Some(more @ 1..) = event.stages.len().checked_sub(STAGES) {
                    br; span.soft { "and " (count(more as u64)) " more" }
                }
            }
            td.number.short role="cell" data-label="received" { (size(event.received)) }
            td.short role="cell" data-label="attempt" { (event.attempt) }
            td.ids role="cell" {
                @match (&event.call_id, &event.request_id) {
                    (None, None) => { span.soft { "not read yet" } }
                    (call, request) => {
                        span.id data-label="call" { code { (call.as_deref().unwrap_or("-")) } }
                        span.id data-label="request" { code.soft { (request.as_deref().unwrap_or("-")) } }
                    }
                }
            }
        }
    }
}

/// How much of its time an event has had. The words before it say the same.
fn bar(age: Duration, of: Duration) -> Markup {
    let share = (age.as_secs_f64() / of.as_secs_f64().max(0.001)).min(1.0);
    let class = if share > 0.5 { "bar old" } else { "bar" };
    html! {
        svg class=(class) aria-hidden="true" viewBox="0 0 100 4" preserveAspectRatio="none" {
            rect width=(format!("{:.1}", (share * 100.0).max(1.0))) height="4" {}
        }
    }
}
