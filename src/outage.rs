//! Waiting out a part that does not work, a store, the broker or the spool folder: nobody's fault but its
//! own. One log line when it begins and one when it ends, however many jobs wait, and how often they try.

use std::{
    error::Error as StdError,
    pin::pin,
    sync::{Arc, Mutex, MutexGuard as StdGuard, PoisonError},
    time::Duration,
};

use backon::{BackoffBuilder, ExponentialBuilder};
use tokio::{
    sync::{Mutex as AsyncMutex, MutexGuard, Notify},
    time::{Instant, sleep},
};

use crate::telemetry;

/// The pause after a first failure; it grows by half each time, with jitter.
const FIRST_PAUSE: Duration = Duration::from_millis(250);
/// The longest pause between two tries.
const LONGEST_PAUSE: Duration = Duration::from_secs(15);

/// Nobody waits any more, and it did not work so lately: whoever gave up tries again soon, or another does.
const LATELY: Duration = Duration::from_mins(1);

/// How one part is doing, over all jobs. A clone is the same one.
#[derive(Debug, Clone)]
pub struct Outage(Arc<Inner>);

/// That a part does not work.
#[derive(Debug, Clone)]
pub struct Down {
    /// For how long.
    pub age: Duration,
    /// Operations that failed and will be tried again, and those that are held back meanwhile.
    pub waiting: usize,
    /// Why the last one failed, in one line that may be told.
    pub error: String,
    /// Whether anything waits for it, or did lately. If not, nobody knows how it is doing by now.
    pub holds_up: bool,
}

#[derive(Debug)]
struct Inner {
    part: String,
    state: Mutex<State>,
    /// Held by the one that may try while the part does not work.
    trial: AsyncMutex<()>,
    /// Told when the part works again.
    over: Notify,
}

#[derive(Debug, Default)]
struct State {
    /// Since when the part does not work.
    since: Option<Instant>,
    /// When it did not work before, the last time.
    before: Option<(Instant, Instant)>,
    /// Operations that failed, and will be tried again.
    waiting: usize,
    /// Jobs that are kept from trying by the gate.
    held: usize,
    /// When the last of all those gave up.
    gave_up: Option<Instant>,
    /// Why one failed, the last time.
    error: String,
}

impl Outage {
    /// Of a part, as an operator knows it.
    pub fn of(part: impl Into<String>) -> Self {
        Self(Arc::new(Inner {
            part: part.into(),
            state: Mutex::default(),
            trial: AsyncMutex::default(),
            over: Notify::new(),
        }))
    }

    /// The part, as an operator knows it.
    pub fn part(&self) -> &str {
        &self.0.part
    }

    /// That it does not work, as far as is known.
    pub fn down(&self) -> Option<Down> {
        let state = self.state();
        let age = state.since?.elapsed();
        let lately = |then: Instant| then.elapsed() < LATELY;
        // The one that the gate let pass may be at its download still.
        let trial = usize::from(self.0.trial.try_lock().is_err());
        let waiting = state.waiting.max(trial) + state.held;
        Some(Down {
            age,
            waiting,
            error: state.error.clone(),
            holds_up: waiting > 0 || state.gave_up.is_some_and(lately),
        })
    }

    /// Repeats an operation until it succeeds; once `patience` has passed it is not begun again, and the
    /// last error stands. An operation under way is not cut short: a large file may take its time, and
    /// each of its requests has a limit of its own.
    pub async fn wait_out<T, E, F>(
        &self,
        what: &'static str,
        patience: Duration,
        mut attempt: impl FnMut() -> F,
    ) -> Result<T, E>
    where
        E: StdError + 'static,
        F: Future<Output = Result<T, E>>,
    {
        let end = Instant::now() + patience;
        let mut pauses = pauses();
        let mut waiter = None;
        loop {
            let began = Instant::now();
            let error = match attempt().await {
                Ok(done) => {
                    match waiter {
                        Some(waiter) => Waiter::succeeds(waiter),
                        None => self.works(),
                    }
                    return Ok(done);
                }
                Err(error) => error,
            };
            waiter
                .get_or_insert_with(|| self.waiter())
                .fails(what, &error, began);
            let pause = pauses.next().unwrap_or(LONGEST_PAUSE);
            if Instant::now() + pause >= end {
                return Err(error);
            }
            sleep(pause).await;
        }
    }

