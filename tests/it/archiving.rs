//! What becomes of an event that can be archived: from the exchange to objects and a manifest.

use std::{fs, path::Path, time::Duration};

use callvault::digest::Sha256;
use serde_json::{Value, json};

use crate::support::{
    amqp::Amqp,
    call,
    config::Setup,
    origin::{Origin, Reply},
    s3::S3,
    servers,
    wait::eventually,
    worker::{Worker, most_memory},
};

const DEADLINE: Duration = Duration::from_secs(20);

/// A worker that consumes, and the ingress.
async fn start(setup: &Setup) -> (Worker, Amqp) {
    let worker = Worker::start(&setup.write());
    worker.wait_log("consuming").await;
    (worker, Amqp::connect(servers::rabbit().await).await)
}

async fn publish(amqp: &Amqp, setup: &Setup, body: &[u8]) {
    amqp.publish(&setup.exchange(), "call.analyzed", Some("id"), body)
        .await;
}

/// The sample call's manifest in a folder, once it is there.
async fn manifest(setup: &Setup) -> Value {
    read_json(&setup.folder("documents").join(call::MANIFEST)).await
}

async fn read_json(path: &Path) -> Value {
    let bytes = eventually(DEADLINE, &path.display().to_string(), async || {
        fs::read(path).ok()
    })
    .await;
    serde_json::from_slice(&bytes).unwrap()
}

/// The worker is told to stop, and has settled everything by its end.
async fn stop(mut worker: Worker, amqp: &Amqp, setup: &Setup) -> String {
    worker.term();
    assert!(
        worker.wait_exit(DEADLINE).await.success(),
        "exit code of a drain"
    );
    for queue in [setup.queue().to_owned(), format!("{}.dead", setup.queue())] {
        assert_eq!(
            amqp.count(&queue).await,
            Some(0),
            "messages left in {queue}"
        );
    }
    worker.log()
}

#[tokio::test]
async fn the_providers_event_becomes_checked_objects_and_a_manifest_on_s3() {
    let (setup, origin, s3) = (
        Setup::s3().await,
        Origin::start().await,
        servers::s3().await,
    );
    let event = call::served(&origin);
    let (worker, amqp) = start(&setup).await;
    publish(&amqp, &setup, &event).await;

    let key = |bucket: &str, key: &str| format!("{}/{key}", setup.prefix(bucket));
    let manifest_key = key("documents", call::MANIFEST);
    let (headers, manifest) = eventually(DEADLINE, "the manifest", async || {
        s3.get(S3::BUCKET, &manifest_key).await
    })
    .await;
    assert_eq!(headers["content-type"], "application/json");
    let text = String::from_utf8(manifest.to_vec()).unwrap();
    let manifest: Value = serde_json::from_slice(&manifest).unwrap();
    assert_eq!(manifest["schema"], "callvault.manifest/v1");
    assert_eq!(manifest["status"], "complete");
    assert_eq!(manifest["call"]["from"], "+12183925232");
    assert_eq!(manifest["call"]["user_id"], 42);
    assert_eq!(manifest["event"]["sha256"], Sha256::of(&event).to_string());
    assert_eq!(manifest["event"]["attempt"], 1);
    assert!(
        text.contains(std::str::from_utf8(event.trim_ascii_end()).unwrap()),
        "the event as received"
    );

    for (at, (name, content_type, bytes)) in call::files().into_iter().enumerate() {
        let bucket = if name == "recording.wav" {
            "recordings"
        } else {
            "documents"
        };
        let object_key = format!("{}/{name}", call::FOLDER);
        let (headers, stored) = s3.get(S3::BUCKET, &key(bucket, &object_key)).await.unwrap();
        assert_eq!(stored, bytes, "{name}");
        let sha256 = Sha256::of(&bytes).to_string();
        let entry = &manifest["attachments"][at];
        assert_eq!(
            entry["object"],
            json!({"bucket": bucket, "key": object_key, "size": bytes.len(), "sha256": sha256, "content_type": content_type})
        );
        assert_eq!(entry["status"], "archived");
        assert_eq!(entry["organization_id"], call::ORGANIZATION);
        assert_eq!(headers["content-type"], content_type);
        for (metadata, value) in [
            ("call_id", "5e09c7cc-27e8-4d91-89ee-4ea5bafaaa15"),
            ("request_id", "00552b38-d0e7-460f-9877-a7c8c8b2ff8c"),
            ("conversation_id", "742993a5-c9c6-4d7d-bf09-31417a1c04a9"),
            ("kind", name.split('.').next().unwrap()),
            ("agent_id", call::AGENT),
            ("organization_id", call::ORGANIZATION),
            ("sha256", &sha256),
            ("callvault_version", env!("CARGO_PKG_VERSION")),
        ] {
            assert_eq!(
                headers[&format!("x-amz-meta-{metadata}")],
                value,
                "{metadata} of {name}"
            );
        }
        if name == "recording.wav" {
            let check = json!({"type": "wav", "codec": "pcm_s16le", "channels": 1, "sample_rate_hz": 8000, "bits_per_sample": 16, "duration_ms": 1000});
            assert_eq!(entry["check"], check);
            assert_eq!(headers["x-amz-meta-wav_codec"], "pcm_s16le");
            assert_eq!(headers["x-amz-meta-duration_ms"], "1000");
        } else {
            assert_eq!(entry["check"], json!({"type": "json"}));
        }
    }
    let log = stop(worker, &amqp, &setup).await;
    assert!(log.contains("outcome=\"archived\""), "{log}");
    let keys = s3.list(S3::BUCKET, &setup.name).await;
    assert_eq!(keys.len(), 4, "three objects and a manifest: {keys:?}");
}

