//! `callvault dead replay`.

use std::{path::Path, str::FromStr, time::Duration};

use indicatif::ProgressBar;
use tokio::time::{Instant, Interval, MissedTickBehavior, interval, sleep};
use tokio_util::sync::CancellationToken;

use super::{
    Deed, Named, Total, ended, letters, note_others, open, plain,
    selection::{Picker, Selection},
};
use crate::{
    cli::{Exit, Failure, run::stop_on_signal, say, say_error, setup},
    config,
    queue::{
        QueueError,
        desk::{Count, Desk, Look, Message, Walk},
    },
    telemetry,
};

/// Publishes messages to the work queue again, their attempts counted anew.
///
/// Each one is deleted here only after the broker has confirmed that the work queue has it: killed in
/// between, a replay leaves a message in both, which is archived once. A message that dies again tells how
/// often it was replayed. Those that die while this runs are left for next time. Exits with 1 if an ID names
/// nothing, the work queue does not take a message, or a signal came.
#[derive(Debug, clap::Args)]
pub(super) struct Replay {
    #[command(flatten)]
    selection: Selection,
    /// Say what would be replayed, and leave it.
    #[arg(long)]
    dry_run: bool,
    /// At most so many messages in a time: `10/s`, `600/m`, `1000/h`; one a minute at least.
    #[arg(long, value_name = "N/TIME")]
    rate: Option<Rate>,
    /// Report as JSON lines: one for each message, and a total.
    #[arg(long)]
    json: bool,
}

/// Bodies of messages to be replayed that are held in memory at once, in bytes, and how many.
const HELD_BYTES: usize = 64 << 20;
const HELD_MESSAGES: usize = 10_000;
/// Messages are held no longer than this, well below the time after which the broker takes them back.
const HELD_FOR: Duration = Duration::from_mins(5);

/// The longest pause between two messages; all of it is held for so long.
const SLOWEST: Duration = Duration::from_mins(1);

/// So many messages in a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Rate {
    interval: Duration,
}

impl FromStr for Rate {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (count, time) = text.split_once('/').unwrap_or((text, "s"));
        let time = match time {
            "s" => Duration::from_secs(1),
            "m" => Duration::from_mins(1),
            "h" => Duration::from_hours(1),
            _ => return Err("not a number of messages in a time, such as 10/s, 600/m or 1000/h"),
        };
        let interval = match count.parse() {
            Ok(count @ 1..=1_000_000) => time / count,
            _ => return Err("not a number of messages from 1 to 1000000 in a time, such as 10/s"),
        };
        if interval > SLOWEST {
            return Err("slower than one a minute: replay a few by their IDs instead");
        }
        Ok(Self { interval })
    }
}

/// How long the last confirm is waited for after a signal: a broker that blocks publishers gives none.
const LAST_CONFIRM: Duration = Duration::from_secs(2);

/// How far a replay got.
#[derive(Default)]
struct Progress {
    done: u32,
    /// The broker may have taken back what was replayed.
    twice: bool,
    /// The work queue did not take a message.
    refused: Option<QueueError>,
    broken: Option<QueueError>,
}

impl Progress {
    fn goes_on(&self) -> bool {
        self.refused.is_none() && self.broken.is_none()
    }
}

impl Replay {
    pub(super) async fn execute(self, config: &Path) -> Result<Exit, Failure> {
        let queue = setup::settings(config)?.queue;
        if self.dry_run {
            return self.rehearse(&queue).await;
        }
        let stop = stop_on_signal().map_err(Failure::unreachable)?;
        let (desk, count) = open(&queue).await?;
        let mut picker = self.selection.picker();
        let mut progress = Progress::default();
        self.replay(&desk, count, &mut picker, &stop, &mut progress)
            .await;
        self.report(&picker, progress, stop.is_cancelled())
    }

    /// Takes as many messages as may be held, replays them, puts back what is not asked for, and begins
    /// again at the front, until all that were there at the start were seen.
    async fn replay(
        &self,
        desk: &Desk,
        count: Count,
        picker: &mut Picker<'_>,
        stop: &CancellationToken,
        progress: &mut Progress,
    ) {
        let mut bar = None;
        let mut pace = self.rate.map(pace);
        let mut left = count.ready;
        loop {
            let (walk, full) = match take(desk, left, stop, picker).await {
                Ok(taken) => taken,
                Err(error) => {
                    progress.broken = Some(error);
                    break;
                }
            };
            if !full {
                note_others(count, &walk);
            }
            let bar = bar.get_or_insert_with(super::progress);
            bar.inc_length(walk.kept.len() as u64);
            let before = progress.done;
            let late = self
                .work_off(desk, &walk, &mut pace, stop, progress, bar)
                .await;
            left = left.saturating_sub(progress.done - before);
            if let Err(error) = desk.put_back(walk).await
                && progress.goes_on()
            {
                progress.broken = Some(error);
            }
            let stuck = progress.done == before;
            if !(full || late) || stuck || stop.is_cancelled() || !progress.goes_on() {
                break;
            }
        }
        if let Some(bar) = bar {
            bar.finish_and_clear();
        }
    }

