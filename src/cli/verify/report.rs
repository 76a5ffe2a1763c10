//! What an audit says: lines as things are found, and a summary.

use std::collections::BTreeMap;

use bytesize::ByteSize;
use serde::Serialize;

use crate::{
    audit::{About, Code, Finding, Run, Stopped, Tally, Unread},
    cli::{say, say_json},
    telemetry::{self, plain},
};

/// How it says it.
pub(super) struct Report {
    pub(super) json: bool,
    pub(super) quick: bool,
    /// The seals that manifests are held against.
    pub(super) seals: Option<About>,
}

#[derive(Serialize)]
struct FindingLine<'a> {
    what: &'static str,
    #[serde(flatten)]
    finding: &'a Finding,
    meaning: &'static str,
}

#[derive(Serialize)]
struct UnreadLine<'a> {
    what: &'static str,
    #[serde(flatten)]
    unread: &'a Unread,
}

#[derive(Serialize)]
struct Summary<'a> {
    what: &'static str,
    /// Whether it came to its end.
    complete: bool,
    quick: bool,
    #[serde(flatten)]
    tally: Tally,
    seconds: f64,
    found: u64,
    findings: &'a BTreeMap<Code, u64>,
    not_verified: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    seals: Option<&'a About>,
    #[serde(skip_serializing_if = "Option::is_none")]
    stopped: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    stopped_at: Option<String>,
}

impl Report {
    /// What the process that began this run has told already: a report is whole by itself.
    pub(super) fn earlier(&self, run: &Run) {
        let told = run.findings.len() as u64;
        if !self.json {
            let started = run.started.format("%FT%TZ");
            let manifests = run.tally.manifests;
            say(&format!(
                "goes on with the run of {started}: {manifests} manifests so far, {} findings",
                run.found()
            ));
        }
        run.findings
            .iter()
            .for_each(|finding| self.finding(finding));
        run.unread_first
            .iter()
            .for_each(|unread| self.unread(unread));
        if run.found() > told && !self.json {
            let more = run.found() - told;
            say(&format!("and {more} more, which that run has told"));
        }
    }

    pub(super) fn finding(&self, finding: &Finding) {
        if self.json {
            let meaning = finding.code.meaning();
            say_json(&FindingLine {
                what: "finding",
                finding,
                meaning,
            });
            return;
        }
        let Finding {
            code,
            bucket,
            key,
            detail,
            manifest,
            ..
        } = finding;
        // Mostly it is the one beside it.
        let folder = |key: &str| key.rsplit_once('/').map(|(folder, _)| folder.to_owned());
        let named = match manifest {
            Some(manifest) if folder(manifest) != folder(key) => format!(" ({manifest})"),
            _ => String::new(),
        };
        let line = format!("{code:<22} {bucket}: {key}: {detail}{named}");
        say(&plain(&line));
    }

    pub(super) fn unread(&self, unread: &Unread) {
        if self.json {
            say_json(&UnreadLine {
                what: "not_verified",
                unread,
            });
            return;
        }
        let Unread { bucket, key, why } = unread;
        say(&plain(&format!(
            "{:<22} {bucket}: {key}: {why}",
            "not verified"
        )));
    }

    pub(super) fn summary(&self, run: &Run, stopped: Option<&Stopped>, is_kept: bool) {
        let why = stopped.map(|stopped| telemetry::chain(stopped));
        let place = stopped.and_then(|_| run.place());
        if self.json {
            say_json(&Summary {
                what: "summary",
                complete: stopped.is_none(),
                quick: self.quick,
                tally: run.tally,
                seconds: run.seconds,
                found: run.found(),
                findings: &run.counts,
                not_verified: run.unread,
                seals: self.seals.as_ref(),
                stopped: why,
                stopped_at: place,
            });
            return;
        }
        say(&self.verified(run));
        if let Some(about) = &self.seals {
            say(&vouched(about));
        }
        if run.found() == 0 {
            let nothing = match (run.tally.manifests, stopped) {
                (0, None) => "no manifests: is this the right archive?",
                (_, None) if run.unread == 0 => "nothing is wrong",
                _ => "nothing wrong so far",
            };
            say(nothing);
        }
        for (code, count) in &run.counts {
            say(&format!("{count:>8}  {code}: {}", code.meaning()));
        }
        if run.unread > 0 {
            say(&format!(
                "{:>8}  could not be read and were not verified: each with what the store said (callvault's user has to have the right to list and to read)",
                run.unread
            ));
        }
        if let Some(why) = why {
            let place = place.map_or_else(
                || "nothing was verified".into(),
                |place| format!("not verified: {place}, and all that comes later"),
            );
            let again = if is_kept {
                "; the next run with this --state goes on there"
            } else {
                "; with --state FILE the next run would go on there"
            };
            say(&plain(&format!("not complete: {why}; {place}{again}")));
        }
    }

    fn verified(&self, run: &Run) -> String {
        let Tally {
            manifests,
            partial,
            objects,
            bytes,
            events,
        } = run.tally;
        let how = if self.quick {
            "by their sizes"
        } else {
            "by their SHA-256"
        };
        format!(
            "{manifests} manifests ({partial} partial, {events} with the event as it was received), {objects} objects of \
             {} {how}; {:.1} s",
            ByteSize(bytes),
            run.seconds
        )
    }
}

/// What the seals prove, and what they do not.
fn vouched(about: &About) -> String {
    let About {
        seals,
        proven,
        noted,
        root,
        days,
        supplements,
    } = about;
    let Some(root) = root else {
        return "there are no seals: `callvault seal` makes them".into();
    };
    let mut words = format!(
        "{seals} seals of {days} days ({supplements} of them supplements); the last one's root is {root}"
    );
    let by_key = match proven {
        0 => None,
        proven => Some(format!(
            "{proven} are genuine by a signature: nobody changed these seals who lacks the private key"
        )),
    };
    let by_root = match noted {
        0 => None,
        noted => Some(format!(
            "{noted} are genuine by a root that was given: nobody changed these seals since it was noted"
        )),
    };
    let nothing = "nothing vouches for them: what was changed by accident is found, not what somebody changed together \
                   with the seals; give a --public-key, or a root that was noted elsewhere (--expect-root, --roots)";
    let proofs: Vec<String> = by_key.into_iter().chain(by_root).collect();
    if proofs.is_empty() {
        words = format!("{words}; {nothing}");
    }
    for proof in proofs {
        words = format!("{words}; {proof}");
    }
    if *noted == 0 {
        words += "; seals that were removed from the end are not missed without a root of theirs";
    }
    words
}
