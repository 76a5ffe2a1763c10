//! Hostile properties: whoever may publish chooses a message's headers and properties, byte for byte.

use std::{process::Output, time::Duration};

use serde_json::Value;

use crate::support::{
    amqp::Amqp,
    call,
    config::Setup,
    origin::Origin,
    servers,
    wire::{Wire, nested_arrays, nested_tables, with_headers},
    worker::{Worker, callvault},
};

const DEADLINE: Duration = Duration::from_mins(1);

/// As deep as a frame of 128 KiB allows.
const DEEPEST_ARRAY: usize = 26_190;
const DEEPEST_TABLE: usize = 21_800;
/// As deep as goes along with a message.
const DEEP: usize = 7_000;

/// Nobody's event.
const NONSENSE: &[u8] = b"not json";

fn desk(setup: &Setup, arguments: &[&str]) -> Output {
    let config = setup.write();
    let output = callvault(
        [
            &["dead"],
            arguments,
            &["--config", config.to_str().unwrap()],
        ]
        .concat(),
    );
    let told = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{arguments:?}: {told}");
    output
}

fn reports(output: &Output) -> Vec<Value> {
    let lines = String::from_utf8_lossy(&output.stdout);
    let lines = lines
        .lines()
        .map(|line| serde_json::from_str(line).unwrap());
    lines.collect()
}

#[tokio::test]
async fn headers_that_nest_as_deep_as_a_frame_allows_harm_neither_worker_nor_desk() {
    let (setup, origin) = (Setup::folders().await, Origin::start().await);
    let mut worker = Worker::start(&setup.write());
    worker.wait_log("consuming").await;
    let broker = servers::rabbit().await;
    let mut wire = Wire::connect(broker).await;
    let event = call::served(&origin);
    let headers = [
        (nested_arrays(DEEPEST_ARRAY), NONSENSE),
        (nested_tables(DEEPEST_TABLE), &event[..]),
        (nested_arrays(DEEP), b"deep"),
        (nested_tables(DEEP / 2), b"deep, too"),
    ];
    for (headers, body) in &headers {
        wire.publish(
            &setup.exchange(),
            "call.analyzed",
            &with_headers(headers),
            body,
        )
        .await;
    }
    worker.wait_log("outcome=\"archived\"").await;
    let amqp = Amqp::connect(broker).await;
    let dead = format!("{}.dead", setup.queue());
    amqp.wait_count(&dead, 3).await;
    assert!(worker.is_running());
    worker.term();
    assert!(worker.wait_exit(DEADLINE).await.success());

    let listed = reports(&desk(&setup, &["list", "--json"]));
    let letters: Vec<_> = listed
        .iter()
        .filter_map(|line| line["id"].as_str())
        .collect();
    assert_eq!(letters.len(), 3, "{listed:?}");
    for letter in letters {
        desk(&setup, &["show", letter]);
    }
    desk(&setup, &["replay", "--all"]);
    amqp.wait_count(&dead, 0).await;
    let mut bodies = Vec::new();
    while let Some(message) = wire.take(setup.queue()).await {
        bodies.push(message.body);
    }
    bodies.sort();
    assert_eq!(bodies, [&b"deep"[..], b"deep, too", NONSENSE]);
}

#[tokio::test]
async fn a_message_whose_headers_fill_a_frame_moves_on_without_them_and_nothing_stands_still() {
    let setup = Setup::folders().await;
    let worker = Worker::start(&setup.write());
    worker.wait_log("consuming").await;
    let broker = servers::rabbit().await;
    let mut wire = Wire::connect(broker).await;
    let mut headers = crate::support::wire::short(b"large");
    headers.push(b'S');
    headers.extend(crate::support::wire::long("x".repeat(130_900).as_bytes()));
    headers.extend(b"\x05smallt\x01");
    // More than the worker takes at once.
    for _ in 0..6 {
        wire.publish(
            &setup.exchange(),
            "call.analyzed",
            &with_headers(&headers),
            NONSENSE,
        )
        .await;
    }
    let amqp = Amqp::connect(broker).await;
    amqp.publish(&setup.exchange(), "call.analyzed", Some("small"), NONSENSE)
        .await;
    let dead = format!("{}.dead", setup.queue());
    amqp.wait_count(&dead, 7).await;
    for letter in amqp.take_all(&dead).await {
        assert_eq!(letter.body, NONSENSE);
        let large = letter.message_id() != Some("small");
        assert_eq!(
            letter.number("x-callvault-dropped-headers"),
            large.then_some(1)
        );
        assert_eq!(letter.header("small").is_some(), large);
        assert_eq!(
            letter.text("x-callvault-reason").as_deref(),
            Some("event_invalid")
        );
    }
    assert_eq!(worker.log().matches("too large to go along").count(), 6);
}
