//! The first line: is all well, and if not, what is it waiting for?

use std::time::Duration;

use super::{
    history::{History, SPAN, Series},
    words::{count, long, many, since},
};
use crate::status::{Down, Part, Snapshot, Stopping};

/// How it is, in one word, for a mark and a colour.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mood {
    Well,
    Waiting,
    Ending,
    Stuck,
}

impl Mood {
    /// The class of what is coloured by it.
    pub(super) fn class(self) -> &'static str {
        match self {
            Self::Well => "well",
            Self::Waiting => "waiting",
            Self::Ending => "ending",
            Self::Stuck => "stuck",
        }
    }

    /// For those to whom the colours look the same.
    pub(super) fn mark(self) -> &'static str {
        match self {
            Self::Well => "OK",
            Self::Waiting => "WAITING",
            Self::Ending => "STOPPING",
            Self::Stuck => "NOT READY",
        }
    }
}

/// What is said first.
#[derive(Debug)]
pub(super) struct Verdict {
    pub(super) mood: Mood,
    pub(super) headline: String,
    /// What follows from it.
    pub(super) advice: String,
    /// What the program says of it, word for word.
    pub(super) reason: String,
}

impl Verdict {
    fn new(mood: Mood, headline: String, advice: impl Into<String>, reason: &str) -> Self {
        Self {
            mood,
            headline,
            advice: advice.into(),
            reason: sentence(reason),
        }
    }
}

pub(super) fn verdict(now: &Snapshot) -> Verdict {
    let missed: Vec<_> = missed(now).collect();
    match (now.stopping, now.not_ready.first(), missed.as_slice()) {
        (Some(stopping), _, _) => ending(now, stopping),
        (None, Some(reason), _) if !now.broker.connected => {
            let age = long(since(now.broker.since, now.at));
            let headline = format!("Not consuming for {age}");
            let advice = "It tries again by itself; what is in flight goes on.";
            Verdict::new(Mood::Stuck, headline, advice, reason)
        }
        (None, _, [(first, down), others @ ..]) => waiting(first, down, others),
        (None, Some(reason), []) => Verdict::new(Mood::Stuck, "Not ready".to_owned(), "", reason),
        (None, None, []) => well(now),
    }
}

fn ending(now: &Snapshot, stopping: Stopping) -> Verdict {
    let headline = match now.in_flight.len() {
        0 => "Stopping: nothing is left in flight".to_owned(),
        left => {
            let left = many(left as u64, "event", "events");
            format!("Stopping: {left} left, {} of grace", long(stopping.left))
        }
    };
    let advice = "It takes nothing new. What is not finished in time goes back to the queue, and is delivered to \
                  another worker.";
    Verdict::new(Mood::Ending, headline, advice, "")
}

fn waiting(first: &Part, down: &Down, others: &[(&Part, &Down)]) -> Verdict {
    let others = match others {
        [] => String::new(),
        [(second, _)] => format!(" and {}", second.name),
        more => format!(" and {} other parts", more.len()),
    };
    let (name, age) = (&first.name, long(down.age));
    let headline = format!("Waiting for {name}{others}, down for {age}");
    let held = sentence(&wait(down.waiting));
    let advice = format!(
        "Nothing is lost and no attempt is charged: it goes on by itself once that works again. {held}"
    );
    Verdict::new(Mood::Waiting, headline, advice, &down.error)
}

fn well(now: &Snapshot) -> Verdict {
    let headline = match (now.in_flight.len(), now.broker.last_delivery) {
        (0, None) => "Consuming: nothing in flight, and no event has come yet".to_owned(),
        (0, Some(last)) => {
            let ago = long(since(last, now.at));
            format!("Consuming: nothing in flight, the last event came {ago} ago")
        }
        (flying, _) => {
            let (flying, most) = (
                many(flying as u64, "event", "events"),
                count(now.prefetch as u64),
            );
            format!("Consuming: {flying} in flight, of at most {most}")
        }
    };
    Verdict::new(Mood::Well, headline, "", "")
}

/// The parts that do not work and hold something up; the broker is told of in its own words.
fn missed(now: &Snapshot) -> impl Iterator<Item = (&Part, &Down)> {
    let parts = now.parts.iter().skip(1);
    let down = parts.filter_map(|part| part.down.as_ref().map(|down| (part, down)));
    down.filter(|(_, down)| down.holds_up)
}

/// How much is held up.
pub(super) fn wait(waiting: usize) -> String {
    match waiting {
        0 => "nothing waits for it now".to_owned(),
        1 => "1 operation waits for it".to_owned(),
        more => format!("{} operations wait for it", count(more as u64)),
    }
}

/// Words of the program's as a sentence.
pub(super) fn sentence(words: &str) -> String {
    if words.is_empty() {
        return String::new();
    }
    let mut letters = words.trim_end_matches('.').chars();
    let first = letters.next().map(|first| first.to_ascii_uppercase());
    let rest: String = letters.collect();
    format!("{}{rest}.", first.map(String::from).unwrap_or_default())
}

/// What else a person ought to know, the most urgent first.
pub(super) fn notes(
    verdict: &Verdict,
    now: &Snapshot,
    job_time: Duration,
    history: &History,
    counters: super::chart::Now<'_>,
) -> Vec<String> {
    let told = |reason: &&String| {
        let of_a_part = now.parts.iter().any(|part| reason.starts_with(&part.name));
        of_a_part || now.stopping.is_some() || verdict.reason == sentence(reason)
    };
    let reasons = now.not_ready.iter().filter(|reason| !told(reason));
    let mut notes: Vec<String> = reasons.map(|reason| sentence(reason)).collect();
    let missed = missed(now).skip((verdict.mood == Mood::Waiting).into());
    notes.extend(missed.map(|(part, down)| {
        let error = sentence(&down.error);
        let name = sentence(&format!("{} does not work", part.name));
        format!("{name} {error} {}", sentence(&wait(down.waiting)))
    }));
    let dead = history.grown(Series::Dead, SPAN, counters);
    if dead > 0 {
        notes.push(format!(
            "{} in the last 15 minutes; `callvault dead list` says why.",
            many(dead, "event died", "events died")
        ));
    }
    let late = now
        .in_flight
        .iter()
        .filter(|event| event.age > job_time / 2)
        .count();
    if late > 0 {
        notes.push(format!(
            "{} in flight for more than half of the {} that limits.job_time allows.",
            many(late as u64, "event is", "events are"),
            long(job_time)
        ));
    }
    if now.totals.late_settlements > 0 {
        notes.push(format!(
            "{} too late for the broker since the worker began, after a connection that broke, most likely: the event came \
             again and was found archived. If it goes on, keep limits.job_time below the broker's consumer_timeout.",
            many(now.totals.late_settlements, "settlement came", "settlements came")
        ));
    }
    notes
}