    /// Somebody who tries an operation until it succeeds.
    pub fn waiter(&self) -> Waiter<'_> {
        self.state().waiting += 1;
        Waiter(self)
    }

    /// Notes that an operation failed that had begun then; says so if it is the first. One that a past
    /// outage kept hanging tells nothing new.
    pub fn fails(&self, what: &'static str, error: &(dyn StdError + 'static), began: Instant) {
        let mut state = self.state();
        let hung = state.before.is_some_and(|(_, end)| began < end);
        if state.since.is_none() && hung {
            return;
        }
        state.error = telemetry::chain(error);
        if state.since.is_none() {
            state.since = Some(Instant::now());
            tracing::warn!(
                part = self.0.part,
                what,
                error = state.error,
                "does not work; waiting for it"
            );
        }
    }

    /// Notes that an operation succeeded that had not failed before. As long as others wait, that says
    /// little: a full disk can still be read.
    pub fn works(&self) {
        let mut state = self.state();
        if state.waiting == 0 {
            self.ends(&mut state);
        }
    }

    /// How long it did not work since then, as far as is remembered.
    pub fn down_since(&self, then: Instant) -> Duration {
        let state = self.state();
        let now = Instant::now();
        let spans = [state.before, state.since.map(|since| (since, now))];
        let overlap = |(from, to): (Instant, Instant)| to.saturating_duration_since(from.max(then));
        spans.into_iter().flatten().map(overlap).sum()
    }

    /// Lets everybody pass while the part works; while it does not, one at a time, who holds what is
    /// returned for as long as the trial lasts.
    pub async fn gate(&self) -> Option<MutexGuard<'_, ()>> {
        let mut over = pin!(self.0.over.notified());
        over.as_mut().enable();
        let down = || self.state().since.is_some();
        if !down() {
            return None;
        }
        let _held = Held::new(self);
        tokio::select! {
            trial = self.0.trial.lock() => down().then_some(trial),
            () = over => None,
        }
    }

    fn ends(&self, state: &mut State) {
        if let Some(since) = state.since.take() {
            let seconds = since.elapsed().as_secs();
            tracing::info!(part = self.0.part, seconds, "works again");
            state.before = Some((since, Instant::now()));
            self.0.over.notify_waiters();
        }
    }

    fn state(&self) -> StdGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One operation that is tried until it succeeds; no longer, whichever way it is given up, a cancelled
/// future included.
#[derive(Debug)]
pub struct Waiter<'a>(&'a Outage);

impl Waiter<'_> {
    /// It failed, and will be tried again.
    pub fn fails(&self, what: &'static str, error: &(dyn StdError + 'static), began: Instant) {
        self.0.fails(what, error, began);
    }

    /// It succeeded at last, so the part works again.
    pub fn succeeds(self) {
        self.0.ends(&mut self.0.state());
    }
}

impl Drop for Waiter<'_> {
    fn drop(&mut self) {
        let mut state = self.0.state();
        state.waiting -= 1;
        state.gave_up = Some(Instant::now());
    }
}

/// A job that the gate holds back, however that ends.
struct Held<'a>(&'a Outage);

impl<'a> Held<'a> {
    fn new(outage: &'a Outage) -> Self {
        outage.state().held += 1;
        Self(outage)
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        let mut state = self.0.state();
        state.held -= 1;
        state.gave_up = Some(Instant::now());
    }
}

fn pauses() -> impl Iterator<Item = Duration> {
    ExponentialBuilder::default()
        .with_min_delay(FIRST_PAUSE)
        .with_max_delay(LONGEST_PAUSE)
        .with_factor(1.5)
        .with_jitter()
        .without_max_times()
        .build()
}

