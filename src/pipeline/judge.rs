//! Judging bodies, each where it holds up nobody else.

use std::{io, sync::Arc};

use tokio::{
    runtime::{Handle, RuntimeFlavor},
    task::block_in_place,
};

use super::Archivist;
use crate::{
    attachment::Kind,
    body::{Body, blocking},
    check::{Checker, Facts, Problem},
};

pub(super) type Verdict = Result<Facts, Problem>;

/// A text of at most so many bytes that lies in memory, and whose tree takes no more than that, is checked where
/// its job runs: in 0.15 ms as a rule and 0.3 ms at the worst, as measured with the default schemas.
const QUICK_TEXT: u64 = 32 << 10;
const QUICK_TREE: u64 = 1 << 20;
/// From so many bytes of text or tree on a check keeps a processor busy for tens of milliseconds and more.
const LONG_TEXT: u64 = 1 << 20;
const LONG_TREE: u64 = 4 << 20;

/// Events and manifests up to so many bytes are read and written in less than a millisecond.
const SHORT: usize = 64 << 10;

/// Does work on so many bytes; where they are many, without keeping other tasks from running: among them are the
/// broker's heartbeats.
pub(super) fn aside<T>(bytes: usize, work: impl FnOnce() -> T) -> T {
    let flavor = Handle::try_current().map(|runtime| runtime.runtime_flavor());
    // Where there is but one thread, nobody can take its tasks over.
    if bytes > SHORT && matches!(flavor, Ok(RuntimeFlavor::MultiThread)) {
        block_in_place(work)
    } else {
        work()
    }
}

impl Archivist {
    /// Judges a body: what takes long off the runtime's threads, with a processor and memory of its own.
    pub(super) async fn verdict(&self, kind: &Arc<Kind>, body: &Body) -> io::Result<Verdict> {
        match kind.check {
            Checker::None => kind.check.check(body),
            // Its header alone is read. In memory that takes a tenth of a millisecond at the worst, of a file it may take long.
            Checker::Wav(_) if body.chunks().is_some() => kind.check.check(body),
            Checker::Wav(_) => elsewhere(kind, body, Checker::check).await,
            Checker::Json(_) => self.json_verdict(kind, body).await,
        }
    }

    async fn json_verdict(&self, kind: &Arc<Kind>, body: &Body) -> io::Result<Verdict> {
        // Taken before the memory, lest others wait for memory that only waits, too.
        let mut processor = None;
        if body.len() > LONG_TEXT {
            processor = Some(self.budget.processor().await?);
        }
        let quick = body.chunks().is_some() && body.len() <= QUICK_TEXT;
        let memory = if quick {
            kind.check.memory(body)?
        } else {
            elsewhere(kind, body, Checker::memory).await?
        };
        let most = self.budget.most_work();
        if memory > most {
            return Ok(Err(Problem::too_complex(memory, most)));
        }
        if memory > LONG_TREE && processor.is_none() {
            processor = Some(self.budget.processor().await?);
        }
        let _share = self.budget.work(memory).await?;
        let verdict = if quick && memory <= QUICK_TREE {
            kind.check.check(body)
        } else {
            elsewhere(kind, body, Checker::check).await
        };
        drop(processor);
        verdict
    }
}

/// Looks at a body off the runtime's threads.
async fn elsewhere<T: Send + 'static>(
    kind: &Arc<Kind>,
    body: &Body,
    look: fn(&Checker, &Body) -> io::Result<T>,
) -> io::Result<T> {
    let (kind, body) = (Arc::clone(kind), body.clone());
    blocking(move || look(&kind.check, &body)).await
}

#[cfg(test)]
mod tests {
    use std::{sync::mpsc, time::Duration};

    use super::*;

    #[test]
    fn while_a_long_event_is_taken_apart_the_only_thread_goes_on_with_other_tasks() {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .build()
            .unwrap();
        let (sender, receiver) = mpsc::channel();
        let heard = runtime.spawn(async move {
            tokio::spawn(async move { sender.send(()) });
            // Longer than any machine takes; blocked, it would never come.
            aside(SHORT + 1, || receiver.recv_timeout(Duration::from_secs(20)))
        });
        assert_eq!(runtime.block_on(heard).unwrap(), Ok(()));
    }

    #[tokio::test]
    async fn where_there_is_but_one_thread_it_is_done_there() {
        assert_eq!(aside(SHORT + 1, || 7), 7);
    }
}