#[tokio::test]
async fn the_same_event_in_a_folder_has_the_same_keys_and_bytes() {
    let (setup, origin) = (Setup::folders().await, Origin::start().await);
    let (worker, amqp) = start(&setup).await;
    publish(&amqp, &setup, &call::served(&origin)).await;
    let manifest = manifest(&setup).await;
    assert_eq!(manifest["status"], "complete");
    for (name, _, bytes) in call::files() {
        let bucket = if name == "recording.wav" {
            "recordings"
        } else {
            "documents"
        };
        let file = setup.folder(bucket).join(call::FOLDER).join(name);
        assert_eq!(fs::read(file).unwrap(), bytes, "{name}");
    }
    stop(worker, &amqp, &setup).await;
}

#[tokio::test]
async fn other_events_are_acknowledged_and_one_without_attachments_gets_a_manifest() {
    let mut setup = Setup::folders().await;
    setup.set("queue", "routing_keys", r#"["call.#"]"#);
    let (worker, amqp) = start(&setup).await;
    for (key, body) in [("call.started", call::STARTED), ("call.ended", call::ENDED)] {
        amqp.publish(&setup.exchange(), key, None, body.as_bytes())
            .await;
    }
    publish(&amqp, &setup, &call::with_urls(&[])).await;
    let manifest = manifest(&setup).await;
    assert_eq!(
        (&manifest["status"], &manifest["attachments"]),
        (&json!("complete"), &json!([]))
    );
    let log = stop(worker, &amqp, &setup).await;
    assert_eq!(log.matches("outcome=\"ignored\"").count(), 2, "{log}");
}

#[tokio::test]
async fn two_recordings_of_one_event_are_both_kept() {
    let (setup, origin) = (Setup::folders().await, Origin::start().await);
    origin.put("/1/recording.wav", call::wav(100), "audio/x-wav");
    origin.put("/2/recording.wav", call::wav(200), "audio/x-wav");
    let (worker, amqp) = start(&setup).await;
    let urls = [
        origin.url("/1/recording.wav"),
        origin.url("/2/recording.wav"),
    ];
    publish(&amqp, &setup, &call::with_urls(&[&urls[0], &urls[1]])).await;
    manifest(&setup).await;
    let folder = setup.folder("recordings").join(call::FOLDER);
    assert_eq!(
        fs::read(folder.join("recording.wav")).unwrap(),
        call::wav(100)
    );
    assert_eq!(
        fs::read(folder.join("recording-2.wav")).unwrap(),
        call::wav(200)
    );
    stop(worker, &amqp, &setup).await;
}

#[tokio::test]
async fn a_tenants_recordings_land_in_its_own_bucket_and_the_rest_where_all_do() {
    let (mut setup, origin) = (Setup::folders().await, Origin::start().await);
    let organization = call::ORGANIZATION;
    setup.append(&format!(
        "[buckets.acme]\nurl = \"file:archive/acme\"\n\
         [[tenants]]\norganization_id = \"{organization}\"\nbuckets = {{ recordings = \"acme\" }}\n"
    ));
    let (worker, amqp) = start(&setup).await;
    publish(&amqp, &setup, &call::served(&origin)).await;
    let manifest = manifest(&setup).await;
    assert_eq!(manifest["attachments"][1]["object"]["bucket"], "acme");
    assert_eq!(manifest["attachments"][0]["object"]["bucket"], "documents");
    assert!(
        setup
            .folder("acme")
            .join(call::FOLDER)
            .join("recording.wav")
            .exists()
    );
    assert!(!setup.folder("recordings").join(call::FOLDER).exists());
    stop(worker, &amqp, &setup).await;
}

#[tokio::test]
async fn what_fails_its_check_is_quarantined_unchanged_with_its_problem() {
    let (setup, origin) = (Setup::folders().await, Origin::start().await);
    let broken = [
        (
            "recording.wav",
            "wav_truncated",
            call::wav(8000).slice(..1000),
        ),
        (
            "transcript.json",
            "json_shape",
            br#"{"turns":[{"text":"a"},{"text":7}]}"#[..].into(),
        ),
        ("analysis.json", "json_syntax", b"{\"a\":"[..].into()),
    ];
    let mut urls = Vec::new();
    for (name, _, bytes) in &broken {
        origin.put(
            &format!("/{name}"),
            bytes.clone(),
            "application/octet-stream",
        );
        urls.push(origin.url(&format!("/{name}")));
    }
    let (worker, amqp) = start(&setup).await;
    let urls: Vec<_> = urls.iter().map(String::as_str).collect();
    publish(&amqp, &setup, &call::with_urls(&urls)).await;
    let manifest = manifest(&setup).await;
    assert_eq!(manifest["status"], "complete", "nothing is missing");
    for (at, (name, code, bytes)) in broken.iter().enumerate() {
        let entry = &manifest["attachments"][at];
        assert_eq!(
            (&entry["status"], &entry["problem"]["code"]),
            (&json!("quarantined"), &json!(code))
        );
        assert_eq!(entry["object"]["bucket"], "quarantine");
        let kept = fs::read(setup.folder("quarantine").join(call::FOLDER).join(name)).unwrap();
        assert_eq!(kept, *bytes, "{name}");
    }
    assert_eq!(
        manifest["attachments"][1]["problem"]["detail"],
        r#"/turns/1/text: 7 is not of type "string""#
    );
    let log = stop(worker, &amqp, &setup).await;
    assert!(
        !log.contains("is not of type"),
        "a file's text is not logged: {log}"
    );
}

#[tokio::test]
async fn an_event_delivered_again_is_a_duplicate_and_changes_nothing() {
    let (setup, origin) = (Setup::s3().await, Origin::start().await);
    let s3 = servers::s3().await;
    let event = call::served(&origin);
    let (worker, amqp) = start(&setup).await;
    publish(&amqp, &setup, &event).await;
    worker.wait_log("outcome=\"archived\"").await;
    let key = format!("{}/{}", setup.prefix("documents"), call::MANIFEST);
    let (_, first) = s3.get(S3::BUCKET, &key).await.unwrap();
    publish(&amqp, &setup, &event).await;
    worker.wait_log("outcome=\"duplicate\"").await;
    stop(worker, &amqp, &setup).await;
    let (_, second) = s3.get(S3::BUCKET, &key).await.unwrap();
    assert_eq!(first, second, "a complete manifest is never replaced");
    assert_eq!(s3.list(S3::BUCKET, &setup.name).await.len(), 4);
}

#[tokio::test]
async fn a_large_recording_goes_through_a_file_and_up_in_parts() {
    let (setup, origin) = (Setup::s3().await, Origin::start().await);
    let s3 = servers::s3().await;
    let large = call::wav(20_000_000);
    origin.put("/recording.wav", large.clone(), "audio/x-wav");
    let (worker, amqp) = start(&setup).await;
    publish(
        &amqp,
        &setup,
        &call::with_urls(&[&origin.url("/recording.wav")]),
    )
    .await;
    worker.wait_log("outcome=\"archived\"").await;
    let key = format!(
        "{}/{}/recording.wav",
        setup.prefix("recordings"),
        call::FOLDER
    );
    let (headers, stored) = s3.get(S3::BUCKET, &key).await.unwrap();
    assert!(stored == large, "other bytes than the origin's");
    assert_eq!(headers["x-amz-meta-sha256"], Sha256::of(&large).to_string());
    assert_eq!(
        s3.list_uploads(S3::BUCKET, &setup.name).await,
        [""; 0],
        "unfinished uploads"
    );
    let spooled: Vec<_> = fs::read_dir(setup.dir())
        .unwrap()
        .map(|f| f.unwrap().file_name())
        .collect();
    assert_eq!(spooled.len(), 2, "only configuration and log: {spooled:?}");
    stop(worker, &amqp, &setup).await;
}

#[tokio::test]
async fn an_object_that_an_earlier_attempt_left_is_kept_if_it_deserves_its_place() {
    let (setup, origin) = (Setup::folders().await, Origin::start().await);
    let event = call::served(&origin);
    let good = setup
        .folder("documents")
        .join(call::FOLDER)
        .join("analysis.json");
    let bad = setup
        .folder("documents")
        .join(call::FOLDER)
        .join("transcript.json");
    fs::create_dir_all(good.parent().unwrap()).unwrap();
    fs::write(&good, r#"{"summary": "of an earlier attempt"}"#).unwrap();
    fs::write(&bad, "cut sho").unwrap();
    let (worker, amqp) = start(&setup).await;
    publish(&amqp, &setup, &event).await;
    let manifest = manifest(&setup).await;
    stop(worker, &amqp, &setup).await;
    assert_eq!(
        fs::read_to_string(&good).unwrap(),
        r#"{"summary": "of an earlier attempt"}"#
    );
    assert_eq!(
        fs::read_to_string(&bad).unwrap(),
        r#"{"turns": [{"text": "hello"}]}"#
    );
    for (at, file) in [(0, &good), (2, &bad)] {
        let sha256 = Sha256::of(&fs::read(file).unwrap()).to_string();
        assert_eq!(
            manifest["attachments"][at]["object"]["sha256"], sha256,
            "the manifest tells the truth"
        );
    }
}

/// A chunk as RIFF writes it.
fn chunk(id: &str, body: &[u8]) -> Vec<u8> {
    let len = u32::try_from(body.len()).unwrap().to_le_bytes();
    [id.as_bytes(), &len, body].concat()
}

/// A WAV file of these chunks.
fn riff(chunks: &[Vec<u8>]) -> Vec<u8> {
    chunk("RIFF", &[b"WAVE", &*chunks.concat()].concat())
}

/// A `fmt ` chunk: tag, channels, rate, block size, bits.
fn fmt(tag: u16, channels: u16, rate: u32, block: u16, bits: u16) -> Vec<u8> {
    let mut body = Vec::new();
    body.extend([tag, channels].map(u16::to_le_bytes).concat());
    // The byte rate comes after the rate, is often wrong, and is not judged.
    body.extend([rate, rate].map(u32::to_le_bytes).concat());
    body.extend([block, bits].map(u16::to_le_bytes).concat());
    chunk("fmt ", &body)
}

#[tokio::test]
async fn each_refusal_has_its_code_and_the_refused_bytes_are_in_quarantine() {
    let (mut setup, origin) = (Setup::folders().await, Origin::start().await);
    setup.append(
        "[attachments.recording]\nfile = \"*.wav\"\ncheck = \"wav\"\nbucket = \"recordings\"\nwav = { channels = [1] }\n\
         [attachments.text]\nfile = \"*.json\"\ncheck = \"json\"\nschema = \"object.json\"\nbucket = \"documents\"",
    );
    fs::write(setup.dir().join("object.json"), r#"{"type": "object"}"#).unwrap();
    let (mono, data) = (fmt(1, 1, 8000, 2, 16), chunk("data", &[0; 160]));
    let refused: [(&str, Vec<u8>); 11] = [
        ("wav_not_riff.wav", b"<html>Not Found</html>".to_vec()),
        ("wav_no_fmt.wav", riff(&[chunk("data", &[])])),
        (
            "wav_no_data.wav",
            riff(&[mono.clone(), chunk("LIST", b"INFO")]),
        ),
        (
            "wav_bad_fmt.wav",
            riff(&[fmt(1, 1, 8000, 7, 16), data.clone()]),
        ),
        (
            "wav_unsupported_codec.wav",
            riff(&[fmt(0x55, 1, 8000, 1, 0), data.clone()]),
        ),
        (
            "wav_limits.wav",
            riff(&[fmt(1, 2, 8000, 4, 16), data.clone()]),
        ),
        ("wav_truncated.wav", riff(&[mono, data])[..100].to_vec()),
        ("json_not_utf8.json", b"{\"a\": \"\xff\"}".to_vec()),
        ("json_syntax.json", b"{\"a\": 1,}".to_vec()),
        (
            "json_too_deep.json",
            [b"[".repeat(128), b"]".repeat(128)].concat(),
        ),
        ("json_shape.json", b"[]".to_vec()),
    ];
    let urls = refused.each_ref().map(|(name, bytes)| {
        origin.put(
            &format!("/{name}"),
            bytes.clone(),
            "application/octet-stream",
        );
        origin.url(&format!("/{name}"))
    });
    let (worker, amqp) = start(&setup).await;
    publish(
        &amqp,
        &setup,
        &call::with_urls(&urls.each_ref().map(String::as_str)),
    )
    .await;
    let manifest = manifest(&setup).await;
    stop(worker, &amqp, &setup).await;
    for (at, (name, bytes)) in refused.iter().enumerate() {
        let entry = &manifest["attachments"][at];
        assert_eq!(entry["status"], "quarantined", "{entry:#}");
        assert_eq!(entry["problem"]["code"], name.split('.').next().unwrap());
        assert_eq!(entry["object"]["sha256"], Sha256::of(bytes).to_string());
        let kept = setup.folder("quarantine").join(call::FOLDER).join(name);
        assert!(fs::read(kept).unwrap() == *bytes, "{name}: other bytes");
    }
    assert!(
        !setup.folder("recordings").join(call::FOLDER).exists(),
        "nothing false is archived"
    );
}

#[tokio::test]
async fn an_occupied_key_is_resolved_even_where_the_spool_holds_one_body_alone() {
    let (mut setup, origin) = (Setup::folders().await, Origin::start().await);
    setup.set("limits", "spool", "\"4MiB\"");
    let (earlier, now) = (call::wav(1_500_000), call::wav(1_500_001));
    origin.put("/recording.wav", now, "audio/x-wav");
    let place = setup.folder("recordings").join(call::FOLDER);
    fs::create_dir_all(&place).unwrap();
    fs::write(place.join("recording.wav"), &earlier).unwrap();
    let (worker, amqp) = start(&setup).await;
    publish(
        &amqp,
        &setup,
        &call::with_urls(&[&origin.url("/recording.wav")]),
    )
    .await;
    let manifest = manifest(&setup).await;
    stop(worker, &amqp, &setup).await;
    let object = &manifest["attachments"][0]["object"];
    assert_eq!(
        object["sha256"],
        Sha256::of(&earlier).to_string(),
        "the first writer wins"
    );
}

#[tokio::test]
async fn what_another_event_has_stored_under_a_key_is_neither_taken_over_nor_overwritten() {
    let (mut setup, origin) = (Setup::s3().await, Origin::start().await);
    setup.set("queue", "retry_delays", "[\"200ms\"]");
    let s3 = servers::s3().await;
    let (before, now) = (call::wav(1500), call::wav(1501));
    origin.put("/recording.wav", now, "audio/x-wav");
    let event = call::with_urls(&[&origin.url("/recording.wav")]);
    let path = format!("{}/recording.wav", call::FOLDER);
    let key = format!("{}/{path}", setup.prefix("recordings"));
    let mark = |body: &[u8]| Sha256::of(body).to_string();
    let leave = async |of: &[u8]| {
        let mark = mark(of);
        let headers = [("x-amz-meta-event_sha256", mark.as_str())];
        s3.put(S3::BUCKET, &key, &headers, before.clone()).await
    };
    assert!(leave(b"another event").await.is_success());
    let (worker, amqp) = start(&setup).await;
    publish(&amqp, &setup, &event).await;
    let dead = amqp.wait_take(&format!("{}.dead", setup.queue())).await;
    assert_eq!(dead.body, event);
    assert_eq!(
        dead.text("x-callvault-reason").unwrap(),
        "retries_exhausted"
    );
    let detail = dead.text("x-callvault-detail").unwrap();
    assert!(detail.contains("another event with these ids"), "{detail}");
    assert_eq!(s3.get(S3::BUCKET, &key).await.unwrap().1, before);
    // The manifest is for who was first, and still at work.
    let manifest_key = format!("{}/{}", setup.prefix("documents"), call::MANIFEST);
    assert!(s3.get(S3::BUCKET, &manifest_key).await.is_none());

    // What an earlier attempt at this very event has left is its own.
    assert!(leave(&event).await.is_success());
    publish(&amqp, &setup, &event).await;
    worker.wait_log("outcome=\"archived\"").await;
    let (_, json) = s3.get(S3::BUCKET, &manifest_key).await.unwrap();
    let complete: Value = serde_json::from_slice(&json).unwrap();
    let object = &complete["attachments"][0]["object"];
    assert_eq!(object["sha256"], Sha256::of(&before).to_string());
    stop(worker, &amqp, &setup).await;
}

#[tokio::test]
async fn bodies_that_do_not_fit_the_spool_together_wait_for_one_another_uncharged() {
    let (mut setup, origin) = (Setup::folders().await, Origin::start().await);
    setup.set("limits", "spool", "\"4MiB\"");
    let large = call::wav(1_500_000);
    let paths = [
        "/1/recording.wav",
        "/2/recording.wav",
        "/3/recording.wav",
        "/4/recording.wav",
    ];
    for path in paths {
        origin.put(path, large.clone(), "audio/x-wav");
    }
    // Of two the length is not told.
    origin.always(paths[1], Reply::Chunked);
    origin.always(paths[3], Reply::Chunked);
    let (worker, amqp) = start(&setup).await;
    let urls = paths.map(|path| origin.url(path));
    publish(
        &amqp,
        &setup,
        &call::with_urls(&urls.each_ref().map(String::as_str)),
    )
    .await;
    let manifest = manifest(&setup).await;
    stop(worker, &amqp, &setup).await;
    assert_eq!(
        (&manifest["status"], &manifest["event"]["attempt"]),
        (&json!("complete"), &json!(1))
    );
}

#[tokio::test]
async fn a_hostile_json_is_quarantined_before_it_is_parsed() {
    let (mut setup, origin) = (Setup::folders().await, Origin::start().await);
    setup.set("limits", "memory", "\"64MiB\"");
    let hostile = format!("[{}0]", "{\"\":0},".repeat(300_000));
    origin.put("/transcript.json", hostile, "application/json");
    let (worker, amqp) = start(&setup).await;
    publish(
        &amqp,
        &setup,
        &call::with_urls(&[&origin.url("/transcript.json")]),
    )
    .await;
    let manifest = manifest(&setup).await;
    stop(worker, &amqp, &setup).await;
    let problem = &manifest["attachments"][0]["problem"];
    assert_eq!(problem["code"], "json_shape");
    assert!(
        problem["detail"]
            .as_str()
            .unwrap()
            .contains("limits.memory"),
        "{problem}"
    );
}

#[tokio::test]
async fn to_say_where_a_hostile_json_is_wrong_takes_no_more_memory_than_there_is() {
    /// With a copy of the file in each error it takes ten times this.
    const MOST_MIB: u64 = 160;
    let (mut setup, origin) = (Setup::folders().await, Origin::start().await);
    setup.append(
        "[attachments.transcript]\nfile = \"*.json\"\ncheck = \"json\"\nschema = \"schema.json\"\n\
         bucket = \"documents\"\nmax_size = \"8MiB\"",
    );
    // Each branch fails, for each of a hundred thousand places, and holds all of it.
    let branch = r#"{"required": ["turns"], "additionalProperties": {"type": "object"}}"#;
    let schema = format!(r#"{{"anyOf": [{}]}}"#, [branch; 12].join(", "));
    fs::write(setup.dir().join("schema.json"), schema).unwrap();
    let transcript = |fields: u32| {
        let fields: Vec<_> = (0..fields).map(|n| format!("\"{n}\": 0")).collect();
        format!("{{{}}}", fields.join(", "))
    };
    origin.put("/many.json", transcript(280_000), "application/json");
    origin.put("/few.json", transcript(3), "application/json");
    let (worker, amqp) = start(&setup).await;
    let urls = ["/many.json", "/few.json"].map(|path| origin.url(path));
    let event = call::with_urls(&urls.each_ref().map(String::as_str));
    publish(&amqp, &setup, &event).await;
    let manifest = manifest(&setup).await;
    let memory = most_memory(worker.id());
    stop(worker, &amqp, &setup).await;
    assert!(memory < MOST_MIB, "{memory} MiB");
    let detail = |at: usize| {
        let problem = &manifest["attachments"][at]["problem"];
        assert_eq!(problem["code"], "json_shape");
        problem["detail"].as_str().unwrap().to_owned()
    };
    for at in [0, 1] {
        assert!(detail(at).contains("not valid under any"), "{}", detail(at));
    }
}
