//! `callvault dead drop`.

use std::{
    collections::BTreeMap,
    io::{IsTerminal, Write},
    path::Path,
};

use tokio_util::sync::CancellationToken;

use super::{
    Deed, Named, Total, ended, letters, note_others, open, plain, progress, rehearsed,
    selection::{Picker, Selection},
};
use crate::{
    cli::{Exit, Failure, run::stop_on_signal, say, setup},
    queue::{
        QueueError,
        desk::{Hold, Look, Walk},
    },
};

/// Deletes messages from the dead-letter queue, for good.
///
/// On a terminal it says how many there are and asks; elsewhere it needs --yes. What it asked about is what
/// it deletes: it holds those messages meanwhile, and messages that die later stay. Exits with 1 if an ID
/// names nothing, or a signal came.
#[derive(Debug, clap::Args)]
pub(super) struct Drop {
    #[command(flatten)]
    selection: Selection,
    /// Do not ask.
    #[arg(long)]
    yes: bool,
    /// Say what would be deleted, and leave it.
    #[arg(long)]
    dry_run: bool,
    /// Report as JSON lines: one for each message, and a total.
    #[arg(long)]
    json: bool,
}

impl Drop {
    pub(super) async fn execute(self, config: &Path) -> Result<Exit, Failure> {
        let queue = setup::settings(config)?.queue;
        let asks = !self.yes && !self.dry_run;
        if asks && !(std::io::stdin().is_terminal() && std::io::stderr().is_terminal()) {
            return Err(Failure::usage(anyhow::anyhow!(
                "what is dropped is gone, so `dead drop` asks, and here is no terminal to ask on: \
                 add --yes, or --dry-run to see what it would drop"
            )));
        }
        let stop = stop_on_signal().map_err(Failure::unreachable)?;
        let (desk, count) = open(&queue).await?;
        let mut picker = self.selection.picker();
        let walk = desk.walk(count.ready, &stop, |letter, message| {
            if picker.takes(letter) {
                Look::Keep((Named::from(letter), message.into_hold()))
            } else {
                Look::Pass
            }
        });
        let walk = walk.await.map_err(Failure::unreachable)?;
        if self.dry_run {
            let named = walk.map(|(named, _)| named);
            return rehearsed(&desk, named, count, &picker, "would be dropped", self.json).await;
        }
        note_others(count, &walk);
        let agreed = stop.is_cancelled()
            || walk.kept.is_empty()
            || !asks
            || ask(&question(&walk, desk.queue()), &stop).await;
        let (dropped, result) = if agreed {
            self.let_go(&walk, &stop).await
        } else {
            (0, Ok(()))
        };
        let closed = desk.put_back(walk).await;
        let interrupted = stop.is_cancelled();
        self.report(&picker, dropped, interrupted);
        if let Err(error) = result.and(closed) {
            let context = format!("{} dropped, the rest stays where it was", letters(dropped));
            return Err(Failure::unreachable(
                anyhow::Error::new(error).context(context),
            ));
        }
        Ok(ended(&picker, interrupted))
    }

    async fn let_go(
        &self,
        walk: &Walk<(Named, Hold)>,
        stop: &CancellationToken,
    ) -> (u32, Result<(), QueueError>) {
        let bar = progress();
        bar.set_length(walk.kept.len() as u64);
        let (mut dropped, mut result) = (0, Ok(()));
        for (named, hold) in &walk.kept {
            if stop.is_cancelled() {
                break;
            }
            result = walk.let_go(hold).await;
            if result.is_err() {
                break;
            }
            dropped += 1;
            bar.inc(1);
            if self.json {
                bar.suspend(|| Deed::tell(named, "dropped"));
            }
        }
        bar.finish_and_clear();
        (dropped, result)
    }

    fn report(&self, picker: &Picker<'_>, count: u32, interrupted: bool) {
        if self.json {
            plain::tell(&Total::of("dropped", count, picker, interrupted));
        } else {
            say(&format!("{} dropped", letters(count)));
        }
    }
}

fn question(walk: &Walk<(Named, Hold)>, queue: &str) -> String {
    let mut reasons = BTreeMap::<&str, u32>::new();
    for (named, _) in &walk.kept {
        *reasons.entry(&named.reason).or_default() += 1;
    }
    let reasons = reasons
        .into_iter()
        .map(|(reason, count)| format!("{count} {}", plain::line(reason)));
    let count = letters(u32::try_from(walk.kept.len()).unwrap_or(u32::MAX));
    let reasons = reasons.collect::<Vec<_>>().join(", ");
    format!("Delete {count} of {queue} for good ({reasons})? [y/N] ")
}

/// Asks on the terminal. No answer, or a signal, is a no.
async fn ask(question: &str, stop: &CancellationToken) -> bool {
    let _ = write!(std::io::stderr(), "{question}");
    let answer = tokio::task::spawn_blocking(|| {
        let mut answer = String::new();
        // What cannot be read is no yes.
        let _ = std::io::stdin().read_line(&mut answer);
        answer
    });
    tokio::select! {
        () = stop.cancelled() => false,
        answer = answer => {
            let answer = answer.unwrap_or_default().trim().to_ascii_lowercase();
            matches!(answer.as_str(), "y" | "yes")
        }
    }
}
