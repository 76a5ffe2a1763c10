//! The broker, its queues, the buckets and the spool: how each is doing.

use maud::{Markup, html};

use super::{
    verdict::{sentence, wait},
    words::{long, many, moment, since, size},
};
use crate::{
    config::Shown,
    status::{Part, Queue, Snapshot, Used},
};

pub(super) fn parts(now: &Snapshot, configuration: &[Shown]) -> Markup {
    html! {
        table.parts role="table" aria-labelledby="parts" {
            thead role="rowgroup" {
                tr role="row" {
                    th role="columnheader" scope="col" { "Part" }
                    th role="columnheader" scope="col" { "State" }
                    th role="columnheader" scope="col" { "In words" }
                }
            }
            tbody role="rowgroup" {
                (broker(now))
                // The broker is the first of them.
                @for part in now.parts.iter().skip(1) { (part_row(part, &about(part, now, configuration))) }
                (used("memory", "limits.memory, and for long events", now.memory))
                (used("spool", "limits.spool", now.spool))
            }
        }
    }
}

/// One line: the mark before the word tells them apart where colours do not.
fn line(name: &str, state: (&str, &str), words: &Markup) -> Markup {
    let mark = match state.0 {
        "good" => "\u{2713} ",
        "poor" => "\u{2717} ",
        _ => "! ",
    };
    html! {
        tr role="row" {
            th role="rowheader" scope="row" { (name) }
            td role="cell" { span class={ "state " (state.0) } { span aria-hidden="true" { (mark) } (state.1) } }
            td role="cell" { (words) }
        }
    }
}

fn broker(now: &Snapshot) -> Markup {
    let broker = &now.broker;
    let held = long(since(broker.since, now.at));
    let state = if broker.connected {
        ("good", "connected")
    } else if now.stopping.is_some() {
        ("idle", "left")
    } else {
        ("poor", "not connected")
    };
    let error = now.parts.first().and_then(|part| part.down.as_ref());
    let words = html! {
        "for " (held)
        @match broker.last_delivery {
            Some(last) => { ", last event " (long(since(last, now.at))) " ago" }
            None => { ", no event yet" }
        }
        @if let Some(down) = error { ". " (sentence(&down.error)) }
    };
    line("broker", state, &words)
}

fn part_row(part: &Part, about: &Markup) -> Markup {
    let Some(down) = &part.down else {
        return line(&part.name, ("good", "works"), about);
    };
    // Nobody has asked for it since: it may work again, and nothing is held up.
    let state = if down.holds_up {
        ("poor", "does not work")
    } else {
        ("idle", "failed last")
    };
    let words = html! {
        "For " (long(down.age)) ", since " (moment(down.since)) "; " (wait(down.waiting)) ". " (sentence(&down.error))
        " " (about)
    };
    line(&part.name, state, &words)
}

/// What else is known of a part: where a bucket is, how full a queue.
fn about(part: &Part, now: &Snapshot, configuration: &[Shown]) -> Markup {
    if let Some(bucket) = &part.bucket {
        let section = format!("buckets.{bucket}");
        let url = |shown: &&Shown| shown.section == section && shown.key == "url";
        let url = configuration.iter().find(url);
        return html! { @if let Some(url) = url { code { (url.value) } } };
    }
    let name = part.name.strip_prefix("queue ");
    let queue = name.and_then(|name| now.queues.iter().find(|queue| queue.name == name));
    html! { @if let Some(queue) = queue { (counted(queue)) } }
}

fn counted(queue: &Queue) -> Markup {
    let dead = queue.messages > 0 && queue.name.strip_suffix(".dead").is_some();
    html! {
        (many(queue.messages, "message", "messages")) " ready"
        @if queue.consumers > 0 { ", " (many(queue.consumers, "consumer", "consumers")) }
        @if dead { "; " code { "callvault dead list" } " says why" }
    }
}

fn used(name: &str, limit: &str, used: Used) -> Markup {
    let state = if used.used >= used.of && used.of > 0 {
        ("idle", "full")
    } else {
        ("good", "room")
    };
    let words = html! { (size(used.used)) " of " (size(used.of)) " (" (limit) ")" };
    line(name, state, &words)
}
