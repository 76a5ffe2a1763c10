//! The broker, its queues, the buckets and the spool: how each is doing.

use maud::{Markup, html};

use super::{
    verdict::{sentence, wait},
    words::{long, many, moment, since, size},
};
use crate::status::{Part, Queue, Snapshot, Used};

pub(super) fn parts(now: &Snapshot) -> Markup {
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
                @for queue in &now.queues { (queue_row(queue)) }
                // The broker is the first of them.
                @for part in now.parts.iter().skip(1) { (part_row(part)) }
                (used("memory for attachments", "limits.memory", now.memory))
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

fn queue_row(queue: &Queue) -> Markup {
    let dead = queue.name.strip_suffix(".dead").is_some();
    let state = match queue.messages {
        0 => ("good", "empty"),
        _ if dead => ("idle", "dead letters"),
        _ => ("good", "messages"),
    };
    let words = html! {
        (many(queue.messages, "message", "messages")) " ready, "
        (many(queue.consumers, "consumer", "consumers"))
        @if dead && queue.messages > 0 { "; " code { "callvault dead list" } " says why" }
    };
    line(&format!("queue {}", queue.name), state, &words)
}

fn part_row(part: &Part) -> Markup {
    let Some(down) = &part.down else {
        return line(&part.name, ("good", "works"), &html! {});
    };
    // Nobody has asked for it since: it may work again, and nothing is held up.
    let state = if down.holds_up {
        ("poor", "does not work")
    } else {
        ("idle", "failed last")
    };
    let words = html! {
        "since " (long(down.age)) " (" (moment(down.since)) "), "
        (wait(down.waiting))
        ". " (sentence(&down.error))
    };
    line(&part.name, state, &words)
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
