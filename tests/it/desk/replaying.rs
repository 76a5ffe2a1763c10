//! Back to work: confirmed first, let go of after, whatever interrupts it.

use std::{
    collections::BTreeSet,
    fs,
    process::{Command, Stdio},
};

use serde_json::Value;

use super::{
    DEADLINE, about, bodies, dead, desk, died, json, numbered, publish_all, publish_numbered, run,
    stderr, stdout, with_config,
};
use crate::support::{
    amqp::Amqp, call, config::Setup, origin::Origin, servers, wait::eventually, worker::Worker,
};

#[tokio::test]
async fn a_replay_starts_anew_a_second_death_tells_of_it_and_what_is_stored_is_not_fetched_again() {
    let (setup, origin) = (Setup::folders().await, Origin::start().await);
    let config = setup.write();
    origin.put("/analysis.json", "{\"a\": 1}", "application/json");
    let event = call::with_urls(&[&origin.url("/analysis.json"), &origin.url("/recording.wav")]);
    let worker = Worker::start(&config);
    worker.wait_log("consuming").await;
    let amqp = Amqp::connect(servers::rabbit().await).await;
    amqp.publish(&setup.exchange(), "call.analyzed", Some("r-1"), &event)
        .await;
    for replays in 0..=2 {
        amqp.wait_count(&dead(&setup), 1).await;
        let output = run(&config, &["dead", "show", "r-1", "--json"]);
        assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
        let shown = &json(&output)[0];
        assert_eq!(shown["replays"], replays);
        assert_eq!(
            (&shown["reason"], &shown["attempt"]),
            (&json!("attachment_unavailable"), &json!(2))
        );
        assert_eq!(
            shown["body"].as_str().unwrap().as_bytes(),
            event,
            "byte for byte"
        );
        let archive = &shown["archive"];
        assert_eq!(
            (&archive["state"], &archive["status"], &archive["key"]),
            (
                &json!("manifest"),
                &json!("partial"),
                &json!(call::MANIFEST)
            )
        );
        assert_eq!(archive["attachments"][0]["object"]["size"], 8);
        assert_eq!(archive["attachments"][1]["problem"]["code"], "http_404");
        if replays == 2 {
            origin.put("/recording.wav", call::wav(800), "audio/x-wav");
        }
        // What dies meanwhile is not replayed in the same breath.
        let which = if replays == 0 { "--all" } else { "r-1" };
        let output = run(&config, &["dead", "replay", which]);
        assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
        assert_eq!(stdout(&output), "1 dead letter replayed\n");
        if replays < 2 {
            let again = format!("{} refusals", 2 * (replays + 2));
            eventually(DEADLINE, &again, async || {
                (origin.hits("/recording.wav") == 2 * (replays + 2)).then_some(())
            })
            .await;
        }
    }
    worker.wait_log("outcome=\"archived\"").await;
    assert_eq!(origin.hits("/analysis.json"), 1, "it was stored");
    assert_eq!(amqp.count(&dead(&setup)).await, Some(0));
    let manifest = fs::read(setup.folder("documents").join(call::MANIFEST)).unwrap();
    let manifest: Value = serde_json::from_slice(&manifest).unwrap();
    assert_eq!(
        (&manifest["status"], &manifest["event"]["attempt"]),
        (&json!("complete"), &json!(1))
    );
}

#[tokio::test]
async fn a_replay_takes_what_is_named_and_leaves_the_rest_in_its_place() {
    let (setup, amqp) = desk().await;
    let (config, queue) = (setup.write(), dead(&setup));
    let messages = [
        (died(Some("a"), "too_large"), b"1".to_vec()),
        (died(Some("twins"), "event_invalid"), b"2".to_vec()),
        (died(None, "too_large"), b"abc".to_vec()),
        (died(Some("twins"), "too_large"), b"3".to_vec()),
        (died(Some("b"), "event_invalid"), b"4".to_vec()),
    ];
    publish_all(&amqp, &queue, messages).await;

    let arguments = ["dead", "replay", "twins", "ba7816bf", "nobody", "--json"];
    let output = run(&config, &arguments);
    assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
    assert!(stderr(&output).contains("no dead letter is named nobody"));
    let report = json(&output);
    let ids: Vec<_> = about(&report, "message")
        .iter()
        .map(|line| (line["id"].clone(), line["outcome"].clone()))
        .collect();
    let replayed = |id: &str| (json!(id), json!("replayed"));
    assert_eq!(
        ids,
        [
            replayed("twins"),
            replayed("ba7816bf8f01cfea"),
            replayed("twins")
        ]
    );
    assert_eq!(
        report.last().unwrap(),
        &json!({"what": "total", "outcome": "replayed", "count": 3, "not_found": ["nobody"], "interrupted": false})
    );
    let back = amqp.take_all(setup.queue()).await;
    for message in &back {
        assert_eq!(message.number("x-callvault-replays"), Some(1));
        assert_eq!(message.text("traceparent").as_deref(), Some("00-1"));
        assert_eq!(*message.properties.delivery_mode(), Some(2));
        for gone in ["attempt", "reason", "detail", "failed-at"] {
            assert!(
                message.header(&format!("x-callvault-{gone}")).is_none(),
                "{gone}"
            );
        }
    }
    let back: Vec<_> = back.iter().map(|message| message.body.as_slice()).collect();
    assert_eq!(back, [&b"2"[..], b"abc", b"3"]);

    let output = run(&config, &["dead", "replay", "--reason", "too_large"]);
    assert_eq!(stdout(&output), "1 dead letter replayed\n");
    assert_eq!(bodies(&amqp, setup.queue()).await, ["1"]);
    assert_eq!(bodies(&amqp, &queue).await, ["4"]);
}

