//! What callvault tells: nothing that is a secret or somebody's own, at the most talkative level, whatever
//! becomes of an event; and nothing that a stranger wrote can make a line of its own in it.
//!
//! Secrets hold the word [`SECRET`], what people said and who they are the word [`PRIVATE`], so that a whole
//! run's output can be searched for both.

mod commands;
mod gossip;
mod lines;
mod settings;
mod stores;
mod worker;

use std::{
    path::Path,
    process::{Command, Output},
    time::Duration,
};

use base64::{Engine, prelude::BASE64_STANDARD};

use crate::support::{config::Setup, worker::command};

const DEADLINE: Duration = Duration::from_secs(30);

/// What a worker logs once it takes events; at the most talkative level it says, too, that it is not consuming.
fn consuming(format: &str) -> &'static str {
    match format {
        "json" => "\"message\":\"consuming\"",
        _ => "consuming queue=",
    }
}

/// In every credential: told to nobody.
const SECRET: &str = "canary";
/// In what an event and its files say: in the archive, and told to nobody else.
const PRIVATE: &str = "linnet";
/// Of the provider's sample event.
const PHONES: [&str; 2] = ["4244023931", "2183925232"];

/// That nothing secret is in a text, as it is or in base64.
#[track_caller]
fn assert_keeps_secrets(place: &str, text: &str) {
    assert_without(place, text, &[SECRET]);
}

/// That nothing secret and nothing private is in a text.
#[track_caller]
fn assert_tells_nothing(place: &str, text: &str) {
    assert_without(place, text, &[SECRET, PRIVATE, PHONES[0], PHONES[1]]);
}

#[track_caller]
fn assert_without(place: &str, text: &str, words: &[&str]) {
    let lower = text.to_ascii_lowercase();
    for word in words {
        let found = lower.find(word).or_else(|| {
            let mut encoded = in_base64(word);
            encoded.find_map(|form| text.find(&form))
        });
        if let Some(at) = found {
            let from = text.floor_char_boundary(at.saturating_sub(300));
            let to = text.ceil_char_boundary(at + 100);
            panic!("{word} in {place}: {}", &text[from..to]);
        }
    }
}

/// What a word looks like in base64, wherever in the encoded text it begins.
fn in_base64(word: &str) -> impl Iterator<Item = String> {
    (0..3).map(move |before| {
        let encoded = BASE64_STANDARD.encode(format!("{}{word}", "x".repeat(before)));
        let (from, to) = ((before * 8).div_ceil(6), (before + word.len()) * 8 / 6);
        encoded[from..to].to_owned()
    })
}

/// A command line at the most talkative level.
fn talkative(setup: &Setup, arguments: &[&str]) -> Command {
    talkative_at(&setup.write(), arguments)
}

fn talkative_at(config: &Path, arguments: &[&str]) -> Command {
    let mut command = command();
    command
        .args(arguments)
        .arg("--config")
        .arg(config)
        .env("RUST_LOG", "trace");
    command
}

/// Runs a command off the runtime's threads, on which the servers of the tests live.
async fn run(mut command: Command) -> Output {
    let run = tokio::task::spawn_blocking(move || command.output().unwrap());
    run.await.unwrap()
}

/// All that a command said.
fn said(output: &Output) -> String {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).expect("output in UTF-8");
    format!("{}\n{}", text(&output.stdout), text(&output.stderr))
}

#[test]
fn a_canary_is_seen_in_whatever_case_and_in_base64() {
    for text in [
        "x-canary-1".to_owned(),
        "CANARY".to_owned(),
        BASE64_STANDARD.encode("guest:canary"),
        BASE64_STANDARD.encode("a canary."),
        BASE64_STANDARD.encode("{\"a\":\"canary\"}"),
    ] {
        let seen = std::panic::catch_unwind(|| assert_keeps_secrets("a text", &text));
        assert!(seen.is_err(), "{text}");
    }
    assert_tells_nothing("a text", "a finch");
}
