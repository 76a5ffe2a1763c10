//! As many dead letters as a bad week leaves.

use std::{
    fs,
    io::{BufRead, BufReader, Read},
    process::Stdio,
};

use super::{DEADLINE, dead, desk, died, publish_all, run, stderr, stdout, with_config};
use crate::support::{wait::eventually, worker::most_memory};

#[tokio::test]
async fn ten_thousand_messages_are_not_held_in_memory() {
    const COUNT: u32 = 10_000;
    /// What the program takes with a single message, debug build and AMQP buffers included, is about half
    /// of it; the bodies together are twice as much.
    const MOST_MIB: u64 = 90;
    let (setup, amqp) = desk().await;
    let (config, queue) = (setup.write(), dead(&setup));
    let messages = (0..COUNT).map(|n| {
        let id = format!("m-{n:05}");
        let mut body = id.clone().into_bytes();
        body.resize(12 << 10, b' ');
        (died(Some(&id), "event_invalid"), body)
    });
    publish_all(&amqp, &queue, messages).await;

    // Once the first line is there, all messages were seen; and the pipe is too small for the rest.
    let mut list = with_config(&config, &["dead", "list"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(list.stdout.take().unwrap());
    let mut report = String::new();
    lines.read_line(&mut report).unwrap();
    let memory = most_memory(list.id());
    lines.read_to_string(&mut report).unwrap();
    assert!(list.wait().unwrap().success());
    assert!(report.starts_with("10000 dead letters\n"), "{report:.200}");
    let ids = report.lines().filter_map(|line| line.strip_prefix("m-"));
    assert!(
        ids.map(|line| &line[..5])
            .eq((0..COUNT).map(|n| format!("{n:05}"))),
        "in order"
    );
    assert!(memory < MOST_MIB, "list took {memory} MiB");

    let mut replay = with_config(&config, &["dead", "replay", "m-09998"])
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let mut memory = 0;
    eventually(DEADLINE, "the replay", async || {
        if replay.try_wait().unwrap().is_some() {
            return Some(());
        }
        memory = memory.max(most_memory_if_running(replay.id()));
        None
    })
    .await;
    assert!((1..MOST_MIB).contains(&memory), "replay took {memory} MiB");
    assert_eq!(amqp.count(setup.queue()).await, Some(1));

    let output = run(&config, &["dead", "drop", "--all", "--yes"]);
    assert_eq!(
        stdout(&output),
        "9999 dead letters dropped\n",
        "{}",
        stderr(&output)
    );
    assert_eq!(
        amqp.count(&queue).await,
        Some(0),
        "each acknowledgement arrived"
    );
}

fn most_memory_if_running(process: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
    if status.contains("VmHWM:") {
        most_memory(process)
    } else {
        0
    }
}
