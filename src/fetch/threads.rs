//! Threads on which downloads run, and nothing else.
//!
//! What an origin sends is taken apart by a library that may be at it for as long as bytes come: a chunk's
//! size has no longest spelling, and is read one digit at a time. On the runtime's own threads a few origins
//! that send zeros as fast as they can would hold up the broker's heartbeats, the stores and the probes.

use std::{io, panic::resume_unwind};

use tokio::runtime::{Builder, Runtime};
use tokio_util::task::AbortOnDropHandle;
use tracing::Instrument;

/// How many there are of each: downloads wait for the network, and what they hash comes over it.
const COUNT: usize = 2;

/// How much less of a busy processor the threads for large bodies get than others: about a tenth (`nice(2)`).
const NICE: i32 = 10;

/// Of each, in bytes: the standard library's size. This process's default is that of threads on which
/// headers of messages are read.
pub(super) const STACK: usize = 2 << 20;

/// A runtime of its own.
#[derive(Debug)]
pub(super) struct Threads(Option<Runtime>);

impl Threads {
    pub(super) fn start() -> io::Result<Self> {
        Self::build(Builder::new_multi_thread().thread_name("download"))
    }

    /// Threads that make way for all others, whatever they have to do: what is large takes long in any case, and what is
    /// small beside it should not.
    pub(super) fn start_nice() -> io::Result<Self> {
        let mut builder = Builder::new_multi_thread();
        Self::build(builder.thread_name("large").on_thread_start(|| {
            // Of the calling thread alone, on Linux. Refused, it is as it was.
            #[cfg(target_os = "linux")]
            let _ = rustix::process::nice(NICE);
        }))
    }

    fn build(builder: &mut Builder) -> io::Result<Self> {
        let runtime = builder
            .worker_threads(COUNT)
            .thread_stack_size(STACK)
            .enable_all()
            .build()?;
        Ok(Self(Some(runtime)))
    }

    /// Runs to the end what runs here, unless it is dropped before; a panic goes on in the caller.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        download: impl Future<Output = T> + Send + 'static,
    ) -> T {
        let Some(runtime) = &self.0 else {
            return download.await;
        };
        let task = AbortOnDropHandle::new(runtime.spawn(download.in_current_span()));
        match task.await {
            Ok(done) => done,
            Err(error) => match error.try_into_panic() {
                Ok(panic) => resume_unwind(panic),
                // Aborted, which only dropping the handle does, or the process ends.
                Err(_) => std::future::pending().await,
            },
        }
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        // To wait for them is not possible here, on a thread of another runtime.
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}
