//! The first line: is all well, and if not, what is it waiting for?

use std::time::Duration;

use super::{
    history::{History, SPAN, Series},
    words::{count, long, many, since},
};
use crate::status::{Part, Snapshot};

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
    let down: Vec<&Part> = now.parts.iter().filter(|part| is_missed(part)).collect();
    if let Some(first) = down.first()
        && let Some(how) = &first.down
    {
        let others = match down.len() - 1 {
            0 => String::new(),
            1 => format!(" and {}", down[1].name),
            more => format!(" and {more} other parts"),
        };
        let held = match how.waiting {
            0 => String::new(),
            waiting => format!(": {} for it", wait(waiting)),
        };
        return Verdict {
            mood: Mood::Waiting,
            headline: format!(
                "Waiting for {}{others}, since {}{held}",
                first.name,
                long(how.age)
            ),
            advice: format!(
                "{} Nothing is lost and no attempt is charged: it goes on by itself once that works again.",
                sentence(&how.error)
            ),
        };
    }
    if let Some(reason) = now.not_ready.first() {
        let since = long(since(now.broker.since, now.at));
        let headline = if now.broker.connected {
            "Not ready".to_owned()
        } else {
            format!("Not consuming, since {since}")
        };
        return Verdict {
            mood: Mood::Stuck,
            headline,
            advice: format!("{} It tries again by itself.", sentence(reason)),
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

/// Whether a part does not work that the worker needs now: one that nobody waits for holds nothing up.
fn is_missed(part: &Part) -> bool {
    part.down.as_ref().is_some_and(|down| down.waiting > 0)
}

fn wait(waiting: usize) -> String {
    match waiting {
        1 => "1 operation waits".to_owned(),
        more => format!("{more} operations wait"),
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
    now: &Snapshot,
    job_time: Duration,
    history: &History,
    counters: super::chart::Now<'_>,
) -> Vec<String> {
    let mut notes: Vec<String> = now
        .not_ready
        .iter()
        .skip(1)
        .map(|reason| sentence(reason))
        .collect();
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
