//! Logs: to standard error, one line a settled event, and no credential in any of them.

use std::{error::Error, io::IsTerminal, iter, time::Duration};

use tracing_subscriber::{EnvFilter, fmt};

use crate::{
    manifest::EntryStatus,
    pipeline::{End, Outcome},
    settle::Decision,
};

/// How log lines are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// Libraries that report by themselves what callvault reports with what follows from it: each closed
/// channel, each certificate that is not right.
macro_rules! silenced {
    ($level:literal) => {
        concat!($level, ",lapin=off,rustls_platform_verifier=off")
    };
}

/// Starts logging. `quiet` is for commands whose reports go to a person: warnings and errors alone.
pub fn init(format: LogFormat, quiet: bool) {
    let default = if quiet {
        silenced!("warn")
    } else {
        silenced!("info")
    };
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(default));
    let builder = fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal());
    // Fails only if there is a subscriber already, and then that one logs.
    let _ = match format {
        LogFormat::Text => builder.with_target(false).try_init(),
        LogFormat::Json => builder.json().flatten_event(true).try_init(),
    };
}

/// An error and its causes in one line, without the queries of URLs: a query can be a credential.
pub fn chain(error: &(dyn Error + 'static)) -> String {
    let mut words: Vec<String> = Vec::new();
    for cause in iter::successors(Some(error), |&error| error.source()) {
        let cause = cause.to_string();
        // Many errors repeat their cause in their own message.
        if !words.last().is_some_and(|last| last.contains(&cause)) {
            words.push(cause);
        }
    }
    without_queries(&words.join(": "))
}

fn without_queries(text: &str) -> String {
    let mut clean = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('?') {
        let (before, query) = rest.split_at(at);
        clean.push_str(before);
        let word = before
            .rfind(char::is_whitespace)
            .map_or(before, |space| &before[space..]);
        let end = query.find(|c: char| c.is_whitespace() || matches!(c, '"' | '\'' | ')' | '>'));
        let end = end.unwrap_or(query.len());
        if word.contains("://") {
            clean.push_str("?…");
            rest = &query[end..];
        } else {
            clean.push('?');
            rest = &query[1..];
        }
    }
    clean.push_str(rest);
    clean
}

/// The one log line of a settled event.
pub fn settled(outcome: &Outcome, decision: &Decision, attempt: u32, took: Duration) {
    let (call_id, request_id) = outcome.ids.as_ref().map_or(("-", "-"), |(call, request)| {
        (call.as_str(), request.as_str())
    });
    let count = |status| {
        outcome
            .entries
            .iter()
            .filter(|entry| entry.status == status)
            .count()
    };
    let bytes: u64 = outcome
        .entries
        .iter()
        .filter_map(|entry| Some(entry.object.as_ref()?.size))
        .sum();
    let took_ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
    let label = label(outcome, decision);
    match decision {
        Decision::Ack => tracing::info!(
            call_id,
            request_id,
            outcome = label,
            attempt,
            archived = count(EntryStatus::Archived),
            quarantined = count(EntryStatus::Quarantined),
            bytes,
            took_ms,
            "settled"
        ),
        Decision::Retry { delay, charged } => tracing::warn!(
            call_id,
            request_id,
            outcome = label,
            attempt,
            charged,
            retry_in_s = delay.as_secs_f64(),
            reason = reason(outcome),
            unavailable = count(EntryStatus::Unavailable),
            bytes,
            took_ms,
            "settled"
        ),
        Decision::Dead(death) => tracing::error!(
            call_id,
            request_id,
            outcome = label,
            attempt,
            reason = death.reason.as_str(),
            detail = death.detail,
            unavailable = count(EntryStatus::Unavailable),
            bytes,
            took_ms,
            "settled"
        ),
        Decision::Requeue => {
            tracing::warn!(
                call_id,
                request_id,
                outcome = label,
                attempt,
                reason = reason(outcome),
                took_ms,
                "settled"
            );
        }
    }
}

/// The documented name of what became of an event.
pub fn label(outcome: &Outcome, decision: &Decision) -> &'static str {
    match (decision, &outcome.end) {
        (Decision::Retry { .. } | Decision::Requeue, _) => "retried",
        (Decision::Dead(_), _) => "dead",
        (Decision::Ack, End::Ignored { .. }) => "ignored",
        (Decision::Ack, End::Duplicate) => "duplicate",
        (Decision::Ack, End::Partial(_)) => "partial",
        (Decision::Ack, End::Archived | End::Invalid(_) | End::NotOurs(_)) => "archived",
    }
}

/// Why an event is not done, in words.
pub fn reason(outcome: &Outcome) -> String {
    match &outcome.end {
        End::Invalid(error) => error.to_string(),
        End::NotOurs(fault) => chain(fault),
        End::Partial(errors) => {
            let words: Vec<_> = errors.iter().map(|error| chain(error)).collect();
            words.join("; ")
        }
        End::Ignored { .. } | End::Duplicate | End::Archived => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_query_of_a_url_is_left_out_of_an_error() {
        let text = r#"PUT https://a.example/k?sig=s3cret&se=1 failed (really?): see "http://b/?x" and c?d"#;
        assert_eq!(
            without_queries(text),
            r#"PUT https://a.example/k?… failed (really?): see "http://b/?…" and c?d"#
        );
    }
}
