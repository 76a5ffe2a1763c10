//! Each kind of damage, planted and named.

use std::{fs, process::Command};

use super::{Archive, Event, Place, make_old, run};

const BUCKET: &str = "documents";

/// What is to be found: code, bucket and key.
type Found = Vec<(&'static str, &'static str, String)>;

fn expect(found: &mut Found, code: &'static str, bucket: &'static str, key: &str) {
    found.push((code, bucket, key.to_owned()));
}

/// One event for each kind of damage, and one that stays as it is.
async fn damaged(archive: &Archive) -> Found {
    let mut events: Vec<_> = (0..17).map(Event::of).collect();
    events[12].missing = true;
    archive.archive(&events).await;
    let mut found = Found::new();
    objects(archive, &events[..4], &mut found).await;
    manifests(archive, &events[4..9], &mut found).await;
    references(archive, &events[9..12], &events[16], &mut found).await;
    records(archive, &events[12..15], &mut found).await;
    strays(archive, &events[15], &mut found).await;
    found
}

async fn objects(archive: &Archive, events: &[Event], found: &mut Found) {
    let mut left = events.iter();
    let mut next = || left.next().unwrap();
    let key = next().key("recording.wav");
    archive.delete("recordings", &key).await;
    expect(found, "object_missing", "recordings", &key);

    let key = next().key("recording.wav");
    let bytes = archive.get("recordings", &key).await;
    let cut = bytes.slice(..bytes.len() - 1);
    archive.put("recordings", &key, cut).await;
    expect(found, "object_truncated", "recordings", &key);

    let key = next().key("transcript.json");
    let bytes = archive.get(BUCKET, &key).await;
    let longer = [&bytes[..], b"\n"].concat();
    archive.put(BUCKET, &key, longer).await;
    expect(found, "object_longer", BUCKET, &key);

    let key = next().key("recording.wav");
    let mut bytes = archive.get("recordings", &key).await.to_vec();
    *bytes.last_mut().unwrap() ^= 1;
    archive.put("recordings", &key, bytes).await;
    expect(found, "object_altered", "recordings", &key);
}

async fn manifests(archive: &Archive, events: &[Event], found: &mut Found) {
    let mut left = events.iter();
    let mut next = || left.next().unwrap();
    let key = next().manifest();
    let bytes = archive.get(BUCKET, &key).await;
    archive
        .put(BUCKET, &key, bytes.slice(..bytes.len() / 2))
        .await;
    expect(found, "manifest_invalid", BUCKET, &key);

    let key = next().manifest();
    archive.edit(&key, "manifest/v1", "manifest/v9").await;
    expect(found, "manifest_schema", BUCKET, &key);

    let event = next();
    let key = event.manifest().replace("request-6", "request-66");
    archive
        .put(BUCKET, &key, archive.get(BUCKET, &event.manifest()).await)
        .await;
    expect(found, "manifest_misplaced", BUCKET, &key);

    let event = next();
    archive
        .edit(&event.manifest(), "\"recordings\"", "\"elsewhere\"")
        .await;
    expect(
        found,
        "bucket_unknown",
        "elsewhere",
        &event.key("recording.wav"),
    );

    let event = next();
    archive.delete(BUCKET, &event.manifest()).await;
    expect(
        found,
        "object_unreferenced",
        BUCKET,
        &event.key("analysis.json"),
    );
    expect(
        found,
        "object_unreferenced",
        BUCKET,
        &event.key("transcript.json"),
    );
    expect(
        found,
        "object_unreferenced",
        "recordings",
        &event.key("recording.wav"),
    );
}

async fn references(archive: &Archive, events: &[Event], other: &Event, found: &mut Found) {
    let mut left = events.iter();
    let mut next = || left.next().unwrap();
    // A record that points at another call's file.
    let event = next();
    let (own, others) = (event.key("recording.wav"), other.key("recording.wav"));
    let as_key = |key: &str| format!("\"key\": \"{key}\"");
    archive
        .edit(&event.manifest(), &as_key(&own), &as_key(&others))
        .await;
    expect(found, "object_foreign", "recordings", &others);
    expect(found, "object_unreferenced", "recordings", &own);

    let event = next();
    let (one, two) = (event.key("analysis.json"), event.key("transcript.json"));
    archive
        .edit(&event.manifest(), &as_key(&one), &as_key(&two))
        .await;
    expect(found, "object_shared", BUCKET, &two);
    expect(found, "object_unreferenced", BUCKET, &one);
    // What it says of the first of them is not true of the second.
    expect(found, "object_longer", BUCKET, &two);

    let event = next();
    let climbs = "../recordings/x";
    archive
        .edit(
            &event.manifest(),
            &as_key(&event.key("recording.wav")),
            &as_key(climbs),
        )
        .await;
    expect(found, "object_key_invalid", "recordings", climbs);
    expect(
        found,
        "object_unreferenced",
        "recordings",
        &event.key("recording.wav"),
    );
}

