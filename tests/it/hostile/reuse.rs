//! Connections that are used again, and what a server does with them in between.

use std::{fs, time::Duration};

use super::{
    archive, entry, event,
    row::{answer, answer_then, ok, say, whole},
    setup,
};
use crate::support::script::{Act, Server};

const SMUGGLED: &str = "HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\nsmuggled";

/// Archives one file after the other from a server that plays these scripts, with a pause between the two
/// in which the connection lies idle; what was archived, and on how many connections.
async fn one_after_the_other(scripts: Vec<Vec<Act>>) -> ([String; 2], usize) {
    let mut setup = setup();
    setup.set("queue", "prefetch", "1");
    let server = Server::start(scripts).await;
    let slow = vec![
        Act::Read,
        Act::Pause(Duration::from_millis(500)),
        say(ok("", "x")),
    ];
    let between = Server::start(vec![slow]).await;
    let events = [
        ("first", &server),
        ("between", &between),
        ("second", &server),
    ]
    .map(|(id, server)| event(id, &[server.url(None, "/file.bin")]));
    let output = archive(&setup, &events).await;
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let archived = ["first", "second"].map(|id| {
        let entry = entry(&setup, id);
        let key = entry["object"]["key"].as_str().unwrap();
        fs::read_to_string(setup.folder("recordings").join(key)).unwrap()
    });
    (archived, server.seen().connections)
}

fn twice(first: Vec<Act>, second: Vec<Act>) -> Vec<Act> {
    [first, second].concat()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_is_in_order_is_used_again() {
    let script = twice(whole(b"one"), whole(b"two"));
    let (archived, connections) = one_after_the_other(vec![script]).await;
    assert_eq!(archived, ["one", "two"]);
    assert_eq!(connections, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_reads_what_a_server_says_behind_its_answer_as_his_own() {
    let behind = format!("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\none{SMUGGLED}");
    for said in [behind, ok_text("one and more")] {
        let scripts = vec![answer_then(said, vec![Act::Hang]), whole(b"two")];
        let (archived, connections) = one_after_the_other(scripts).await;
        assert_eq!(archived, ["one", "two"]);
        assert_eq!(connections, 2, "the connection was used again");
    }
}

fn ok_text(body: &str) -> String {
    format!("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n{body}")
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_reads_what_a_server_says_unasked_as_his_own() {
    let unasked = [
        Act::Pause(Duration::from_millis(100)),
        say(SMUGGLED),
        Act::Hang,
    ];
    let mut script = whole(b"one");
    script.extend(unasked);
    let (archived, connections) = one_after_the_other(vec![script, whole(b"two")]).await;
    assert_eq!(archived, ["one", "two"]);
    assert_eq!(connections, 2, "the connection was used again");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_dies_in_idleness_costs_nobody_his_file() {
    for end in [
        vec![],
        vec![Act::Reset],
        vec![Act::Read, Act::Reset],
        answer(""),
    ] {
        let script = twice(whole(b"one"), end);
        let (archived, connections) = one_after_the_other(vec![script, whole(b"two")]).await;
        assert_eq!(archived, ["one", "two"]);
        assert_eq!(connections, 2);
    }
}
