//! The first line: is all well, and if not, what is it waiting for?

use std::time::Duration;

use super::{
    history::{History, SPAN, Series},
    words::{count, long, many, since},
};
use crate::status::{Down, Part, Snapshot};

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
    /// What follows from it, and what to do.
    pub(super) advice: String,
}

pub(super) fn verdict(now: &Snapshot) -> Verdict {
    let flying = now.in_flight.len() as u64;
    if let Some(stopping) = now.stopping {
        let headline = match flying {
            0 => "Stopping: nothing is left in flight".to_owned(),
            left => format!(
                "Stopping: {} left, {} of grace",
                many(left, "event", "events"),
                long(stopping.left)
            ),
        };
        return Verdict {
            mood: Mood::Ending,
            headline,
            advice: "It takes nothing new. What is not finished in time goes back to the queue, and is delivered to \
                     another worker."
                .to_owned(),
        };
    }
    if let Some(reason) = now.not_ready.first().filter(|_| !now.broker.connected) {
        return Verdict {
            mood: Mood::Stuck,
            headline: format!(
                "Not consuming, since {}",
                long(since(now.broker.since, now.at))
            ),
            advice: format!("{} It tries again by itself.", sentence(reason)),
        };
    }
    let missed: Vec<_> = missed(now).collect();
    if let [(first, how), others @ ..] = missed.as_slice() {
        let others = match others {
            [] => String::new(),
            [(second, _)] => format!(" and {}", second.name),
            more => format!(" and {} other parts", more.len()),
        };
        return Verdict {
            mood: Mood::Waiting,
            headline: format!(
                "Waiting for {}{others}, since {}",
                first.name,
                long(how.age)
            ),
            advice: format!(
                "{} {} Nothing is lost and no attempt is charged: it goes on by itself once that works again.",
                sentence(&how.error),
                sentence(&wait(how.waiting)),
            ),
        };
    }
    if let Some(reason) = now.not_ready.first() {
        return Verdict {
            mood: Mood::Stuck,
            headline: "Not ready".to_owned(),
            advice: sentence(reason),
        };
    }
    let last = match now.broker.last_delivery {
        Some(last) => format!(", the last event came {} ago", long(since(last, now.at))),
        None => ", and no event has come yet".to_owned(),
    };
    Verdict {
        mood: Mood::Well,
        headline: match flying {
            0 => format!("Consuming: nothing in flight{last}"),
            flying => format!(
                "Consuming: {} in flight, of at most {}",
                many(flying, "event", "events"),
                count(now.prefetch as u64)
            ),
        },
        advice: String::new(),
    }
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
        of_a_part || now.stopping.is_some() || verdict.advice.starts_with(&sentence(reason))
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
            "{} too late for the broker since the worker began: the event came again and was found archived. Keep \
             limits.job_time below the broker's consumer_timeout.",
            many(now.totals.late_settlements, "settlement came", "settlements came")
        ));
    }
    notes
}