async fn records(archive: &Archive, events: &[Event], found: &mut Found) {
    let mut left = events.iter();
    let mut next = || left.next().unwrap();
    let event = next();
    assert!(event.missing);
    expect(found, "partial_stale", BUCKET, &event.manifest());

    let key = next().manifest();
    archive
        .edit(&key, "\"status\": \"complete\"", "\"status\": \"partial\"")
        .await;
    expect(found, "manifest_contradictory", BUCKET, &key);
    expect(found, "partial_stale", BUCKET, &key);

    let key = next().manifest();
    archive
        .edit(&key, "\"agent_id\":\"a-1\"", "\"agent_id\":\"a-2\"")
        .await;
    expect(found, "event_altered", BUCKET, &key);
}

async fn strays(archive: &Archive, event: &Event, found: &mut Found) {
    for key in [event.key("recording-2.wav"), event.key("manifest-2.json")] {
        archive.put("quarantine", &key, "a stray").await;
        expect(found, "object_unreferenced", "quarantine", &key);
    }
    // Nobody's business.
    for key in [
        "notes.txt",
        "2023/08/24/notes.txt",
        "2023/08/24/x/index.jsonl.zst",
        ".hidden/a/b/c/d/e",
    ] {
        archive.put(BUCKET, key, "not callvault's").await;
    }
}

fn as_strs<'a>(found: &'a Found, but: &[&str]) -> Vec<(&'a str, &'a str, &'a str)> {
    let left = found.iter().filter(|(code, ..)| !but.contains(code));
    left.map(|(code, bucket, key)| (*code, *bucket, &key[..]))
        .collect()
}

async fn each_kind_of_damage_is_named(archive: Archive) {
    let found = damaged(&archive).await;
    let audit = archive.audit(&[]).await;
    audit.found(&as_strs(&found, &[]));
    let count = audit.summary["findings"].as_object().unwrap().values();
    let count: u64 = count.map(|count| count.as_u64().unwrap()).sum();
    assert_eq!(count, found.len() as u64);

    let quick = archive.audit(&["--quick"]).await;
    quick.found(&as_strs(&found, &["object_altered"]));
    let few = archive.audit(&["--jobs", "1"]).await;
    few.found(&as_strs(&found, &[]));

    // In words, each with what to do; and what is younger than a day is left to the workers.
    let output = run(&mut archive.verify(&[])).await;
    let said = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(
        !said.contains("object_unreferenced") && !said.contains("partial_stale"),
        "{said}"
    );
    assert!(said.contains(
        "object_missing         recordings: 2023/08/24/call-0/request-0/recording.wav: "
    ));
    assert!(
        said.contains("       1  object_missing: an archived file is gone: restore it"),
        "{said}"
    );
}

#[tokio::test]
async fn each_kind_of_damage_is_named_and_nothing_else_in_folders() {
    each_kind_of_damage_is_named(Archive::folders()).await;
}

#[tokio::test]
async fn each_kind_of_damage_is_named_and_nothing_else_on_s3() {
    each_kind_of_damage_is_named(Archive::s3().await).await;
}

#[tokio::test]
async fn what_is_old_is_told_without_being_asked() {
    let archive = Archive::folders();
    let event = Event::of(0);
    archive.archive(std::slice::from_ref(&event)).await;
    let (old, young) = (event.key("old.wav"), event.key("young.wav"));
    archive.put("recordings", &old, "old").await;
    archive.put("recordings", &young, "young").await;
    make_old(&archive.path("recordings", &old));
    let output = run(&mut archive.verify(&["--json"])).await;
    let audit = super::Audit::of(&output);
    audit.found(&[("object_unreferenced", "recordings", &old)]);
}

#[tokio::test]
async fn hostile_files_are_named_and_nothing_waits_for_them_or_holds_them_in_memory() {
    let archive = Archive::folders();
    assert!(matches!(archive.place, Place::Folders));
    let events: Vec<_> = (0..4).map(Event::of).collect();
    archive.archive(&events).await;
    // A pipe would be waited for; a directory is no file either.
    let pipe = events[0].key("recording.wav");
    archive.delete("recordings", &pipe).await;
    let mut make = Command::new("mkfifo");
    assert!(
        make.arg(archive.path("recordings", &pipe))
            .status()
            .unwrap()
            .success()
    );
    let folder = events[1].key("recording.wav");
    archive.delete("recordings", &folder).await;
    fs::create_dir(archive.path("recordings", &folder)).unwrap();
    // Larger than any manifest.
    let huge = events[2].manifest();
    let file = fs::File::options()
        .write(true)
        .open(archive.path(BUCKET, &huge))
        .unwrap();
    file.set_len(5 << 30).unwrap();
    // What would colour a terminal.
    archive
        .edit(
            &events[3].manifest(),
            "\"recordings\"",
            "\"\\u001b[31mred\"",
        )
        .await;

    let audit = archive.audit(&[]).await;
    audit.found(&[
        ("object_missing", "recordings", &pipe),
        ("object_missing", "recordings", &folder),
        ("manifest_invalid", BUCKET, &huge),
        (
            "bucket_unknown",
            "\u{1b}[31mred",
            &events[3].key("recording.wav"),
        ),
    ]);
    let output = run(&mut archive.verify(&[])).await;
    assert!(!output.stdout.contains(&0x1b));
}