#[tokio::test]
async fn a_replay_killed_in_the_middle_loses_nothing_and_doubles_one_at_most() {
    const COUNT: u32 = 1200;
    const KILLS: u32 = 6;
    let (setup, amqp) = desk().await;
    let (config, queue) = (setup.write(), dead(&setup));
    publish_numbered(&amqp, &queue, COUNT).await;
    for _ in 0..KILLS {
        let before = amqp.count(setup.queue()).await.unwrap();
        let mut replay = with_config(&config, &["dead", "replay", "--all"])
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        eventually(DEADLINE, "some replays", async || {
            (amqp.count(setup.queue()).await.unwrap() > before + 10).then_some(())
        })
        .await;
        replay.kill().unwrap();
        replay.wait().unwrap();
        // Until the broker has noticed and taken back what was held. One more or less is told below.
        eventually(DEADLINE, "the rest to come back", async || {
            let both = amqp.count(setup.queue()).await? + amqp.count(&queue).await?;
            (both >= COUNT - KILLS).then_some(())
        })
        .await;
    }
    let replayed = bodies(&amqp, setup.queue()).await;
    let rest = bodies(&amqp, &queue).await;
    assert!(!rest.is_empty(), "it was not killed in the middle");
    assert!(rest.is_sorted(), "the rest is in its place");
    let copies = replayed.len() + rest.len();
    let all: BTreeSet<_> = replayed.into_iter().chain(rest).collect();
    assert!(all.into_iter().eq(numbered(COUNT)), "some are lost");
    let most = usize::try_from(COUNT + KILLS).unwrap();
    assert!(copies <= most, "{copies} after {KILLS} kills");
}

#[tokio::test]
async fn a_signal_stops_a_replay_between_two_messages() {
    let (setup, amqp) = desk().await;
    let (config, queue) = (setup.write(), dead(&setup));
    publish_numbered(&amqp, &queue, 300).await;
    let replay = with_config(&config, &["dead", "replay", "--all", "--rate", "100/s"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    eventually(DEADLINE, "some replays", async || {
        (amqp.count(setup.queue()).await.unwrap() > 10).then_some(())
    })
    .await;
    let interrupt = Command::new("kill")
        .args(["-INT", &replay.id().to_string()])
        .status();
    assert!(interrupt.unwrap().success());
    let output = replay.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
    assert!(
        stderr(&output).contains("stopped by a signal"),
        "{}",
        stderr(&output)
    );
    let replayed = bodies(&amqp, setup.queue()).await;
    assert_eq!(
        stdout(&output),
        format!("{} dead letters replayed\n", replayed.len())
    );
    assert!(replayed.len() < 300);
    let rest = bodies(&amqp, &queue).await;
    let all: Vec<_> = replayed.into_iter().chain(rest).collect();
    assert_eq!(all, numbered(300), "each one once, and in order");
}

#[tokio::test]
async fn a_replay_that_the_work_queue_does_not_take_leaves_everything() {
    let (setup, amqp) = desk().await;
    let (config, queue) = (setup.write(), dead(&setup));
    publish_numbered(&amqp, &queue, 3).await;
    amqp.delete(setup.queue()).await;
    let output = run(&config, &["dead", "replay", "--all"]);
    assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
    assert_eq!(stdout(&output), "0 dead letters replayed\n");
    assert!(
        stderr(&output).contains("no queue takes"),
        "{}",
        stderr(&output)
    );
    assert_eq!(bodies(&amqp, &queue).await, numbered(3));
}
