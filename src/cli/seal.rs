//! `callvault seal`: what the archive held, in writing.

use std::{
    collections::BTreeSet,
    io::{self, IsTerminal},
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::anyhow;
use chrono::{DateTime, Days, TimeDelta, Utc};
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;

use super::{
    Exit, Failure, say, say_error, say_json,
    setup::{self, Parts},
    trust::{Trust, Trusted},
};
use crate::{
    audit::{
        Code,
        days::{Day, Span, days},
    },
    seal::{
        Chain, Flaw, Sealer, SigningKey,
        chain::seal_key,
        make::{Outcome, Summary},
    },
    telemetry::plain,
};

/// Seals days of the archive: writes down which manifests there are, so that `verify --sealed` can prove it later.
///
/// Each seal refers to the one before, and is signed where there is a key. What comes late is sealed by supplements; what
/// was sealed is never sealed as anything else: if it is gone or altered, that is said, and the exit code is 1.
#[derive(Debug, clap::Args)]
pub(super) struct Seal {
    /// Seal this day of the keys (2026-11-22, or `yesterday`: UTC), and read all again that is sealed of it. Without it, each
    /// day up to the last whose events have had all their retries: the first time those that have manifests, then those
    /// since the last sealed one, and what came late to the ones before.
    #[arg(long, value_name = "DAY", value_parser = day)]
    day: Option<Day>,
    /// Without --day: how many days back are looked through again for what came late.
    #[arg(long, value_name = "DAYS", default_value_t = 7, conflicts_with = "day")]
    look_back: u32,
    /// Sign with this key: Ed25519, as `openssl genpkey -algorithm ed25519` writes it.
    #[arg(long, value_name = "FILE", env = "CALLVAULT_SEAL_KEY")]
    key: Option<PathBuf>,
    #[command(flatten)]
    trust: Trust,
    /// Report as JSON lines: one for each seal and each reason against one, and a summary.
    #[arg(long)]
    json: bool,
}

/// How often somebody else may be faster.
const TURNS: u32 = 5;
/// How long uploads that were given up may take to be aborted.
const TIDYING: Duration = Duration::from_secs(10);

fn day(text: &str) -> Result<Day, String> {
    if text == "yesterday" {
        let today = Utc::now().date_naive();
        return Ok(Day::of(today - Days::new(1)));
    }
    let day = text.parse();
    day.map_err(|_| "a day is written as 2026-11-22, or `yesterday`".into())
}

/// One line of the report.
#[derive(Serialize)]
#[serde(tag = "what", rename_all = "lowercase")]
enum Line<'a> {
    Sealed {
        day: Day,
        part: u32,
        sequence: u64,
        key: String,
        root: String,
        signed: bool,
        manifests: u64,
        rows: u64,
        index: &'a str,
        unreadable: &'a [String],
    },
    Nothing {
        day: Day,
    },
    Finding {
        #[serde(skip_serializing_if = "Option::is_none")]
        day: Option<Day>,
        code: Code,
        key: &'a str,
        detail: &'a str,
        meaning: &'static str,
    },
    Summary {
        seals: usize,
        #[serde(skip_serializing_if = "Option::is_none")]
        root: Option<String>,
        sealed: u64,
        findings: u64,
    },
}

/// A run of the command.
struct Run<'a> {
    command: &'a Seal,
    parts: &'a Parts,
    key: Option<SigningKey>,
    trusted: Trusted,
    sealed: u64,
    findings: u64,
}

impl Seal {
    pub(super) async fn execute(self, config: &Path) -> Result<Exit, Failure> {
        let parts = setup::load_archive(config)?;
        let key = self.key.as_deref().map(SigningKey::read).transpose();
        let key = key.map_err(Failure::usage)?;
        if let (Some((_, true)), Some(file)) = (&key, &self.key) {
            say_error(&format!(
                "callvault: {}: others than its owner may read this private key (chmod 600)",
                file.display()
            ));
        }
        let mut trusted = self.trust.read(true)?;
        let key = key.map(|(key, _)| key);
        trusted
            .keys
            .extend(key.iter().map(|key| key.public().clone()));
        let mut run = Run {
            command: &self,
            parts: &parts,
            key,
            trusted,
            sealed: 0,
            findings: 0,
        };
        let done = run.all().await;
        if !parts.archivist.stores.cleaned(TIDYING).await {
            tracing::warn!(
                "an upload that was given up is still being aborted: `callvault sweep` finds it"
            );
        }
        done
    }
}