#[cfg(test)]
mod tests {
    use std::{
        io,
        sync::atomic::{AtomicU32, Ordering},
    };

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_part_is_waited_for_until_it_works() {
        let (outage, tries) = (Outage::of("store"), AtomicU32::new(0));
        let attempt = || async {
            match tries.fetch_add(1, Ordering::Relaxed) {
                20 => Ok("done"),
                _ => Err(io::Error::other("down")),
            }
        };
        let done = outage
            .wait_out("write", Duration::from_mins(20), attempt)
            .await;
        assert_eq!(done.unwrap(), "done");
        assert!(outage.state().since.is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn patience_ends_the_waiting_and_cuts_nothing_short() {
        let outage = Outage::of("store");
        let start = Instant::now();
        let failed: io::Result<()> = outage
            .wait_out("write", Duration::from_mins(1), async || {
                Err(io::Error::other("down"))
            })
            .await;
        assert_eq!(failed.unwrap_err().to_string(), "down");
        assert!(start.elapsed() <= Duration::from_mins(1));
        let slow = outage.wait_out("write", Duration::from_mins(1), async || {
            sleep(Duration::from_mins(10)).await;
            io::Result::Ok("a large file")
        });
        assert_eq!(slow.await.unwrap(), "a large file");
    }

    fn is_on(outage: &Outage) -> bool {
        outage.down().is_some()
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_asks_is_told_who_waits_and_why_until_nobody_has_for_a_while() {
        let outage = Outage::of("store");
        let told = outage.clone();
        assert!(told.down().is_none());
        let waiter = outage.waiter();
        waiter.fails("write", &io::Error::other("down"), Instant::now());
        sleep(Duration::from_secs(3)).await;
        waiter.fails("write", &io::Error::other("still down"), Instant::now());
        let down = told.down().unwrap();
        assert_eq!((down.age.as_secs(), down.waiting), (3, 1));
        assert_eq!((down.error.as_str(), down.holds_up), ("still down", true));
        drop(waiter);
        let down = told.down().unwrap();
        assert_eq!((down.waiting, down.holds_up), (0, true));
        sleep(LATELY).await;
        assert!(!told.down().unwrap().holds_up);
    }

    #[tokio::test(start_paused = true)]
    async fn an_outage_outlives_a_job_and_ends_with_a_success() {
        let outage = Outage::of("store");
        let fails = || async { io::Result::<()>::Err(io::Error::other("down")) };
        let works = || async { io::Result::Ok(()) };
        let start = Instant::now();
        let gone = outage.wait_out("write", Duration::ZERO, fails).await;
        gone.unwrap_err();
        assert!(is_on(&outage));
        sleep(Duration::from_secs(5)).await;
        outage
            .wait_out("read", Duration::ZERO, works)
            .await
            .unwrap();
        assert!(!is_on(&outage), "nobody waits, and it works");
        sleep(Duration::from_secs(5)).await;
        assert_eq!(outage.down_since(start), Duration::from_secs(5));
        assert_eq!(outage.down_since(Instant::now()), Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn while_somebody_waits_only_a_waiter_ends_an_outage() {
        let outage = Outage::of("disk");
        let waiter = outage.waiter();
        waiter.fails("write", &io::Error::other("full"), Instant::now());
        outage.works();
        assert!(is_on(&outage), "it can be read all the time");
        waiter.succeeds();
        assert!(!is_on(&outage));
        assert_eq!(outage.state().waiting, 0);
    }

    #[tokio::test(start_paused = true)]
    async fn what_hung_since_an_outage_is_no_new_one() {
        let (outage, error) = (Outage::of("store"), io::Error::other("mute"));
        let began = Instant::now();
        sleep(Duration::from_secs(1)).await;
        outage.fails("write", &error, began);
        sleep(Duration::from_secs(1)).await;
        outage.works();
        sleep(Duration::from_secs(1)).await;
        outage.fails("write", &error, began);
        assert!(!is_on(&outage));
        outage.fails("write", &error, Instant::now());
        assert!(is_on(&outage));
    }

    #[tokio::test(start_paused = true)]
    async fn while_a_part_does_not_work_one_at_a_time_tries_it() {
        let outage = Outage::of("store");
        assert!(outage.gate().await.is_none());
        outage.fails("write", &io::Error::other("down"), Instant::now());
        let trial = outage.gate().await;
        assert!(trial.is_some());
        let second = tokio::time::timeout(Duration::from_mins(1), outage.gate());
        assert!(second.await.is_err());
        let third = async { tokio::join!(outage.gate(), async { outage.works() }).0 };
        assert!(third.await.is_none(), "though the trial still lasts");
        drop(trial);
    }

    #[tokio::test(start_paused = true)]
    async fn who_is_held_back_at_the_gate_or_tries_for_all_waits_for_the_part_too() {
        let outage = Outage::of("store");
        let waiter = outage.waiter();
        waiter.fails("write", &io::Error::other("down"), Instant::now());
        drop(waiter);
        let trial = outage.gate().await.unwrap();
        let second = tokio::spawn({
            let outage = outage.clone();
            async move { outage.gate().await.is_some() }
        });
        sleep(10 * LATELY).await;
        let down = outage.down().unwrap();
        assert_eq!((down.waiting, down.holds_up), (2, true));
        drop(trial);
        assert!(second.await.unwrap());
        let down = outage.down().unwrap();
        assert_eq!((down.waiting, down.holds_up), (0, true));
    }
}