    /// Replays what is held, one after the other. Whether it took too long to do all of it.
    async fn work_off(
        &self,
        desk: &Desk,
        walk: &Walk<(Named, Message)>,
        pace: &mut Option<Interval>,
        stop: &CancellationToken,
        progress: &mut Progress,
        bar: &ProgressBar,
    ) -> bool {
        let since = Instant::now();
        for (named, message) in &walk.kept {
            if let Some(pace) = pace {
                tokio::select! {
                    biased;
                    () = stop.cancelled() => {}
                    _ = pace.tick() => {}
                }
            }
            if stop.is_cancelled() {
                return false;
            }
            if since.elapsed() > HELD_FOR {
                bar.set_length(progress.done.into());
                return true;
            }
            let given_up = async {
                stop.cancelled().await;
                sleep(LAST_CONFIRM).await;
            };
            let replayed = tokio::select! {
                biased;
                replayed = desk.replay(walk, message) => replayed,
                () = given_up => {
                    progress.twice = true;
                    return false;
                }
            };
            match replayed {
                Ok(gone) => {
                    progress.done += 1;
                    if self.json {
                        bar.suspend(|| Deed::tell(named, "replayed"));
                    }
                    if !gone {
                        progress.twice = true;
                        progress.broken = Some(QueueError::Lost);
                    }
                }
                Err(error @ (QueueError::Unroutable { .. } | QueueError::Nacked)) => {
                    progress.refused = Some(error);
                }
                Err(error) => progress.broken = Some(error),
            }
            bar.inc(1);
            if !progress.goes_on() {
                return false;
            }
        }
        false
    }

    fn report(
        &self,
        picker: &Picker<'_>,
        progress: Progress,
        interrupted: bool,
    ) -> Result<Exit, Failure> {
        let done = progress.done;
        if self.json {
            plain::tell(&Total::of("replayed", done, picker, interrupted));
        } else {
            say(&format!("{} replayed", letters(done)));
        }
        if progress.twice {
            say_error(
                "callvault: the last ones may be in both queues now; each is archived once all the same",
            );
        }
        if let Some(error) = progress.broken {
            let context = format!("{} replayed, the rest stays where it was", letters(done));
            return Err(Failure::unreachable(
                anyhow::Error::new(error).context(context),
            ));
        }
        if let Some(error) = &progress.refused {
            say_error(&format!(
                "callvault: the work queue takes no more, the rest stays where it was: {}",
                telemetry::chain(error)
            ));
            return Ok(Exit::Problems);
        }
        Ok(ended(picker, interrupted))
    }

    async fn rehearse(&self, queue: &config::Queue) -> Result<Exit, Failure> {
        let (desk, count) = open(queue).await?;
        let mut picker = self.selection.picker();
        let never = CancellationToken::new();
        let walk = desk.walk(count.ready, &never, |letter, _| {
            if picker.takes(letter) {
                Look::Keep(Named::from(letter))
            } else {
                Look::Pass
            }
        });
        let walk = walk.await.map_err(Failure::unreachable)?;
        super::rehearsed(&desk, walk, count, &picker, "would be replayed", self.json).await
    }
}

/// A pace that does not make up for what was missed.
fn pace(rate: Rate) -> Interval {
    let mut pace = interval(rate.interval);
    pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
    pace
}

/// Takes what is asked for, as much as may be held at once. Whether that is why it stopped.
async fn take(
    desk: &Desk,
    most: u32,
    stop: &CancellationToken,
    picker: &mut Picker<'_>,
) -> Result<(Walk<(Named, Message)>, bool), QueueError> {
    let (mut bytes, mut count, mut full) = (0, 0, false);
    let walk = desk.walk(most, stop, |letter, message| {
        if !picker.takes(letter) {
            return Look::Pass;
        }
        bytes += message.weight();
        count += 1;
        // One of any size is taken.
        if count > 1 && (bytes > HELD_BYTES || count > HELD_MESSAGES) {
            full = true;
            return Look::Stop;
        }
        Look::Keep((Named::from(letter), message))
    });
    let walk = walk.await?;
    Ok((walk, full))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_a_count_in_a_time() {
        for (text, millis) in [("10/s", 100), ("10", 100), ("600/m", 100), ("3600/h", 1000)] {
            let rate: Rate = text.parse().unwrap();
            assert_eq!(rate.interval, Duration::from_millis(millis), "{text}");
        }
        for text in ["", "0/s", "-1/s", "1/d", "s", "1/", "99999999999/s", "59/h"] {
            assert!(text.parse::<Rate>().is_err(), "{text}");
        }
    }
}