impl Run<'_> {
    async fn all(&mut self) -> Result<Exit, Failure> {
        let settled = settled(self.parts, Utc::now());
        if let Some(day) = self.command.day {
            self.judge(day, settled)?;
        }
        let Some(mut chain) = self.chain().await? else {
            return Ok(Exit::Problems);
        };
        let days = match self.command.day {
            Some(day) => BTreeSet::from([day]),
            None => self.days(&chain, settled).await?,
        };
        for day in days {
            match self.day(chain, day).await? {
                Some(grown) => chain = grown,
                None => return Ok(Exit::Problems),
            }
        }
        self.conclude(&chain);
        Ok(if self.findings > 0 {
            Exit::Problems
        } else {
            Exit::Done
        })
    }

    fn judge(&self, day: Day, settled: Day) -> Result<(), Failure> {
        if day.date() >= Utc::now().date_naive() {
            let why = anyhow!(
                "{day} is not over yet (UTC), so its events are still coming: seal it tomorrow"
            );
            return Err(Failure::usage(why));
        }
        if day > settled {
            let delays: Duration = self.parts.queue.retry_delays.iter().sum();
            say_error(&format!(
                "callvault: events of {day} may still be retried (queue.retry_delays are {} together): what comes \
                 later takes a supplement, and `verify --sealed` names it until then",
                humantime::format_duration(delays)
            ));
        }
        Ok(())
    }

    /// The days that want a look: all that have manifests, until there is a seal; then the last ones that were looked at
    /// before, and each since, also without manifests: what is put there later is so known for late. What appears on
    /// days long past is sealed by `--day` alone: somebody should know why.
    async fn days(&self, chain: &Chain, settled: Day) -> Result<BTreeSet<Day>, Failure> {
        let sealed = || {
            chain
                .links
                .iter()
                .map(|link| link.seal.statement.day.date())
        };
        let (Some(first), Some(last)) = (sealed().min(), sealed().max()) else {
            let span = Span {
                since: None,
                until: Some(settled),
            };
            let present = days(&self.parts.archivist.manifests, span).await;
            return Ok(present.map_err(Failure::unreachable)?.into_iter().collect());
        };
        let settled = settled.date();
        let back = Days::new(self.command.look_back.into());
        let again = settled.checked_sub_days(back).unwrap_or(first);
        let since = first.max(last.min(again)).iter_days().skip(1);
        let days = std::iter::once(first)
            .filter(|first| *first > again)
            .chain(since);
        Ok(days
            .take_while(|day| *day <= settled)
            .map(Day::of)
            .collect())
    }

    /// The chain as it is, if it may grow.
    async fn chain(&mut self) -> Result<Option<Chain>, Failure> {
        let chain = Chain::read(&self.parts.archivist.manifests).await;
        let mut chain = chain.map_err(Failure::unreachable)?;
        let mut flaws = std::mem::take(&mut chain.flaws);
        flaws.extend(chain.expect(&self.trusted.roots));
        chain.prove(&self.trusted.keys, &[]);
        if let Some(head) = chain.head() {
            let statement = &head.seal.statement;
            let key = seal_key(statement.sequence);
            match &self.key {
                None if head.seal.signature.is_some() => {
                    return Err(Failure::usage(anyhow!(
                        "{key}, the last seal, is signed: sign this one too, with --key FILE or CALLVAULT_SEAL_KEY"
                    )));
                }
                // The next root would be noted, and vouch for it.
                None if !self.trusted.roots.is_empty()
                    && !self.trusted.roots.contains(&head.seal.sha256) =>
                {
                    let what = "somebody made this seal whose root was not noted with the others, and the next would vouch \
                                for it: find out who; if it is yours, note its root (--expect-root HEX)"
                        .to_owned();
                    flaws.push(Flaw {
                        code: Code::SealUnsigned,
                        key,
                        what,
                    });
                }
                // A signature vouches for all before it. Whoever had written the chain anew would so have it signed.
                Some(_) if !head.proven && !self.trusted.roots.contains(&head.seal.sha256) => {
                    let what = "the last seal is not signed with a key that is known here, and signing would vouch for it: if its \
                         signer's key was changed, give the old one (--public-key FILE); if you begin to sign, make sure that \
                         its root is the one that you noted, and give that (--expect-root HEX)"
                        .to_owned();
                    flaws.push(Flaw {
                        code: Code::SealUnsigned,
                        key,
                        what,
                    });
                }
                _ => {}
            }
        }
        if flaws.is_empty() {
            return Ok(Some(chain));
        }
        for flaw in &flaws {
            self.report(None, flaw);
        }
        say_error("callvault: nothing was sealed: the chain of seals is not what it was");
        Ok(None)
    }

    /// Seals one day, and gives back the chain that grew; nothing where that broke meanwhile.
    async fn day(&mut self, mut chain: Chain, day: Day) -> Result<Option<Chain>, Failure> {
        let thorough = self.command.day.is_some();
        let bar = progress(day);
        for _ in 0..TURNS {
            let sealer = Sealer {
                bucket: &self.parts.archivist.manifests,
                budget: &self.parts.archivist.budget,
                key: self.key.as_ref(),
            };
            let show = |done, total| {
                bar.set_length(total);
                bar.set_position(done);
            };
            let sealing = sealer.seal(&mut chain, day, thorough, &show).await;
            bar.finish_and_clear();
            match sealing.map_err(Failure::unreachable)? {
                Outcome::Sealed(summary) => self.sealed(day, &summary)?,
                Outcome::Nothing if thorough && self.command.json => {
                    say_json(&Line::Nothing { day });
                }
                Outcome::Nothing if thorough => say(&format!("{day}: nothing new")),
                Outcome::Nothing => {}
                Outcome::Refused(flaws, count) => {
                    for flaw in &flaws {
                        self.report(Some(day), flaw);
                    }
                    let rest = count - flaws.len() as u64;
                    self.findings += rest;
                    let more = match rest {
                        0 => String::new(),
                        rest => format!(", and for {rest} more reasons like these"),
                    };
                    say_error(&format!(
                        "callvault: {day} was not sealed again, for what is said above{more}: restore what was \
                         sealed first"
                    ));
                }
                Outcome::Overtaken => match self.chain().await? {
                    Some(grown) => {
                        chain = grown;
                        continue;
                    }
                    None => return Ok(None),
                },
            }
            return Ok(Some(chain));
        }
        Err(Failure::unreachable(anyhow!(
            "{day} was not sealed: {TURNS} times somebody else made a seal at the same time; one who seals is enough"
        )))
    }

    fn sealed(&mut self, day: Day, summary: &Summary) -> Result<(), Failure> {
        let Summary {
            seal,
            unreadable,
            stray,
        } = summary;
        let statement = &seal.statement;
        self.sealed += 1;
        self.findings += unreadable.len() as u64;
        if self.command.json {
            say_json(&Line::Sealed {
                day,
                part: statement.part,
                sequence: statement.sequence,
                key: seal_key(statement.sequence),
                root: seal.sha256.to_string(),
                signed: seal.signature.is_some(),
                manifests: statement.manifests,
                rows: statement.rows,
                index: &statement.index,
                unreadable,
            });
        } else {
            let more = if statement.part > 1 { " more" } else { "" };
            say(&format!(
                "{day}: {}{more} manifests sealed, with {} rows: seal {}, root {}",
                statement.manifests, statement.rows, statement.sequence, seal.sha256
            ));
        }
        for key in unreadable {
            say_error(&format!(
                "callvault: {key} is no manifest of callvault's; it is sealed as it is: see what `callvault verify` says"
            ));
        }
        for key in stray {
            say_error(&format!(
                "callvault: {key} belongs to no seal, and whoever loads all indexes loads it too: remove it"
            ));
        }
        self.command.trust.note(seal)
    }

    fn report(&mut self, day: Option<Day>, flaw: &Flaw) {
        self.findings += 1;
        let Flaw { code, key, what } = flaw;
        if self.command.json {
            say_json(&Line::Finding {
                day,
                code: *code,
                key,
                detail: what,
                meaning: code.meaning(),
            });
        } else {
            let (code, meaning) = (code.as_str(), code.meaning());
            say(&plain(&format!("{code:<18} {key}: {what}: {meaning}")));
        }
    }

    fn conclude(&self, chain: &Chain) {
        let root = chain.head().map(|head| head.seal.sha256.to_string());
        if self.command.json {
            say_json(&Line::Summary {
                seals: chain.links.len(),
                root,
                sealed: self.sealed,
                findings: self.findings,
            });
            return;
        }
        match root {
            None => say("there is nothing to seal yet"),
            Some(root) => say(&format!(
                "{} new; {} seals in all, the last one's root is {root}: note it where nobody who may write to the \
                 archive can write",
                self.sealed,
                chain.links.len()
            )),
        }
    }
}

/// The last day of which, as a rule, nothing is to come any more: its last event may have taken all its retries.
fn settled(parts: &Parts, now: DateTime<Utc>) -> Day {
    let delays: Duration = parts.queue.retry_delays.iter().sum();
    let tries = u32::try_from(parts.queue.retry_delays.len()).unwrap_or(u32::MAX);
    let takes = delays.saturating_add(parts.job_time.saturating_mul(tries.saturating_add(1)));
    let over = TimeDelta::from_std(takes)
        .ok()
        .and_then(|takes| now.checked_sub_signed(takes))
        .unwrap_or(DateTime::<Utc>::MIN_UTC);
    let date = over.date_naive();
    Day::of(date.pred_opt().unwrap_or(date))
}

fn progress(day: Day) -> ProgressBar {
    if !io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::new(0).with_message(day.to_string());
    let template = "{msg} {bar:30} {human_pos} of {human_len} manifests  {per_sec:.0}, {eta} left";
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style);
    }
    bar
}
