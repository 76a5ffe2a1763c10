//! The last quarter of an hour of the counters, for rates: a sample every five seconds, and no more than a few
//! kilobytes of them however long the worker runs.

use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

use tokio::time::Instant;

use crate::status::Totals;

/// Between two samples.
pub const STEP: Duration = Duration::from_secs(5);
/// As far back as is told.
pub(super) const SPAN: Duration = Duration::from_mins(15);
/// Samples that are kept: those of the span, and the one that it begins at.
#[expect(clippy::cast_possible_truncation, reason = "181")]
const SAMPLES: usize = (SPAN.as_secs() / STEP.as_secs()) as usize + 1;
/// Between two samples of the problems by code, of which there may be hundreds.
const CODES_STEP: Duration = Duration::from_mins(1);
#[expect(clippy::cast_possible_truncation, reason = "16")]
const CODES_SAMPLES: usize = (SPAN.as_secs() / CODES_STEP.as_secs()) as usize + 1;

/// What the counters were at some moments.
#[derive(Debug, Default)]
pub struct History {
    samples: VecDeque<(Instant, Sample)>,
    /// Whether there were any before those.
    older: bool,
    codes: VecDeque<(Instant, BTreeMap<String, u64>)>,
}

/// What is charted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Series {
    /// Events that were archived.
    Archived,
    /// Events that needed no work: duplicates, and those of other names.
    Passed,
    /// Events that will be tried again.
    Retried,
    /// Dead letters.
    Dead,
    /// Bytes of attachments that were stored.
    Bytes,
    /// Attachments that were quarantined, or not to be had.
    Problems,
}

/// What was counted of each series.
type Sample = [u64; 6];

/// The value of each series, as it is now.
pub(super) fn sample(totals: &Totals) -> Sample {
    let events = |outcomes: &[&str]| {
        let of_these = totals.events.iter();
        let of_these = of_these.filter(|(outcome, _)| outcomes.contains(&outcome.as_str()));
        of_these.map(|(_, count)| count).sum()
    };
    let mut sample = Sample::default();
    for (series, value) in [
        (Series::Archived, events(&["archived", "partial"])),
        (Series::Passed, events(&["duplicate", "ignored"])),
        (Series::Retried, events(&["retried"])),
        (Series::Dead, events(&["dead"])),
        (
            Series::Bytes,
            totals.attachments.iter().map(|kind| kind.bytes).sum(),
        ),
        (
            Series::Problems,
            totals.problems.iter().map(|(_, count)| count).sum(),
        ),
    ] {
        sample[series as usize] = value;
    }
    sample
}

impl History {
    /// Notes what the counters are.
    pub fn note(&mut self, now: Instant, totals: &Totals) {
        self.samples.push_back((now, sample(totals)));
        if self.samples.len() > SAMPLES {
            self.samples.pop_front();
            self.older = true;
        }
        let last = self.codes.back().map(|(at, _)| *at);
        if last.is_none_or(|at| now.duration_since(at) >= CODES_STEP) {
            let codes = totals.problems.iter().cloned().collect();
            self.codes.push_back((now, codes));
            if self.codes.len() > CODES_SAMPLES {
                self.codes.pop_front();
            }
        }
    }

    /// What a series was at a moment, by the sample nearest to it, for ticks may come late. Before the first sample of
    /// all it was nothing, before the oldest that is kept it is not known to be other than that.
    fn at(&self, moment: Option<Instant>, series: Series) -> u64 {
        let known = |moment: Instant| {
            let near = moment + STEP / 2;
            let until = self.samples.partition_point(|(at, _)| *at <= near);
            self.samples.get(until.checked_sub(1)?)
        };
        let oldest = || self.samples.front().filter(|_| self.older);
        let sample = moment.and_then(known).or_else(oldest);
        sample.map_or(0, |(_, sample)| sample[series as usize])
    }

    /// How much a series grew in the last `span`, up to what it is `now`.
    pub(super) fn grown(&self, series: Series, span: Duration, now: (Instant, &Sample)) -> u64 {
        let (now, sample) = now;
        let before = self.at(now.checked_sub(span), series);
        sample[series as usize].saturating_sub(before)
    }

