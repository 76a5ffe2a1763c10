//! `callvault check`: is the configuration right, and does everything answer?

use std::path::Path;

use futures_util::future::join_all;
use serde::Serialize;

use super::{Exit, Failure, say, say_json, setup};
use crate::{
    config::{self, Mistakes},
    queue,
    store::{self, Bucket, Promise, StoreError, Stores},
    telemetry,
};

/// Checks the configuration, and says how to mend each mistake.
///
/// All mistakes are found in one run, each with file, line and key. With --connect it also reaches the
/// broker and every bucket, where it writes, replaces, reads and deletes a small object of its own under
/// `.callvault-check/`. Exits with 2 if the configuration is wrong, with 3 if something does not answer,
/// with 1 if a store lacks something that a promise of callvault's hangs on.
#[derive(Debug, clap::Args)]
pub(super) struct Check {
    /// Reach the broker and every bucket, too.
    #[arg(long)]
    connect: bool,
    /// Report as JSON lines.
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Finding<'a> {
    what: &'a str,
    ok: bool,
    detail: String,
    /// Not as it should be, but callvault can do with it.
    #[serde(skip)]
    works: bool,
}

impl Check {
    pub(super) async fn execute(self, path: &Path) -> Result<Exit, Failure> {
        let parts = match setup::load(path) {
            Ok(parts) => parts,
            Err(failure) if self.json => {
                let mistakes = failure.error.downcast_ref::<Mistakes>();
                for mistake in mistakes.into_iter().flat_map(Mistakes::iter) {
                    let detail = mistake.to_string();
                    self.report(&Finding {
                        what: "configuration",
                        ok: false,
                        detail,
                        works: false,
                    });
                }
                return Err(failure);
            }
            Err(failure) => return Err(failure),
        };
        self.report(&Finding {
            what: "configuration",
            ok: true,
            detail: path.display().to_string(),
            works: true,
        });
        for kind in &parts.kinds {
            self.report(&Finding {
                what: "kind",
                ok: true,
                detail: kind.clone(),
                works: true,
            });
        }
        if !self.connect {
            return Ok(Exit::Done);
        }
        let (name, broker) = match reach_broker(&parts.queue).await {
            Ok(found) => (format!("{}: {found}", parts.queue.name), Ok(())),
            Err(error) => (String::new(), Err(error)),
        };
        let mut all_ok = self.reached("broker", &name, broker);
        let mut all_kept = true;
        for (name, result) in reach_stores(&parts.archivist.stores).await {
            let (result, findings) = match result {
                Ok(findings) => (Ok(()), findings),
                Err(error) => (Err(error), Vec::new()),
            };
            all_ok &= self.reached("bucket", &name, result);
            for finding in findings {
                let ok = finding.promise == Promise::Kept;
                all_kept &= ok;
                self.report(&Finding {
                    what: "promise",
                    ok,
                    detail: format!("{name}: {}", finding.text),
                    works: finding.promise != Promise::Broken,
                });
            }
        }
        Ok(match (all_ok, all_kept) {
            (true, true) => Exit::Done,
            (true, false) => Exit::Problems,
            (false, _) => Exit::Unreachable,
        })
    }

    fn reached<E: std::error::Error + 'static>(
        &self,
        what: &str,
        name: &str,
        result: Result<(), E>,
    ) -> bool {
        let ok = result.is_ok();
        let detail = match result {
            Ok(()) => name.to_owned(),
            Err(error) => telemetry::chain(&error),
        };
        self.report(&Finding {
            what,
            ok,
            detail,
            works: ok,
        });
        ok
    }

    fn report(&self, finding: &Finding<'_>) {
        if self.json {
            say_json(finding);
        } else {
            let mark = match (finding.ok, finding.works) {
                (true, _) => "ok  ",
                (false, true) => "WEAK",
                (false, false) => "FAIL",
            };
            say(&format!("{mark}  {:<13} {}", finding.what, finding.detail));
        }
    }
}

/// The broker answers, and has the topology or may be given it. Looks without declaring: a check is to
/// leave no queue behind that fills.
async fn reach_broker(settings: &config::Queue) -> Result<&'static str, queue::QueueError> {
    let connection = queue::connect(&settings.url, queue::Role::Check).await?;
    match queue::topology::find_on(&connection, settings).await {
        Ok(()) => Ok("its exchange and queues are there"),
        Err(error) if error.is_missing() && settings.declare => {
            Ok("its exchange and queues will be declared by `run`")
        }
        Err(error) => Err(error),
    }
}

type Probed = Result<Vec<store::Finding>, StoreError>;

async fn reach_stores(stores: &Stores) -> Vec<(String, Probed)> {
    let probe = async |bucket: &Bucket| {
        bucket.reach().await?;
        bucket.probe().await
    };
    let mut results = join_all(
        stores
            .iter()
            .map(async |bucket| (bucket.name().to_owned(), probe(bucket).await)),
    )
    .await;
    results.sort_by(|(a, _), (b, _)| a.cmp(b));
    results
}
