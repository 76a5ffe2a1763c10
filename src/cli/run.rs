//! `callvault run`: the worker.

use std::{path::Path, sync::Arc, time::Duration};

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use super::{Exit, Failure, setup};
use crate::{doctor::Finding, http::Health, page::Page, queue::consumer::Worker, traces::Traces};

/// The worker: archives events from the queue until SIGTERM or SIGINT.
///
/// Then it stops consuming, finishes what is in flight, hands the rest back to the broker and exits with
/// 0. A second signal ends it at once. While the broker is down it waits, not ready.
#[derive(Debug, clap::Args)]
pub(super) struct Run {
    /// How long events in flight may take after a signal; keep it below the orchestrator's.
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = humantime::parse_duration)]
    grace: Duration,
}

/// How long the last spans may take: what is left of the grace, within these bounds.
const LEAST_FLUSH: Duration = Duration::from_millis(200);
const MOST_FLUSH: Duration = Duration::from_secs(5);

impl Run {
    pub(super) async fn execute(self, config: &Path) -> Result<Exit, Failure> {
        let parts = setup::load(config)?;
        parts.findings.iter().for_each(Finding::log);
        parts.machine().iter().for_each(Finding::log);
        let listen = parts.http.listen;
        let health = Health::bind(listen).await.map_err(|error| {
            Failure::unreachable(
                anyhow::Error::new(error).context(format!(
                    "cannot listen on {listen}: give each worker of a machine a port of its own in http.listen \
                     (CALLVAULT__HTTP__LISTEN), or port 0"
                )),
            )
        })?;
        if let Ok(address) = health.address() {
            tracing::info!(%address, version = env!("CARGO_PKG_VERSION"), "starting");
        }
        let traces = Traces::from_environment();
        let worker = Worker::new(
            parts.archivist,
            parts.queue,
            parts.refusals,
            parts.job_time,
            traces.clone(),
        );
        let stop = stop_on_signal().map_err(Failure::unreachable)?;
        let status = Arc::clone(worker.status());
        let page = Page::new(Arc::clone(&status), parts.shown, parts.job_time);
        let health = tokio::spawn(health.serve(status, page));
        worker.run(&stop, self.grace).await;
        health.abort();
        if let Some(traces) = traces {
            let left = worker
                .status()
                .session
                .stopping()
                .map(|stopping| stopping.left);
            traces
                .end(left.unwrap_or_default().clamp(LEAST_FLUSH, MOST_FLUSH))
                .await;
        }
        tracing::info!("stopped");
        Ok(Exit::Done)
    }
}

/// Cancelled by the first SIGTERM or SIGINT; the second one ends the process.
pub(super) fn stop_on_signal() -> std::io::Result<CancellationToken> {
    let (mut terminate, mut interrupt) = (
        signal(SignalKind::terminate())?,
        signal(SignalKind::interrupt())?,
    );
    let stop = CancellationToken::new();
    let first = stop.clone();
    tokio::spawn(async move {
        for signals in 1.. {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            if signals > 1 {
                tracing::warn!("second signal: stopping at once; what is in flight is redelivered");
                std::process::exit(1);
            }
            first.cancel();
        }
    });
    Ok(stop)
}