    /// How much a series grew in each of so many equal parts of the span, the oldest first. They end with the
    /// last sample, so that a chart stands still in between.
    pub(super) fn parts(&self, series: Series, parts: u32) -> Vec<u64> {
        let Some((end, _)) = self.samples.back() else {
            return vec![0; parts as usize];
        };
        let edge = |part: u32| self.at(end.checked_sub(SPAN * part / parts), series);
        let grown = |part| edge(part).saturating_sub(edge(part + 1));
        (0..parts).rev().map(grown).collect()
    }

    /// How often each code came in the last quarter of an hour.
    pub(super) fn lately<'a>(&self, problems: &'a [(String, u64)]) -> BTreeMap<&'a str, u64> {
        let before = self.codes.front().map(|(_, codes)| codes);
        let grown = |(code, count): &'a (String, u64)| {
            let before = before.and_then(|codes| codes.get(code));
            let grown = count.saturating_sub(before.copied().unwrap_or(0));
            (grown > 0).then_some((code.as_str(), grown))
        };
        problems.iter().filter_map(grown).collect()
    }

    /// For how long there are samples.
    pub(super) fn reaches(&self, now: Instant) -> Duration {
        let first = self.samples.front().map(|(at, _)| now.duration_since(*at));
        first.unwrap_or_default().min(SPAN)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn totals(archived: u64, problems: &[(&str, u64)]) -> Totals {
        Totals {
            events: vec![("archived".to_owned(), archived), ("dead".to_owned(), 1)],
            problems: problems
                .iter()
                .map(|(code, count)| ((*code).to_owned(), *count))
                .collect(),
            ..Totals::default()
        }
    }

    #[tokio::test(start_paused = true)]
    async fn rates_are_of_the_last_minutes_and_memory_is_bounded() {
        let mut history = History::default();
        let codes: Vec<String> = (0..500).map(|code| format!("http_{code}")).collect();
        for step in 0..1_000 {
            let problems: Vec<_> = codes.iter().map(|code| (code.as_str(), step)).collect();
            history.note(Instant::now(), &totals(10 * step, &problems));
            tokio::time::sleep(STEP).await;
        }
        assert_eq!(history.samples.len(), SAMPLES);
        assert_eq!(history.codes.len(), CODES_SAMPLES);
        let now = (Instant::now(), &sample(&totals(10_000, &[])));
        let minute = history.grown(Series::Archived, Duration::from_mins(1), now);
        assert_eq!(minute, 120, "ten every five seconds");
        assert_eq!(history.grown(Series::Dead, SPAN, now), 0);
        assert_eq!(history.parts(Series::Archived, 60), vec![30; 60]);
        assert_eq!(history.reaches(now.0), SPAN);
        let problems = [("http_404".to_owned(), 1_000), ("http_7".to_owned(), 700)];
        let lately = history.lately(&problems);
        // Of the last quarter of an hour, and up to a minute more.
        assert!((180..=200).contains(&lately["http_404"]), "{lately:?}");
        assert!(!lately.contains_key("http_7"), "{lately:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_older_than_the_oldest_sample_is_not_taken_for_new() {
        let mut history = History::default();
        let begun = Instant::now();
        for step in 0..1_000 {
            // Ticks come when the machine has time for them: here the last one sooner than the oldest that is kept.
            let late = Duration::from_millis((1_000 - u64::from(step)) % 7);
            tokio::time::sleep_until(begun + STEP * step + late).await;
            history.note(Instant::now(), &totals(10 * u64::from(step), &[]));
        }
        let bars = history.parts(Series::Archived, 60);
        assert_eq!(bars, vec![30; 60]);
        let now = (Instant::now(), &sample(&totals(10_000, &[])));
        let all = history.grown(Series::Archived, SPAN, now);
        assert!((1_700..=1_900).contains(&all), "{all}");
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_counted_before_the_first_sample_counts_as_new() {
        let mut history = History::default();
        let begun = Instant::now();
        let now = (begun, &sample(&totals(7, &[])));
        assert_eq!(history.grown(Series::Archived, SPAN, now), 7);
        assert_eq!(history.parts(Series::Archived, 3), [0, 0, 0]);
        assert_eq!(history.reaches(begun), Duration::ZERO);
        history.note(begun, &totals(7, &[]));
        assert_eq!(history.parts(Series::Archived, 3), [0, 0, 7]);
        // After a long sleep of the machine there is nothing to tell of it.
        tokio::time::sleep(Duration::from_hours(8)).await;
        history.note(Instant::now(), &totals(9, &[]));
        assert_eq!(history.parts(Series::Archived, 3), [0, 0, 2]);
    }
}
